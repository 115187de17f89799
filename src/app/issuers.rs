//! Reads the keys of issuers regularly. While a file or a URL is unavailable, the old keys stay in
//! use.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::header::ACCEPT;
use http::{Request, StatusCode};

use crate::admin::IssuerStatus;
use crate::caller::{Callers, Issuer, IssuerSettings, KeySource, Registry, TokenClaim};
use crate::clock;
use crate::config::Config;
use crate::config::callers::CallerToken;
use crate::config::proxy;
use crate::config::sources::{PROCESS, Sources as _};
use crate::upstream::Connector;

use super::exchanges::{Exchanges, TIMEOUT, send};

/// The interval at which a file and a URL are read; for a URL it is randomly up to a fifth shorter.
const PERIOD: (Duration, Duration) = (Duration::from_secs(10), Duration::from_mins(5));
/// The shortest and the longest time between two tries while keys are missing.
const RETRY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_mins(1));
/// How long a start or a reload waits for the keys of a new issuer.
const FIRST_TIMEOUT: Duration = Duration::from_secs(2);

/// The required content of a caller's tokens; `None` if the configuration's rules refuse it anyway.
pub(super) fn claim(config: &Config, of: &CallerToken, registry: &Registry) -> Option<TokenClaim> {
    let issuer = config.issuers.iter().find(|issuer| issuer.name == of.issuer)?;
    let keys = match (&issuer.jwks_url, &issuer.jwks_file) {
        (Some(url), _) => KeySource::Url(url.to_string()),
        (None, path) => KeySource::File(path.clone()?),
    };
    let (name, audience) = (issuer.name.clone(), issuer.audience.clone());
    let issuer = IssuerSettings { name, issuer: issuer.issuer.clone(), audience, keys };
    Some(TokenClaim { issuer: registry.issuer(&issuer), claim: of.claim.clone(), value: of.value.clone() })
}

/// Starts to read the keys of those issuers of a configuration that are new.
///
/// # Errors
/// The file of a new issuer can't be used.
pub(super) fn follow(
    callers: &Callers,
    config: &Config,
    exchanges: &Exchanges,
    followed: &Mutex<Vec<Weak<Issuer>>>,
) -> Result<(), String> {
    let mut followed = followed.lock().unwrap_or_else(PoisonError::into_inner);
    followed.retain(|issuer| issuer.strong_count() > 0);
    for issuer in callers.issuers() {
        if followed.iter().any(|known| known.as_ptr() == Arc::as_ptr(issuer)) {
            continue;
        }
        if let KeySource::File(path) = &issuer.of.keys {
            let told = |problem| format!("issuers (\"{}\"): {}: {problem}", issuer.of.name, path.display());
            issuer.take(read_file(path), clock::wall()).map_err(told)?;
        }
        let url =
            config.issuers.iter().find(|of| of.name == issuer.of.name).and_then(|of| of.jwks_url.as_ref());
        let is_direct = url.is_none_or(|url| !proxy::is_for(url, &config.upstream.no_proxy));
        let task = keep(Arc::downgrade(issuer), exchanges.connector(is_direct), fastrand::Rng::new());
        exchanges.runtime().map_err(|error| error.to_string())?.spawn(task);
        followed.push(Arc::downgrade(issuer));
    }
    let began = clock::now();
    for issuer in callers.issuers() {
        issuer.wait_for_keys(FIRST_TIMEOUT.saturating_sub(clock::now() - began));
    }
    Ok(())
}

/// How often the cache of verified tokens was emptied because it was full.
pub(super) fn cache_resets(callers: &Callers) -> u64 {
    callers.issuers().map(|issuer| issuer.standing().forgotten).sum()
}

/// The state of the issuers' keys.
pub(super) fn statuses(callers: &Callers) -> Vec<IssuerStatus> {
    let now = clock::wall();
    let of = |issuer: &Arc<Issuer>| {
        let standing = issuer.standing();
        IssuerStatus {
            name: issuer.of.name.clone(),
            keys: standing.keys,
            age_seconds: standing.read.map(|at| now.duration_since(at).unwrap_or_default().as_secs_f64()),
            failures: standing.failures,
            problem: standing.problem,
        }
    };
    callers.issuers().map(of).collect()
}

async fn keep(of: Weak<Issuer>, connector: Connector, mut rng: fastrand::Rng) {
    let mut failures = 0_u32;
    loop {
        let Some(issuer) = of.upgrade() else { return };
        let (read, period) = match &issuer.of.keys {
            KeySource::File(path) => (read_file(path), PERIOD.0),
            KeySource::Url(url) => {
                (ask(url, connector.clone()).await, PERIOD.1.mul_f64(1.0 - rng.f64() / 5.0))
            }
        };
        let name = &issuer.of.name;
        let wait = match issuer.take(read, clock::wall()) {
            Ok(()) => {
                if failures > 0 {
                    tracing::info!(issuer = name, "the issuer's keys are read again");
                }
                failures = 0;
                period
            }
            Err(problem) => {
                failures = failures.saturating_add(1);
                if failures.is_power_of_two() {
                    tracing::error!(
                        issuer = name,
                        problem,
                        failures,
                        "the issuer's keys can't be read; those known stay"
                    );
                }
                RETRY.0.saturating_mul(1 << failures.min(5)).min(RETRY.1).min(period)
            }
        };
        clock::sleep(RETRY.0.min(wait)).await;
        tokio::select! {
            () = clock::sleep(wait.saturating_sub(RETRY.0)) => {}
            () = issuer.wanted() => {}
        }
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    PROCESS.file(path).map_err(|error| error.to_string())
}

async fn ask(url: &str, connector: Connector) -> Result<Vec<u8>, String> {
    let request = Request::builder().uri(url).header(ACCEPT, "application/json").body(Bytes::new());
    let request = request.map_err(|error| error.to_string())?;
    let answer = clock::timeout_at(clock::now() + TIMEOUT, send(url, request, connector)).await;
    let answer = answer.map_err(|_| "no response in time".to_owned())?.map_err(|error| error.to_string())?;
    match answer.status() {
        StatusCode::OK => Ok(answer.into_body().into()),
        status => Err(format!("{status}")),
    }
}
