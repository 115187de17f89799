//! Renews secrets and certificates while Weir runs: regularly, and at once after the upstream
//! refused a key.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::clock::{self, Instant};
use crate::config::Config;
use crate::config::secret::{self, SecretSource};
use crate::config::sources::PROCESS;
use crate::telemetry::LogThrottle;

use super::control::Control;
use super::exchanges::Exchanges;

/// The interval at which the files with secrets are read: a few short files.
const PERIOD: Duration = Duration::from_secs(10);

/// The result of a check: the secrets that changed, and the problems that prevented reading others.
struct Look {
    changed: Vec<String>,
    problems: Vec<String>,
}

fn look(config: &Config, exchanges: &Exchanges) -> Look {
    let mut found = Look { changed: Vec::new(), problems: Vec::new() };
    for (key, secret) in secret::all(config) {
        match secret.source {
            SecretSource::File(_) => match secret.source.resolve(&PROCESS) {
                Ok(now) if now == secret.secret => {}
                Ok(_) => found.changed.push(key),
                Err(problem) => found.problems.push(format!("{key}: {problem}")),
            },
            SecretSource::Exchange(_) if exchanges.has_another(secret) => found.changed.push(key),
            SecretSource::Environment(_) | SecretSource::Exchange(_) => {}
        }
    }
    found
}

/// Checks for replaced secrets and certificates, each [`PERIOD`] and after the upstream refused a
/// key; never returns.
pub(super) async fn watch(control: Arc<Control>) {
    let (ask, mut asked) = mpsc::channel::<oneshot::Sender<()>>(64);
    control.policies.on_refused_key(ask);
    let mut throttle = LogThrottle::default();
    let mut next = clock::now() + PERIOD;
    loop {
        let waiting = tokio::select! {
            () = clock::sleep_until(next) => None,
            waiting = asked.recv() => waiting,
            () = control.exchanges().renewed() => None,
        };
        if waiting.is_some() {
            control.exchanges().refused().await;
        }
        renew(&control, &mut throttle, clock::now());
        // One check serves all requests that asked before it.
        let others = std::iter::from_fn(|| asked.try_recv().ok());
        waiting.into_iter().chain(others).for_each(|answer| {
            answer.send(()).ok();
        });
        next = clock::now() + PERIOD;
    }
}

fn renew(control: &Control, throttle: &mut LogThrottle, now: Instant) {
    control.renew_upstream_certificates();
    let Look { changed, problems } = control.with_config(|config| look(config, control.exchanges()));
    if !problems.is_empty()
        && let Some(lines_omitted) = throttle.allow(now)
    {
        let problems = problems.join("; ");
        tracing::warn!(problems, lines_omitted, "a secret can't be read again; the one in use stays");
    }
    if changed.is_empty() {
        return;
    }
    let secrets = changed.join(", ");
    match control.renew_secrets() {
        Ok(()) => tracing::info!(secrets, "secrets were replaced, and those of now are in use"),
        Err(problems) => {
            if let Some(lines_omitted) = throttle.allow(now) {
                tracing::error!(
                    secrets,
                    problems,
                    lines_omitted,
                    "replaced secrets can't be used; those in use stay"
                );
            }
        }
    }
}
