//! Findings about the upstream and the network to it: outages, errors, slowness, a spent quota.

use super::group::Group;
use super::subject::Subject;
use super::{Blame, Finding, Level, RECENT, clock_time, finding};
use crate::admin::status::{BreakerState, ScopeStatus, Status, UpstreamState, UpstreamStatus};
use crate::admin::words::{amount, duration, join, plural};
use crate::catalog;
use crate::classify::ErrorClass;
use crate::metrics::Slowness;

/// The least multiple of their usual time that makes responses slow; they must also take a second
/// more.
const SLOW_FACTOR: f64 = 3.0;
const SLOW_LEAST: f64 = 1.0;

pub(super) fn quota_spent(status: &Status) -> Option<Finding> {
    let spent: Vec<&ScopeStatus> = status.scopes.iter().filter(|scope| scope.quota_spent.is_some()).collect();
    let quota = spent.first()?.quota_spent.as_ref()?;
    let names = join(spent.iter().map(|scope| scope.name.as_str()));
    let mut sentence =
        format!("The quota is spent for {names} since {} ({}).", clock_time(&quota.since), quota.code);
    if let Some(next) = quota.next_probe_seconds {
        sentence = format!("{sentence} Weir asks again in {}.", duration(next));
    }
    let cure = catalog::find(&quota.code).first().map_or(
        "Add credit, raise the spend limit or fix the billing; the error code tells you which of the three applies.",
        |entry| &entry.solution,
    );
    let advice = format!(
        "{cure} Waiting does not help. Weir answers at once meanwhile, with the upstream's own error."
    );
    let mut found = finding(Level::Critical, Blame::Quota, sentence, advice);
    if let Some(group) = Group::of(status, Subject::Quota) {
        found.about(&group);
    }
    Some(found)
}

/// Upstreams of a pool that get no requests, while others serve.
pub(super) fn one_out(status: &Status) -> Option<Finding> {
    let is_out = |upstream: &&UpstreamStatus| upstream.since.is_some();
    let served = status.scopes.iter().filter(|scope| !scope.upstreams.iter().all(|one| is_out(&one)));
    let out: Vec<&UpstreamStatus> = served.flat_map(|scope| &scope.upstreams).filter(is_out).collect();
    let first = out.first()?;
    let mut names: Vec<&str> = out.iter().map(|upstream| upstream.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let since = first.since.as_deref().map(|since| format!(" since {}", clock_time(since)));
    let because = first.because.as_deref().map(|because| format!(" ({because})"));
    let sentence = format!(
        "{} {} no requests{}{}; the other upstreams serve.",
        join(names.iter().copied()),
        if names.len() == 1 { "gets" } else { "get" },
        since.unwrap_or_default(),
        because.unwrap_or_default()
    );
    let code = first.because.as_deref().unwrap_or_default();
    let (blame, advice) = match first.state {
        UpstreamState::Refused => (
            catalog::find(code).first().map_or(Blame::Us, |entry| entry.class.meaning().subject.blame()),
            "Look at its key and its billing. Weir asks it again once a minute.",
        ),
        UpstreamState::Serving | UpstreamState::Thinning | UpstreamState::Failing => (
            Subject::named(code).unwrap_or(Subject::Upstream).blame(),
            "Look at its provider's status. Weir asks it again every few seconds.",
        ),
    };
    Some(finding(Level::Warning, blame, sentence, advice))
}

/// An open breaker.
pub(super) fn failing(status: &Status) -> Option<Finding> {
    let open = |scope: &&ScopeStatus| scope.breaker.state == BreakerState::Open;
    let scopes: Vec<&ScopeStatus> = status.scopes.iter().filter(open).collect();
    // The time is that of the scope that has been failing longest.
    let longest = scopes.iter().max_by(|one, two| {
        one.breaker.failing_seconds.unwrap_or(0.0).total_cmp(&two.breaker.failing_seconds.unwrap_or(0.0))
    })?;
    let breaker = &longest.breaker;
    let class = breaker.last_class.as_deref();
    let subject = class.and_then(Subject::named).filter(|subject| *subject == Subject::Network);
    let mut sentence = match subject {
        Some(_) => "The upstream has not been reached".to_owned(),
        None => "The upstream has been failing".to_owned(),
    };
    if let Some(since) = &breaker.failing_since {
        sentence = format!("{sentence} since {}", clock_time(since));
    }
    if let Some(seconds) = breaker.failing_seconds {
        sentence = format!("{sentence} ({})", duration(seconds));
    }
    if let Some(class) = class {
        sentence = format!("{sentence}: {}", in_words(class, &status.upstream));
    }
    if status.scopes.len() > scopes.len() {
        sentence = format!("{sentence}, for {}", join(scopes.iter().map(|scope| scope.name.as_str())));
    }
    let next = scopes.iter().filter_map(|scope| scope.breaker.next_probe_seconds).reduce(f64::min);
    sentence = match next {
        Some(next) if next > 0.0 => format!("{sentence}. Next probe in {}.", duration(next)),
        Some(_) | None => format!("{sentence}. A probe is under way."),
    };
    let waiting: u64 = scopes.iter().map(|scope| scope.waiting).sum();
    let held = match waiting {
        0 => String::new(),
        1 => "1 request is waiting for it to recover. ".to_owned(),
        count => format!("{} are waiting for it to recover. ", plural(count, "request")),
    };
    let advice = format!(
        "{held}{} Once a probe succeeds, Weir sends requests at a rising rate.",
        what_to_check(class, &status.upstream)
    );
    let blame = subject.unwrap_or(Subject::Upstream).blame();
    let mut found = finding(Level::Critical, blame, sentence, advice);
    if let Some(group) = Group::of(status, subject.unwrap_or(Subject::Upstream)) {
        found.about(&group);
    }
    found.class = class.map(str::to_owned).or(found.class);
    Some(found)
}

/// A class with its meaning here, if that adds to its name.
fn in_words(class: &str, upstream: &str) -> String {
    match ErrorClass::named(class) {
        Some(ErrorClass::ConnectionDns) => format!("the name of {upstream} does not resolve ({class})"),
        Some(ErrorClass::ConnectionRefused) => format!("{upstream} refuses connections ({class})"),
        Some(ErrorClass::ConnectionProxy) => {
            format!("the egress proxy refuses to connect to {upstream} ({class})")
        }
        Some(ErrorClass::ConnectionTls) => format!("the TLS handshake with {upstream} fails ({class})"),
        Some(_) | None => class.to_owned(),
    }
}

/// Advice on where to look: the vendor's status page only for the vendor's failures.
fn what_to_check(class: Option<&str>, upstream: &str) -> String {
    let known = class.and_then(ErrorClass::named);
    match known {
        Some(class) if class.meaning().subject == Subject::Network => {
            catalog::entry(class, None).solution.clone()
        }
        Some(_) | None if upstream.contains("openai.com") => {
            "Check status.openai.com and the network path.".to_owned()
        }
        Some(_) | None => format!("Check whether {upstream} is up, and the network path."),
    }
}

pub(super) fn back(status: &Status) -> Option<Finding> {
    let releasing = |scope: &&ScopeStatus| scope.breaker.state == BreakerState::Releasing;
    let scopes: Vec<&ScopeStatus> = status.scopes.iter().filter(releasing).collect();
    scopes.first()?;
    let names = join(scopes.iter().map(|scope| scope.name.as_str()));
    let waiting: u64 = scopes.iter().map(|scope| scope.waiting).sum();
    let held = match waiting {
        0 => "every request that waited has been sent".to_owned(),
        count => format!("Weir sends {} at a rising rate", plural(count, "waiting request")),
    };
    let sentence = format!("The upstream answers again after a failure, for {names}: {held}.");
    Some(finding(Level::Notice, Blame::Upstream, sentence, "Nothing to do: it takes some seconds."))
}

/// Errors of the upstream while its breaker is closed.
pub(super) fn errors(status: &Status) -> Option<Finding> {
    partly(status, Subject::Upstream, "failed at the upstream")
}

/// Failed connections while the breaker is closed.
pub(super) fn network(status: &Status) -> Option<Finding> {
    partly(status, Subject::Network, "did not reach the upstream")
}

fn partly(status: &Status, subject: Subject, what: &str) -> Option<Finding> {
    if failing(status).is_some() {
        return None;
    }
    let group = Group::of(status, subject)?;
    let attempts = plural(group.attempts.max(group.requests), "attempt");
    if let Some(last) = group.recovered() {
        let sentence = format!("Recovered: {attempts} {what} {}, last at {last}.", group.classes());
        return Some(super::over(&group, sentence));
    }
    let thinning = status.scopes.iter().any(|scope| scope.breaker.state == BreakerState::Thinning);
    let mut sentence = format!("{attempts} {what} in the last {RECENT} minutes {}", group.classes());
    sentence = match group.requests {
        0 => format!("{sentence}. Retries hid all of them from callers."),
        1 => format!("{sentence}; 1 request{} ended in an error.", group.of_callers()),
        count => {
            format!("{sentence}; {} requests{} ended in an error.", amount(count as f64), group.of_callers())
        }
    };
    if thinning {
        sentence = format!("{sentence} Weir is sending only part of the traffic.");
    }
    let level = if thinning { group.urgency(status).max(Level::Warning) } else { group.urgency(status) };
    Some(Finding::of(&group, level, subject, sentence))
}

/// Responses that take much longer to begin than usual.
pub(super) fn slow(status: &Status) -> Option<Finding> {
    let is_slow = |pace: &&Slowness| {
        pace.now_seconds >= SLOW_FACTOR * pace.usual_seconds
            && pace.now_seconds >= pace.usual_seconds + SLOW_LEAST
    };
    let pace = status.paces.iter().filter(is_slow).max_by_key(|pace| pace.answers)?;
    let sentence = format!(
        "Answers of {} take {} to begin, usually {}.",
        pace.model,
        duration(pace.now_seconds),
        duration(pace.usual_seconds)
    );
    let advice = "The upstream is slow: check its status page. Streaming, shorter answers or another model help; callers with short \
                  timeouts will see timeout_response.";
    let mut found = finding(Level::Warning, Blame::Upstream, sentence, advice);
    found.requests = pace.answers;
    Some(found)
}
