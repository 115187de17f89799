//! What is gathered for a scrape.

use super::{BudgetPeriod, ReplicasStatus, ScopeGauges, UpstreamGauges};
use crate::caller::{CallerId, Lane};

/// What is only known at a scrape.
#[derive(Clone, Debug, Default)]
pub struct Gathered {
    /// Every scope, in any order.
    pub scopes: Vec<ScopeGauges>,
    /// Every upstream, where there is a choice.
    pub upstreams: Vec<UpstreamGauges>,
    /// Requests waiting, over all scopes, by caller and lane; those that are not listed have none.
    pub queue_depth: Vec<(CallerId, Lane, u64)>,
    /// What each caller was served and was entitled to while it waited in the last minutes, over
    /// all scopes, in windows of their limits; those that are not listed have their share.
    pub shares: Vec<(CallerId, f64, f64)>,
    /// The used part of each caller's budgets by the day and by the month, the fullest of several.
    pub budgets: Vec<(CallerId, BudgetPeriod, f64)>,
    /// Requests that wait for their callers' own ceilings.
    pub ceilings: Vec<(CallerId, u64)>,
    /// Bytes of the bodies of waiting requests.
    pub queue_bytes: u64,
    /// Bytes of request bodies kept for another try.
    pub replay_bytes: u64,
    /// Scopes forgotten since the start.
    pub scopes_evicted: u64,
    /// Scopes merged since the start.
    pub scopes_merged: u64,
    /// Lines of log that were dropped since the start.
    pub log_lines_dropped: u64,
    /// Times that all verified tokens were forgotten since the start.
    pub verified_tokens_forgotten: u64,
    /// The exchange with the other replicas.
    pub replicas: ReplicasStatus,
    /// Credentials that live short, and the seconds until their ends.
    pub credentials: Vec<(String, f64)>,
    /// Issuers of callers' tokens: the seconds since their keys were read, and tries that failed.
    pub issuers: Vec<(String, Option<f64>, u64)>,
}
