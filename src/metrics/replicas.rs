//! What the exchange with the other replicas says of itself.

use std::time::Duration;

use crate::label::names;

names! {
    /// Why Redis can't be used.
    ReplicasTrouble {
        /// Nobody answers at the address, or the connection broke.
        Unreachable = "unreachable",
        /// No answer in time.
        Timeout = "timeout",
        /// TLS failed, or its certificates can't be used.
        Tls = "tls",
        /// The password or the user is wrong, or the secret can't be read.
        Authentication = "authentication",
        /// The user may not do what is needed.
        Permission = "permission",
        /// A replica of Redis that takes no writes.
        ReadOnly = "read_only",
        /// It has no memory left, or can't write its disk.
        Full = "full",
        /// It loads its data, or a script keeps it busy.
        Busy = "busy",
        /// The cluster or the sentinels know of no primary.
        NoPrimary = "no_primary",
        /// It answered something else.
        Unexpected = "unexpected",
    }
}

/// How the exchange with the other replicas stands; all 0 where none is configured.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ReplicasStatus {
    /// Replicas, this one included.
    pub replicas: usize,
    /// Whether any exchange has ended, and the last one went well.
    pub up: bool,
    /// Why the last one failed.
    pub trouble: Option<ReplicasTrouble>,
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
