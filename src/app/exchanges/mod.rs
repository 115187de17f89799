//! Short-lived credentials: each exchange gets its next token before the present one expires.
//!
//! One task per exchange sends the requests, so that two never overlap. The old token is used until
//! the new one has arrived.

mod request;
#[cfg(test)]
mod tests;
mod token;

use std::future::Future;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

use crate::admin::CredentialStatus;
use crate::caller::shared_name;
use crate::clock::{self, Instant};
use crate::config::exchanges::Exchange as Settings;
use crate::config::secret::{self, SecretSource};
use crate::config::{Config, proxy};
use crate::upstream::Connector;

use super::Error;
use request::NoToken;
pub(super) use request::{TIMEOUT, send};
use token::Token;

/// How long a start or a reload waits for an exchange's first token.
const FIRST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a request whose key was refused waits for a new token.
const RENEWAL_TIMEOUT: Duration = Duration::from_millis(900);

/// The exchanges of the configuration in force.
pub(super) struct Exchanges {
    /// The runtime of their tasks; started with the first exchange.
    runtime: Mutex<Option<Handle>>,
    /// Through the proxy, and without it; both verify each server's own name.
    connectors: [Connector; 2],
    current: Mutex<Vec<Arc<Running>>>,
    renewed: Arc<Notify>,
}

/// A running exchange; dropping it ends its task.
struct Running {
    exchange: Arc<Exchange>,
    task: AbortHandle,
}

struct Exchange {
    of: Settings,
    state: Mutex<State>,
    /// Signaled when the first token has arrived, or has failed for good.
    first: Condvar,
    /// Requests a token at once.
    wake: Notify,
    /// The number of tries so far.
    tries: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    token: Option<Token>,
    failures: u32,
    problem: Option<NoToken>,
}

impl Exchanges {
    /// Without exchanges.
    pub(super) fn new(proxied: Connector, direct: Connector) -> Self {
        let (runtime, current) = (Mutex::default(), Mutex::default());
        Self { runtime, connectors: [proxied, direct], current, renewed: Arc::default() }
    }

    /// The exchanges of another configuration, each with a token: unchanged ones, and new ones. It
    /// waits for the new ones' first tokens; [`Self::keep`] puts them in force.
    ///
    /// # Errors
    /// The exchange that got no token, with the reason.
    pub(super) fn of(&self, config: &Config) -> Result<Prepared, Error> {
        let mut all = Vec::with_capacity(config.exchanges.len());
        for (index, of) in config.exchanges.iter().enumerate() {
            let known = lock(&self.current).iter().find(|known| known.of == *of).cloned();
            let exchange = match known {
                Some(known) => known,
                None => self.start(of, config)?,
            };
            exchange.first_token().map_err(|none| {
                let message = format!("exchanges[{index}] (\"{}\"): no token: {}", of.name, none.problem);
                if none.lasting { Error::Configuration(message) } else { Error::Other(message) }
            })?;
            all.push(exchange);
        }
        Ok(Prepared(all))
    }

    /// Puts these exchanges in force; the others end.
    pub(super) fn keep(&self, prepared: Prepared) {
        *lock(&self.current) = prepared.0;
    }

    /// Fills in the present tokens.
    pub(super) fn fill(&self, config: &mut Config) {
        Prepared(lock(&self.current).clone()).fill(config);
    }

    /// Whether a credential's token has changed.
    pub(super) fn has_another(&self, of: &secret::SecretRef) -> bool {
        let SecretSource::Exchange(name) = &of.source else { return false };
        let current = lock(&self.current);
        let known = current.iter().find(|known| known.of.name == *name);
        known
            .and_then(|known| known.state().token.as_ref().map(|token| token.secret != of.secret))
            .unwrap_or(false)
    }

    /// Waits for the next new token.
    pub(super) async fn renewed(&self) {
        self.renewed.notified().await;
    }

    /// To be called when the upstream refused a key: renews tokens that are old enough, and waits
    /// for them.
    pub(super) async fn refused(&self) {
        let now = clock::now();
        let old =
            |known: &&Arc<Running>| known.state().token.as_ref().is_none_or(|token| token.is_renewable(now));
        let old: Vec<Arc<Running>> = lock(&self.current).iter().filter(old).cloned().collect();
        let mut tries: Vec<watch::Receiver<u64>> = old.iter().map(|old| old.tries.subscribe()).collect();
        for exchange in &old {
            exchange.wake.notify_one();
        }
        let all = async {
            for tried in &mut tries {
                tried.changed().await.ok();
            }
        };
        clock::timeout_at(now + RENEWAL_TIMEOUT, all).await.ok();
    }

    /// The remaining lifetime of each token.
    pub(super) fn expiries(&self, now: Instant) -> Vec<CredentialStatus> {
        let of = |exchange: &Arc<Running>| {
            let state = exchange.state();
            let token = state.token.as_ref()?;
            let left = token.ends().saturating_duration_since(now).as_secs_f64();
            let over = now.saturating_duration_since(token.ends()).as_secs_f64();
            let problem = state.problem.as_ref().map(|none| none.problem.clone());
            Some(CredentialStatus {
                name: exchange.of.name.clone(),
                expires_in_seconds: left - over,
                problem,
            })
        };
        lock(&self.current).iter().filter_map(of).collect()
    }

    fn start(&self, of: &Settings, config: &Config) -> Result<Arc<Running>, Error> {
        let connector = self.connector(!proxy::is_for(&of.url, &config.upstream.no_proxy));
        let exchange = Exchange::new(of.clone());
        let (settings, renewed) = (of.clone(), Arc::clone(&self.renewed));
        let ask = move || {
            let (settings, connector) = (settings.clone(), connector.clone());
            async move { request::ask(&settings, connector).await }
        };
        let task = Arc::clone(&exchange).run(ask, renewed, fastrand::Rng::new());
        let task = self.runtime()?.spawn(task).abort_handle();
        Ok(Arc::new(Running { exchange, task }))
    }

    /// A connector, without or through the proxy.
    pub(super) fn connector(&self, is_direct: bool) -> Connector {
        self.connectors[usize::from(is_direct)].clone()
    }

    /// The runtime of the exchanges, on its own thread: a reload blocks other threads while it
    /// waits.
    pub(super) fn runtime(&self) -> Result<Handle, Error> {
        let mut known = lock(&self.runtime);
        if let Some(handle) = &*known {
            return Ok(handle.clone());
        }
        let wrong =
            |error: std::io::Error| Error::Other(format!("cannot start the exchanges' thread: {error}"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(wrong)?;
        let handle = runtime.handle().clone();
        let run = move || runtime.block_on(std::future::pending::<()>());
        std::thread::Builder::new().name("weir-exchanges".to_owned()).spawn(run).map_err(wrong)?;
        *known = Some(handle.clone());
        Ok(handle)
    }
}

/// Exchanges that have tokens, ready to be put in force.
pub(super) struct Prepared(Vec<Arc<Running>>);

impl Prepared {
    /// Fills in their tokens.
    pub(super) fn fill(&self, config: &mut Config) {
        for credential in secret::credentials(config) {
            let SecretSource::Exchange(name) = &credential.source else { continue };
            let known = self.0.iter().find(|known| known.of.name == *name);
            if let Some(token) = known.and_then(|known| known.state().token.clone()) {
                credential.secret = token.secret;
            }
        }
    }
}

impl Exchange {
    fn new(of: Settings) -> Arc<Self> {
        Arc::new(Self {
            of,
            state: Mutex::default(),
            first: Condvar::new(),
            wake: Notify::new(),
            tries: watch::Sender::new(0),
        })
    }

    /// Waits for the first token; a lasting problem ends the wait.
    fn first_token(&self) -> Result<(), NoToken> {
        let waits = |state: &mut State| {
            state.token.is_none() && !state.problem.as_ref().is_some_and(|none| none.lasting)
        };
        let waited = self.first.wait_timeout_while(self.state(), FIRST_TIMEOUT, waits);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match (&state.token, &state.problem) {
            (Some(_), _) => Ok(()),
            (None, Some(problem)) => Err(problem.clone()),
            (None, None) => Err(NoToken { problem: "no response in time".to_owned(), lasting: false }),
        }
    }

    /// Requests tokens, each when it is due; never returns.
    async fn run<A, F>(self: Arc<Self>, ask: A, renewed: Arc<Notify>, mut rng: fastrand::Rng)
    where
        A: Fn() -> F + Send,
        F: Future<Output = Result<Token, NoToken>> + Send,
    {
        loop {
            let asked = ask().await;
            let due = self.take(asked, &renewed, &mut rng);
            // Requests during the exchange are served by its result.
            tokio::select! { biased; () = self.wake.notified() => {} () = std::future::ready(()) => {} }
            self.tries.send_modify(|tries| *tries += 1);
            tokio::select! {
                () = clock::sleep_until(due) => {}
                () = self.wake.notified() => {}
            }
        }
    }

    /// Stores the result of a request, and returns when the next one is due.
    fn take(&self, asked: Result<Token, NoToken>, renewed: &Notify, rng: &mut fastrand::Rng) -> Instant {
        let mut state = self.state();
        let due = match asked {
            Ok(token) => {
                if state.failures > 0 {
                    tracing::info!(exchange = self.of.name, "the exchange gives tokens again");
                }
                let due = token.due(rng.f64());
                *state = State { token: Some(token), failures: 0, problem: None };
                renewed.notify_one();
                due
            }
            Err(none) => {
                state.failures = state.failures.saturating_add(1);
                let now = clock::now();
                let left = state.token.as_ref().map(|token| token.ends().saturating_duration_since(now));
                let (problem, failures, expires_in) =
                    (&none.problem, state.failures, left.map(|it| it.as_secs()));
                // Log the 1st, 2nd, 4th, 8th … failure in a row.
                if failures.is_power_of_two() {
                    tracing::error!(
                        exchange = self.of.name,
                        problem,
                        failures,
                        expires_in,
                        "the exchange gave no token; the one before is used, and it is tried again"
                    );
                }
                state.problem = Some(none);
                now + token::retry_after(failures, rng.f64())
            }
        };
        self.first.notify_all();
        due
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl std::ops::Deref for Running {
    type Target = Exchange;

    fn deref(&self) -> &Exchange {
        &self.exchange
    }
}

/// A name for an exchange's credential that all replicas share: their tokens differ and expire.
pub(super) fn shared_credential_name(
    config: &Config,
    key: &secret::SecretRef,
    account: [Option<&str>; 2],
) -> Option<u64> {
    let SecretSource::Exchange(name) = &key.source else { return None };
    let of = config.exchanges.iter().find(|exchange| exchange.name == *name)?;
    let url = of.url.to_string();
    let fields = of.fields().into_iter().flat_map(|(name, value)| [name, value]);
    let parts = ["exchange", &url].into_iter().chain(fields).chain(account.map(Option::unwrap_or_default));
    Some(shared_name(parts.map(str::as_bytes)))
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
