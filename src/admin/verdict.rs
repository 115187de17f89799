//! Is it us, our quota, or them? A pure reading of a status, in a few sentences.

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
/// What Weir may add to one request in a hundred before that is worth a notice, seconds.
const SLOW_OVERHEAD: f64 = 0.05;
/// A wait for the first answers that is no longer a matter of starting, seconds.
const LONG_SILENCE: f64 = 10.0;
/// Fewer requests than this say nothing about quantiles.
const ENOUGH: u64 = 100;

/// Everything that is the matter, the most urgent first; a single `Ok` if nothing is.
pub(super) fn findings(status: &Status) -> Vec<Finding> {
    let mut all: Vec<Finding> = [
        draining(status),
        own_errors(status),
        keys_refused(status),
        quota_spent(status),
        upstream_failing(status),
        upstream_back(status),
        upstream_errors(status),
        refusing(status),
        waiting(status),
        limits_seen(status),
        requests_refused(status),
        collisions(status),
        foreign_use(status),
        reload_failed(status),
        restart_needed(status),
        replicas_apart(status),
        slow(status),
        not_enforcing(status),
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

fn replicas_apart(status: &Status) -> Option<Finding> {
    let replicas = status.replicas.as_ref().filter(|replicas| !replicas.agreed && !replicas.redis_up)?;
    let sentence = match replicas.last_exchange_seconds {
        Some(seconds) => format!("Redis has been out of reach for {}.", duration(seconds)),
        None => "Redis has not been reached since the start.".to_owned(),
    };
    let advice = "Requests are served; each replica takes an even part of the limits, also of those that another needs more. \
                  The log's line that begins with \"replicas:\" says why.";
    Some(finding(Level::Warning, Blame::Us, sentence, advice))
}

fn draining(status: &Status) -> Option<Finding> {
    status.draining.then_some(())?;
    let left = match status.in_flight() {
        0 => "nothing is left to finish".to_owned(),
        count => format!("{} left to finish", plural(count, "request")),
    };
    let sentence = format!("Weir is draining: it takes no new work; {left}.");
    Some(finding(Level::Warning, Blame::Weir, sentence, "If nobody asked for this, look at who stopped it."))
}

fn own_errors(status: &Status) -> Option<Finding> {
    let count = recent(status, |class| class == "weir_internal");
    (count > 0).then_some(())?;
    let sentence =
        format!("Weir itself failed: {} in the last {RECENT} minutes.", plural(count, "internal error"));
    let advice = "Too many open files (raise `ulimit -n`), or a defect: the failures below and the log say which. mode = \"bypass\" takes \
         Weir's work out of the way.";
    Some(finding(Level::Critical, Blame::Weir, sentence, advice))
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
                | "context_length_exceeded"
                | "not_found"
                | "model_not_found"
                | "payload_too_large"
                | "unprocessable"
                | "request_exceeds_limit"
                | "other_client_error"
                | "weir_caller_unknown"
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

fn reload_failed(status: &Status) -> Option<Finding> {
    (!status.reload.successful).then_some(())?;
    let why = status.reload.error.as_deref().unwrap_or("its log says why");
    let sentence = format!("The last configuration was rejected; the one before is in force: {why}");
    Some(finding(Level::Warning, Blame::Weir, sentence, "Correct it (`weir check FILE`) and reload."))
}

fn restart_needed(status: &Status) -> Option<Finding> {
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

fn slow(status: &Status) -> Option<Finding> {
    let overhead = status.overhead;
    (overhead.count >= ENOUGH && overhead.p99_seconds > SLOW_OVERHEAD).then_some(())?;
    let sentence =
        format!("Weir itself adds up to {} to 99 of 100 requests.", duration(overhead.p99_seconds));
    Some(finding(
        Level::Notice,
        Blame::Weir,
        sentence,
        "Look at its CPU share: it may be throttled or short of workers.",
    ))
}

fn not_enforcing(status: &Status) -> Option<Finding> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::samples;
    use crate::admin::status::{Overhead, QuotaSpent, Reload};

    fn error(class: &str, now: u32, requests: u64) -> ErrorStatus {
        let mut minutes = vec![0; 60];
        minutes[59] = now;
        ErrorStatus {
            class: class.to_owned(),
            attempts: u64::from(now),
            requests,
            minutes,
            solution: format!("solve {class}"),
            ..ErrorStatus::default()
        }
    }

    fn with_errors(errors: Vec<ErrorStatus>) -> Status {
        Status { errors, ..Status::default() }
    }

    type Case = (Status, Level, Blame, &'static str);

    fn check(cases: Vec<Case>) {
        for (status, level, blame, sentence) in cases {
            let all = findings(&status);
            let first = &all[0];
            assert_eq!((first.level, first.blame, first.sentence.as_str()), (level, blame, sentence));
            assert!(all.is_sorted_by_key(|finding| std::cmp::Reverse(finding.level)), "{all:?}");
        }
    }

    #[test]
    fn replicas_that_keep_their_parts_are_no_matter_and_those_that_lost_them_are() {
        use crate::admin::status::ReplicasStatus;
        let with = |agreed, last_exchange_seconds| Status {
            replicas: Some(ReplicasStatus { replicas: 2, redis_up: false, agreed, last_exchange_seconds }),
            ..Status::default()
        };
        check(vec![
            (with(true, Some(4.0)), Level::Ok, Blame::Nobody, "Healthy: no request has come yet."),
            (
                with(false, Some(90.0)),
                Level::Warning,
                Blame::Us,
                "Redis has been out of reach for 1 min 30 s.",
            ),
            (with(false, None), Level::Warning, Blame::Us, "Redis has not been reached since the start."),
        ]);
    }

    #[test]
    fn headlines_about_the_upstream_and_the_quota() {
        let old = {
            let mut old = error("overloaded", 0, 50);
            old.minutes[54] = 50;
            old
        };
        let spent = QuotaSpent {
            code: "insufficient_quota".to_owned(),
            since: "2026-11-22T03:04:05.678Z".to_owned(),
            next_probe_seconds: Some(540.0),
        };
        let spent = ScopeStatus {
            name: "key 1 · gpt-5".to_owned(),
            quota_spent: Some(spent),
            ..ScopeStatus::default()
        };
        let releasing = {
            let mut scope =
                ScopeStatus { name: "acme · gpt-5".to_owned(), waiting: 40, ..ScopeStatus::default() };
            scope.breaker.state = BreakerState::Releasing;
            Status { scopes: vec![scope], ..Status::default() }
        };
        let cases = vec![
            (Status::default(), Level::Ok, Blame::Nobody, "Healthy: no request has come yet."),
            (
                samples::healthy(),
                Level::Ok,
                Blame::Nobody,
                "Healthy: nothing waits and nothing fails. 7 requests under way.",
            ),
            (with_errors(vec![old]), Level::Ok, Blame::Nobody, "Healthy: no request has come yet."),
            (
                samples::rate_limited(),
                Level::Notice,
                Blame::Quota,
                "Waiting at our limit: 214 requests for acme · gpt-5 (2,000,000 tokens per minute), \
                 the longest for 22 s so far.",
            ),
            (
                Status { scopes: vec![spent], ..Status::default() },
                Level::Critical,
                Blame::Quota,
                "The quota is spent for key 1 · gpt-5 since 03:04:05 UTC (insufficient_quota). \
                 Weir asks again in 9 min.",
            ),
            (
                samples::outage(),
                Level::Critical,
                Blame::Upstream,
                "The upstream has been failing since 03:02:11 UTC (4 min 20 s): overloaded, for acme · gpt-5. \
                 Next probe in 3.2 s.",
            ),
            (
                releasing,
                Level::Notice,
                Blame::Upstream,
                "The upstream answers again after a failure, for acme · gpt-5: 40 waiting requests let go at a rising pace.",
            ),
            (
                with_errors(vec![error("authentication_incorrect_key", 12, 12), error("overloaded", 90, 2)]),
                Level::Critical,
                Blame::Us,
                "The upstream refuses a key: 12 requests in the last 5 minutes (authentication_incorrect_key).",
            ),
            (
                with_errors(vec![error("overloaded", 90, 0), error("connection_reset", 9, 0)]),
                Level::Notice,
                Blame::Upstream,
                "Some attempts fail upstream: 99 in the last 5 minutes, most of them overloaded. \
                 Retries have hidden all of them from callers in the last hour.",
            ),
            (
                with_errors(vec![error("overloaded", 90, 1)]),
                Level::Warning,
                Blame::Upstream,
                "Some attempts fail upstream: 90 in the last 5 minutes, all overloaded. In the last hour 1 error reached callers.",
            ),
        ];
        check(cases);
    }

    #[test]
    fn headlines_about_us_and_weir() {
        let slow = Overhead { count: 100, p50_seconds: 0.001, p99_seconds: 0.2 };
        let rejected = Reload { successful: false, error: Some("line 3".to_owned()), ..Reload::default() };
        let waiting = ["server.workers", "upstream.url"].map(str::to_owned).to_vec();
        let waits = Reload { waiting, ..Reload::default() };
        let cases = vec![
            (
                with_errors(vec![error("weir_deadline", 3, 3)]),
                Level::Warning,
                Blame::Quota,
                "More is asked for than our limits let through: Weir turned away 3 requests in the last 5 minutes, all weir_deadline.",
            ),
            (
                with_errors(vec![error("bad_request", 4, 4)]),
                Level::Notice,
                Blame::Us,
                "Some requests are wrong in themselves: 4 in the last 5 minutes, all bad_request.",
            ),
            (
                with_errors(vec![error("rate_limit_tokens", 9, 2)]),
                Level::Warning,
                Blame::Quota,
                "The upstream's limits reached callers: 2 requests in the last hour, all rate_limit_tokens.",
            ),
            (
                with_errors(vec![error("rate_limit_tokens", 9, 0)]),
                Level::Ok,
                Blame::Nobody,
                "Healthy: no request has come yet.",
            ),
            (
                with_errors(vec![error("conflict", 1, 1)]),
                Level::Notice,
                Blame::Us,
                "Some requests are late or collide: 1 in the last 5 minutes, all conflict. Their SDKs try again by themselves.",
            ),
            (
                with_errors(vec![error("weir_internal", 1, 1)]),
                Level::Critical,
                Blame::Weir,
                "Weir itself failed: 1 internal error in the last 5 minutes.",
            ),
            (
                Status { draining: true, ..samples::healthy() },
                Level::Warning,
                Blame::Weir,
                "Weir is draining: it takes no new work; 7 requests left to finish.",
            ),
            (
                Status { reload: rejected, ..Status::default() },
                Level::Warning,
                Blame::Weir,
                "The last configuration was rejected; the one before is in force: line 3",
            ),
            (
                Status { reload: waits, ..Status::default() },
                Level::Notice,
                Blame::Weir,
                "Read, but in force only after a restart: server.workers and upstream.url.",
            ),
            (
                Status { overhead: slow, ..Status::default() },
                Level::Notice,
                Blame::Weir,
                "Weir itself adds up to 200 ms to 99 of 100 requests.",
            ),
            (
                Status { mode: "observe".to_owned(), ..Status::default() },
                Level::Notice,
                Blame::Nobody,
                "Weir only observes: it delays, holds and retries nothing.",
            ),
        ];
        check(cases);
    }

    #[test]
    fn the_rest_is_told_too() {
        let all = findings(&samples::rate_limited());
        assert!(
            all.iter().any(|finding| finding.sentence.starts_with("Others use 31 % of tokens per minute")),
            "{all:?}"
        );
        assert!(all.iter().all(|finding| finding.level != Level::Ok), "{all:?}");
    }

    /// At the start, with an upstream that takes requests and answers none.
    #[test]
    fn silence_is_not_told_as_a_limit() {
        let mut status = samples::rate_limited();
        status.scopes.truncate(1);
        status.scopes[0].limits.clear();
        let all = findings(&status);
        let first = &all[0];
        assert_eq!((first.level, first.blame), (Level::Warning, Blame::Upstream), "{first:?}");
        assert!(first.sentence.starts_with("Waiting for the upstream to answer: "), "{first:?}");
        for caller in &mut status.callers {
            caller.longest_wait_seconds = caller.longest_wait_seconds.min(2.0);
        }
        assert_eq!(findings(&status)[0].level, Level::Notice);
        status.errors = vec![error("weir_deadline", 20, 20)];
        let all = findings(&status);
        assert!(all[0].sentence.starts_with("The upstream answers more slowly than it is asked"), "{all:?}");
        assert!(!all.iter().any(|finding| finding.blame == Blame::Quota), "{all:?}");
    }

    /// What waits for a failing upstream does not wait at our limit.
    #[test]
    fn an_outage_is_not_told_as_a_limit() {
        let all = findings(&samples::outage());
        assert!(!all.iter().any(|finding| finding.sentence.contains("Waiting at our limit")), "{all:?}");
        assert!(all[0].advice.contains("38 requests wait it out"), "{}", all[0].advice);
        let mut refusing = samples::outage();
        refusing.errors.push(error("weir_deadline", 20, 20));
        let all = findings(&refusing);
        assert!(!all.iter().any(|finding| finding.sentence.contains("our limits")), "{all:?}");
    }

    /// Every class of the table leads to some finding, or is one that needs none.
    #[test]
    #[expect(clippy::wildcard_enum_match_arm, reason = "the rest is what is tested")]
    fn no_class_goes_unseen() {
        use crate::classify::ErrorClass;
        let needs_none = |class: ErrorClass| match class {
            // Told by the breakers and the draining flag themselves.
            ErrorClass::QuotaExhausted
            | ErrorClass::WeirBreakerOpen
            | ErrorClass::WeirQuotaBreaker
            | ErrorClass::WeirDraining
            // Nobody's fault.
            | ErrorClass::WeirClientClosed => true,
            _ => {
                let all = findings(&with_errors(vec![error(class.as_str(), 3, 3)]));
                assert_ne!(all[0].level, Level::Ok, "{class:?}");
                false
            }
        };
        assert_eq!(ErrorClass::ALL.into_iter().filter(|class| needs_none(*class)).count(), 5);
    }
}
