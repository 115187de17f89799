//! The series of scopes, created at each scrape from the state of the scopes.

use std::sync::{Mutex, PoisonError};

use prometheus::proto::MetricFamily;

use super::callers::OTHER;
use super::exposed::{family, flag};
use super::families::{self, Family};
use super::plan::{MAX_DIMENSIONS, MAX_UPSTREAM_LIMITS};

/// The state of one scope at a scrape.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScopeGauges {
    /// Its name, of bounded length.
    pub name: String,
    /// Its limits; beyond [`MAX_DIMENSIONS`] they are omitted.
    pub dimensions: Vec<DimensionGauges>,
    /// Retries that its budget allows now.
    pub retry_budget_tokens: f64,
    /// Retries not made because the budget was exhausted.
    pub retry_budget_exhausted: u64,
    /// Attempts that hold a permit now.
    pub permits_in_flight: u64,
    /// The state of the circuit breaker: 0 closed, 1 shedding, 2 open, 3 ramping up.
    pub breaker_state: u8,
    /// The number of times the breaker opened.
    pub breaker_opened: u64,
    /// Whether the quota is known to be spent.
    pub quota_breaker_open: bool,
    /// This replica's part of its limits, 0 to 1.
    pub part: f64,
}

/// One limit of a scope at a scrape.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DimensionGauges {
    /// The dimension's name, from a closed list.
    pub dimension: &'static str,
    /// Units per window.
    pub limit: f64,
    /// Units used now.
    pub level: f64,
    /// The window, seconds.
    pub window_seconds: f64,
    /// The fraction of the limit that others use, 0 to 1.
    pub foreign_use_ratio: f64,
    /// Units that may be sent at once.
    pub pacer_burst: f64,
    /// Whether requests wait for this limit now.
    pub holds: bool,
}

impl ScopeGauges {
    /// Adds `more` to the row of all scopes beyond the bound: counts are summed, of other values
    /// the highest is kept.
    fn absorb(&mut self, more: &Self) {
        self.retry_budget_tokens += more.retry_budget_tokens;
        self.retry_budget_exhausted += more.retry_budget_exhausted;
        self.permits_in_flight += more.permits_in_flight;
        self.breaker_state = self.breaker_state.max(more.breaker_state);
        self.breaker_opened += more.breaker_opened;
        self.quota_breaker_open |= more.quota_breaker_open;
        self.part = self.part.max(more.part);
        for other in &more.dimensions {
            match self.dimensions.iter_mut().find(|own| own.dimension == other.dimension) {
                Some(own) => {
                    own.limit += other.limit;
                    own.level += other.level;
                    own.window_seconds = own.window_seconds.max(other.window_seconds);
                    own.foreign_use_ratio = own.foreign_use_ratio.max(other.foreign_use_ratio);
                    own.pacer_burst += other.pacer_burst;
                    own.holds |= other.holds;
                }
                None => self.dimensions.push(other.clone()),
            }
        }
    }
}

/// The scopes with their own series: those seen first keep them as long as they exist.
#[derive(Debug)]
pub(super) struct ScopeTable {
    max: usize,
    named: Mutex<Vec<String>>,
}

impl ScopeTable {
    pub(super) fn new(max: usize) -> Self {
        Self { max, named: Mutex::default() }
    }

    /// The families of all scopes, and the number of scopes that count as `other`.
    pub(super) fn collect(&self, scopes: &[ScopeGauges]) -> (Vec<MetricFamily>, u64) {
        let mut other = ScopeGauges { name: OTHER.to_owned(), ..ScopeGauges::default() };
        let mut own = Vec::new();
        let mut overflowed = 0;
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        named.retain(|name| scopes.iter().any(|scope| scope.name == *name));
        for scope in scopes {
            if named.contains(&scope.name) {
                own.push(scope);
            } else if named.len() < self.max {
                named.push(scope.name.clone());
                own.push(scope);
            } else {
                other.absorb(scope);
                overflowed += 1;
            }
        }
        drop(named);
        own.sort_by(|one, two| one.name.cmp(&two.name));
        own.dedup_by(|one, two| one.name == two.name);
        own.push(&other);
        (families(&own), overflowed)
    }
}

/// The state of one upstream of a pool at a scrape.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UpstreamGauges {
    /// Its name, of bounded length.
    pub name: String,
    /// Whether it gets requests, from all scopes.
    pub serves: bool,
    /// Attempts that hold a permit now.
    pub in_flight: u64,
    /// Attempts so far.
    pub attempts: u64,
    /// Its limits, each with the name of its scope.
    pub limits: Vec<(String, DimensionGauges)>,
}

impl ScopeTable {
    /// The families of upstreams, and the number of upstreams that count as `other`. As many have
    /// their own series as scopes may.
    pub(super) fn upstreams(&self, upstreams: &[UpstreamGauges]) -> (Vec<MetricFamily>, u64) {
        let (named, rest) = upstreams.split_at(upstreams.len().min(self.max));
        let mut rows = named.to_vec();
        let mut other = UpstreamGauges { name: OTHER.to_owned(), serves: true, ..UpstreamGauges::default() };
        for one in rest {
            other.serves &= one.serves;
            other.in_flight += one.in_flight;
            other.attempts += one.attempts;
        }
        rows.push(other);
        let of_upstreams = |of: &Family, value: fn(&UpstreamGauges) -> f64| {
            family(of, rows.iter().map(|row| (vec![&*row.name], value(row))))
        };
        // The limits of the first upstreams and their first scopes: the page shows all.
        let limits: Vec<(&str, &str, &DimensionGauges)> = (named.iter())
            .flat_map(|row| row.limits.iter().map(|(scope, limit)| (&*row.name, &**scope, limit)))
            .collect();
        let beyond = limits.len().saturating_sub(MAX_UPSTREAM_LIMITS);
        let of_limits = |of: &Family, value: fn(&DimensionGauges) -> f64| {
            let rows = limits.iter().take(MAX_UPSTREAM_LIMITS);
            family(
                of,
                rows.map(|(upstream, scope, limit)| (vec![*upstream, *scope, limit.dimension], value(limit))),
            )
        };
        let families = vec![
            of_limits(&families::UPSTREAM_LIMIT, |limit| limit.limit),
            of_limits(&families::UPSTREAM_LIMIT_LEVEL, |limit| limit.level),
            of_upstreams(&families::UPSTREAM_SERVES, |row| flag(row.serves)),
            of_upstreams(&families::UPSTREAM_PERMITS, |row| row.in_flight as f64),
            of_upstreams(&families::UPSTREAM_ATTEMPTS, |row| row.attempts as f64),
        ];
        (families, (rest.len() + beyond) as u64)
    }
}

fn families(scopes: &[&ScopeGauges]) -> Vec<MetricFamily> {
    let by_scope = |of: &Family, value: fn(&ScopeGauges) -> f64| {
        family(of, scopes.iter().map(|scope| (vec![&*scope.name], value(scope))))
    };
    let by_dimension = |of: &Family, value: fn(&DimensionGauges) -> f64| {
        let rows = scopes.iter().flat_map(|scope| {
            let limits = scope.dimensions.iter().take(MAX_DIMENSIONS);
            limits.map(|limit| (vec![&*scope.name, limit.dimension], value(limit)))
        });
        family(of, rows)
    };
    vec![
        by_scope(&families::RETRY_BUDGET, |scope| scope.retry_budget_tokens),
        by_scope(&families::RETRY_BUDGET_EXHAUSTED, |scope| scope.retry_budget_exhausted as f64),
        by_scope(&families::PERMITS, |scope| scope.permits_in_flight as f64),
        by_scope(&families::BREAKER_STATE, |scope| f64::from(scope.breaker_state)),
        by_scope(&families::BREAKER_OPENED, |scope| scope.breaker_opened as f64),
        by_scope(&families::QUOTA_BREAKER, |scope| flag(scope.quota_breaker_open)),
        by_scope(&families::LIMIT_PART, |scope| scope.part),
        by_dimension(&families::LIMIT, |limit| limit.limit),
        by_dimension(&families::LIMIT_LEVEL, |limit| limit.level),
        by_dimension(&families::LIMIT_HOLDS, |limit| flag(limit.holds)),
        by_dimension(&families::LIMIT_WINDOW, |limit| limit.window_seconds),
        by_dimension(&families::FOREIGN_USE, |limit| limit.foreign_use_ratio),
        by_dimension(&families::PACER_BURST, |limit| limit.pacer_burst),
    ]
}
