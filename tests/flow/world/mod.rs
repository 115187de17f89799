//! A whole proxy between callers and a simulator, over pipes in memory.

mod calls;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::io::DuplexStream;
use tower::Service;
use weir::internals::account::{self, Account};
use weir::internals::admission::{LimitSettings, MemberSettings, Scopes};
use weir::internals::caller::{Callers, Mode};
use weir::internals::classify::{ErrorClass, Failure, FailureKind};
use weir::internals::clock::{self, Instant};
use weir::internals::estimate::{self, Estimator};
use weir::internals::metrics::{self, Metrics};
use weir::internals::pool::UpstreamId;
use weir::internals::proxy::{Answering, Client, Policies, Policy, PoolMember, Proxy, Upstreams};
use weir::internals::server::{self, ConnectionInfo, Drain, Draining, Front};
use weir::internals::simulate::{self, Latency, Limits, Simulator};
use weir::internals::upstream::headers::Forwarded;
use weir::internals::upstream::upgrade::{TunnelLimits, Tunnels};
use weir::internals::upstream::{self, Connected, Destination, Target, Upstream};
use weir::internals::{admission, replay, retry, stream};

pub(crate) use calls::{Answer, Call, quantile, statuses, successes};

/// The capacity of a pipe in each direction, in bytes, like a socket's buffers.
const PIPE: usize = 64 << 10;

/// The setup of a world.
pub(crate) struct Setup {
    pub(crate) simulator: simulate::Settings,
    pub(crate) scopes: admission::Settings,
    pub(crate) policy: Policy,
    /// The limit of all kept bodies, in bytes.
    pub(crate) kept: usize,
    /// Whether the upstream speaks HTTP/2.
    pub(crate) http2: bool,
    pub(crate) seed: u64,
}

impl Default for Setup {
    /// The defaults of the configuration, before an upstream with 100 requests a second and an
    /// answer after 100 ms.
    fn default() -> Self {
        Self {
            simulator: simulate::Settings {
                limits: Limits { rpm: Some(6_000), tpm: Some(1_000_000_000), ..Limits::NONE },
                after: Latency::Fixed(Duration::from_millis(100)),
                seed: 7,
                ..simulate::Settings::default()
            },
            scopes: admission::Settings::default(),
            policy: Policy {
                upstreams: nowhere(),
                callers: Callers::new(
                    weir::internals::caller::Settings {
                        serve_unknown: true,
                        ..weir::internals::caller::Settings::default()
                    },
                    &weir::internals::caller::Registry::new(),
                ),
                rights: Vec::new(),
                checked_replay: replay::Settings::default(),
                mode: Mode::Enforce,
                max_wait: Duration::from_mins(1),
                response_timeout: None,
                first_event_timeout: None,
                forwarded: Forwarded::Remove,
                estimator: Estimator::new(estimate::Settings::default()),
                retry: retry::Policy::default(),
                never_retried: Vec::new(),
                stream: stream::Settings {
                    idle_timeout: Some(Duration::from_mins(10)),
                    error_event: false,
                    abort_incomplete: true,
                },
                write_timeout: Duration::from_mins(1),
                hold: Duration::from_secs(1),
                keepalive: None,
                replay: replay::Settings::default(),
                one_scope: false,
                mask_messages: true,
                report_request_data: false,
                report_headers: Vec::new(),
            },
            kept: 256 << 20,
            http2: false,
            seed: 11,
        }
    }
}

/// One simulator of a pool, and its connector.
pub(crate) struct Stand {
    pub(crate) simulator: Simulator,
    pub(crate) wire: Wire,
}

/// Replaces the upstream while it is absent.
fn nowhere() -> Upstreams {
    let target = Arc::new(Target::parse("http://nowhere.test").expect("a URL"));
    let connector = upstream::Connector::new(
        upstream::tls::client_config(&upstream::tls::Settings::default()).expect("roots are built in"),
        None,
        None,
    );
    let settings = upstream::Settings::default();
    Upstreams::one([Upstream::new(target, settings, Arc::default(), connector)].into())
}

/// A proxy with its upstreams, and connections to it.
pub(crate) struct World {
    pub(crate) simulator: Simulator,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) scopes: Scopes,
    pub(crate) kept_bodies: Arc<replay::Budget>,
    pub(crate) wire: Wire,
    began: Instant,
    serve: Box<dyn Fn(DuplexStream) + Send + Sync>,
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
    /// The drain. Kept, because connections end when it starts or is dropped.
    _drain: Drain,
}

impl World {
    /// A proxy before the simulator.
    pub(crate) fn new(setup: Setup) -> Arc<Self> {
        let simulator = Simulator::new(setup.simulator.clone());
        let behind = {
            let simulator = simulator.clone();
            move |io| {
                let simulator = simulator.clone();
                clock::spawn(async move { simulator.serve_connection(io).await });
            }
        };
        Self::before(setup, simulator, behind)
    }

    /// A proxy before an upstream that `behind` serves, one pipe for each connection.
    pub(crate) fn before(
        setup: Setup,
        simulator: Simulator,
        behind: impl Fn(DuplexStream) + Send + Sync + 'static,
    ) -> Arc<Self> {
        let wire = Wire::new(behind, setup.http2);
        let upstreams = Upstreams::one([wire.upstream("http://upstream.test")].into());
        Self::assemble(setup, simulator, wire, upstreams)
    }

    /// A proxy for a pool of simulators, the first of which is the home. Each has a name, a
    /// priority, configured limits and settings.
    pub(crate) fn pool(
        mut setup: Setup,
        members: Vec<(&str, u32, LimitSettings, simulate::Settings)>,
    ) -> (Arc<Self>, Vec<Stand>) {
        let (mut stands, mut ways) = (Vec::new(), Vec::new());
        for (place, (name, priority, limits, settings)) in members.into_iter().enumerate() {
            let simulator = Simulator::new(settings);
            let serving = simulator.clone();
            let wire = Wire::new(
                move |io| {
                    let simulator = serving.clone();
                    clock::spawn(async move { simulator.serve_connection(io).await });
                },
                setup.http2,
            );
            let id = UpstreamId(u16::try_from(place).expect("few"));
            let connections = [wire.upstream(&format!("http://{name}.test"))].into();
            ways.push(Arc::new(PoolMember::new(id, connections, None, Vec::new())));
            setup.scopes.members.push(MemberSettings {
                id,
                name: name.into(),
                priority,
                limits: Some(limits),
                models: Vec::new(),
            });
            stands.push(Stand { simulator, wire });
        }
        let upstreams = Upstreams::of(ways.remove(0), ways, Arc::default());
        let first = &stands[0];
        (Self::assemble(setup, first.simulator.clone(), first.wire.clone(), upstreams), stands)
    }

    fn assemble(setup: Setup, simulator: Simulator, wire: Wire, upstreams: Upstreams) -> Arc<Self> {
        let began = clock::now();
        let names = Arc::clone(setup.policy.callers.registry());
        let metrics =
            Metrics::new(&metrics::Settings { callers: names.names(), ..metrics::Settings::default() });
        let told = account::Settings { log_sample: 0.0, ..account::Settings::default() };
        let account = Account::new(told, Arc::clone(&metrics), names, began);
        let scopes = Scopes::new(setup.scopes, setup.seed);
        let kept_bodies = replay::Budget::new(setup.kept);
        let policies = Policies::new(Policy { upstreams, ..setup.policy });
        let proxy = Proxy::new(
            Arc::clone(&policies),
            scopes.clone(),
            Arc::clone(&account),
            Arc::clone(&kept_bodies),
            0,
            setup.seed,
        );
        let (drain, draining) = Drain::new();
        let serve = front(proxy, draining);
        Arc::new(Self {
            simulator,
            metrics,
            scopes,
            kept_bodies,
            wire,
            began,
            serve,
            idle: Mutex::default(),
            _drain: drain,
        })
    }

    /// A new connection to the proxy, for clients that speak for themselves.
    pub(crate) fn connect(&self) -> DuplexStream {
        self.connect_with_room(PIPE)
    }

    /// The same, with this capacity of the pipe.
    pub(crate) fn connect_with_room(&self, room: usize) -> DuplexStream {
        let (client, server) = tokio::io::duplex(room);
        (self.serve)(server);
        client
    }

    /// Since the world began.
    pub(crate) fn now(&self) -> Duration {
        clock::now() - self.began
    }

    /// Waits until this time after the world began.
    pub(crate) async fn until(&self, time: Duration) {
        clock::sleep_until(self.began + time).await;
    }

    /// Sends a request and waits for the head of its answer.
    pub(crate) async fn open(&self, call: &Call) -> (Response<Incoming>, SendRequest<Full<Bytes>>) {
        let mut sender = self.sender().await;
        let response = sender.send_request(call.request()).await.expect("an answer");
        (response, sender)
    }

    /// Sends a request and reads its whole answer.
    pub(crate) async fn call(&self, call: &Call) -> Answer {
        let began = self.now();
        let (response, sender) = self.open(call).await;
        let head = self.now();
        let (parts, mut body) = response.into_parts();
        let mut bytes = Vec::new();
        let mut whole = true;
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => bytes.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data)),
                Err(_) => whole = false,
            }
        }
        if whole {
            self.idle.lock().expect("no panic").push(sender);
        }
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: bytes,
            whole,
            began,
            head,
            ended: self.now(),
        }
    }

    async fn sender(&self) -> SendRequest<Full<Bytes>> {
        loop {
            let idle = self.idle.lock().expect("no panic").pop();
            let Some(mut sender) = idle else { break };
            if sender.ready().await.is_ok() {
                return sender;
            }
        }
        let io = TokioIo::new(self.connect());
        let (sender, connection) = hyper::client::conn::http1::handshake(io).await.expect("a pipe");
        clock::spawn(connection);
        sender
    }

    /// Starts calls at a steady rate, call `n` by `make(n)`. Returns all responses in order.
    pub(crate) async fn offer(
        self: &Arc<Self>,
        per_second: f64,
        count: u32,
        make: impl Fn(u32) -> Call,
    ) -> Vec<Answer> {
        let began = clock::now();
        let mut running = Vec::new();
        for number in 0..count {
            clock::sleep_until(began + Duration::from_secs_f64(f64::from(number) / per_second)).await;
            let (world, call) = (Arc::clone(self), make(number));
            running.push(clock::spawn(async move { world.call(&call).await }));
        }
        let mut answers = Vec::new();
        for call in running {
            answers.push(call.await.expect("no panic"));
        }
        answers
    }

    /// The attempts in these seconds: requests received by the upstream, and refused connections.
    pub(crate) fn attempts(&self, from: Duration, to: Duration) -> u64 {
        self.attempts_by_second()
            .iter()
            .filter(|(second, _)| (from.as_secs()..to.as_secs()).contains(second))
            .map(|(_, count)| count)
            .sum()
    }

    /// The same by second, without empty seconds.
    pub(crate) fn attempts_by_second(&self) -> Vec<(u64, u64)> {
        let mut seconds = std::collections::BTreeMap::new();
        for second in self.simulator.stats().history {
            *seconds.entry(second.second).or_default() += second.requests;
        }
        for refused in self.wire.refused.lock().expect("no panic").iter() {
            *seconds.entry(refused.as_secs()).or_default() += 1;
        }
        seconds.into_iter().collect()
    }

    /// The number of attempts with an error of this class.
    pub(crate) fn attempt_errors(&self, class: ErrorClass) -> u64 {
        self.metrics.attempt_errors.count(class)
    }

    /// The value of a series in the exposition, labels and all; 0 where there is none.
    pub(crate) fn metric(&self, series: &str) -> u64 {
        let mut text = Vec::new();
        self.metrics.encode(&metrics::Gathered::default(), &mut text);
        let text = String::from_utf8(text).expect("text");
        text.lines()
            .filter_map(|line| line.rsplit_once(' '))
            .find(|(name, _)| *name == series)
            .map_or(0, |(_, value)| value.parse().expect("a whole number"))
    }
}

/// Serves one end of a pipe like a server's connection.
fn front(proxy: Arc<Proxy>, draining: Draining) -> Box<dyn Fn(DuplexStream) + Send + Sync> {
    let make = move |_: Arc<ConnectionInfo>| {
        let proxy = Arc::clone(&proxy);
        tower::service_fn(move |request: Request<replay::ClientBody>| -> Answering {
            proxy.handle(request, Client { address: IpAddr::V4(Ipv4Addr::LOCALHOST), names: &[] })
        })
    };
    let render =
        |_| Response::builder().status(StatusCode::BAD_REQUEST).body(Bytes::new()).expect("a status");
    let front = Arc::new(Front::new(server::Settings::default(), make, render, Arc::default(), draining));
    let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    Box::new(move |io| {
        clock::spawn(Arc::clone(&front).serve(io, peer, None));
    })
}

/// The connector to the upstream: opens pipes, or refuses connections.
#[derive(Clone)]
pub(crate) struct Wire {
    behind: Arc<dyn Fn(DuplexStream) + Send + Sync>,
    began: Instant,
    http2: bool,
    refusing: Arc<Mutex<Vec<(Duration, Duration)>>>,
    refused: Arc<Mutex<Vec<Duration>>>,
}

impl Wire {
    fn new(behind: impl Fn(DuplexStream) + Send + Sync + 'static, http2: bool) -> Self {
        let (refusing, refused) = (Arc::default(), Arc::default());
        Self { behind: Arc::new(behind), began: clock::now(), http2, refusing, refused }
    }

    /// The upstream at its end.
    fn upstream(&self, url: &str) -> Upstream {
        let target = Arc::new(Target::parse(url).expect("a URL"));
        let limits = TunnelLimits {
            idle: Duration::from_hours(1),
            unread: Duration::from_mins(1),
            max: 10_000,
            message: 64 << 20,
        };
        let tunnels = Tunnels::new(|_| true, limits);
        let settings = upstream::Settings::default();
        Upstream::with_tunnels(target, settings, Arc::default(), self.clone(), tunnels)
    }

    /// Refuses connections between these times.
    pub(crate) fn refuse(&self, from: Duration, to: Duration) {
        self.refusing.lock().expect("no panic").push((from, to));
    }
}

impl Service<Destination> for Wire {
    type Response = Connected<DuplexStream>;
    type Error = Failure;
    type Future = std::future::Ready<Result<Self::Response, Failure>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _destination: Destination) -> Self::Future {
        let now = clock::now() - self.began;
        let refusing = self.refusing.lock().expect("no panic");
        if refusing.iter().any(|(from, to)| *from <= now && now < *to) {
            self.refused.lock().expect("no panic").push(now);
            return std::future::ready(Err(Failure::unsent(FailureKind::Refused, "")));
        }
        let (near, far) = tokio::io::duplex(PIPE);
        (self.behind)(far);
        std::future::ready(Ok(Connected { io: near, http2: self.http2 }))
    }
}
