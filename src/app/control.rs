//! Control of a running Weir: reload and drain.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;

use crate::account::Rfc3339;
use crate::admin::{CurrentAccess, Reload};
use crate::admission::Scopes;
use crate::caller::Issuer;
use crate::clock;
use crate::config::Config;
use crate::config::render::{self, Waiting};
use crate::metrics::Metrics;
use crate::proxy::Policies;
use crate::replicas::{self, Replicas};
use crate::server::Drain;
use crate::spending::Spending;
use crate::telemetry::LogFilter;
use crate::upstream::upgrade::Tunnels;

use super::certificates::Certificates;
use super::egress::Egress;
use super::exchanges::Exchanges;
use super::restart::Fixed;
use super::upstreams::Ways;
use super::{allowances, issuers, log, loss, settings, signals};

/// How long WebSocket clients have to receive the close frame at the end of a drain.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Reads the configuration again, from the source of the first reading. An error is the text of all
/// problems.
pub struct Reread {
    /// The text of the configuration in force.
    pub in_force: String,
    /// Reads the text.
    pub text: Box<dyn Fn() -> Result<String, String> + Send + Sync>,
    /// Parses a configuration from a text, with the present secrets.
    pub parse: Box<Parse>,
    /// The settings in a text that the next version does not accept, one line each.
    pub deprecated: Box<dyn Fn(&str) -> String + Send + Sync>,
}

impl Reread {
    /// Logs a warning about settings that the next version does not accept.
    pub(super) fn warn(&self, text: &str) {
        for what in (self.deprecated)(text).lines() {
            tracing::warn!(what, "the configuration uses a former name of a key");
        }
    }
}

/// Parses a configuration from a text.
type Parse = dyn Fn(&str) -> Result<Config, String> + Send + Sync;

/// The handle shared by signals and the admin address.
pub(super) struct Control {
    reread: Reread,
    state: Mutex<State>,
    /// Held from reading a configuration until it is applied, so that of two reloads the later text
    /// wins.
    reloading: Mutex<()>,
    pub(super) policies: Arc<Policies>,
    pub(super) scopes: Scopes,
    ends: Ends,
    followers: Followers,
    /// The settings that only a restart changes.
    fixed: Fixed,
    metrics: Arc<Metrics>,
    draining: AtomicBool,
    /// The drain skips `shutdown.drain_delay`.
    at_once: AtomicBool,
    drain_asked: Notify,
}

/// The parts that a drain ends.
pub(super) struct Ends {
    pub(super) drain: Drain,
    pub(super) tunnels: Arc<Tunnels>,
    /// The connection to the other replicas.
    pub(super) replicas: Option<Replicas>,
    /// Closes the admin address's listener, so that the next process can bind it.
    pub(super) admin_listener: Arc<Notify>,
}

/// How long idle connections stay open after a drain was announced, while responses already carry
/// `Connection: close`. A request that a client sends on a pooled connection at that moment still
/// arrives.
const IDLE_GRACE: Duration = Duration::from_secs(1);

/// The parts that a reload updates beside the policies and the scopes.
pub(super) struct Followers {
    pub(super) certificates: Option<Certificates>,
    /// The connectors to the upstreams.
    pub(super) egress: Egress,
    /// The exchanges of short-lived credentials.
    pub(super) exchanges: Exchanges,
    /// The issuers whose keys are read regularly.
    pub(super) issuers: Mutex<Vec<Weak<Issuer>>>,
    pub(super) ways: Ways,
    /// The access rules of the admin address.
    pub(super) admin: CurrentAccess,
    pub(super) log: Option<LogFilter>,
    /// The spending of callers.
    pub(super) spending: Arc<Spending>,
}

struct State {
    config: Config,
    /// Its text: renewed secrets are applied to this text, not to the file, which may be in the
    /// middle of an edit.
    text: String,
    /// The settings that take effect only after a restart.
    waiting: Vec<Waiting>,
    read_at: SystemTime,
    problem: Option<String>,
}

impl Control {
    pub(super) fn new(
        config: Config,
        reread: Reread,
        policies: Arc<Policies>,
        scopes: Scopes,
        ends: Ends,
        followers: Followers,
        metrics: Arc<Metrics>,
    ) -> Self {
        let fixed = Fixed::of(&config);
        let text = reread.in_force.clone();
        let read_at = clock::wall();
        let state = Mutex::new(State { config, text, waiting: Vec::new(), read_at, problem: None });
        Self {
            reread,
            state,
            reloading: Mutex::default(),
            policies,
            scopes,
            ends,
            followers,
            fixed,
            metrics,
            draining: AtomicBool::new(false),
            at_once: AtomicBool::new(false),
            drain_asked: Notify::new(),
        }
    }

    /// The configuration in force, without secrets, with the values that a restart would change.
    pub(super) fn shown(&self) -> String {
        let state = self.state();
        render::in_force(&state.config, &state.waiting)
    }

    /// Calls `read` with the configuration that was read last. Settings that need a restart already
    /// have their new values in it.
    pub(super) fn with_config<T>(&self, read: impl FnOnce(&Config) -> T) -> T {
        read(&self.state().config)
    }

    /// The result of the last reload.
    pub(super) fn last_read(&self) -> Reload {
        let state = self.state();
        Reload {
            successful: state.problem.is_none(),
            time: Rfc3339(state.read_at).to_string(),
            error: state.problem.clone(),
            waiting: state.waiting.iter().map(|waiting| waiting.key.clone()).collect(),
        }
    }

    /// Reads the configuration again. Settings of listeners, workers and connections keep their
    /// values until a restart; changed ones are logged.
    ///
    /// # Errors
    /// All problems; the configuration in force stays.
    pub(super) fn reload(&self) -> Result<(), String> {
        let _one_at_a_time = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let read = (self.reread.text)().and_then(|text| {
            let mut config = (self.reread.parse)(&text)?;
            loss::check(&self.state().config, &config, &text)?;
            if let Some(certificates) = &self.followers.certificates {
                certificates.reload()?;
            }
            let exchanges = self.followers.exchanges.of(&config).map_err(|error| error.to_string())?;
            exchanges.fill(&mut config);
            let waiting = self.apply(&config)?;
            self.followers.exchanges.keep(exchanges);
            Ok((config, text, waiting))
        });
        let now = clock::wall();
        self.metrics.reloaded(read.is_ok(), now);
        let mut state = self.state();
        match read {
            Ok((config, text, waiting)) => {
                self.reread.warn(&text);
                let keys: Vec<&str> = waiting.iter().map(|waiting| &*waiting.key).collect();
                if keys.is_empty() {
                    tracing::info!("the configuration was read again");
                } else {
                    let restart = keys.join(", ");
                    tracing::warn!(restart, "the configuration was read again; what needs a restart stays");
                }
                *state = State { config, text, waiting, read_at: now, problem: None };
                Ok(())
            }
            Err(problem) => {
                state.problem = Some(problem.clone());
                Err(problem)
            }
        }
    }

    /// Reads the secrets of the configuration in force again.
    ///
    /// # Errors
    /// All problems; the secrets in use stay.
    pub(super) fn renew_secrets(&self) -> Result<(), String> {
        let _one_at_a_time = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let text = self.state().text.clone();
        let mut config = (self.reread.parse)(&text)?;
        self.followers.exchanges.fill(&mut config);
        let waiting = self.apply(&config)?;
        let mut state = self.state();
        (state.config, state.waiting) = (config, waiting);
        Ok(())
    }

    /// Reads the upstream's client certificate and authorities from the files again.
    pub(super) fn renew_upstream_certificates(&self) {
        match self.followers.egress.reload_if_changed(&self.state().config) {
            None => {}
            Some(Ok(())) => tracing::info!("the certificates for the upstream were read again"),
            Some(Err(problem)) => {
                tracing::error!(%problem, "the certificates for the upstream were not read again; those in use stay");
            }
        }
    }

    /// Puts a configuration in force, except for settings that need a restart, which it returns.
    fn apply(&self, config: &Config) -> Result<Vec<Waiting>, String> {
        let registry = Arc::clone(self.policies.current().callers.registry());
        let ways = &self.followers.ways;
        let upstreams = ways.to(config, Some(&self.policies.current().upstreams));
        let upstreams = upstreams.map_err(|error| error.to_string())?;
        let policy = settings::policy(config, &registry, upstreams).map_err(|error| error.to_string())?;
        let Followers { exchanges, issuers, .. } = &self.followers;
        issuers::follow(&policy.callers, config, exchanges, issuers)?;
        self.followers.egress.replace(config).map_err(|error| error.to_string())?;
        self.followers.spending.configure(allowances::budgets(config, &policy.callers), clock::wall());
        // The connections first: a new member gets requests at once.
        let scopes = settings::scopes(config, &policy.callers, &ways.names);
        for caller in policy.callers.all() {
            self.metrics.name_caller(caller.id, &caller.name);
        }
        self.policies.replace(policy);
        self.scopes.reload(scopes);
        self.followers.admin.replace(settings::access(config));
        if let Some(log) = &self.followers.log {
            log.change(log::levels(config));
        }
        Ok(self.fixed.changed_in(config))
    }

    /// The number of open upgraded connections.
    pub(super) fn tunnels_open(&self) -> usize {
        self.ends.tunnels.open()
    }

    /// The state of the exchange with the other replicas, if there are any.
    pub(super) fn replicas(&self) -> Option<replicas::Status> {
        self.ends.replicas.as_ref().map(|replicas| replicas.status(clock::now()))
    }

    /// Waits, for a short time at most, until the other replicas know that this one left.
    pub(super) fn left(&self) {
        if let Some(replicas) = &self.ends.replicas {
            replicas.leave_and_wait();
        }
    }

    pub(super) fn exchanges(&self) -> &Exchanges {
        &self.followers.exchanges
    }

    pub(super) fn certificates(&self) -> Option<&Certificates> {
        self.followers.certificates.as_ref()
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Makes a following drain skip its delay.
    pub(super) fn skip_drain_delay(&self) {
        self.at_once.store(true, Ordering::Release);
    }

    /// Requests a drain; the thread that waits for signals starts it.
    pub(super) fn ask_to_drain(&self) {
        self.drain_asked.notify_one();
    }

    pub(super) async fn drain_asked(&self) {
        self.drain_asked.notified().await;
    }

    /// Drains: reports not ready at once, closes the listener after the delay, and returns when all
    /// requests have ended or the timeout expires.
    pub(super) async fn drain_until_done(&self) {
        self.draining.store(true, Ordering::Release);
        self.metrics.draining(true);
        let (delay, timeout) =
            self.with_config(|config| (config.shutdown.drain_delay, config.shutdown.drain_timeout));
        let delay = if self.at_once.load(Ordering::Acquire) { Duration::ZERO } else { delay };
        let Ends { drain, tunnels, replicas, admin_listener } = &self.ends;
        let finished = async {
            let announced = clock::now();
            drain.announce();
            clock::sleep(delay).await;
            if let Some(replicas) = replicas {
                replicas.leave();
            }
            drain.begin();
            tunnels.drain();
            admin_listener.notify_one();
            let deadline = clock::now() + timeout;
            let requests = async {
                if !drain.finished((announced + IDLE_GRACE).min(deadline)).await {
                    drain.close_idle();
                }
                // Requests that still wait are refused, so that another replica or the next process
                // serves them: this one no longer takes part in the division of the limits.
                self.scopes.drain();
                drain.finished(deadline).await
            };
            // Sessions between two turns end at once, others after their turns.
            let closed = clock::timeout_at(deadline, tunnels.closed());
            let (finished, closed) = tokio::join!(requests, closed);
            if closed.is_err() {
                tunnels.stop();
                clock::timeout_at(clock::now() + CLOSE_TIMEOUT, tunnels.closed()).await.ok();
            }
            if !finished {
                tracing::warn!(
                    unfinished = drain.unfinished(),
                    "the drain's time is over; what is unfinished is cut"
                );
            }
        };
        tokio::select! {
            () = finished => tracing::info!("drained"),
            () = signals::ended() => tracing::warn!("second signal: stopping now"),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
