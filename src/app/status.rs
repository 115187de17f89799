//! What the admin address shows, gathered from all rooms.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::account::{Account, ClassHistory, Report, Rfc3339};
use crate::admin::{
    BreakerState, BreakerStatus, Build, CallerStatus, ErrorStatus, FailureLine, LimitStatus, Overhead,
    QuotaSpent, Reload, RepeatedRefusal, ReplicasStatus, ScopeStatus, Source,
};
use crate::admission;
use crate::caller::{Caller, Lane};
use crate::clock::{self, Instant};
use crate::metrics::{DimensionGauges, Gathered, Metrics, ReplicasGauges, ScopeGauges};
use crate::telemetry::DroppedLines;
use crate::telemetry::otlp::Spans;
use crate::{admin, catalog, replay, replicas, server, upstream};

use super::control::Control;
use super::{build, counters};

/// Failures that the page lists.
const FAILURES: usize = 20;
/// How long the page shows a request that met several rate limits, after the last of them.
const REPEATED_SHOWN: Duration = Duration::from_mins(5);

/// Gathers what is shown. Called on the admin thread.
pub(super) struct Status {
    control: Arc<Control>,
    metrics: Arc<Metrics>,
    account: Arc<Account>,
    kept_bodies: Arc<replay::Budget>,
    front: Arc<server::Counters>,
    upstream: Arc<upstream::Counters>,
    log: Option<DroppedLines>,
    spans: Option<Spans>,
    started: Instant,
    /// Where the upstream is. It stays when another is configured, until a restart.
    to: String,
}

impl Status {
    #[expect(clippy::too_many_arguments, reason = "it shows all rooms, and is made once")]
    pub(super) fn new(
        control: Arc<Control>,
        metrics: Arc<Metrics>,
        account: Arc<Account>,
        kept_bodies: Arc<replay::Budget>,
        front: Arc<server::Counters>,
        upstream: Arc<upstream::Counters>,
        log: Option<DroppedLines>,
        spans: Option<Spans>,
        started: Instant,
    ) -> Self {
        let to = control.with_config(|config| config.upstream.url.to_string());
        Self { control, metrics, account, kept_bodies, front, upstream, log, spans, started, to }
    }

    fn gathered(&self) -> Gathered {
        let scopes = self.control.scopes.snapshot();
        let counts = self.control.scopes.counts();
        Gathered {
            queue_depth: scopes
                .iter()
                .flat_map(|scope| &scope.queue)
                .map(|line| (line.caller, line.lane, line.waiting as u64))
                .collect(),
            queue_bytes: scopes.iter().map(|scope| scope.queue_bytes as u64).sum(),
            scopes: scopes.iter().map(gauges).collect(),
            replay_bytes: self.kept_bodies.used() as u64,
            scopes_evicted: counts.evicted,
            scopes_merged: counts.merged,
            log_lines_dropped: self.log.as_ref().map_or(0, DroppedLines::count),
            replicas: self.control.replicas().as_ref().map(replicas_gauges).unwrap_or_default(),
        }
    }

    fn callers(&self, scopes: &[admission::ScopeStatus]) -> Vec<CallerStatus> {
        let policy = self.control.policies.current();
        policy.callers.all().iter().map(|caller| self.caller(caller, scopes)).collect()
    }

    fn caller(&self, caller: &Caller, scopes: &[admission::ScopeStatus]) -> CallerStatus {
        let lines = || scopes.iter().flat_map(|scope| &scope.queue).filter(|line| line.caller == caller.id);
        let waiting =
            |lane: Lane| lines().filter(|line| line.lane == lane).map(|line| line.waiting as u64).sum();
        CallerStatus {
            name: caller.name.to_string(),
            weight: caller.weight,
            lane: caller.lane.as_str().to_owned(),
            mode: caller.mode.map(|mode| mode.as_str().to_owned()),
            in_flight: u64::try_from(self.metrics.caller(caller.id).in_flight.get()).unwrap_or(0),
            waiting_interactive: waiting(Lane::Interactive),
            waiting_background: waiting(Lane::Background),
            longest_wait_seconds: lines().map(|line| line.oldest.as_secs_f64()).fold(0.0, f64::max),
            predicted_wait_seconds: predicted(caller, scopes),
        }
    }

    /// The request that met several rate limits, while that is news.
    fn repeated_refusal(&self, wall: SystemTime) -> Option<RepeatedRefusal> {
        let last = self.account.repeated_refusal()?;
        let ago = wall.duration_since(last.at).unwrap_or_default();
        (ago < REPEATED_SHOWN).then(|| RepeatedRefusal {
            id: last.id.to_string(),
            caller: self.account.caller_name(last.caller).to_string(),
            model: last.model.map(String::from),
            refusals: last.refusals,
            seconds_ago: ago.as_secs_f64(),
        })
    }

    fn failures(&self) -> Vec<FailureLine> {
        self.account.reports().list().into_iter().take(FAILURES).map(failure_line).collect()
    }
}

impl Source for Status {
    fn status(&self) -> admin::Status {
        let (now, wall) = (clock::now(), clock::wall());
        let scopes = self.control.scopes.snapshot();
        let last = self.control.last_read();
        let overhead = self.metrics.overhead_quantiles();
        let (mode, capacity) = self
            .control
            .with_config(|config| (config.mode.as_str().to_owned(), config.retry.budget.capacity.0));
        let mut shown: Vec<ScopeStatus> =
            scopes.iter().map(|scope| scope_status(scope, capacity, wall)).collect();
        shown.sort_by_key(|scope| std::cmp::Reverse(scope.waiting + scope.in_flight));
        admin::Status {
            findings: Vec::new(),
            time: Rfc3339(wall).to_string(),
            build: Build { version: build::VERSION.to_owned(), revision: build::REVISION.to_owned() },
            uptime_seconds: now.saturating_duration_since(self.started).as_secs(),
            mode,
            draining: self.control.is_draining(),
            upstream: self.to.clone(),
            reload: Reload {
                successful: last.problem.is_none(),
                time: Rfc3339(last.at).to_string(),
                error: last.problem,
                waiting: last.waiting,
            },
            overhead: Overhead {
                count: overhead.count,
                p50_seconds: overhead.p50,
                p99_seconds: overhead.p99,
            },
            requests_last_minute: Some(self.account.requests_last_minute(now)),
            replicas: self.control.replicas().as_ref().map(replicas_status),
            callers: self.callers(&scopes),
            scopes: shown,
            errors: self.account.history().classes(now).iter().map(error_status).collect(),
            failures: self.failures(),
            repeated_refusal: self.repeated_refusal(wall),
        }
    }

    fn metrics(&self, out: &mut Vec<u8>) {
        let tunnels = self.control.tunnels_open();
        counters::of_front(&self.metrics, &self.front, tunnels);
        counters::of_upstream(&self.metrics, &self.upstream, tunnels);
        counters::of_bodies(&self.metrics, &self.kept_bodies);
        if let Some(spans) = &self.spans {
            counters::of_spans(&self.metrics, spans.counts());
        }
        self.metrics.encode(&self.gathered(), out);
    }

    fn not_ready(&self) -> Vec<&'static str> {
        if self.control.is_draining() { vec!["draining"] } else { Vec::new() }
    }

    fn reports(&self) -> Vec<Report> {
        self.account.reports().list()
    }

    fn report(&self, id: &str) -> Option<Report> {
        self.account.reports().find(id)
    }

    fn config(&self) -> String {
        self.control.shown()
    }

    fn drain(&self) {
        self.control.ask_to_drain();
    }

    fn reload(&self) -> Result<(), String> {
        self.control.reload()
    }
}

fn replicas_gauges(of: &replicas::Status) -> ReplicasGauges {
    ReplicasGauges {
        replicas: of.replicas as u64,
        redis_up: of.up,
        failures: of.failures,
        age_seconds: of.age.unwrap_or_default().as_secs_f64(),
        duration_seconds: of.took.as_secs_f64(),
    }
}

fn replicas_status(of: &replicas::Status) -> ReplicasStatus {
    ReplicasStatus {
        replicas: of.replicas as u64,
        redis_up: of.up,
        agreed: of.agreed,
        last_exchange_seconds: of.age.map(|age| age.as_secs_f64()),
    }
}

fn gauges(scope: &admission::ScopeStatus) -> ScopeGauges {
    ScopeGauges {
        name: scope.name.to_string(),
        dimensions: scope
            .dimensions
            .iter()
            .map(|dimension| DimensionGauges {
                dimension: dimension.slot.as_str(),
                limit: dimension.limit,
                level: dimension.level,
                window_seconds: dimension.window.as_secs_f64(),
                foreign_use_ratio: dimension.foreign_use,
                pacer_burst: dimension.pacer_burst,
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

fn scope_status(scope: &admission::ScopeStatus, budget_capacity: f64, wall: SystemTime) -> ScopeStatus {
    ScopeStatus {
        name: scope.name.to_string(),
        limits: scope
            .dimensions
            .iter()
            .map(|dimension| LimitStatus {
                name: limit_name(dimension.slot),
                limit: dimension.limit,
                used: dimension.level,
                window_seconds: dimension.window.as_secs_f64(),
                source: dimension.source.as_str().to_owned(),
                foreign_use_ratio: dimension.foreign_use,
                burst: dimension.pacer_burst,
            })
            .collect(),
        part: scope.part,
        in_flight: u64::from(scope.in_flight),
        waiting: scope.queue.iter().map(|line| line.waiting as u64).sum(),
        held_by: scope.held_by.map(limit_name),
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

/// How long a further small request of the caller would wait where that is longest; nothing while a scope is blocked or waits for
/// its first answers, because nobody knows when they, the upstream or the credit come.
fn predicted(caller: &Caller, scopes: &[admission::ScopeStatus]) -> Option<f64> {
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

/// A limit as people call it: `requests per minute`.
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

fn ago(wall: SystemTime, time: Duration) -> String {
    Rfc3339(wall.checked_sub(time).unwrap_or(SystemTime::UNIX_EPOCH)).to_string()
}

fn error_status(history: &ClassHistory) -> ErrorStatus {
    let words = catalog::entry(history.class, None);
    ErrorStatus {
        class: history.class.as_str().to_owned(),
        attempts: history.attempts,
        requests: history.requests,
        minutes: history.minutes.to_vec(),
        last_seen_minutes: history.last_seen.as_secs() / 60,
        cause: words.cause.to_owned(),
        solution: words.solution.to_owned(),
        weir_does: words.weir_does.to_owned(),
    }
}

fn failure_line(report: Report) -> FailureLine {
    FailureLine {
        id: report.id,
        time: report.time.to_string(),
        class: report.class.to_owned(),
        status: report.status,
        code: report.code,
        message: report.message,
        model: report.model,
        endpoint: report.endpoint.to_owned(),
        caller: report.caller,
        occurrences: report.occurrences,
    }
}
