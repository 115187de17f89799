//! Several replicas that share one organization's limits: who may use how much, agreed on through Redis.
//!
//! No request ever waits for Redis. Once in an interval a thread of its own writes what this replica needs and claims of each
//! scope's limits and reads what the others do (`connection`), and changes the scopes' parts by it (`lease`, by the
//! fairness of `fair`). Without Redis a part stays for ten intervals (`member::LEASE`); then each replica takes an even part of
//! as many as were last known, or are expected: never the whole, and never nothing.

pub mod address;
mod beat;
mod connection;
mod demand;
mod exchange;
mod fair;
mod lease;
mod member;
mod resp;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::admission::{Newcomer, Part, Scope, Scopes};
use crate::caller::shared_name;
use crate::clock::Instant;

pub use address::{Address, AddressError};

use beat::{ScopeKey, WHOLE};
use connection::Redis;
use exchange::Exchange;
use lease::Leases;

/// An exchange gets at most so long, and at least so long where the interval is shorter.
const TIMEOUT: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(1));
/// Time that the goodbye gets when the process ends.
const GOODBYE: Duration = Duration::from_millis(1500);

/// With whom limits are shared, and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where Redis is.
    pub address: Address,
    /// How TLS is spoken there; needed for `rediss`.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// What replicas of one group have in common.
    pub namespace: String,
    /// The time between two exchanges.
    pub interval: Duration,
    /// How many replicas are assumed where Redis knows of fewer, or can't be asked.
    pub expected: usize,
}

/// How the exchange with the other replicas stands.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Status {
    /// Replicas, this one included.
    pub replicas: usize,
    /// Whether the last exchange went well.
    pub up: bool,
    /// Whether the parts are agreed on, rather than even ones without Redis.
    pub agreed: bool,
    /// Exchanges that failed.
    pub failures: u64,
    /// Since the last good exchange.
    pub age: Option<Duration>,
    /// How long the last good exchange took.
    pub took: Duration,
}

/// This replica among the others.
#[derive(Debug)]
pub struct Replicas {
    shared: Arc<Shared>,
    stop: Mutex<Option<oneshot::Sender<()>>>,
    ended: Mutex<std::sync::mpsc::Receiver<()>>,
}

/// What the thread, new scopes and the status share.
#[derive(Debug)]
struct Shared {
    leases: Mutex<Leases>,
    report: Mutex<Report>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Report {
    up: bool,
    failures: u64,
    renewed: Option<Instant>,
    took: Duration,
}

/// Starts the thread that exchanges with the others. From now on `scopes` have parts.
///
/// # Errors
/// When the thread can't be started.
pub fn start(settings: Settings, scopes: Scopes) -> io::Result<Replicas> {
    // A resolver that hangs takes no more threads with each try.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(2).build()?;
    let id = format!("{:032x}", fastrand::u128(..));
    let leases = Leases::new(id.clone(), settings.interval, settings.expected);
    let shared = Arc::new(Shared { leases: Mutex::new(leases), report: Mutex::default() });
    let known = Arc::clone(&shared);
    scopes.share(Newcomer::new(move |family| part(known.leases().newcomer(family_name(family)), [0, 0])));
    let (stop, stopped) = oneshot::channel();
    let (end, ended) = std::sync::mpsc::channel();
    let redis = Redis {
        address: settings.address,
        tls: settings.tls,
        key: format!("{}:replicas", settings.namespace),
        timeout: settings.interval.clamp(TIMEOUT.0, TIMEOUT.1),
    };
    let exchange = Exchange::new(redis, id, settings.interval, scopes, Arc::clone(&shared));
    std::thread::Builder::new().name("weir-replicas".to_owned()).spawn(move || {
        runtime.block_on(exchange.run(stopped));
        // Who waited may have given up.
        end.send(()).ok();
    })?;
    Ok(Replicas { shared, stop: Mutex::new(Some(stop)), ended: Mutex::new(ended) })
}

impl Replicas {
    /// Tells the others that this replica needs nothing any more.
    pub fn leave(&self) {
        if let Some(stop) = self.stop.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // A thread that has ended needs no telling.
            stop.send(()).ok();
        }
    }

    /// The same, and waits until they know, for a moment at most. It blocks: for when nothing else is to be done.
    pub fn leave_and_wait(&self) {
        self.leave();
        // Who doesn't get the goodbye finds out by the silence.
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(GOODBYE).ok();
    }

    /// How the exchange stands.
    pub fn status(&self, now: Instant) -> Status {
        let (replicas, agreed) = {
            let leases = self.shared.leases();
            (leases.replicas(), leases.is_granted())
        };
        let report = *self.shared.report();
        Status {
            replicas,
            up: report.up,
            agreed,
            failures: report.failures,
            age: report.renewed.map(|renewed| now.saturating_duration_since(renewed)),
            took: report.took,
        }
    }
}

impl Shared {
    fn leases(&self) -> MutexGuard<'_, Leases> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key_of(scope: &Scope) -> ScopeKey {
    ScopeKey { owner: scope.shared_name(), family: family_name(scope.family()) }
}

fn family_name(family: &str) -> u64 {
    shared_name([family.as_bytes()])
}

fn part(millionths: u32, others: [u64; 2]) -> Part {
    let [requests, tokens] = others.map(|thousandths| thousandths as f64 / 1000.0);
    Part { part: f64::from(millionths) / f64::from(WHOLE), others_requests: requests, others_tokens: tokens }
}
