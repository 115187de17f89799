//! Starts and stops the exchange thread, and shares its state with new scopes and the status.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::admission::{Newcomer, Part, Scope, Scopes};
use crate::caller::shared_name;
use crate::clock::Instant;

use super::client::Redis;
use super::exchange::Exchange;
use super::lease::{self, Leases};
use super::message::{ScopeKey, WHOLE};
use super::{Settings, Status, Trouble};

/// The minimum and the maximum of an exchange's timeout, which is otherwise the interval.
const TIMEOUT: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(1));
/// The timeout of the goodbye when the process ends.
const GOODBYE_TIMEOUT: Duration = Duration::from_millis(1500);

/// A handle to the exchange thread.
#[derive(Debug)]
pub struct Replicas {
    shared: Arc<Shared>,
    stop: Mutex<Option<oneshot::Sender<()>>>,
    ended: Mutex<std::sync::mpsc::Receiver<()>>,
}

/// The state shared by the thread, new scopes and the status.
#[derive(Debug)]
pub(super) struct Shared {
    leases: Mutex<Leases>,
    report: Mutex<Report>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Report {
    pub(super) trouble: Option<Trouble>,
    pub(super) learning: bool,
    pub(super) exchanges: u64,
    pub(super) failures: u64,
    pub(super) renewed: Option<Instant>,
    pub(super) took: Duration,
}

/// Starts the exchange thread, which limits `scopes` to their parts.
///
/// # Errors
/// The thread can't be started.
pub fn start(settings: Settings, scopes: Scopes) -> io::Result<Replicas> {
    // A hanging resolver must not use another thread with each try.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(2).build()?;
    let leases = Leases::new(settings.interval, settings.expected);
    let shared = Arc::new(Shared { leases: Mutex::new(leases), report: Mutex::default() });
    let known = Arc::clone(&shared);
    scopes.share(Newcomer::new(move |_| known.newcomer()));
    let (stop, stopped) = oneshot::channel();
    let (end, ended) = std::sync::mpsc::channel();
    let redis = Redis {
        url: settings.url,
        tls: settings.tls,
        namespace: settings.namespace,
        timeout: settings.interval.clamp(TIMEOUT.0, TIMEOUT.1),
    };
    let id = format!("{:016x}", fastrand::u64(..));
    let last = FallbackOnExit { scopes: scopes.clone(), shared: Arc::clone(&shared) };
    let exchange = Exchange::new(redis, id, settings.interval, scopes, Arc::clone(&shared));
    std::thread::Builder::new().name("weir-replicas".to_owned()).spawn(move || {
        let _last = last;
        runtime.block_on(exchange.run(stopped));
        // The receiver may have given up.
        end.send(()).ok();
    })?;
    Ok(Replicas { shared, stop: Mutex::new(Some(stop)), ended: Mutex::new(ended) })
}

/// Guard that gives the scopes an even part when the thread ends, because leased parts expire.
struct FallbackOnExit {
    scopes: Scopes,
    shared: Arc<Shared>,
}

impl Drop for FallbackOnExit {
    fn drop(&mut self) {
        let part = fraction(lease::even(self.shared.leases().replicas()));
        for scope in self.scopes.all() {
            scope.set_part(Part { part, ..Part::default() });
        }
    }
}

impl Replicas {
    /// Stops the exchanges and returns all parts to the ledger.
    pub fn leave(&self) {
        if let Some(stop) = self.stop.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // The send fails if the thread has ended.
            stop.send(()).ok();
        }
    }

    /// Like [`Self::leave`], but blocks until the parts are returned, or for [`GOODBYE_TIMEOUT`].
    pub fn leave_and_wait(&self) {
        self.leave();
        // Without the goodbye, the lease expires.
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(GOODBYE_TIMEOUT).ok();
    }

    /// The present state of the exchange.
    pub fn status(&self, now: Instant) -> Status {
        let (replicas, agreed) = {
            let leases = self.shared.leases();
            (leases.replicas(), leases.is_granted())
        };
        let report = *self.shared.report();
        Status {
            replicas,
            up: report.trouble.is_none() && report.renewed.is_some(),
            trouble: report.trouble,
            agreed,
            learning: agreed && report.learning,
            exchanges: report.exchanges,
            failures: report.failures,
            age: report.renewed.map(|renewed| now.saturating_duration_since(renewed)),
            took: report.took,
        }
    }
}

impl Shared {
    pub(super) fn leases(&self) -> MutexGuard<'_, Leases> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn report(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The part of a scope that is not in the ledger yet.
    pub(super) fn newcomer(&self) -> Part {
        let leases = self.leases();
        let prospect = fraction(leases.prospect());
        Part { part: fraction(leases.newcomer()), prospect, ..Part::default() }
    }
}

pub(super) fn key_of(scope: &Scope) -> ScopeKey {
    ScopeKey { owner: scope.shared_name(), family: family_name(scope.family()) }
}

fn family_name(family: &str) -> u64 {
    shared_name([family.as_bytes()])
}

pub(super) fn fraction(millionths: u32) -> f64 {
    f64::from(millionths) / f64::from(WHOLE)
}
