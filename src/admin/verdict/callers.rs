//! Findings about callers' requests: rejected keys, invalid requests, collisions, and callers' own
//! limits.

use super::group::Group;
use super::subject::Subject;
use super::{Finding, Level, RECENT, finding};
use crate::admin::status::{BudgetStatus, Status};
use crate::admin::words::{amount, duration, join, plural, waits};
use crate::caller::Callers;
use crate::spending::WARN_AT;

pub(super) fn keys_refused(status: &Status) -> Option<Finding> {
    let group = Group::of(status, Subject::Keys)?;
    let whose = match (status.own_credential, group.one_caller()) {
        (true, _) => "Weir's own key (upstream.credential)".to_owned(),
        (false, Some(Callers::DEFAULT)) => "its caller's key".to_owned(),
        (false, Some(caller)) => format!("the key of {caller}"),
        (false, None) => format!("the keys{}", group.of_callers()),
    };
    let count = plural(group.requests.max(1), "request");
    let all = if status.own_credential { group.of_callers() } else { String::new() };
    if let Some(last) = group.recovered() {
        let sentence = format!(
            "Recovered: the upstream refused {whose} for {count}{all} {}, last at {last}.",
            group.classes()
        );
        return Some(super::over(&group, sentence));
    }
    let sentence = format!(
        "The upstream refuses {whose}: {count}{all} in the last {RECENT} minutes {}.",
        group.classes()
    );
    Some(Finding::of(&group, group.urgency(status), Subject::Keys, sentence))
}

pub(super) fn unknown_keys(status: &Status) -> Option<Finding> {
    let group = Group::of(status, Subject::UnknownKeys)?;
    let peers: Vec<&str> = status
        .failures
        .iter()
        .filter(|failure| failure.class == group.class)
        .filter_map(|failure| failure.caller.strip_prefix("unknown, from "))
        .collect();
    let from = if peers.is_empty() { String::new() } else { format!(", from {}", join(peers.into_iter())) };
    let sentence = format!(
        "Weir rejects keys that match no [[callers]] entry: {} in the last {RECENT} minutes{from}.",
        plural(group.requests, "request")
    );
    let mut finding = Finding::of(&group, group.urgency(status), Subject::UnknownKeys, sentence);
    // The counts list them as the default caller, which is not a real name.
    finding.callers.clear();
    Some(finding)
}

pub(super) fn rights_refused(status: &Status) -> Option<Finding> {
    let group = Group::of(status, Subject::Rights)?;
    let last = status.failures.iter().find(|failure| failure.class == group.class);
    let why = last.map_or_else(String::new, |failure| {
        let why = failure.message.trim_end_matches('.');
        format!(": {}", why.strip_prefix("This caller may not do this: ").unwrap_or(why))
    });
    let were = if group.requests == 1 { "was" } else { "were" };
    let sentence = format!(
        "{} {were} refused in the last {RECENT} minutes, because Weir's configuration does not allow them{why}.",
        group.whose()
    );
    let level = group.urgency(status).min(Level::Warning);
    let advice = "If the caller is to have the right, add it to callers.allow or callers.models (rights.allow and rights.models for \
                  all); else find out why it asks.";
    let mut finding = finding(level, Subject::Rights.blame(), sentence, advice);
    finding.about(&group);
    Some(finding)
}

pub(super) fn invalid(status: &Status) -> Option<Finding> {
    let group = Group::of(status, Subject::Invalid)?;
    if let Some(last) = group.recovered() {
        let sentence = format!(
            "Recovered: {} were rejected as invalid {}, last at {last}.",
            group.whose(),
            group.classes()
        );
        return Some(super::over(&group, sentence));
    }
    let were = if group.requests == 1 { "was" } else { "were" };
    let sentence = format!(
        "{} {were} rejected as invalid in the last {RECENT} minutes {}.",
        group.whose(),
        group.classes()
    );
    let level = group.urgency(status).min(Level::Warning);
    Some(Finding::of(&group, level, Subject::Invalid, sentence))
}

pub(super) fn collisions(status: &Status) -> Option<Finding> {
    let group = Group::of(status, Subject::Collisions)?;
    let sentence = format!(
        "{} collided or came too slowly in the last {RECENT} minutes {}. Their SDKs retry by themselves.",
        group.whose(),
        group.classes()
    );
    Some(Finding::of(&group, Level::Notice, Subject::Collisions, sentence))
}

/// A caller that has used its budget, or nearly; of several, the one with the highest fraction.
pub(super) fn budget_used(status: &Status) -> Option<Finding> {
    let budgets =
        status.callers.iter().flat_map(|caller| caller.budgets.iter().map(move |own| (caller, own)));
    let fullest = budgets.max_by(|one, other| one.1.ratio().total_cmp(&other.1.ratio()));
    let (caller, budget) = fullest.filter(|(_, budget)| budget.ratio() >= WARN_AT)?;
    let of = budget.family.as_deref().map_or_else(String::new, |family| format!(" for {family}"));
    let BudgetStatus { period, tokens, .. } = budget;
    let (name, tokens, back) = (&caller.name, amount(*tokens as f64), duration(budget.returns_in_seconds));
    let (level, sentence) = if budget.ratio() < 1.0 {
        let part = budget.ratio() * 100.0;
        (
            Level::Notice,
            format!(
                "{name} has used {part:.0} % of its budget of {tokens} tokens a {period}{of}; the next {period} begins in {back}."
            ),
        )
    } else {
        (
            Level::Warning,
            format!(
                "{name} has spent its budget of {tokens} tokens a {period}{of}: its requests are refused until the next {period} begins, in {back}."
            ),
        )
    };
    let advice = "Raise callers.tokens_per_day or callers.tokens_per_month for it if that is wanted. The other callers are not affected.";
    let mut finding = finding(level, Subject::CallerLimit.blame(), sentence, advice);
    match Group::of(status, Subject::CallerLimit) {
        Some(group) if level == Level::Warning => finding.about(&group),
        _ => finding.callers = vec![name.clone()],
    }
    Some(finding)
}

/// A caller that waits for its own ceiling; of several, the one with the most waiting requests.
pub(super) fn ceiling_reached(status: &Status) -> Option<Finding> {
    let ceilings =
        status.callers.iter().flat_map(|caller| caller.ceilings.iter().map(move |own| (caller, own)));
    let (caller, ceiling) =
        ceilings.max_by_key(|(_, ceiling)| ceiling.waiting).filter(|(_, ceiling)| ceiling.waiting > 0)?;
    let sentence = format!(
        "{} for its own ceiling: {} (callers.ceiling). One more would wait {}.",
        waits(ceiling.waiting, &format!(" of {}", caller.name)),
        ceiling.allows,
        duration(ceiling.wait_seconds)
    );
    let advice = "Raise callers.ceiling for it if that is wanted. The other callers, and the upstream's limits, have nothing to do with it.";
    let mut finding = finding(Level::Notice, Subject::CallerLimit.blame(), sentence, advice);
    finding.callers = vec![caller.name.clone()];
    Some(finding)
}

pub(super) fn caller_limit(status: &Status) -> Option<Finding> {
    let group = Group::of(status, Subject::CallerLimit)?;
    // Callers held by their ceiling or budget have findings about those.
    let bounded = |name: &str| {
        let caller = status.callers.iter().find(|caller| caller.name == name);
        caller.is_some_and(|caller| {
            caller.ceilings.iter().any(|ceiling| ceiling.waiting > 0)
                || caller.budgets.iter().any(|budget| budget.ratio() >= 1.0)
        })
    };
    if group.callers.iter().all(|(name, _)| bounded(name)) {
        return None;
    }
    let who = group.one_caller().map_or_else(|| "Some callers".to_owned(), str::to_owned);
    let sentence = format!(
        "{who} reached the limit of waiting requests that Weir's configuration sets: {} rejected in the last {RECENT} minutes.",
        plural(group.requests, "request")
    );
    let advice = "Raise callers.max_waiting for it (admission.max_waiting_per_caller where it has none of its own), or have it \
                  send less at once. The other callers are not affected.";
    let mut finding = finding(Level::Warning, Subject::CallerLimit.blame(), sentence, advice);
    finding.about(&group);
    Some(finding)
}
