//! Findings about Weir itself: its own failures, its configuration, and the other replicas.

use super::group::Group;
use super::subject::Subject;
use super::{Blame, Finding, Level, RECENT, finding};
use crate::admin::status::{CredentialStatus, IssuerStatus, Status};
use crate::admin::words::{duration, join, plural};

/// The overhead of the slowest percent of requests, in seconds, from which there is a notice.
const SLOW_OVERHEAD: f64 = 0.05;
/// The least number of requests for meaningful quantiles.
const ENOUGH: u64 = 100;

pub(super) fn draining(status: &Status) -> Option<Finding> {
    status.draining.then_some(())?;
    let left = match status.in_flight() {
        0 => "nothing is left to finish".to_owned(),
        count => format!("{} left to finish", plural(count, "request")),
    };
    let sentence = format!("Weir is draining: it takes no new work; {left}.");
    Some(finding(Level::Warning, Blame::Weir, sentence, "If nobody asked for this, find out who stopped it."))
}

pub(super) fn own_errors(status: &Status) -> Option<Finding> {
    let group = Group::of(status, Subject::Weir)?;
    let errors = plural(group.requests, "internal error");
    if let Some(last) = group.recovered() {
        return Some(super::over(
            &group,
            format!("Recovered: Weir itself failed, {errors}, last at {last}."),
        ));
    }
    let sentence = format!("Weir itself failed: {errors} in the last {RECENT} minutes.");
    let advice = "Too many open files (raise `ulimit -n`), or a defect: the failures below and the log say which. mode = \"bypass\" takes \
         Weir's work out of the way.";
    let mut found = finding(Level::Critical, Blame::Weir, sentence, advice);
    found.about(&group);
    Some(found)
}

pub(super) fn unknown_paths(status: &Status) -> Option<Finding> {
    let requests = plural(status.unknown_last_minute?, "request");
    let sentence = format!("No known endpoint was asked in the last minute: {requests}, all to other paths.");
    let advice = "The callers' base URL and `upstream.url` together must lead to the API's paths, such as /v1/chat/completions; the \
         access log has the paths that came. What is not known is passed on, and neither priced nor repeated.";
    Some(finding(Level::Notice, Blame::Us, sentence, advice))
}

pub(super) fn reload_failed(status: &Status) -> Option<Finding> {
    (!status.reload.successful).then_some(())?;
    let why = status.reload.error.as_deref().unwrap_or("its log says why");
    let sentence = format!("The last configuration was rejected; the one before is in force: {why}");
    Some(finding(Level::Warning, Blame::Weir, sentence, "Correct it (`weir check FILE`) and reload."))
}

pub(super) fn restart_needed(status: &Status) -> Option<Finding> {
    let keys = &status.reload.waiting;
    (!keys.is_empty()).then_some(())?;
    let sentence =
        format!("Read, but in force only after a restart: {}.", join(keys.iter().map(String::as_str)));
    Some(finding(
        Level::Notice,
        Blame::Weir,
        sentence,
        "Restart Weir when it suits; /config shows both values.",
    ))
}

pub(super) fn replicas_apart(status: &Status) -> Option<Finding> {
    let replicas = status.replicas.as_ref().filter(|replicas| !replicas.agreed && !replicas.redis_up)?;
    let since = match replicas.last_exchange_seconds {
        Some(seconds) => format!("for {}", duration(seconds)),
        None => "since the start".to_owned(),
    };
    let sentence = format!("Replicas have not agreed {since}: each takes an equal share.");
    let advice = replicas.advice.as_deref().unwrap_or("Redis has not been asked yet.");
    let advice =
        format!("{advice} Requests are served meanwhile, but a busy replica gets no more than an idle one.");
    Some(finding(Level::Warning, Blame::Us, sentence, &advice))
}

pub(super) fn no_newer_token(status: &Status) -> Option<Finding> {
    let failing = |credential: &&CredentialStatus| credential.problem.is_some();
    let sooner = |one: &&CredentialStatus, other: &&CredentialStatus| {
        one.expires_in_seconds.total_cmp(&other.expires_in_seconds)
    };
    let credential = status.credentials.iter().filter(failing).min_by(sooner)?;
    let (name, problem) = (&credential.name, credential.problem.as_deref().unwrap_or_default());
    let left = credential.expires_in_seconds;
    let (level, when) = if left > 0.0 {
        (Level::Warning, format!("the one in use ends in {}", duration(left)))
    } else {
        (Level::Critical, format!("the last one ended {} ago", duration(-left)))
    };
    let sentence = format!("The exchange {name} gives no new token; {when}: {problem}");
    let advice = "Check the subject token and what the endpoint demands; Weir asks again by itself.";
    Some(finding(level, Blame::Us, sentence, advice))
}

pub(super) fn no_issuer_keys(status: &Status) -> Option<Finding> {
    let failing = |issuer: &&IssuerStatus| issuer.problem.is_some();
    let issuer = status.issuers.iter().filter(failing).min_by_key(|issuer| issuer.keys)?;
    let (name, problem) = (&issuer.name, issuer.problem.as_deref().unwrap_or_default());
    let (level, doing) = match issuer.age_seconds {
        Some(age) => (Level::Warning, format!("those of {} ago are used", duration(age))),
        None => (Level::Critical, "its tokens are refused".to_owned()),
    };
    let sentence = format!("The keys of the issuer {name} can't be read; {doing}: {problem}");
    let advice = "Check jwks_url or jwks_file of the issuer; Weir tries again by itself.";
    Some(finding(level, Blame::Us, sentence, advice))
}

pub(super) fn slow(status: &Status) -> Option<Finding> {
    let overhead = status.overhead;
    (overhead.count >= ENOUGH && overhead.p99_seconds > SLOW_OVERHEAD).then_some(())?;
    let sentence =
        format!("Weir itself adds {} to a request (99th percentile).", duration(overhead.p99_seconds));
    Some(finding(
        Level::Notice,
        Blame::Weir,
        sentence,
        "Check its CPU: it may be throttled, or have too few workers.",
    ))
}

pub(super) fn not_enforcing(status: &Status) -> Option<Finding> {
    let doing = match status.mode.as_str() {
        "observe" => "Weir only observes: it delays, holds and retries nothing.",
        "bypass" => "Weir is bypassed: it only forwards and counts.",
        _ => return None,
    };
    Some(finding(
        Level::Notice,
        Blame::Nobody,
        doing.to_owned(),
        "Set mode = \"enforce\" to let it pace and retry.",
    ))
}
