//! What the exchange with the other replicas says of itself at a scrape.

/// Every reason of a failed exchange, as label values.
pub const REPLICAS_TROUBLES: [&str; 10] = [
    "unreachable",
    "timeout",
    "tls",
    "authentication",
    "permission",
    "read_only",
    "full",
    "busy",
    "no_primary",
    "unexpected",
];

/// How the exchange with the other replicas stands at a scrape; all 0 where none is configured.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ReplicasGauges {
    /// Replicas, this one included.
    pub replicas: u64,
    /// Whether the last exchange went well.
    pub redis_up: bool,
    /// Whether the parts are agreed on.
    pub agreed: bool,
    /// Why the last exchange failed: one of [`REPLICAS_TROUBLES`].
    pub trouble: Option<&'static str>,
    /// Exchanges that went well since the start.
    pub exchanges: u64,
    /// Exchanges that failed since the start.
    pub failures: u64,
    /// Seconds since the last good exchange.
    pub age_seconds: f64,
    /// Seconds that it took.
    pub duration_seconds: f64,
}
