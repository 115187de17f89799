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

use std::path::PathBuf;
use std::time::Duration;

#[cfg(not(feature = "replicas"))]
pub use absent::{Address, AddressError, Replicas, Tls, Url, start};
#[cfg(feature = "replicas")]
pub use address::Address;
#[cfg(feature = "replicas")]
pub use client::{Tls, Url};
#[cfg(feature = "replicas")]
pub use running::{Replicas, start};
pub use trouble::Trouble;

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

/// How the exchange with the other replicas stands.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Status {
    /// Replicas, this one included.
    pub replicas: usize,
    /// Whether any exchange has ended, and the last one went well.
    pub up: bool,
    /// Why the last one failed.
    pub trouble: Option<Trouble>,
    /// Whether the parts are agreed on, rather than even ones without Redis.
    pub agreed: bool,
    /// Whether the ledger was lost, so that no part grows yet.
    pub learning: bool,
    /// Exchanges that went well.
    pub exchanges: u64,
    /// Exchanges that failed.
    pub failures: u64,
    /// Since the last good exchange.
    pub age: Option<Duration>,
    /// How long the last good exchange took.
    pub took: Duration,
}

/// The authorities that may vouch for Redis.
#[derive(Clone, Debug)]
pub enum Roots {
    /// The system's.
    System,
    /// Mozilla's, as they were when Weir was built.
    Bundled,
    /// Those of a PEM file, and no others.
    File(PathBuf),
}
