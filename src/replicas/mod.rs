//! Replicas that share one organization's limits: they agree through Redis on the part that each
//! may use.
//!
//! No request ever waits for Redis. Once per interval a separate thread runs an exchange with the
//! ledger (`ledger.lua`, one function that Redis executes): it sends this replica's needs
//! (`demand`) and parts of each scope's limits and receives its grants (`lease`), and it shares
//! knowledge about the upstreams (`notes`). Without Redis a part is valid for three intervals
//! (`lease::LEASE`); then each replica takes an even part, by the last known number of replicas or
//! the expected one: never the whole, and never nothing.

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

/// The settings of the exchange.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The source of Redis's URL.
    pub url: Url,
    /// The TLS settings; required for `rediss`.
    pub tls: Option<Tls>,
    /// The namespace that replicas of one group share.
    pub namespace: String,
    /// The time between two exchanges.
    pub interval: Duration,
    /// The number of replicas to assume if Redis knows fewer, or is unavailable.
    pub expected: usize,
}
