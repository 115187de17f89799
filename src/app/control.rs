//! What can be asked of a running Weir: to read its configuration again, and to drain.

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

/// How long WebSocket clients have to take the frame that says that the drain's time is over.
const FAREWELL: Duration = Duration::from_secs(1);

/// How the configuration is read again, from where it was read at first. Errors are every problem,
/// as text.
pub struct Reread {
    /// The text that the configuration in force was read from.
    pub in_force: String,
    /// Reads the text.
    pub text: Box<dyn Fn() -> Result<String, String> + Send + Sync>,
    /// Makes a configuration of a text, with the secrets as they are now.
    pub parse: Box<Parse>,
    /// What of a text the next version does not read, one line each.
    pub deprecated: Box<dyn Fn(&str) -> String + Send + Sync>,
}

impl Reread {
    /// Warns of what the next version does not read.
    pub(super) fn warn(&self, text: &str) {
        for what in (self.deprecated)(text).lines() {
            tracing::warn!(what, "the configuration uses a former name of a key");
        }
    }
}

/// Makes a configuration of a text.
type Parse = dyn Fn(&str) -> Result<Config, String> + Send + Sync;

/// The handle that signals and the admin address share.
pub(super) struct Control {
    reread: Reread,
    state: Mutex<State>,
    /// Held from the read to the end of what follows it, so that of two reloads the later text
    /// wins.
    reloading: Mutex<()>,
    pub(super) policies: Arc<Policies>,
    pub(super) scopes: Scopes,
    ends: Ends,
    followers: Followers,
    /// What the process was started with and keeps.
    fixed: Fixed,
    metrics: Arc<Metrics>,
    draining: AtomicBool,
    /// The drain begins without `shutdown.drain_delay`.
    at_once: AtomicBool,
    drain_asked: Notify,
}

/// What a drain tells to end.
pub(super) struct Ends {
    pub(super) drain: Drain,
    pub(super) tunnels: Arc<Tunnels>,
    /// The others that share the limits.
    pub(super) replicas: Option<Replicas>,
    /// Closes the admin address's listener, so that the next process can have it.
    pub(super) admin_listener: Arc<Notify>,
}

/// How long idle connections are left open after a drain was announced, while their answers say
/// that they close: what a client sends on one that it has just taken from its pool still arrives.
const LAST_REQUESTS: Duration = Duration::from_secs(1);

/// What follows a reload beside the policies and the scopes.
pub(super) struct Followers {
    pub(super) certificates: Option<Certificates>,
    /// How connections to the upstreams are made.
    pub(super) egress: Egress,
    /// Where credentials that live short come from.
    pub(super) exchanges: Exchanges,
    /// The issuers whose keys are read.
    pub(super) issuers: Mutex<Vec<Weak<Issuer>>>,
    pub(super) ways: Ways,
    /// What the admin address demands.
    pub(super) admin: CurrentAccess,
    pub(super) log: Option<LogFilter>,
    /// What callers spent.
    pub(super) spending: Arc<Spending>,
}

struct State {
    config: Config,
    /// What it was read from: a replaced secret is put into this, not into a file that somebody
    /// edits meanwhile.
    text: String,
    /// What of it is not in force.
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

    /// The configuration in force, without secrets, and what of it changes with a restart.
    pub(super) fn shown(&self) -> String {
        let state = self.state();
        render::in_force(&state.config, &state.waiting)
    }

    /// Does something with the configuration that was read last. What needs a restart is in it as
    /// it will be.
    pub(super) fn with_config<T>(&self, read: impl FnOnce(&Config) -> T) -> T {
        read(&self.state().config)
    }

    /// How reading the configuration went.
    pub(super) fn last_read(&self) -> Reload {
        let state = self.state();
        Reload {
            successful: state.problem.is_none(),
            time: Rfc3339(state.read_at).to_string(),
            error: state.problem.clone(),
            waiting: state.waiting.iter().map(|waiting| waiting.key.clone()).collect(),
        }
    }

    /// Reads the configuration again. What concerns listeners, workers and connections stays as it
    /// was at the start, and is named in the log where it is another now.
    ///
    /// # Errors
    /// Every problem of it; the configuration in force stays then.
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
    /// Every problem that it has with them; those in force stay then.
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

    /// Shows the upstream the certificate that is in the files now, and trusts the authorities that
    /// are.
    pub(super) fn renew_upstream_certificates(&self) {
        match self.followers.egress.reload_if_changed(&self.state().config) {
            None => {}
            Some(Ok(())) => tracing::info!("the certificates for the upstream were read again"),
            Some(Err(problem)) => {
                tracing::error!(%problem, "the certificates for the upstream were not read again; those in use stay");
            }
        }
    }

    /// Puts a configuration in force, but for what needs a restart, which it answers.
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
        // The ways first: a member that is new gets requests at once.
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

    /// Upgraded connections open now.
    pub(super) fn tunnels_open(&self) -> usize {
        self.ends.tunnels.open()
    }

    /// How the exchange with the other replicas stands, where there are any.
    pub(super) fn replicas(&self) -> Option<replicas::Status> {
        self.ends.replicas.as_ref().map(|replicas| replicas.status(clock::now()))
    }

    /// Waits a moment until the other replicas know that this one left.
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

    /// A drain that follows does not wait for balancers to notice.
    pub(super) fn skip_drain_delay(&self) {
        self.at_once.store(true, Ordering::Release);
    }

    /// Asks for a drain; the thread that waits for signals begins it.
    pub(super) fn ask_to_drain(&self) {
        self.drain_asked.notify_one();
    }

    pub(super) async fn drain_asked(&self) {
        self.drain_asked.notified().await;
    }

    /// Not ready from now on; after the delay no more connections; then all that is under way ends,
    /// or its time does.
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
                if !drain.finished((announced + LAST_REQUESTS).min(deadline)).await {
                    drain.close_idle();
                }
                // What waits and can't start in time is refused, so that another replica takes it.
                self.scopes.drain();
                drain.finished(deadline).await
            };
            // Sessions between two turns end at once, the others after their turns.
            let closed = clock::timeout_at(deadline, tunnels.closed());
            let (finished, closed) = tokio::join!(requests, closed);
            if closed.is_err() {
                tunnels.stop();
                clock::timeout_at(clock::now() + FAREWELL, tunnels.closed()).await.ok();
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
