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

/// A fact about the upstream, received from another replica.
#[derive(Clone, Debug, PartialEq)]
pub enum PeerUpdate {
    /// The upstream reported these limits.
    Limits(Vec<(Slot, f64)>),
    /// The upstream asked for a pause of this length.
    Pause(Duration),
    /// The upstream has failed for this time.
    Failing(Duration),
    /// The upstream responds again.
    Recovered,
    /// The quota is spent, with the upstream's error.
    Spent(UpstreamWords),
    /// The quota is available again.
    Refilled,
}
