//! The values gathered for a scrape.

use super::{BudgetPeriod, ReplicasStatus, ScopeGauges, UpstreamGauges};
use crate::caller::{CallerId, Lane};

/// Values that are known only at a scrape.
#[derive(Clone, Debug, Default)]
pub struct Gathered {
    /// Every scope, in any order.
    pub scopes: Vec<ScopeGauges>,
    /// Every upstream, if there are several.
    pub upstreams: Vec<UpstreamGauges>,
    /// Waiting requests over all scopes, by caller and lane; callers that are not listed have none.
    pub queue_depth: Vec<(CallerId, Lane, u64)>,
    /// For each caller, the amounts it was served and entitled to while it waited in the last
    /// minutes, over all scopes, in windows of their limits. Callers that are not listed get their
    /// full share.
    pub shares: Vec<(CallerId, f64, f64)>,
    /// The used fraction of each caller's daily and monthly budgets; of several, the highest.
    pub budgets: Vec<(CallerId, BudgetPeriod, f64)>,
    /// Requests that wait for their caller's own ceiling.
    pub ceilings: Vec<(CallerId, u64)>,
    /// Bytes of the bodies of waiting requests.
    pub queue_bytes: u64,
    /// Bytes of request bodies kept for retries.
    pub replay_bytes: u64,
    /// Scopes evicted since the start.
    pub scopes_evicted: u64,
    /// Scopes merged since the start.
    pub scopes_merged: u64,
    /// Log lines dropped since the start.
    pub log_lines_dropped: u64,
    /// The number of times since the start that the cache of verified tokens was emptied.
    pub verified_tokens_forgotten: u64,
    /// The exchange with the other replicas.
    pub replicas: ReplicasStatus,
    /// Short-lived credentials, each with the seconds until it expires.
    pub credentials: Vec<(String, f64)>,
    /// Issuers of callers' tokens: the seconds since their keys were read, and failed tries.
    pub issuers: Vec<(String, Option<f64>, u64)>,
}
