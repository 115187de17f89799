//! Sends the jobs like services with OpenAI's SDK: each job is a call, with the SDK's retries.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::classify;
use crate::clock::{self, Instant};
use crate::openai::Endpoint;
use crate::response::ERROR_CLASS;
use crate::simulate::JOB_HEADER;

use super::sdk_retry::{self, Attempt};
use super::workload::{CALLERS, Job};

/// The header that identifies the service.
pub(super) const CALLER_HEADER: &str = "x-team";
/// The class of an attempt without a response.
const NO_ANSWER: &str = "connection";

/// The end of one job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    /// From its arrival to the end of its last response.
    pub(super) took: Duration,
    /// The error that its service received; `None` if it succeeded.
    pub(super) error: Option<&'static str>,
    /// Attempts by the service's own SDK.
    pub(super) attempts: u32,
}

/// The counts so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// Jobs that have arrived.
    pub(super) arrived: usize,
    /// The end of each job, by its number.
    pub(super) ended: BTreeMap<usize, Ended>,
    /// Errors that the services' SDKs received, including those that a retry overcame.
    pub(super) errors: BTreeMap<&'static str, u64>,
}

/// A tally that many tasks share.
#[derive(Clone, Debug, Default)]
pub(super) struct Shared(Arc<Mutex<Tally>>);

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, Tally> {
        // Nothing panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends all jobs to these addresses in turn. Jobs that are unfinished at `stop` are abandoned.
///
/// # Cancel safety
/// Dropping it ends all jobs.
pub(super) async fn work(
    jobs: &[Job],
    addresses: &[SocketAddr],
    seed: u64,
    start: Instant,
    stop: Instant,
    tally: &Shared,
) {
    let mut tasks = JoinSet::new();
    for (number, job) in jobs.iter().copied().enumerate() {
        let call = Call { number, job, address: addresses[number % addresses.len()], tally: tally.clone() };
        let rng = fastrand::Rng::with_seed(seed ^ (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        tasks.spawn(call.make(start, rng));
    }
    let all = async { while tasks.join_next().await.is_some() {} };
    // The remaining jobs end when the set is dropped.
    clock::timeout_at(stop, all).await.ok();
}

struct Call {
    number: usize,
    job: Job,
    address: SocketAddr,
    tally: Shared,
}

impl Call {
    /// A whole call, as the SDK makes it.
    async fn make(self, start: Instant, mut rng: fastrand::Rng) {
        let arrival = start + self.job.arrival;
        clock::sleep_until(arrival).await;
        self.tally.lock().arrived += 1;
        let body = Bytes::from(self.job.body());
        let mut retries = 0;
        let error = loop {
            let answer = self.attempt(&body, retries).await;
            let attempt = match &answer {
                Some(answer) if answer.error.is_none() => break None,
                Some(answer) => Attempt::Answered(answer.status, &answer.headers),
                None => Attempt::NoAnswer,
            };
            let class = answer.as_ref().and_then(|answer| answer.error).unwrap_or(NO_ANSWER);
            *self.tally.lock().errors.entry(class).or_default() += 1;
            match sdk_retry::wait(attempt, retries, clock::wall(), &mut rng) {
                Some(wait) => clock::sleep(wait).await,
                None => break Some(class),
            }
            retries += 1;
        };
        let took = clock::now().saturating_duration_since(arrival);
        self.tally.lock().ended.insert(self.number, Ended { took, error, attempts: retries + 1 });
    }

    /// One attempt on a new connection. `None` if the connection broke.
    async fn attempt(&self, body: &Bytes, retries: u32) -> Option<Answer> {
        let stream = TcpStream::connect(self.address).await.ok()?;
        stream.set_nodelay(true).ok();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
        let exchange = async {
            let response = sender.send_request(self.request(body, retries)).await.ok()?;
            let (parts, body) = response.into_parts();
            let body = body.collect().await.ok()?.to_bytes();
            let error = (!parts.status.is_success()).then(|| class(parts.status, &parts.headers, &body));
            Some(Answer { status: parts.status, headers: parts.headers, error })
        };
        tokio::select! {
            answer = exchange => answer,
            // The connection may end first if its response is complete.
            never = async { connection.await.ok(); std::future::pending().await } => never,
        }
    }

    fn request(&self, body: &Bytes, retries: u32) -> Request<Full<Bytes>> {
        Request::post("/v1/chat/completions")
            .header(HOST, self.address.to_string())
            .header(AUTHORIZATION, "Bearer sk-demo")
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, "OpenAI/Python 3.54.0")
            .header("x-stainless-retry-count", retries)
            .header("x-stainless-read-timeout", "600")
            .header(CALLER_HEADER, CALLERS[self.job.caller].name)
            .header(JOB_HEADER, format!("job-{}", self.number))
            .body(Full::new(body.clone()))
            .expect("every part is a valid header")
    }
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    error: Option<&'static str>,
}

/// The class of an error: from Weir's header if there is one, else from the response.
fn class(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> &'static str {
    let told = headers.get(ERROR_CLASS).and_then(|value| value.to_str().ok());
    let known = classify::ErrorClass::ALL.into_iter().find(|class| Some(class.as_str()) == told);
    known
        .unwrap_or_else(|| {
            classify::response(Endpoint::ChatCompletions, status, headers, body, clock::wall()).class
        })
        .as_str()
}
