//! A service that passes an upgrade on to an in-memory upstream.

use tokio::sync::mpsc;

use super::*;
use crate::replay::Body;
use crate::upstream::upgrade::{self, TunnelEnd, TunnelReport, Upgrade};
use crate::upstream::{self, Connected, Destination, Target, Upstream};

const ASK: &str =
    "GET /v1/realtime HTTP/1.1\r\nhost: weir\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";

struct Path {
    client: DuplexStream,
    upstream: mpsc::UnboundedReceiver<DuplexStream>,
    reports: mpsc::UnboundedReceiver<TunnelReport>,
    counters: Arc<upstream::Counters>,
}

fn path() -> Path {
    let (far_ends, upstream_ends) = mpsc::unbounded_channel();
    let connector = tower::service_fn(move |destination: Destination| {
        assert!(destination.only_http1);
        let (near, far) = duplex(1 << 10);
        far_ends.send(far).unwrap();
        std::future::ready(Ok(Connected { io: near, http2: false }))
    });
    let target = Arc::new(Target::parse("http://upstream.test").unwrap());
    let counters = Arc::<upstream::Counters>::default();
    let upstream = Upstream::new(target, upstream::Settings::default(), Arc::clone(&counters), connector);
    let (report, reports) = mpsc::unbounded_channel();
    let make = move |_info| {
        let (upstream, report) = (upstream.clone(), report.clone());
        tower::service_fn(move |request| -> Answer {
            Box::pin(pass(upstream.clone(), report.clone(), request))
        })
    };
    let (_drain, draining) = Drain::new();
    let front = Arc::new(Front::new(Settings::default(), make, render, Arc::default(), draining));
    let (client, io) = duplex(1 << 10);
    clock::spawn(front.serve(io, "192.0.2.1:1000".parse().unwrap(), None));
    Path { client, upstream: upstream_ends, reports, counters }
}

async fn pass(
    upstream: Upstream,
    report: mpsc::UnboundedSender<TunnelReport>,
    mut request: Request<ClientBody>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let protocol = upgrade::asked_for(request.headers()).unwrap();
    let client = hyper::upgrade::on(&mut request);
    let mut asked = request.map(|_| Body::empty());
    upstream::headers::strip_request(asked.headers_mut());
    upgrade::ask_for(asked.headers_mut(), protocol.clone());
    Ok(match upstream.upgrade(asked, upstream::HeadLimit::default()).await.unwrap() {
        Upgrade::Declined(answer) => answer.map(|_| Full::default()),
        Upgrade::Switched(mut head, switched) => {
            clock::spawn(async move {
                let idle = Duration::from_mins(1);
                report.send(switched.tunnel(client, idle, std::future::pending()).await).unwrap();
            });
            upstream::headers::strip_response(head.headers_mut());
            upgrade::ask_for(head.headers_mut(), protocol);
            head.map(|()| Full::default())
        }
    })
}

#[tokio::test(start_paused = true)]
async fn bytes_go_both_ways_until_nobody_sends() {
    let mut path = path();
    path.client.write_all(ASK.as_bytes()).await.unwrap();
    let mut far = path.upstream.recv().await.unwrap();
    let asked = read_answer(&mut far, "\r\n\r\n").await;
    assert!(asked.starts_with("GET /v1/realtime HTTP/1.1\r\n"), "{asked}");
    assert!(asked.contains("connection: upgrade\r\nupgrade: websocket\r\n"), "{asked}");
    // The upstream may send first.
    far.write_all(format!("{SWITCH}hello").as_bytes()).await.unwrap();
    let answer = read_answer(&mut path.client, "hello").await;
    assert!(answer.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{answer}");
    for _ in 0..100 {
        path.client.write_all(b"ping").await.unwrap();
        assert_eq!(read_answer(&mut far, "ping").await, "ping");
        far.write_all(b"pong!").await.unwrap();
        assert_eq!(read_answer(&mut path.client, "pong!").await, "pong!");
        clock::sleep(Duration::from_secs(50)).await;
    }
    assert_eq!(path.counters.open(), 1);
    let report = path.reports.recv().await.unwrap();
    assert_eq!(report, TunnelReport { up: 400, down: 505, end: TunnelEnd::Idle });
    assert_eq!((read_to_end(&mut path.client).await.0.as_str(), path.counters.open()), ("", 0));
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_declines_is_heard() {
    let mut path = path();
    path.client.write_all(ASK.as_bytes()).await.unwrap();
    let mut far = path.upstream.recv().await.unwrap();
    read_answer(&mut far, "\r\n\r\n").await;
    far.write_all(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    let answer = read_answer(&mut path.client, "\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 401 Unauthorized\r\n"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_side_that_closes_ends_the_tunnel() {
    let mut path = path();
    path.client.write_all(ASK.as_bytes()).await.unwrap();
    let mut far = path.upstream.recv().await.unwrap();
    read_answer(&mut far, "\r\n\r\n").await;
    far.write_all(SWITCH.as_bytes()).await.unwrap();
    read_answer(&mut path.client, "\r\n\r\n").await;
    drop(path.client);
    assert_eq!(read_to_end(&mut far).await.0, "");
    drop(far);
    assert_eq!(path.reports.recv().await.unwrap().end, TunnelEnd::Closed);
}
