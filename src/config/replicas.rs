//! `[replicas]`: several Weirs that share one organization's limits.

use std::path::PathBuf;
use std::time::Duration;

use super::key::section;
use super::secret::SecretRef;
use crate::upstream::tls::Roots;

section! {
    /// Several Weirs that share one organization's limits, and agree through Redis on who may use
    /// how much.
    Replicas {
        /// Where they agree: a URL such as `redis://user:password@host:6379/0`, `rediss://` with
        /// TLS, `unix:///run/redis.sock`, `redis-cluster://host1,host2`, or
        /// `redis-sentinel://host1,host2/0#primary`. It is read again for each connection. No
        /// request waits for it. Left out, this Weir takes `limits.share` for itself.
        redis: Option<SecretRef> = unset("env:WEIR_REDIS_URL"),
        /// What the replicas of one group have in common, where several groups use one Redis.
        namespace: String = default("weir"),
        /// How often they tell each other what they need. A part of the limits moves within two of
        /// these; after three without Redis each takes an even part.
        interval: Duration = default("1s") in "250ms"..="30s",
        /// How many replicas there are at least: without Redis each takes an even part among them,
        /// or among as many as were last seen. 2, as nobody shares alone: the whole limit for one
        /// of several would be the worst guess.
        expected: usize = default(2) in 1..=250,
        /// The authorities that may vouch for Redis with `rediss://`: as in upstream.tls.roots.
        roots: Roots = default("system"),
        /// A certificate to show to Redis, with its chain, PEM.
        client_cert: Option<PathBuf> = unset("/etc/weir/redis.crt"),
        /// Its private key, PEM.
        client_key: Option<PathBuf> = unset("/etc/weir/redis.key"),
    }
}
