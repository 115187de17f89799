//! Explanations of a failed exchange, for the log and the page.

use super::Trouble;

impl Trouble {
    /// The problem and what to do, in one sentence.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Unreachable => {
                "Redis can't be reached: check that it runs and that the network lets Weir there."
            }
            Self::Timeout => {
                "Redis does not answer in time: it is overloaded, stalled, or the network loses packets."
            }
            Self::Tls => {
                "TLS with Redis failed: check replicas.roots, and the name and dates of its certificate."
            }
            Self::Authentication => {
                "Redis refuses the user or password: check what replicas.redis refers to."
            }
            Self::Permission => {
                "The user may not do what Weir needs in Redis: docs/operations.md lists the rights."
            }
            Self::ReadOnly => {
                "This Redis takes no writes: the address leads to a replica, not to the primary."
            }
            Self::Full => "Redis has no memory or disk left: raise maxmemory, or free some.",
            Self::Busy => "Redis is loading its data or busy with a script.",
            Self::NoPrimary => {
                "The cluster or the sentinels have no primary now: a failover goes on, or the name is wrong."
            }
            Self::Unexpected => {
                "Redis answers something unexpected: the namespace may be used by something else."
            }
        }
    }
}
