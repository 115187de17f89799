//! Findings about demand above our limits: which callers wait or are refused, and the cause.

use super::group::Group;
use super::subject::Subject;
use super::{Blame, Finding, Level, RECENT, finding, upstream};
use crate::admin::status::{BreakerState, CallerStatus, LimitStatus, ScopeStatus, Status};
use crate::admin::words::{amount, duration, plural, waits};

/// The fraction of a limit used by others from which there is a notice.
const FOREIGN_SHARE: f64 = 0.2;
/// The wait for the first responses, in seconds, that is too long for a normal start.
const LONG_SILENCE: f64 = 10.0;
/// The least multiple of its share that makes a caller the cause, if the others stay within theirs.
const HOG: f64 = 2.0;

/// Requests that wait or were refused, with the cause first: others' use, one caller, or demand as
/// a whole.
pub(super) fn above_limits(status: &Status) -> Option<Finding> {
    // While the upstream fails, requests wait for it and not for a limit.
    if upstream::failing(status).is_some() {
        return None;
    }
    let refused = Group::of(status, Subject::Queue).filter(|group| group.recovered().is_none());
    let blocked = |scope: &&ScopeStatus| scope.waiting > 0 && scope.breaker.state == BreakerState::Closed;
    let scope = status.scopes.iter().filter(blocked).max_by_key(|scope| scope.waiting);
    let silent = !status.scopes.is_empty()
        && status.scopes.iter().all(|scope| scope.limits.is_empty() && scope.held_by.is_none());
    let paused = scope.is_some_and(|scope| scope.paused_seconds.is_some());
    if silent && !paused {
        return silence(status, scope, refused.as_ref());
    }
    let found = match (foreign(status), hog(status), scope, &refused) {
        (_, _, None, None) => return None,
        (Some((limit, of)), ..) if scope.is_some() || refused.is_some() => {
            others_use(limit, of, status, refused.as_ref())
        }
        (_, Some(hog), ..) => hog.finding(status, scope, refused.as_ref()),
        (.., Some(group)) => rejected(group, scope, status),
        (.., Some(scope), None) => waiting(scope, status),
    };
    let mut found = found;
    if let Some(group) = &refused {
        found.class = Some(group.class.to_owned());
    }
    found.requests = refused.map_or(0, |group| group.requests);
    Some(found)
}

/// The limit that holds a scope, for people: `gpt-5 (2,000,000 tokens per minute)`.
fn limit_of(scope: &ScopeStatus) -> String {
    let holding = scope.limits.iter().find(|limit| Some(&limit.name) == scope.held_by.as_ref());
    match (holding, &scope.held_by, scope.in_flight_limit) {
        (Some(limit), ..) => format!("{} ({} {})", scope.name, amount(limit.limit), limit.name),
        (None, Some(name), Some(most)) if scope.in_flight_is_found => {
            format!("{} ({most} {name}, as found)", scope.name)
        }
        (None, Some(name), Some(most)) => format!("{} (limits.in_flight: {most} {name})", scope.name),
        (None, ..) if scope.paused_seconds.is_some() => {
            format!("{}, which the upstream asked to pause", scope.name)
        }
        (None, ..) => scope.name.clone(),
    }
}

fn longest(status: &Status) -> String {
    duration(status.callers.iter().map(|caller| caller.longest_wait_seconds).fold(0.0, f64::max))
}

fn waiting(scope: &ScopeStatus, status: &Status) -> Finding {
    let sentence = format!(
        "Waiting at our limit: {} for {}, the longest for {} so far.",
        plural(status.waiting(), "request"),
        limit_of(scope),
        longest(status)
    );
    finding(
        Level::Notice,
        Blame::Limits,
        sentence,
        "No errors so far. Act only if waits approach the callers’ timeouts.",
    )
}

fn rejected(group: &Group<'_>, scope: Option<&ScopeStatus>, status: &Status) -> Finding {
    let waits = match scope {
        Some(scope) => {
            format!("; {} for {}", waits(status.waiting(), ""), limit_of(scope))
        }
        None => String::new(),
    };
    let sentence = format!(
        "Demand exceeds our limits: Weir rejected {} in the last {RECENT} minutes {}{waits}.",
        group.whose(),
        group.classes()
    );
    let advice = "Ask for higher limits, move work to the background lane or to another time, or give callers longer timeouts.";
    let mut found = finding(group.urgency(status).max(Level::Warning), Blame::Limits, sentence, advice);
    found.about(group);
    found
}

/// The limit with the highest use by others, if that is worth a notice.
fn foreign(status: &Status) -> Option<(&LimitStatus, &ScopeStatus)> {
    let limits = status.scopes.iter().flat_map(|scope| scope.limits.iter().map(move |limit| (limit, scope)));
    limits
        .filter(|(limit, _)| limit.foreign_use_ratio >= FOREIGN_SHARE)
        .max_by(|(one, _), (two, _)| one.foreign_use_ratio.total_cmp(&two.foreign_use_ratio))
}

fn others_use(
    limit: &LimitStatus,
    scope: &ScopeStatus,
    status: &Status,
    refused: Option<&Group<'_>>,
) -> Finding {
    let mut sentence = others(limit, scope);
    let waiting = status.waiting();
    if waiting > 0 {
        sentence = format!("{sentence}; {}", waits(waiting, " of ours"));
    }
    if let Some(group) = refused {
        sentence = format!("{sentence}; Weir rejected {} in the last {RECENT} minutes", group.whose());
    }
    let level = refused.map_or(Level::Notice, |group| group.urgency(status).max(Level::Warning));
    finding(level, Blame::Us, format!("{sentence}."), SEND_THEIRS)
}

const SEND_THEIRS: &str = "Send their requests through Weir too, or give them a project of their own.";

fn others(limit: &LimitStatus, scope: &ScopeStatus) -> String {
    format!(
        "Others use {:.0} % of {} of {} with the same credential",
        limit.foreign_use_ratio * 100.0,
        limit.name,
        scope.name
    )
}

/// Use by others while no request waits for the limit.
pub(super) fn foreign_use(status: &Status) -> Option<Finding> {
    let (limit, scope) = foreign(status)?;
    let told = above_limits(status).is_some_and(|found| found.sentence.starts_with("Others use"));
    (!told).then(|| finding(Level::Notice, Blame::Us, format!("{}.", others(limit, scope)), SEND_THEIRS))
}

/// A caller that demands more than its share while the others are served.
struct Hog<'a> {
    caller: &'a CallerStatus,
    ratio: f64,
    rejected: u64,
}

fn hog(status: &Status) -> Option<Hog<'_>> {
    let group = Group::of(status, Subject::Queue);
    let rejected = |caller: &CallerStatus| {
        let met = group.iter().flat_map(|group| &group.callers).find(|(name, _)| *name == caller.name);
        met.map_or(0, |(_, count)| *count)
    };
    let active: Vec<&CallerStatus> =
        status.callers.iter().filter(|caller| caller.recent_requests + caller.waiting() > 0).collect();
    let hurt = |caller: &CallerStatus| caller.waiting() + rejected(caller);
    let top = *active.iter().max_by_key(|caller| hurt(caller))?;
    let all: u64 = active.iter().map(|caller| hurt(caller)).sum();
    let served: u64 =
        active.iter().map(|caller| caller.recent_requests.saturating_sub(rejected(caller))).sum();
    let weights: u32 = active.iter().map(|caller| caller.weight.max(1)).sum();
    let share = served as f64 * f64::from(top.weight.max(1)) / f64::from(weights.max(1));
    let ratio = (top.recent_requests + top.waiting()) as f64 / share.max(1.0);
    (active.len() > 1 && hurt(top) * 10 >= all * 8 && ratio >= HOG && served > 0).then(|| Hog {
        caller: top,
        ratio,
        rejected: rejected(top),
    })
}

impl Hog<'_> {
    fn finding(&self, status: &Status, scope: Option<&ScopeStatus>, refused: Option<&Group<'_>>) -> Finding {
        let name = &self.caller.name;
        let of = scope.map_or_else(String::new, |scope| format!(" of {}", limit_of(scope)));
        let mut sentence = format!("{name} asks for {:.0} × its share{of}", self.ratio);
        if self.caller.waiting() > 0 {
            sentence = format!(
                "{sentence}: {}, the longest for {}",
                waits(self.caller.waiting(), ""),
                duration(self.caller.longest_wait_seconds)
            );
        }
        if self.rejected > 0 {
            sentence =
                format!("{sentence}; {} rejected in the last {RECENT} minutes", amount(self.rejected as f64));
        }
        let elsewhere = refused.map_or(0, |group| group.requests).saturating_sub(self.rejected);
        let others =
            if elsewhere == 0 { "The other callers are served" } else { "Other callers are affected too" };
        let advice = format!(
            "{others}. Ask {name} to send less at once or to use the background lane, or raise its weight or the limits."
        );
        let level = match (self.rejected, elsewhere) {
            (0, _) => Level::Notice,
            (_, 0) => Level::Warning,
            _ => refused.map_or(Level::Warning, |group| group.urgency(status).max(Level::Warning)),
        };
        let mut found = finding(level, Blame::Us, format!("{sentence}."), advice);
        found.callers = vec![name.clone()];
        found
    }
}

/// The upstream has stated no limit, and few or no responses: the cause is not a limit.
fn silence(status: &Status, scope: Option<&ScopeStatus>, refused: Option<&Group<'_>>) -> Option<Finding> {
    if let Some(group) = refused {
        let sentence = format!(
            "The upstream answers more slowly than it is asked: Weir rejected {} in the last {RECENT} minutes.",
            group.whose()
        );
        let advice = "It has named no limit. Ask it directly to see whether it answers at all; where its limits are known, state them (`limits`).";
        let mut found = finding(group.urgency(status).max(Level::Warning), Blame::Upstream, sentence, advice);
        found.about(group);
        return Some(found);
    }
    let scope = scope?;
    let sentence = format!(
        "Waiting for the upstream to answer: {} under way to {}, {} behind them, the longest for {} so far.",
        plural(scope.in_flight, "request"),
        limit_of(scope),
        plural(status.waiting(), "request"),
        longest(status)
    );
    let longest = status.callers.iter().map(|caller| caller.longest_wait_seconds).fold(0.0, f64::max);
    let level = if longest < LONG_SILENCE { Level::Notice } else { Level::Warning };
    let advice = "It has named no limit yet, so Weir begins gently. If this goes on, ask the upstream directly: it may not answer at all.";
    Some(finding(level, Blame::Upstream, sentence, advice))
}

/// Rate-limit refusals that reached a caller. Others are the queue's normal business.
pub(super) fn limits_seen(status: &Status) -> Option<Finding> {
    let group = Group::of(status, Subject::Limits).filter(|group| group.requests > 0)?;
    if let Some(last) = group.recovered() {
        let sentence = format!(
            "Recovered: rate limits of the upstream reached {} {}, last at {last}.",
            group.whose(),
            group.classes()
        );
        return Some(super::over(&group, sentence));
    }
    let sentence = format!(
        "Rate limits of the upstream reached callers: {} in the last {RECENT} minutes {}.",
        group.whose(),
        group.classes()
    );
    Some(Finding::of(&group, group.urgency(status).max(Level::Warning), Subject::Limits, sentence))
}

/// A request that is refused repeatedly: the real limit differs from the assumed one.
pub(super) fn refused_again(status: &Status) -> Option<Finding> {
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
    Some(finding(Level::Warning, Blame::Limits, sentence, advice))
}

/// A configured limit that differs from the upstream's.
pub(super) fn other_than_configured(status: &Status) -> Option<Finding> {
    let limits = status.scopes.iter().flat_map(|scope| scope.limits.iter().map(move |limit| (limit, scope)));
    let differs = |limit: &LimitStatus| {
        limit.source != "configured"
            && limit.configured.is_some_and(|stated| (stated - limit.limit).abs() > 0.01 * limit.limit)
    };
    let (limit, scope) = limits.into_iter().find(|(limit, _)| differs(limit))?;
    let stated = limit.configured.unwrap_or_default();
    let sentence = format!(
        "The configuration states {} {} for {}, the upstream tells {}: Weir paces by {}.",
        amount(stated),
        limit.name,
        scope.name,
        amount(limit.limit),
        amount(limit.limit)
    );
    let advice =
        "Correct the stated limit, or remove it. To use less than the upstream allows, set limits.share.";
    Some(finding(Level::Notice, Blame::Us, sentence, advice))
}
