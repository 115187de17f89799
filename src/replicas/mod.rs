//! Several replicas that share one organization's limits: who may use how much, agreed on through
//! Redis.
//!
//! No request ever waits for Redis. Once in an interval a thread of its own exchanges with the
//! ledger (`ledger.lua`, one function that Redis executes): what this replica needs (`demand`) and
//! holds of each scope's limits, and what it is granted (`lease`); and what it learned of the
//! upstreams (`notes`). Without Redis a part holds for three intervals (`lease::LEASE`); then each
//! replica takes an even part of as many as were last known, or are expected: never the whole, and
//! never nothing.

#[cfg(not(feature = "replicas"))]
mod absent;
#[cfg(feature = "replicas")]
mod address;
#[cfg(all(test, feature = "replicas"))]
mod agreement;
#[cfg(feature = "replicas")]
mod client;
#[cfg(feature = "replicas")]
mod demand;
#[cfg(feature = "replicas")]
mod exchange;
#[cfg(feature = "replicas")]
mod lease;
#[cfg(all(test, feature = "replicas"))]
mod ledger;
#[cfg(feature = "replicas")]
mod message;
#[cfg(feature = "replicas")]
mod notes;
#[cfg(feature = "replicas")]
mod running;
#[cfg(all(test, feature = "replicas"))]
mod simulation;
mod trouble;

use std::time::Duration;

#[cfg(not(feature = "replicas"))]
pub use absent::{Address, AddressError, Replicas, Tls, Url, start};
#[cfg(feature = "replicas")]
pub use address::Address;
#[cfg(feature = "replicas")]
pub use client::{Tls, Url};
#[cfg(feature = "replicas")]
pub use running::{Replicas, start};

pub use crate::metrics::{ReplicasStatus as Status, ReplicasTrouble as Trouble};

/// With whom limits are shared, and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where Redis is.
    pub url: Url,
    /// How TLS is spoken there; needed for `rediss`.
    pub tls: Option<Tls>,
    /// What replicas of one group have in common.
    pub namespace: String,
    /// The time between two exchanges.
    pub interval: Duration,
    /// How many replicas are assumed where Redis knows of fewer, or can't be asked.
    pub expected: usize,
}
