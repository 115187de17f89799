//! Runs the table of request smuggling cases over raw sockets.

#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected fails")]

use std::convert::Infallible;
use std::future::Future;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use serde::Deserialize;
use weir::internals::replay::ClientBody;
use weir::internals::server::{self, Acceptor, Counters, Drain, Front, Refusal, Settings, Slots};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    case: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    send: String,
    answers: Vec<u16>,
    saw: Vec<String>,
    /// Whether the connection stays open; if omitted, either is safe.
    open: Option<bool>,
}

/// The request after each case: its response shows that both sides agree on the framing.
const AFTER: &[u8] = b"GET /after HTTP/1.1\r\nHost: weir\r\nConnection: close\r\n\r\n";

#[test]
fn every_case_ends_as_the_table_says() {
    let table: Table = toml::from_str(include_str!("cases.toml")).unwrap();
    assert!(table.case.len() > 60);
    let address = start();
    let mut wrong = Vec::new();
    for case in &table.case {
        let (answers, saw) = run(address, case.send.as_bytes());
        let (open, answers, saw) = match (answers.as_slice(), saw.as_slice()) {
            ([answers @ .., 200], [saw @ .., last]) if last == "GET /after " => (true, answers, saw),
            (answers, saw) => (false, answers, saw),
        };
        if answers != case.answers || saw != case.saw || case.open.is_some_and(|expected| expected != open) {
            wrong.push(format!("{}: answers {answers:?}, saw {saw:?}, open {open}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Sends a case and `/after`. Returns the statuses, and the requests that the service received.
fn run(address: SocketAddr, send: &[u8]) -> (Vec<u16>, Vec<String>) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.write_all(&[send, AFTER].concat()).unwrap();
    let mut read = Vec::new();
    // A reset is an end too, because the server closes with unread bytes.
    let end = stream.read_to_end(&mut read);
    assert!(
        end.is_ok() || end.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset),
        "the connection hangs after {:?}",
        String::from_utf8_lossy(send)
    );
    let mut rest = String::from_utf8(read).unwrap();
    let (mut answers, mut saw) = (Vec::new(), Vec::new());
    while let Some(head_end) = rest.find("\r\n\r\n") {
        let head = rest[..head_end].to_ascii_lowercase();
        answers.push(head["http/1.1 ".len()..][..3].parse().unwrap());
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
        let length: usize = length.map_or(0, |length| length.parse().unwrap());
        let body = rest[head_end + 4..][..length].to_owned();
        saw.extend(body.strip_prefix("saw ").map(str::to_owned));
        rest = rest.split_off(head_end + 4 + length);
    }
    assert_eq!(rest, "", "half an answer");
    (answers, saw)
}

/// Starts a server whose service returns what it received, or 499 for a truncated body.
fn start() -> SocketAddr {
    let listener = server::bind("listen", "127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let counters = Arc::new(Counters::default());
            let (_drain, draining) = Drain::new();
            let slots = Slots::new(&Settings::default(), Arc::clone(&counters));
            let (acceptor, mut seats) =
                Acceptor::new(listener, 1, slots, Arc::clone(&counters), draining.clone());
            let make = |_info| tower::service_fn(|request| -> Answer { Box::pin(tell(request)) });
            let front = Front::new(Settings::default(), make, render, counters, draining);
            let (accepted, ()) = tokio::join!(acceptor.run(), front.run(seats.remove(0)));
            accepted.unwrap();
        });
    });
    address
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<Full<Bytes>>, Infallible>> + Send>>;

async fn tell(request: Request<ClientBody>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else {
        let broken = Response::builder().status(499).body(Full::default()).unwrap();
        return Ok(broken);
    };
    let body = String::from_utf8(body.to_bytes().to_vec()).unwrap();
    Ok(Response::new(Full::from(format!("saw {} {} {body}", head.method, head.uri))))
}

fn render(refusal: Refusal) -> Response<Bytes> {
    let status = match refusal {
        Refusal::Hygiene(rule) => rule.status(),
        Refusal::Headers => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        Refusal::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Response::builder().status(status).body(Bytes::new()).unwrap()
}
