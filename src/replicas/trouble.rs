//! Explanations of a failed exchange, for the log and the admin page.

use super::Trouble;

impl Trouble {
    /// The problem and what to do, in one sentence.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Unreachable => {
                "Redis can't be reached: check that it runs and that the network allows Weir to connect."
            }
            Self::Timeout => {
                "Redis does not respond in time: it is overloaded or stalled, or the network loses packets."
            }
            Self::Tls => {
                "TLS with Redis failed: check replicas.roots, and the name and dates of its certificate."
            }
            Self::Authentication => {
                "Redis rejects the user or password: check the URL that replicas.redis refers to."
            }
            Self::Permission => {
                "The Redis user lacks permissions that Weir needs: docs/operations.md lists them."
            }
            Self::ReadOnly => {
                "This Redis is read-only: the address is that of a replica, not of the primary."
            }
            Self::Full => "Redis is out of memory or disk: raise maxmemory, or free space.",
            Self::Busy => "Redis is loading its data or busy with a script.",
            Self::NoPrimary => {
                "The cluster or the sentinels have no primary: a failover is in progress, or the name is wrong."
            }
            Self::Unexpected => {
                "Redis returned an unexpected response: another program may use the namespace."
            }
        }
    }
}
