//! Is it us, our quota, or them? A pure reading of a status, in a few sentences.

mod own;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use super::status::{BreakerState, ErrorStatus, LimitStatus, ScopeStatus, Status};
use super::words::{amount, duration, join, plural};

/// How urgent a finding is; the order of the enum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Nothing to do.
    Ok,
    /// Worth knowing; nothing fails.
    Notice,
    /// Some requests fail, or soon will.
    Warning,
    /// Requests fail until somebody acts or the upstream is back.
    Critical,
}

/// Where the cause lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Blame {
    /// Nowhere.
    Nobody,
    /// What callers send, or their keys.
    Us,
    /// The organization's limits or credit.
    Quota,
    /// The API, or the way to it.
    Upstream,
    /// This proxy.
    Weir,
}

/// One thing that is the matter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How urgent it is.
    pub level: Level,
    /// Where its cause lies.
    pub blame: Blame,
    /// What is the matter, in one sentence.
    pub sentence: String,
    /// What to do about it.
    pub advice: String,
}

/// Minutes in which an error counts as happening now.
const RECENT: usize = 5;
/// A limit that is used to this share holds requests back.
const NEAR_LIMIT: f64 = 0.9;
/// Others' share of a limit that is worth a notice.
const FOREIGN_SHARE: f64 = 0.2;
/// A wait for the first answers that is no longer a matter of starting, seconds.
const LONG_SILENCE: f64 = 10.0;

/// Everything that is the matter, the most urgent first; a single `Ok` if nothing is.
pub(super) fn findings(status: &Status) -> Vec<Finding> {
    let mut all: Vec<Finding> = [
        own::draining(status),
        own::own_errors(status),
        keys_refused(status),
        quota_spent(status),
        upstream_failing(status),
        upstream_back(status),
        upstream_errors(status),
        refusing(status),
        waiting(status),
        limits_seen(status),
        refused_again(status),
        requests_refused(status),
        collisions(status),
        foreign_use(status),
        own::reload_failed(status),
        own::restart_needed(status),
        own::replicas_apart(status),
        own::slow(status),
        own::not_enforcing(status),
    ]
    .into_iter()
    .flatten()
    .collect();
    // Stable: of equals, the order above.
    all.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    if all.first().is_none_or(|first| first.level == Level::Ok) {
        all.insert(0, healthy(status));
    }
    all
}

fn finding(level: Level, blame: Blame, sentence: String, advice: impl Into<String>) -> Finding {
    Finding { level, blame, sentence, advice: advice.into() }
}

fn keys_refused(status: &Status) -> Option<Finding> {
    let refused: Vec<&ErrorStatus> =
        recent_errors(status).filter(|error| error.class.starts_with("authentication_")).collect();
    let worst = refused.iter().max_by_key(|error| error.recent(RECENT))?;
    let count: u64 = refused.iter().map(|error| error.recent(RECENT)).sum();
    let sentence = format!(
        "The upstream refuses a key: {} in the last {RECENT} minutes ({}).",
        plural(count, "request"),
        worst.class
    );
    Some(finding(Level::Critical, Blame::Us, sentence, worst.solution.clone()))
}

fn quota_spent(status: &Status) -> Option<Finding> {
    let spent: Vec<&ScopeStatus> = status.scopes.iter().filter(|scope| scope.quota_spent.is_some()).collect();
    let first = spent.first()?;
    let quota = first.quota_spent.as_ref()?;
    let names = join(spent.iter().map(|scope| scope.name.as_str()));
    let mut sentence =
        format!("The quota is spent for {names} since {} ({}).", clock_time(&quota.since), quota.code);
    if let Some(next) = quota.next_probe_seconds {
        sentence = format!("{sentence} Weir asks again in {}.", duration(next));
    }
    let advice = "Add credit, raise the spend limit or repair the billing: the code says which. Waiting does not help. \
                  Weir answers at once meanwhile, with the upstream's own error.";
    Some(finding(Level::Critical, Blame::Quota, sentence, advice))
}

fn upstream_failing(status: &Status) -> Option<Finding> {
    let failing = |scope: &&ScopeStatus| scope.breaker.state == BreakerState::Open;
    let scopes: Vec<&ScopeStatus> = status.scopes.iter().filter(failing).collect();
    // The one that has been failing longest says since when.
    let longest = scopes.iter().max_by(|one, two| {
        one.breaker.failing_seconds.unwrap_or(0.0).total_cmp(&two.breaker.failing_seconds.unwrap_or(0.0))
    })?;
    let breaker = &longest.breaker;
    let mut sentence = "The upstream has been failing".to_owned();
    if let Some(since) = &breaker.failing_since {
        sentence = format!("{sentence} since {}", clock_time(since));
    }
    if let Some(seconds) = breaker.failing_seconds {
        sentence = format!("{sentence} ({})", duration(seconds));
    }
    if let Some(class) = &breaker.last_class {
        sentence = format!("{sentence}: {class}");
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
        count => format!("{} wait it out. ", plural(count, "request")),
    };
    let advice = format!(
        "{held}Look at status.openai.com and the network between. Weir lets requests go at a rising pace once a probe succeeds."
    );
    Some(finding(Level::Critical, Blame::Upstream, sentence, advice))
}

fn upstream_back(status: &Status) -> Option<Finding> {
    let releasing = |scope: &&ScopeStatus| scope.breaker.state == BreakerState::Releasing;
    let scopes: Vec<&ScopeStatus> = status.scopes.iter().filter(releasing).collect();
    scopes.first()?;
    let names = join(scopes.iter().map(|scope| scope.name.as_str()));
    let waiting: u64 = scopes.iter().map(|scope| scope.waiting).sum();
    let held = match waiting {
        0 => "what waited is on its way".to_owned(),
        count => format!("{} let go at a rising pace", plural(count, "waiting request")),
    };
    let sentence = format!("The upstream answers again after a failure, for {names}: {held}.");
    Some(finding(Level::Notice, Blame::Upstream, sentence, "Nothing to do: it takes some seconds."))
}

fn upstream_errors(status: &Status) -> Option<Finding> {
    let theirs = |class: &str| {
        class.starts_with("connection_")
            || class.starts_with("timeout_")
            || matches!(
                class,
                "internal_server_error"
                    | "overloaded"
                    | "bad_gateway"
                    | "gateway_timeout"
                    | "empty_response"
                    | "other_server_error"
                    | "malformed_response"
                    | "stream_error"
                    | "stream_cut"
                    | "slow_down"
            )
    };
    if upstream_failing(status).is_some() {
        return None;
    }
    let errors: Vec<&ErrorStatus> = recent_errors(status).filter(|error| theirs(&error.class)).collect();
    let worst = errors.iter().max_by_key(|error| error.recent(RECENT))?;
    let thinning = status.scopes.iter().any(|scope| scope.breaker.state == BreakerState::Thinning);
    let count: u64 = errors.iter().map(|error| error.recent(RECENT)).sum();
    let seen: u64 = errors.iter().map(|error| error.requests).sum();
    let level = if thinning || seen > 0 { Level::Warning } else { Level::Notice };
    let mut sentence = format!(
        "Some attempts fail upstream: {} in the last {RECENT} minutes{}.",
        amount(count as f64),
        mostly(&errors, worst)
    );
    if thinning {
        sentence = format!("{sentence} Weir thins attempts out.");
    }
    sentence = match seen {
        0 => format!("{sentence} Retries have hidden all of them from callers in the last hour."),
        seen => format!("{sentence} In the last hour {} reached callers.", plural(seen, "error")),
    };
    Some(finding(level, Blame::Upstream, sentence, worst.solution.clone()))
}

fn refusing(status: &Status) -> Option<Finding> {
    // Whose turn does not come while the upstream fails is not turned away by a limit.
    if upstream_failing(status).is_some() {
        return None;
    }
    let ours = ["weir_queue_full", "weir_deadline", "weir_caller_limit"];
    let errors: Vec<&ErrorStatus> =
        recent_errors(status).filter(|error| ours.contains(&error.class.as_str())).collect();
    let worst = errors.iter().max_by_key(|error| error.recent(RECENT))?;
    let count: u64 = errors.iter().map(|error| error.recent(RECENT)).sum();
    if !status.scopes.is_empty() && status.scopes.iter().all(|scope| scope.limits.is_empty()) {
        let sentence = format!(
            "The upstream answers more slowly than it is asked: Weir turned away {} in the last {RECENT} minutes.",
            plural(count, "request")
        );
        let advice = "It has named no limit. Ask it directly to see whether it answers at all; where its limits are known, state them (`limits`).";
        return Some(finding(Level::Warning, Blame::Upstream, sentence, advice));
    }
    let sentence = format!(
        "More is asked for than our limits let through: Weir turned away {} in the last {RECENT} minutes{}.",
        plural(count, "request"),
        mostly(&errors, worst)
    );
    let advice = "Raise the limits with the upstream, move work to the background lane or another time, or give callers longer deadlines.";
    Some(finding(Level::Warning, Blame::Quota, sentence, advice))
}

fn waiting(status: &Status) -> Option<Finding> {
    let waiting = status.waiting();
    (waiting > 0).then_some(())?;
    // While the upstream fails they wait for it, not for a limit.
    let blocked = |scope: &&ScopeStatus| scope.waiting > 0 && scope.breaker.state == BreakerState::Closed;
    let scope = status.scopes.iter().filter(blocked).max_by_key(|scope| scope.waiting)?;
    let longest = status.callers.iter().map(|caller| caller.longest_wait_seconds).fold(0.0, f64::max);
    let held_by = |limit: &&LimitStatus| Some(&limit.name) == scope.held_by.as_ref();
    let fullest = || scope.limits.iter().max_by(|one, two| share(one).total_cmp(&share(two)));
    let holding = scope.limits.iter().find(held_by);
    let what = match holding.or_else(|| fullest().filter(|limit| share(limit) >= NEAR_LIMIT)) {
        Some(limit) => {
            format!("{} ({} {})", scope.name, amount(limit.limit), limit.name)
        }
        None if scope.paused_seconds.is_some() => {
            format!("{}, which the upstream asked to pause", scope.name)
        }
        None => scope.name.clone(),
    };
    let who = plural(waiting, "request");
    if scope.limits.is_empty() && scope.paused_seconds.is_none() {
        // Few are let in until it answers: this is no limit of ours.
        let sentence = format!(
            "Waiting for the upstream to answer: {} under way to {what}, {who} behind them, the longest for {} so far.",
            plural(scope.in_flight, "request"),
            duration(longest)
        );
        let level = if longest < LONG_SILENCE { Level::Notice } else { Level::Warning };
        let advice = "It has named no limit yet, so Weir begins gently. If this goes on, ask the upstream directly: it may not answer at all.";
        return Some(finding(level, Blame::Upstream, sentence, advice));
    }
    let sentence =
        format!("Waiting at our limit: {who} for {what}, the longest for {} so far.", duration(longest));
    let advice =
        "Nothing fails because of it, and there is nothing to do unless waits near the callers’ deadlines.";
    Some(finding(Level::Notice, Blame::Quota, sentence, advice))
}

fn requests_refused(status: &Status) -> Option<Finding> {
    let callers_own = |class: &str| {
        matches!(
            class,
            "permission_denied"
                | "region_unsupported"
                | "bad_request"
                | "service_tier_invalid"
                | "websocket_previous_response_not_found"
                | "websocket_connection_limit"
                | "websocket_stream_limit"
                | "context_length_exceeded"
                | "not_found"
                | "model_not_found"
                | "payload_too_large"
                | "unprocessable"
                | "request_exceeds_limit"
                | "other_client_error"
                | "weir_caller_unknown"
                | "weir_not_allowed"
                | "weir_body_too_large"
        )
    };
    let errors: Vec<&ErrorStatus> = recent_errors(status).filter(|error| callers_own(&error.class)).collect();
    let worst = errors.iter().max_by_key(|error| error.recent(RECENT))?;
    let count: u64 = errors.iter().map(|error| error.recent(RECENT)).sum();
    let sentence = format!(
        "Some requests are wrong in themselves: {} in the last {RECENT} minutes{}.",
        amount(count as f64),
        mostly(&errors, worst)
    );
    Some(finding(Level::Notice, Blame::Us, sentence, worst.solution.clone()))
}

/// A request that is refused again and again: the limit is another one than Weir believes.
fn refused_again(status: &Status) -> Option<Finding> {
    let request = status.repeated_refusal.as_ref()?;
    let model = request.model.as_deref().map_or_else(String::new, |model| format!(" for {model}"));
    let sentence = format!(
        "The upstream refuses the same request again and again: request {} of {}{model} met {} rate limits, the last {} ago.",
        request.id,
        request.caller,
        request.refusals,
        duration(request.seconds_ago)
    );
    let advice = "The limit is lower than Weir believes, or somebody else uses it with the same key. Compare the limits \
                  below with the account's; weir_rate_limited_again_total says how often it happens.";
    Some(finding(Level::Warning, Blame::Quota, sentence, advice))
}

/// Rate limits are the queue's business until one reaches a caller.
fn limits_seen(status: &Status) -> Option<Finding> {
    let limits = |class: &str| class.starts_with("rate_limit_") || class == "resource_unavailable";
    let errors: Vec<&ErrorStatus> =
        recent_errors(status).filter(|error| limits(&error.class) && error.requests > 0).collect();
    let worst = errors.iter().max_by_key(|error| error.requests)?;
    let count: u64 = errors.iter().map(|error| error.requests).sum();
    let sentence = format!(
        "The upstream's limits reached callers: {} in the last hour{}.",
        plural(count, "request"),
        mostly(&errors, worst)
    );
    Some(finding(Level::Warning, Blame::Quota, sentence, worst.solution.clone()))
}

fn collisions(status: &Status) -> Option<Finding> {
    let between = |class: &str| matches!(class, "request_timeout" | "conflict" | "conversation_locked");
    let errors: Vec<&ErrorStatus> = recent_errors(status).filter(|error| between(&error.class)).collect();
    let worst = errors.iter().max_by_key(|error| error.recent(RECENT))?;
    let count: u64 = errors.iter().map(|error| error.recent(RECENT)).sum();
    let sentence = format!(
        "Some requests are late or collide: {} in the last {RECENT} minutes{}. Their SDKs try again by themselves.",
        amount(count as f64),
        mostly(&errors, worst)
    );
    Some(finding(Level::Notice, Blame::Us, sentence, worst.solution.clone()))
}

/// What most of the errors are: `, all internal_server_error`.
fn mostly(errors: &[&ErrorStatus], worst: &ErrorStatus) -> String {
    let share = if errors.len() == 1 { "all" } else { "most of them" };
    format!(", {share} {}", worst.class)
}

fn foreign_use(status: &Status) -> Option<Finding> {
    let limits = status.scopes.iter().flat_map(|scope| scope.limits.iter().map(move |limit| (scope, limit)));
    let (scope, limit) = limits
        .filter(|(_, limit)| limit.foreign_use_ratio >= FOREIGN_SHARE)
        .max_by(|(_, one), (_, two)| one.foreign_use_ratio.total_cmp(&two.foreign_use_ratio))?;
    let sentence = format!(
        "Others use {:.0} % of {} of {} with the same credential.",
        limit.foreign_use_ratio * 100.0,
        limit.name,
        scope.name
    );
    Some(finding(
        Level::Notice,
        Blame::Us,
        sentence,
        "Send their requests through Weir too, or give them a project of their own.",
    ))
}

fn healthy(status: &Status) -> Finding {
    let sentence = match (status.in_flight(), status.overhead.count) {
        (0, 0) => "Healthy: no request has come yet.".to_owned(),
        (0, _) => "Healthy: nothing waits and nothing fails. No request is under way.".to_owned(),
        (count, _) => {
            format!("Healthy: nothing waits and nothing fails. {} under way.", plural(count, "request"))
        }
    };
    Finding { level: Level::Ok, blame: Blame::Nobody, sentence, advice: String::new() }
}

fn recent_errors(status: &Status) -> impl Iterator<Item = &ErrorStatus> {
    status.errors.iter().filter(|error| error.recent(RECENT) > 0)
}

fn recent(status: &Status, class: impl Fn(&str) -> bool) -> u64 {
    recent_errors(status).filter(|error| class(&error.class)).map(|error| error.recent(RECENT)).sum()
}

fn share(limit: &LimitStatus) -> f64 {
    if limit.limit > 0.0 { limit.used / limit.limit } else { 0.0 }
}

/// `03:04:05 UTC` of an RFC 3339 time; the whole text if it is none.
fn clock_time(time: &str) -> String {
    match (time.get(11..19), time.ends_with('Z')) {
        (Some(clock), true) => format!("{clock} UTC"),
        _ => time.to_owned(),
    }
}
