//! Converts a scope's status for the status page and the metrics.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use crate::account::Rfc3339;
use crate::admin::{
    BreakerState, BreakerStatus, LimitStatus, QuotaSpent, ScopeStatus, UpstreamState, UpstreamStatus,
};
use crate::admission::{self, OutBecause};
use crate::caller::Caller;
use crate::metrics::{DimensionGauges, ScopeGauges, UpstreamGauges};

pub(super) fn gauges(scope: &admission::ScopeStatus) -> ScopeGauges {
    ScopeGauges {
        name: scope.name.to_string(),
        dimensions: (scope.dimensions.iter())
            .map(|limit| DimensionGauges {
                holds: scope.held_by == Some(limit.slot),
                ..dimension_gauges(limit)
            })
            .collect(),
        retry_budget_tokens: scope.budget,
        retry_budget_exhausted: scope.budget_exhausted,
        permits_in_flight: u64::from(scope.in_flight),
        breaker_state: match scope.breaker {
            admission::BreakerState::Closed => 0,
            admission::BreakerState::Thinning => 1,
            admission::BreakerState::Open => 2,
            admission::BreakerState::HalfOpen => 3,
        },
        breaker_opened: scope.breaker_opened,
        quota_breaker_open: scope.quota_spent_for.is_some(),
        part: scope.part,
    }
}

fn dimension_gauges(dimension: &admission::DimensionStatus) -> DimensionGauges {
    DimensionGauges {
        dimension: dimension.slot.as_str(),
        limit: dimension.limit,
        level: dimension.level,
        window_seconds: dimension.window.as_secs_f64(),
        foreign_use_ratio: dimension.foreign_use,
        pacer_burst: dimension.pacer_burst,
        holds: false,
    }
}

pub(super) fn scope_status(
    scope: &admission::ScopeStatus,
    budget_capacity: f64,
    wall: SystemTime,
) -> ScopeStatus {
    ScopeStatus {
        name: scope.name.to_string(),
        limits: scope
            .dimensions
            .iter()
            .map(|dimension| LimitStatus {
                admitted_last_minute: admitted(scope, dimension),
                holds: scope.held_by == Some(dimension.slot),
                ..limit_status(dimension, &scope.limits)
            })
            .collect(),
        upstreams: scope.members.iter().map(|member| upstream_status(member, wall)).collect(),
        part: scope.part,
        in_flight: u64::from(scope.in_flight),
        waiting: scope.queue.iter().map(|line| line.waiting as u64).sum(),
        held_by: scope.held_by.map(limit_name).or_else(|| full(scope).then(|| IN_FLIGHT.to_owned())),
        in_flight_limit: scope.limits.in_flight,
        in_flight_is_found: scope.limits.finds_in_flight,
        paused_seconds: (!scope.paused_for.is_zero()).then_some(scope.paused_for.as_secs_f64()),
        breaker: breaker(scope, wall),
        quota_spent: scope.quota_spent_for.map(|spent| QuotaSpent {
            code: scope.quota_spent.as_ref().map(|(code, _)| code.to_string()).unwrap_or_default(),
            since: ago(wall, spent),
            next_probe_seconds: scope.quota_spent.as_ref().map(|(_, next)| next.as_secs_f64()),
        }),
        retry_budget: scope.budget,
        retry_budget_capacity: budget_capacity,
    }
}

fn limit_status(
    dimension: &admission::DimensionStatus,
    configured: &admission::LimitSettings,
) -> LimitStatus {
    LimitStatus {
        name: limit_name(dimension.slot),
        limit: dimension.limit,
        used: dimension.level,
        admitted_last_minute: None,
        holds: false,
        configured: configured.of(dimension.slot).map(|limit| limit as f64),
        window_seconds: dimension.window.as_secs_f64(),
        source: dimension.source.as_str().to_owned(),
        foreign_use_ratio: dimension.foreign_use,
        burst: dimension.pacer_burst,
    }
}

fn upstream_status(member: &admission::MemberStatus, wall: SystemTime) -> UpstreamStatus {
    let class = member.last_failure.map(|class| class.as_str().to_owned());
    let thinning = member.breaker == admission::BreakerState::Thinning;
    let (state, because) = match &member.out {
        None if thinning => (UpstreamState::Thinning, class),
        None => (UpstreamState::Serving, None),
        Some((OutBecause::Failing, _)) => (UpstreamState::Failing, class),
        Some((OutBecause::Refused(code), _)) => (UpstreamState::Refused, Some(code.to_string())),
    };
    UpstreamStatus {
        name: member.name.to_string(),
        priority: member.priority,
        state,
        because,
        since: member.out.as_ref().map(|(_, since)| ago(wall, *since)),
        next_probe_seconds: member.next_probe.map(|next| next.as_secs_f64()),
        limits: member.dimensions.iter().map(|one| limit_status(one, &member.limits)).collect(),
        in_flight: u64::from(member.in_flight),
        attempts: member.granted,
    }
}

/// The metrics of a pool's upstreams, over all scopes.
pub(super) fn upstream_gauges(scopes: &[admission::ScopeStatus]) -> Vec<UpstreamGauges> {
    let mut all: BTreeMap<&str, UpstreamGauges> = BTreeMap::new();
    let members = scopes.iter().flat_map(|scope| scope.members.iter().map(move |member| (scope, member)));
    for (scope, member) in members {
        let new =
            || UpstreamGauges { name: member.name.to_string(), serves: true, ..UpstreamGauges::default() };
        let row = all.entry(&member.name).or_insert_with(new);
        row.serves &= member.out.is_none();
        row.in_flight += u64::from(member.in_flight);
        row.attempts += member.granted;
        let limits = member.dimensions.iter().map(dimension_gauges);
        row.limits.extend(limits.map(|limit| (scope.name.to_string(), limit)));
    }
    all.into_values().collect()
}

/// The name of the bound on requests in flight.
const IN_FLIGHT: &str = "requests in flight";

/// Whether requests wait because the configured number is in flight.
fn full(scope: &admission::ScopeStatus) -> bool {
    !scope.queue.is_empty() && scope.limits.in_flight.is_some_and(|limit| scope.in_flight >= limit)
}

/// The units of a limit admitted in the last minute, if its window is a minute.
fn admitted(scope: &admission::ScopeStatus, dimension: &admission::DimensionStatus) -> Option<f64> {
    let (requests, tokens) = scope.admitted;
    if dimension.window > Duration::from_mins(1) {
        return None;
    }
    match dimension.slot {
        admission::Slot::RequestsPerMinute => Some(requests),
        admission::Slot::TokensPerMinute => Some(tokens),
        admission::Slot::RequestsPerDay | admission::Slot::TokensPerDay => None,
    }
}

/// The longest predicted wait, in seconds, of a further small request of the caller. `None` while a
/// scope is blocked or waits for its first responses: its end can't be predicted.
pub(super) fn predicted(caller: &Caller, scopes: &[admission::ScopeStatus]) -> Option<f64> {
    let blocked = |scope: &admission::ScopeStatus| scope.outage.is_some() || scope.quota_spent_for.is_some();
    let unheard = |scope: &admission::ScopeStatus| scope.dimensions.is_empty() && !scope.queue.is_empty();
    if scopes.iter().any(|scope| blocked(scope) || unheard(scope)) {
        return None;
    }
    let of_scope = |scope: &admission::ScopeStatus| {
        let own = scope.queue.iter().filter(|line| line.caller == caller.id && line.lane == caller.lane);
        own.map(|line| line.predicted).next().unwrap_or(scope.predicted_wait).as_secs_f64()
    };
    scopes.iter().map(of_scope).reduce(f64::max)
}

/// A limit's name for people: `requests per minute`.
fn limit_name(slot: admission::Slot) -> String {
    slot.as_str().replace('_', " ")
}

fn breaker(scope: &admission::ScopeStatus, wall: SystemTime) -> BreakerStatus {
    BreakerStatus {
        state: match scope.breaker {
            admission::BreakerState::Closed => BreakerState::Closed,
            admission::BreakerState::Thinning => BreakerState::Thinning,
            admission::BreakerState::Open => BreakerState::Open,
            admission::BreakerState::HalfOpen => BreakerState::Releasing,
        },
        failing_since: scope.outage.map(|(failing, _)| ago(wall, failing)),
        failing_seconds: scope.outage.map(|(failing, _)| failing.as_secs_f64()),
        next_probe_seconds: scope.outage.map(|(_, next)| next.as_secs_f64()),
        last_class: match scope.breaker {
            admission::BreakerState::Closed => None,
            admission::BreakerState::Thinning
            | admission::BreakerState::Open
            | admission::BreakerState::HalfOpen => scope.last_failure.map(|class| class.as_str().to_owned()),
        },
    }
}

pub(super) fn ago(wall: SystemTime, time: Duration) -> String {
    Rfc3339(wall.checked_sub(time).unwrap_or(SystemTime::UNIX_EPOCH)).to_string()
}
