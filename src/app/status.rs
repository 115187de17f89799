//! Gathers the content of the admin address from all modules.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::account::{Account, ClassHistory, RecentErrors, Report, Rfc3339};
use crate::admin::{
    BudgetStatus, Build, CallerErrors, CallerStatus, CeilingStatus, ErrorStatus, FailureLine,
    RepeatedRefusal, ReplicasStatus, ScopeStatus, Source,
};
use crate::admission;
use crate::caller::{Caller, Callers, Lane};
use crate::clock::{self, Instant};
use crate::metrics::{Gathered, Metrics};
use crate::spending::Standing;
use crate::telemetry::DroppedLines;
use crate::telemetry::otlp::Spans;
use crate::{admin, catalog, replay, replicas, server, upstream};

use super::control::Control;
use super::shown_scope::{ago, gauges, predicted, scope_status, upstream_gauges};
use super::{build, counters, issuers};

/// The most failures on the page.
const FAILURES: usize = 20;
/// How long the page shows a request with several rate-limit refusals, after the last one.
const REPEATED_SHOWN: Duration = Duration::from_mins(5);

/// Gathers the status. Called on the admin thread.
pub(super) struct Status {
    pub(super) control: Arc<Control>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) account: Arc<Account>,
    pub(super) kept_bodies: Arc<replay::Budget>,
    pub(super) front: Arc<server::Counters>,
    pub(super) upstream: Arc<upstream::Counters>,
    pub(super) log: Option<DroppedLines>,
    pub(super) spans: Option<Spans>,
    pub(super) started: Instant,
    /// The listener's address until a restart.
    pub(super) listen: String,
    pub(super) host: String,
}

impl Status {
    fn gathered(&self) -> Gathered {
        let scopes = self.control.scopes.snapshot();
        let counts = self.control.scopes.counts();
        Gathered {
            queue_depth: scopes
                .iter()
                .flat_map(|scope| &scope.queue)
                .map(|line| (line.caller, line.lane, line.waiting as u64))
                .collect(),
            shares: scopes
                .iter()
                .flat_map(|scope| &scope.queue)
                .map(|line| (line.caller, line.served, line.entitled))
                .collect(),
            budgets: (self.account.spending().standings(clock::wall()).iter())
                .map(|standing| (standing.budget.caller, standing.budget.period, standing.ratio()))
                .collect(),
            ceilings: (self.control.scopes.ceilings().status(clock::now()).iter())
                .map(|status| (status.ceiling.caller, status.waiting as u64))
                .collect(),
            queue_bytes: scopes.iter().map(|scope| scope.queue_bytes as u64).sum(),
            scopes: scopes.iter().map(gauges).collect(),
            upstreams: upstream_gauges(&scopes),
            replay_bytes: self.kept_bodies.used() as u64,
            scopes_evicted: counts.evicted,
            scopes_merged: counts.merged,
            log_lines_dropped: self.log.as_ref().map_or(0, DroppedLines::count),
            replicas: self.control.replicas().unwrap_or_default(),
            verified_tokens_forgotten: issuers::cache_resets(&self.control.policies.current().callers),
            issuers: (issuers::statuses(&self.control.policies.current().callers).into_iter())
                .map(|issuer| (issuer.name, issuer.age_seconds, issuer.failures))
                .collect(),
            credentials: (self.control.exchanges().expiries(clock::now()).into_iter())
                .map(|credential| (credential.name, credential.expires_in_seconds))
                .collect(),
        }
    }

    /// All callers, with their recent errors. The default caller is omitted if unknown callers are
    /// refused.
    fn callers(
        &self,
        scopes: &[admission::ScopeStatus],
        errors: &[RecentErrors],
        now: Instant,
    ) -> Vec<CallerStatus> {
        let policy = self.control.policies.current();
        let served =
            |caller: &&Arc<Caller>| policy.callers.serves_unknown() || *caller.name != *Callers::DEFAULT;
        policy
            .callers
            .all()
            .iter()
            .filter(served)
            .map(|caller| self.caller(caller, scopes, errors, now))
            .collect()
    }

    fn caller(
        &self,
        caller: &Caller,
        scopes: &[admission::ScopeStatus],
        errors: &[RecentErrors],
        now: Instant,
    ) -> CallerStatus {
        let recent = self.account.recent().caller(caller.id, now);
        let met = || errors.iter().filter(|errors| errors.caller == caller.id && errors.requests > 0);
        let lines = || scopes.iter().flat_map(|scope| &scope.queue).filter(|line| line.caller == caller.id);
        let waiting =
            |lane: Lane| lines().filter(|line| line.lane == lane).map(|line| line.waiting as u64).sum();
        CallerStatus {
            name: caller.name.to_string(),
            weight: caller.weight,
            lane: caller.lane.as_str().to_owned(),
            mode: caller.mode.map(|mode| mode.as_str().to_owned()),
            in_flight: u64::try_from(self.metrics.caller(caller.id).in_flight.get()).unwrap_or(0),
            recent_requests: recent.requests,
            recent_errors: met().map(|errors| errors.requests).sum(),
            top_class: met().next().map(|errors| errors.class.as_str().to_owned()),
            last_success_seconds: recent.success.map(|ago| ago.as_secs_f64()),
            waiting_interactive: waiting(Lane::Interactive),
            waiting_background: waiting(Lane::Background),
            longest_wait_seconds: lines().map(|line| line.oldest.as_secs_f64()).fold(0.0, f64::max),
            predicted_wait_seconds: predicted(caller, scopes),
            ceilings: (self.control.scopes.ceilings().status(now).iter())
                .filter(|status| status.ceiling.caller == caller.id)
                .map(ceiling_status)
                .collect(),
            budgets: (self.account.spending().standings(clock::wall()).iter())
                .filter(|standing| standing.budget.caller == caller.id)
                .map(budget_status)
                .collect(),
        }
    }

    /// The last request with several rate-limit refusals, while it is recent.
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

    /// The errors of the last hour, each with the callers that recently got it.
    fn errors(&self, recent: &[RecentErrors], now: Instant, wall: SystemTime) -> Vec<ErrorStatus> {
        let of = |history: &ClassHistory| {
            let met = recent.iter().filter(|errors| errors.class == history.class);
            let callers = met.map(|errors| CallerErrors {
                name: self.account.caller_name(errors.caller).to_string(),
                attempts: errors.attempts,
                requests: errors.requests,
                queued: errors.queued,
                last_seconds: errors.last.as_secs_f64(),
                last: ago(wall, errors.last),
            });
            error_status(history, callers.collect())
        };
        self.account.history().classes(now).iter().map(of).collect()
    }

    fn failures(&self) -> Vec<FailureLine> {
        self.account.reports().newest_of_each_kind().into_iter().take(FAILURES).map(failure_line).collect()
    }
}

impl Source for Status {
    fn status(&self) -> admin::Status {
        let (now, wall) = (clock::now(), clock::wall());
        let scopes = self.control.scopes.snapshot();
        let (mode, capacity, own_credential, upstream) = self.control.with_config(|config| {
            let (mode, upstream) = (config.mode.as_str().to_owned(), config.shown_upstreams());
            (mode, config.retry.budget.capacity, config.has_credential(), upstream)
        });
        let recent = self.account.recent().errors(now);
        let policy = self.control.policies.current();
        let ended = |caller: &Arc<Caller>| self.account.recent().caller(caller.id, now).requests;
        let mut shown: Vec<ScopeStatus> =
            scopes.iter().map(|scope| scope_status(scope, capacity, wall)).collect();
        shown.sort_by_key(|scope| std::cmp::Reverse(scope.waiting + scope.in_flight));
        admin::Status {
            findings: Vec::new(),
            time: Rfc3339(wall).to_string(),
            host: self.host.clone(),
            own_credential,
            recent_requests: policy.callers.all().iter().map(ended).sum(),
            paces: self.account.slowness(now),
            build: Build { version: build::VERSION.to_owned(), revision: build::REVISION.to_owned() },
            uptime_seconds: now.saturating_duration_since(self.started).as_secs(),
            mode,
            draining: self.control.is_draining(),
            listen: self.listen.clone(),
            upstream,
            reload: self.control.last_read(),
            overhead: self.metrics.overhead_quantiles(),
            requests_last_minute: Some(self.account.requests_last_minute(now)),
            unknown_last_minute: self.account.unknown_last_minute(now),
            replicas: self.control.replicas().as_ref().map(replicas_status),
            credentials: self.control.exchanges().expiries(now),
            issuers: issuers::statuses(&self.control.policies.current().callers),
            callers: self.callers(&scopes, &recent, now),
            scopes: shown,
            errors: self.errors(&recent, now, wall),
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

    fn token_refused(&self) {
        self.metrics.admin_tokens_refused.inc();
    }

    fn drain(&self) {
        self.control.ask_to_drain();
    }

    fn reload(&self) -> Result<(), String> {
        self.control.reload()
    }
}

fn replicas_status(of: &replicas::Status) -> ReplicasStatus {
    ReplicasStatus {
        replicas: of.replicas as u64,
        redis_up: of.up,
        agreed: of.agreed,
        learning: of.learning,
        trouble: of.trouble.map(|trouble| trouble.as_str().to_owned()),
        advice: of.trouble.map(|trouble| trouble.advice().to_owned()),
        last_exchange_seconds: of.age.map(|age| age.as_secs_f64()),
    }
}

fn ceiling_status(of: &admission::CeilingStatus) -> CeilingStatus {
    let ceiling = &of.ceiling;
    let part = |per_minute: Option<u64>, unit: &str| per_minute.map(|count| format!("{count} {unit}"));
    let parts = [part(ceiling.requests_per_minute, "requests"), part(ceiling.tokens_per_minute, "tokens")];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    let family = ceiling.family.as_deref().map_or_else(String::new, |family| format!(" of {family}"));
    CeilingStatus {
        allows: format!("{}{family} per minute", parts.join(" and ")),
        waiting: of.waiting as u64,
        wait_seconds: of.wait.as_secs_f64(),
    }
}

fn budget_status(of: &Standing) -> BudgetStatus {
    BudgetStatus {
        period: of.budget.period.as_str().to_owned(),
        family: of.budget.family.as_deref().map(str::to_owned),
        tokens: of.budget.tokens,
        used: of.spent,
        returns_in_seconds: of.returns_in.as_secs_f64(),
    }
}

fn error_status(history: &ClassHistory, callers: Vec<CallerErrors>) -> ErrorStatus {
    let words = catalog::entry(history.class, None);
    ErrorStatus {
        class: history.class.as_str().to_owned(),
        attempts: history.attempts,
        requests: history.requests,
        minutes: history.minutes.to_vec(),
        last_seen_minutes: history.last_seen.as_secs() / 60,
        callers,
        cause: words.cause.clone(),
        solution: words.solution.clone(),
        weir_does: words.weir_does.clone(),
    }
}

fn failure_line(report: Report) -> FailureLine {
    FailureLine {
        upstream_request_id: report
            .attempts
            .iter()
            .rev()
            .find_map(|attempt| attempt.upstream_request_id.clone()),
        id: report.id,
        request_id: report.request_id,
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
