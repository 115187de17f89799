//! Why an exchange failed: a closed list, for the log, the metrics and the page.

/// Why Redis can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Nobody answers at the address, or the connection broke.
    Unreachable,
    /// No answer in time.
    Timeout,
    /// TLS failed, or its certificates can't be used.
    Tls,
    /// The password or the user is wrong, or the secret can't be read.
    Authentication,
    /// The user may not do what is needed.
    Permission,
    /// A replica of Redis that takes no writes.
    ReadOnly,
    /// It has no memory left, or can't write its disk.
    Full,
    /// It loads its data, or a script keeps it busy.
    Busy,
    /// The cluster or the sentinels know of no primary.
    NoPrimary,
    /// It answered something else.
    Unexpected,
}

impl Trouble {
    /// All of them.
    #[cfg(test)]
    const ALL: [Self; 10] = [
        Self::Unreachable,
        Self::Timeout,
        Self::Tls,
        Self::Authentication,
        Self::Permission,
        Self::ReadOnly,
        Self::Full,
        Self::Busy,
        Self::NoPrimary,
        Self::Unexpected,
    ];

    /// Its name in metrics and the status.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Tls => "tls",
            Self::Authentication => "authentication",
            Self::Permission => "permission",
            Self::ReadOnly => "read_only",
            Self::Full => "full",
            Self::Busy => "busy",
            Self::NoPrimary => "no_primary",
            Self::Unexpected => "unexpected",
        }
    }

    /// What is the matter and what to do, in one sentence.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::REPLICAS_TROUBLES;

    #[test]
    fn each_has_a_series_of_its_own() {
        assert_eq!(Trouble::ALL.map(Trouble::as_str), REPLICAS_TROUBLES);
    }
}
