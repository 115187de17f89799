//! What a scope knows of its upstream that other replicas can use, and what they tell it.

use std::sync::Arc;
use std::time::Duration;

use super::limits::Slot;
use super::refusal::UpstreamWords;

/// What a scope knows now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Knowledge {
    /// The limits that the upstream told of.
    pub limits: Vec<(Slot, f64)>,
    /// How long nothing may go, by the upstream's word; zero where it may.
    pub pause: Duration,
    /// While the breaker is open: for how long the upstream has failed.
    pub failing_for: Option<Duration>,
    /// While the quota is spent: the upstream's words.
    pub spent: Option<Arc<UpstreamWords>>,
}

/// What another replica knows.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// The upstream told of these limits.
    Limits(Vec<(Slot, f64)>),
    /// Nothing may go for this time.
    Pause(Duration),
    /// The upstream has failed for this time.
    Failing(Duration),
    /// It answers again.
    Recovered,
    /// It says that the quota is spent.
    Spent(UpstreamWords),
    /// The quota is back.
    Refilled,
}
