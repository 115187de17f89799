//! Metrics of the exchange with the other replicas.

use std::time::Duration;

use crate::label::names;

names! {
    /// Why Redis can't be used.
    ReplicasTrouble {
        /// No connection to the address, or it broke.
        Unreachable = "unreachable",
        /// The timeout expired.
        Timeout = "timeout",
        /// TLS failed, or its certificates can't be used.
        Tls = "tls",
        /// The password or the user is wrong, or the secret can't be read.
        Authentication = "authentication",
        /// The user lacks a permission.
        Permission = "permission",
        /// A replica of Redis that rejects writes.
        ReadOnly = "read_only",
        /// Redis has no memory left, or can't write its disk.
        Full = "full",
        /// Redis loads its data, or a script keeps it busy.
        Busy = "busy",
        /// The cluster or the sentinels know no primary.
        NoPrimary = "no_primary",
        /// Any other error.
        Unexpected = "unexpected",
    }
}

/// The state of the exchange with the other replicas; all 0 if none is configured.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ReplicasStatus {
    /// Replicas, this one included.
    pub replicas: usize,
    /// Whether at least one exchange has ended, and the last one succeeded.
    pub up: bool,
    /// Why the last one failed.
    pub trouble: Option<ReplicasTrouble>,
    /// Whether the parts are agreed through Redis; without Redis they are even.
    pub agreed: bool,
    /// Whether the ledger was lost, so that no part grows yet.
    pub learning: bool,
    /// Successful exchanges.
    pub exchanges: u64,
    /// Failed exchanges.
    pub failures: u64,
    /// The time since the last successful exchange.
    pub age: Option<Duration>,
    /// The duration of the last successful exchange.
    pub took: Duration,
}
