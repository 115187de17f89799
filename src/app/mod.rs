//! The composition root: creates threads, listeners and modules from a configuration, connects them
//! once, and ends them after a signal.
//!
//! The first worker accepts connections for all workers. The admin address has its own thread. The
//! main thread waits for signals, reloads the configuration on request, and at the end drains:
//! first readiness, then the listener, then the requests under way.

mod allowances;
mod build;
mod certificates;
mod control;
mod counters;
mod egress;
mod exchanges;
mod issuers;
mod files;
mod limits_log;
mod listeners;
mod log;
mod loss;
mod memory;
mod renewal;
mod restart;
mod settings;
mod shown_scope;
pub mod signals;
mod state;
mod status;
mod takeover;
mod unknown_paths;
mod upstreams;
mod worker;

use std::net::SocketAddr;
use std::num::NonZero;
use std::sync::{Arc, Mutex};

use crate::account::Account;
use crate::admin;
use crate::admission::Scopes;
use crate::caller::Registry;
use crate::clock;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::proxy::{Policies, Proxy};
use crate::replicas::{self, Replicas};
use crate::server::{self, Acceptor, Drain, Slots};
use crate::telemetry::otlp;
use crate::upstream;

use certificates::Certificates;
use control::Control;
use egress::Egress;
use exchanges::Exchanges;
use state::Kept;
use status::Status;
use takeover::Takeover;
use upstreams::Ways;
use worker::{Running, Worker};

pub use control::Reread;
pub use log::Log;

/// Why Weir did not start, or ended early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting can't be used.
    #[error("{0}")]
    Configuration(String),
    /// Any other reason.
    #[error("{0}")]
    Other(String),
}

/// A running Weir.
pub struct App {
    /// The address of the listener for callers.
    pub listening: SocketAddr,
    /// The address of the admin listener.
    pub admin: SocketAddr,
    control: Arc<Control>,
    account: Arc<Account>,
    workers: Vec<Running>,
    admin_stop: tokio::sync::oneshot::Sender<()>,
    admin_thread: std::thread::JoinHandle<std::io::Result<()>>,
    export: Option<otlp::ExportGuard>,
    kept: Option<Kept>,
    /// The Weir that this one replaces, if any.
    predecessor: Option<server::Predecessor>,
    takeover: Option<Takeover>,
}

/// The reason for a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// A signal or a request to the admin address.
    Told,
    /// Another process now serves the listeners.
    HandedOver,
}

/// Runs until a signal ends it, and drains.
///
/// # Errors
/// It can't start. Later failures are logged and counted.
pub fn run(config: Config, reread: Reread) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::Other(format!("cannot start a runtime: {error}")))?;
    runtime.block_on(async {
        let log = log::start(&config)?;
        reread.warn(&reread.in_force);
        resolve_upstream(&config).await?;
        let mut app = App::start(config, reread, Some(&log))?;
        if let Some(certificates) = app.control.certificates() {
            certificates.watch();
        }
        clock::spawn(renewal::watch(Arc::clone(&app.control)));
        let keeping = app.kept.clone().map(|kept| clock::spawn(kept.keep()));
        log::up(&app, log.text);
        if app.until_the_end().await == End::HandedOver {
            // The successor's saved state is newer.
            app.kept = None;
            if let Some(keeping) = keeping {
                keeping.abort();
            }
        }
        app.finish().await;
        Ok(())
    })
}

impl App {
    /// Binds the listeners and starts all threads.
    ///
    /// # Errors
    /// An address is in use, a file can't be used, or a thread can't be started.
    #[expect(clippy::too_many_lines, reason = "it makes each part once, in the order of their dependencies")]
    pub fn start(mut config: Config, reread: Reread, log: Option<&Log>) -> Result<Self, Error> {
        let now = clock::now();
        let (listener, admin_listener, predecessor) = listeners::open(&config)?;
        let takeover = match &config.server.takeover {
            Some(path) => Some(Takeover::open(path, listeners::copies([&listener, &admin_listener])?)?),
            None => None,
        };
        let (listening, admin) = (listeners::address(&listener)?, listeners::address(&admin_listener)?);
        let egress = Egress::load(&config)?;
        let certificates = Certificates::load(&config)?;
        let exchanges = Exchanges::new(egress.to_others.clone(), egress.direct.clone());
        exchanges.keep(exchanges.of(&config)?);
        exchanges.fill(&mut config);
        let tunnels = settings::tunnels(&config);
        let registry = Registry::new();
        let workers = worker_count(&config);
        let upstream_counters = Arc::<upstream::Counters>::default();
        let ways = Ways {
            connector: egress.connector.clone(),
            direct: egress.direct.clone(),
            settings: settings::upstream(&config),
            counters: Arc::clone(&upstream_counters),
            tunnels: Arc::clone(&tunnels),
            workers,
            names: Arc::default(),
            owners: Arc::default(),
        };
        let policy = settings::policy(&config, &registry, ways.to(&config, None)?)?;
        let issuers = Mutex::default();
        issuers::follow(&policy.callers, &config, &exchanges, &issuers).map_err(Error::Configuration)?;
        let metrics = Metrics::new(&settings::metrics(&config, &policy.callers, workers));
        let (spans, export) = match settings::export(&config)? {
            None => (None, None),
            Some(settings) => {
                let (spans, guard) = otlp::start(&settings)
                    .map_err(|error| Error::Configuration(format!("trace: {error}")))?;
                (Some(spans), Some(guard))
            }
        };
        let account = Account::new(
            settings::account(
                &config,
                log.is_some_and(|log| log.text),
                spans.clone(),
                Arc::clone(&ways.names),
            ),
            Arc::clone(&metrics),
            registry,
            now,
        );
        let spending = Arc::clone(account.spending());
        spending.configure(allowances::budgets(&config, &policy.callers), clock::wall());
        let scopes = Scopes::new(settings::scopes(&config, &policy.callers, &ways.names), fastrand::u64(..));
        let kept = match &config.state {
            Some(folder) => Some(Kept::restore(folder, Arc::clone(&spending), scopes.clone())?),
            None => None,
        };
        let replicas = share(&config, &scopes)?;
        limits_log::begin(log, &scopes, config.log.sample);
        clock::spawn(unknown_paths::watch(Arc::clone(&account)));
        let policies = Policies::new(policy);
        let kept_bodies = memory::budget(&config, workers);
        let front_counters = Arc::<server::Counters>::default();
        let (drain, draining) = Drain::new();
        let front = files::front(&config, workers);
        let slots = Slots::new(&front, Arc::clone(&front_counters));
        let (acceptor, seats) =
            Acceptor::new(listener, workers, slots, Arc::clone(&front_counters), draining.clone());

        let mut acceptor = Some(acceptor);
        let mut running = Vec::with_capacity(workers);
        for (index, seat) in seats.into_iter().enumerate() {
            let worker = Worker {
                seat,
                acceptor: acceptor.take(),
                front,
                tls: certificates.as_ref().map(|certificates| Arc::clone(&certificates.tls)),
                counters: Arc::clone(&front_counters),
                draining: draining.clone(),
                name: format!("weir-worker-{index}"),
            };
            let (policies, scopes) = (Arc::clone(&policies), scopes.clone());
            let (account, kept_bodies) = (Arc::clone(&account), Arc::clone(&kept_bodies));
            let started = worker
                .start(move || Proxy::new(policies, scopes, account, kept_bodies, index, fastrand::u64(..)));
            running.push(started.map_err(|error| Error::Other(format!("cannot start a worker: {error}")))?);
        }
        drop(draining);

        let access = admin::CurrentAccess::new(settings::access(&config));
        let admin_listener_ends = Arc::<tokio::sync::Notify>::default();
        let control = Arc::new(Control::new(
            config,
            reread,
            policies,
            scopes,
            control::Ends { drain, tunnels, replicas, admin_listener: Arc::clone(&admin_listener_ends) },
            control::Followers {
                certificates,
                egress,
                exchanges,
                issuers,
                ways,
                admin: access.clone(),
                spending,
                log: log.map(|log| log.filter.clone()),
            },
            Arc::clone(&metrics),
        ));
        let source = Status {
            listen: control.with_config(|config| config.server.listen.to_string()),
            host: build::host(),
            control: Arc::clone(&control),
            metrics,
            account: Arc::clone(&account),
            kept_bodies,
            front: front_counters,
            upstream: upstream_counters,
            log: log.map(|log| log.guard.dropped()),
            spans,
            started: now,
        };
        let (admin_stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let admin_settings = admin::Settings { access, ..admin::Settings::default() };
        let stop_listening = async move { admin_listener_ends.notified().await };
        let admin_thread =
            admin::start(admin_listener, admin_settings, Arc::new(source), stop_listening, async {
                drop(stopped.await);
            })
            .map_err(|error| Error::Other(format!("cannot start the admin thread: {error}")))?;
        Ok(Self {
            listening,
            admin,
            control,
            account,
            workers: running,
            admin_stop,
            admin_thread,
            export,
            kept,
            predecessor,
            takeover,
        })
    }

    /// Serves until a drain is requested, or a successor serves.
    async fn until_the_end(&mut self) -> End {
        if let Some(takeover) = &mut self.takeover {
            takeover.replace();
        }
        if let Some(Err(error)) = self.predecessor.take().map(server::Predecessor::relieve) {
            tracing::warn!(%error, "the Weir whose listeners this one took is gone");
        }
        let takeover = self.takeover.take();
        let handed_over = async {
            match takeover {
                Some(takeover) => takeover.handed_over(self.kept.as_ref()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = signals::until_told(&self.control) => End::Told,
            () = handed_over => {
                self.control.skip_drain_delay();
                End::HandedOver
            }
        }
    }

    /// Drains, and ends all threads.
    pub async fn finish(self) {
        self.control.drain_until_done().await;
        self.account.cut();
        for worker in self.workers {
            worker.stop();
        }
        // The admin thread ends even without this message.
        self.admin_stop.send(()).ok();
        if let Ok(Err(error)) = self.admin_thread.join() {
            tracing::error!(%error, "the admin listener failed");
        }
        if let Some(Err(error)) = self.kept.map(|kept| kept.write()) {
            tracing::error!(%error, "what callers spent was not kept");
        }
        self.control.left();
        // After the last request, so that its spans are sent too.
        drop(self.export);
    }
}

/// Shares the scopes' limits with other replicas, if the configuration names some.
fn share(config: &Config, scopes: &Scopes) -> Result<Option<Replicas>, Error> {
    settings::replicas(config)?
        .map(|settings| replicas::start(settings, scopes.clone()))
        .transpose()
        .map_err(|error| Error::Other(format!("cannot start the exchange with the replicas: {error}")))
}

fn worker_count(config: &Config) -> usize {
    match config.server.workers {
        0 => std::thread::available_parallelism().map_or(1, NonZero::get),
        workers => workers,
    }
}

/// Refuses to start if the upstream's name does not exist: the usual cause is a mistake in the
/// configuration. An unreachable resolver is tolerated: while a machine boots it may come back.
async fn resolve_upstream(config: &Config) -> Result<(), Error> {
    // In a pool, an upstream whose name does not exist is out, and the status page shows it.
    let url = &config.upstream.url;
    if config.upstream.proxy.is_some() || !config.upstreams.is_empty() {
        return Ok(());
    }
    match tokio::net::lookup_host((url.host(), url.port())).await {
        Ok(_) => Ok(()),
        Err(error) if is_temporary(&error.to_string()) => {
            tracing::warn!(host = url.host(), %error, "upstream.url can't be resolved now; until it can, requests get 502");
            Ok(())
        }
        // An internal name may appear later: the exit code says that a restart may help.
        Err(error) => Err(Error::Other(format!(
            "upstream.url: the host {:?} does not resolve ({error}); correct the name, or name a host that exists",
            url.host()
        ))),
    }
}

/// Whether a resolver's message means a temporary failure (`EAI_AGAIN`); std keeps only the
/// message.
fn is_temporary(words: &str) -> bool {
    // The messages of glibc and musl.
    words.contains("Temporary failure") || words.contains("Try again")
}
