//! `[server]`, `[admin]` and `[shutdown]`: the listeners, their limits, and the drain.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::key::section;
use super::quantity::Size;
use super::secret::SecretRef;
use crate::label::names;

section! {
    /// The listener for callers, and what each connection may take.
    Server {
        /// The address that callers connect to. Loopback by default: a sidecar serves nobody else.
        listen: SocketAddr = default("127.0.0.1:8080"); restart,
        /// Worker threads, each with its own runtime and upstream pool; 0 means one for each core.
        workers: usize = default(0) in 0..=1024; restart,
        /// Whether HTTP/2 is accepted, by ALPN with TLS and by prior knowledge without.
        http2: bool = default(true); restart,
        /// Connections in all. Below the usual limit of 20,000 open files with room for as many
        /// upstream.
        max_connections: usize = default(10000) in 1..=1000000; restart,
        /// Connections from one address. Behind a load balancer all callers share one: as many as
        /// in all.
        max_connections_per_peer: usize = default(10000) in 1..=1000000; restart,
        /// HTTP/2 streams open at once on one connection. The SDKs' pools go to 1,000 connections;
        /// HTTP/2 gives them one.
        max_streams: u32 = default(1000) in 1..=10000; restart,
        /// All header fields of a request together.
        header_bytes: Size = default("64KiB") in "4KiB"..="1MiB"; restart,
        /// Header fields of a request. hyper's own default; the SDKs send about 20.
        header_count: usize = default(100) in 10..=1000; restart,
        /// What is held in memory, on its way through Weir, of an answer that its client over
        /// HTTP/1.1 does not take; TLS holds a record of 16 KiB more. The system's own buffers are
        /// not counted.
        answer_buffer: Size = default("64KiB") in "16KiB"..="16MiB"; restart,
        /// From the first byte of a request to the end of its header fields; for the first request
        /// without TLS, from accept.
        header_timeout: Duration = default("30s") in "100ms"..="10m"; restart,
        /// From accept to the end of the TLS handshake.
        handshake_timeout: Duration = default("10s") in "100ms"..="10m"; restart,
        /// How long a connection without a request stays open. Above the 60 s after which common
        /// clients drop one, so that the client closes first and no request meets a connection that
        /// is going away.
        idle_timeout: Duration = default("75s") in "1s"..="1d"; restart,
        /// How long a client may take none of an answer that waits to be sent.
        write_timeout: Duration = default("60s") in "1s"..="1d"; restart,
        /// A request's body, larger than any file the API takes; over it the answer is 413.
        body_max: Size = default("2GiB") in "1KiB"..="1TiB",
        /// The least number of bytes in a second that a body may arrive with, on average; 0 asks
        /// for none. Kestrel's value.
        body_min_rate: Size = default("240B") in 0..="1GiB",
        /// How long a body may arrive more slowly than that at first.
        body_grace: Duration = default("5s") in 0..="1h",
        /// How long a body may pause.
        body_timeout: Duration = default("30s") in "1s"..="1d",
        /// What the bodies that can't be kept for another attempt may hold in memory while they
        /// wait to be sent, on top of `replay.max_total`; over it the answer is 429.
        max_buffered_bytes: Size = default("512MiB") in "1MiB"..="1TiB"; restart,
        /// Whether requests of callers that nobody knows are served. Left out, they are served,
        /// except with an upstream credential on a listener that is not loopback: whoever reaches
        /// it would spend your money.
        allow_unknown_callers: Option<bool> = unset(true),
        /// Names beside those of loopback that the listener is called by, without port. Where
        /// requests without a Weir key spend a configured credential, a `Host` that is neither is
        /// refused on loopback, and elsewhere once there is a list.
        hosts: Vec<String> = default([]),
        /// Whether the caller's address is added to `X-Forwarded-For`. Off by default, for privacy:
        /// that field and its kin are removed.
        forwarded: bool = default(false),
        /// The Unix socket at which a Weir that starts asks the running one for its listeners. The
        /// running one drains as soon as the new one serves, and no connection is refused.
        takeover: Option<PathBuf> = unset("/run/weir/takeover.sock"); restart,
        /// TLS towards callers: on when a certificate and a key are given.
        tls: ServerTls = default({}); restart,
    }
}

section! {
    /// TLS towards callers: on when a certificate and a key are given.
    ServerTls {
        /// The certificate and its chain, PEM.
        cert: Option<PathBuf> = unset("/etc/weir/tls.crt"),
        /// The certificate's private key, PEM.
        key: Option<PathBuf> = unset("/etc/weir/tls.key"),
        /// The authorities that client certificates must come from, PEM.
        client_ca: Option<PathBuf> = unset("/etc/weir/clients.crt"),
        /// Whether callers show a certificate: it must be valid, may be left out, or isn't asked
        /// for.
        client_auth: ClientAuth = default("none"),
        /// The oldest version of TLS that is spoken.
        min_version: TlsVersion = default("1.2"),
        /// How often the files are looked at for a change; "off" reads them at a reload only.
        reload: Option<Duration> = default("1m") in "1s"..="1d",
    }
}

names! {
    /// Whether callers must show a certificate.
    ClientAuth {
        /// Not asked for.
        None = "none",
        /// Asked for; valid when shown.
        Optional = "optional",
        /// Demanded.
        Required = "required",
    }
}

names! {
    /// A version of TLS.
    TlsVersion {
        /// RFC 5246.
        V1_2 = "1.2",
        /// RFC 8446.
        V1_3 = "1.3",
    }
}

section! {
    /// The listener for people and Prometheus: metrics, probes, status page, reports.
    Admin {
        /// Its address. On one that isn't loopback only /metrics, /livez and /readyz answer without
        /// the token.
        listen: SocketAddr = default("127.0.0.1:8081"); restart,
        /// What `Authorization: Bearer` must hold for the rest.
        token: Option<SecretRef> = unset("env:WEIR_ADMIN_TOKEN"),
        /// Names beside those of loopback that the address is called by when it is on loopback,
        /// without port.
        hosts: Vec<String> = default([]),
    }
}

section! {
    /// What happens between SIGTERM and the end.
    Shutdown {
        /// How long new connections are still accepted while /readyz says 503: load balancers need
        /// that long to notice.
        drain_delay: Duration = default("5s") in 0..="10m",
        /// How long requests may then take to finish. Generations take minutes; the orchestrator's
        /// own grace period must be longer than both together.
        drain_timeout: Duration = default("120s") in 0..="1d",
    }
}
