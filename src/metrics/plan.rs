//! The plan of series: the most that a configuration can cause, and the reductions that keep them
//! within the bound.

use super::families::{self, Handles};
use super::labels::{AttemptOutcome, BudgetPeriod, Outcome, TokenKind};
use super::replicas::ReplicasTrouble;
use crate::caller::Lane;
use crate::openai::Endpoint;

/// The most credentials with an expiry series: the configuration allows no more exchanges.
const MOST_CREDENTIALS: usize = 16;
/// The most limits of single upstreams with their own series.
pub const MAX_UPSTREAM_LIMITS: usize = 256;
/// The most dimensions of one scope with their own series.
pub const MAX_DIMENSIONS: usize = 4;

/// Families with one series, created at a scrape: totals, replicas except their troubles, and the
/// process.
const OF_A_SCRAPE: usize = 5 + 7 + 5;
/// Families with a series for each scope and dimension.
const PER_DIMENSION: usize = 6;
/// Families with a series for each scope, and those with one for each upstream of a pool: as many
/// upstreams as scopes have names.
const PER_SCOPE: usize = 7 + 3;
/// Series of one caller at one endpoint: outcomes and durations.
const PER_PAIR: usize = Outcome::ALL.len() + families::REQUEST_DURATION.samples();
/// Series of one caller, independent of endpoints.
const PER_CALLER: usize = families::IN_FLIGHT.samples()
    + Lane::ALL.len()
    + families::CALLER_SHARE.samples()
    + BudgetPeriod::ALL.len()
    + families::CEILING_WAITING.samples()
    + families::QUEUE_WAIT.samples()
    + families::SDK_RETRIES.samples()
    + TokenKind::ALL.len();
const PER_MODEL: usize =
    Outcome::ALL.len() + families::TIME_TO_FIRST_EVENT.samples() + families::TIME_PER_OUTPUT_TOKEN.samples();
/// Series of one caller and one model.
const PER_TOKEN_PAIR: usize = TokenKind::ALL.len();
/// Scopes, then models, get at most one in this number of the remaining series.
const SCOPE_SHARE: usize = 4;
/// Tokens by caller and model get at most one in this number of the series that remain then.
const TOKEN_SHARE: usize = 8;

/// The numbers of label values with their own series; others count as `other`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Callers with their own series.
    pub callers: usize,
    /// Endpoints, in the order of [`ENDPOINTS_BY_USE`], with their own series for each caller.
    pub endpoints: usize,
    /// Models with their own series.
    pub models: usize,
    /// Pairs of caller and model with their own token series; others count for the model `other`.
    pub pairs: usize,
    /// Scopes with their own series.
    pub scopes: usize,
    /// The most series in total.
    pub worst: usize,
}

/// Endpoints by the value of their own series, if not all fit; `other` always exists.
pub const ENDPOINTS_BY_USE: [Endpoint; Endpoint::ALL.len()] = [
    Endpoint::Other,
    Endpoint::ChatCompletions,
    Endpoint::Responses,
    Endpoint::Embeddings,
    Endpoint::Completions,
    Endpoint::Moderations,
    Endpoint::Audio,
    Endpoint::Images,
    Endpoint::Files,
    Endpoint::Batches,
    Endpoint::Models,
    Endpoint::Uploads,
    Endpoint::VectorStores,
    Endpoint::Videos,
    Endpoint::FineTuning,
    Endpoint::Threads,
    Endpoint::Assistants,
    Endpoint::Conversations,
    Endpoint::Containers,
    Endpoint::Evals,
    Endpoint::Realtime,
    Endpoint::Organization,
];

impl Plan {
    /// Fits `callers`, `models` and `scopes` into `max_series`; endpoints are reduced first, then
    /// callers.
    ///
    /// The families without an open label always exist, so `worst` can exceed a very small
    /// `max_series` (below about 700).
    pub fn fit(callers: usize, models: usize, scopes: usize, workers: usize, max_series: usize) -> Self {
        let fixed = fixed_series() + workers + pair_cost(1) + PER_MODEL + scope_cost();
        let mut left = max_series.saturating_sub(fixed);
        let scopes = scopes.min(left / SCOPE_SHARE / scope_cost());
        left -= scopes * scope_cost();
        let models = models.min(left / SCOPE_SHARE / PER_MODEL);
        left -= models * PER_MODEL;
        let pairs = ((callers + 1) * models).min(left / TOKEN_SHARE / PER_TOKEN_PAIR);
        left -= pairs * PER_TOKEN_PAIR;
        let callers_fit = callers.min(left / pair_cost(1));
        let each = left.checked_div(callers_fit).unwrap_or(left);
        let endpoints = (each.saturating_sub(PER_CALLER) / PER_PAIR).clamp(1, Endpoint::ALL.len());
        let worst = fixed
            + scopes * scope_cost()
            + models * PER_MODEL
            + pairs * PER_TOKEN_PAIR
            + callers_fit * pair_cost(endpoints);
        Self { callers: callers_fit, endpoints, models, pairs, scopes, worst }
    }

    /// Series of one named caller.
    pub(super) const fn caller_cost(&self) -> usize {
        pair_cost(self.endpoints)
    }
}

const fn pair_cost(endpoints: usize) -> usize {
    PER_CALLER + PER_PAIR * endpoints
}

const fn scope_cost() -> usize {
    MAX_DIMENSIONS * PER_DIMENSION + PER_SCOPE
}

/// Series that always exist, and those of credentials, issuers and upstreams' limits.
fn fixed_series() -> usize {
    let attempts = Endpoint::ALL.len() * AttemptOutcome::ALL.len();
    Handles::series()
        + attempts
        + OF_A_SCRAPE
        + ReplicasTrouble::ALL.len()
        + 3 * MOST_CREDENTIALS
        + 2 * MAX_UPSTREAM_LIMITS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_by_use_names_each_endpoint_once() {
        for endpoint in Endpoint::ALL {
            assert_eq!(
                ENDPOINTS_BY_USE.iter().filter(|listed| **listed == endpoint).count(),
                1,
                "{endpoint:?}"
            );
        }
        assert_eq!(ENDPOINTS_BY_USE[0], Endpoint::Other);
    }

    #[test]
    fn never_more_than_the_bound() {
        for callers in [0, 1, 2, 20, 100, 1_000, 65_535] {
            for scopes in [0, 1, 100, 1_000] {
                for models in [0, 1, 50, 100_000] {
                    for max_series in [2_000, 5_000, 20_000, 100_000] {
                        let plan = Plan::fit(callers, models, scopes, 2, max_series);
                        assert!(
                            plan.worst <= max_series,
                            "{callers} {scopes} {models} {max_series}: {plan:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn small_configurations_lose_nothing() {
        let plan = Plan::fit(10, 50, 100, 2, 20_000);
        assert_eq!(
            (plan.callers, plan.endpoints, plan.models, plan.scopes),
            (10, Endpoint::ALL.len(), 50, 100)
        );
    }

    #[test]
    fn endpoints_give_way_before_callers() {
        let plan = Plan::fit(100, 50, 1_000, 2, 20_000);
        assert_eq!(plan.callers, 100);
        assert!((3..Endpoint::ALL.len()).contains(&plan.endpoints), "{plan:?}");
        let plan = Plan::fit(1_000, 50, 1_000, 2, 20_000);
        assert!(plan.callers < 1_000 && plan.endpoints == 1, "{plan:?}");
    }
}
