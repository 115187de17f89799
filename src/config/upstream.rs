//! `[upstream]`: the API, the credential, and how to connect.

use std::path::PathBuf;
use std::time::Duration;

use super::key::{Kind, section};
use super::quantity::Size;
use super::secret::SecretRef;
use super::server::TlsVersion;
use super::url::{BaseUrl, UpstreamUrl};
use super::value::{or_word, textual};
use crate::caller::AuthHeader;
use crate::pattern::Pattern;
use crate::proxy::FirstEventTimeout;
use crate::upstream::tls::Roots;

section! {
    /// The API behind Weir, and the way there.
    Upstream {
        /// Where it is. A path in it stands before that of each request; `/v1` is there once.
        url: UpstreamUrl = default("https://api.openai.com"),
        /// The key that requests bear upstream, instead of the caller's own. Without, the caller's
        /// passes through.
        credential: Option<SecretRef> = unset("env:OPENAI_API_KEY"),
        /// The header that the credential is sent in: `Authorization: Bearer`, or `api-key` as
        /// Azure wants it.
        auth: AuthHeader = default("bearer"),
        /// `OpenAI-Organization` for requests with the credential.
        organization: Option<String> = unset("org-1234"),
        /// `OpenAI-Project` for requests with the credential.
        project: Option<String> = unset("proj_1234"),
        /// DNS, TCP, CONNECT and TLS together. The SDKs' own value.
        connect_timeout: Duration = default("5s") in "10ms"..="5m"; restart,
        /// From the end of the request to the response head. Off: answers take as long as the
        /// caller waits for them.
        response_timeout: Option<Duration> = default("off") in "100ms"..="1d",
        /// From the sending of a streaming request to the first event of its answer that carries
        /// output. Until then nothing of the answer goes to the caller; a stream that is late is
        /// ended, and asked for once more where that is safe. "learned": twice what 999 of 1,000
        /// streams of the same model and size of prompt take.
        first_event_timeout: Option<FirstEventTimeout> = default("off") in "100ms"..="1h",
        /// Between two chunks of an answer's body. A model that thinks sends nothing for minutes;
        /// the SDKs wait for ten. A caller whose SDK waits longer is given its own time.
        idle_timeout: Duration = default("600s") in "1s"..="1d",
        /// How long a connection without a request is kept: below the 60 s of most load balancers
        /// and NATs.
        pool_idle_timeout: Duration = default("50s") in "1s"..="1h"; restart,
        /// Connections without a request that each worker keeps.
        pool_max_idle: usize = default(1024) in 0..=100000; restart,
        /// How old a connection may grow before it is replaced between two requests, so that DNS
        /// changes are seen.
        max_connection_age: Duration = default("10m") in "1s"..="30d"; restart,
        /// All header fields of an answer together.
        header_bytes: Size = default("64KiB") in "8KiB"..="1MiB"; restart,
        /// Whether HTTP/2 is spoken upstream. Off: a stream on HTTP/1.1 has a connection and a
        /// window of its own.
        http2: bool = default(false); restart,
        /// The HTTP proxy on the way there (CONNECT). Left out, `HTTPS_PROXY` and `NO_PROXY` of the
        /// environment count; "off" ignores them.
        proxy: Option<BaseUrl> = unset("http://proxy.internal:3128"); restart,
        /// What the proxy asks for, as `user:password`.
        proxy_credential: Option<SecretRef> = unset("env:PROXY_CREDENTIAL"),
        /// Hosts that are reached without the proxy, as in `NO_PROXY`: names, `.domain`, `*`. Left
        /// out: `NO_PROXY`.
        no_proxy: Vec<Pattern> = default([]); restart,
        /// TLS to the upstream.
        tls: UpstreamTls = default({}); restart,
        /// Upgrades to WebSocket.
        websocket: WebSocket = default({}); restart,
    }
}

section! {
    /// TLS to the upstream.
    UpstreamTls {
        /// The authorities that are trusted: the system's, those built in, or those of a PEM file.
        roots: Roots = default("system"),
        /// A certificate to show, with its chain, PEM.
        client_cert: Option<PathBuf> = unset("/etc/weir/client.crt"),
        /// Its private key, PEM.
        client_key: Option<PathBuf> = unset("/etc/weir/client.key"),
        /// The name that the certificate must bear, where it isn't the URL's host.
        server_name: Option<String> = unset("api.openai.com"),
        /// The oldest version of TLS that is spoken.
        min_version: TlsVersion = default("1.2"),
    }
}

section! {
    /// Upgrades to WebSocket.
    WebSocket {
        /// The paths that may be upgraded; `*` stands for anything. Without an element none may.
        paths: Vec<Pattern> = default([
            "/v1/realtime", "/v1/realtime/translations", "/v1/responses", "/v1/live/sessions", "/v1/live/sessions/*/attach",
            "/v1/live/sessions/*/fork",
        ]),
        /// How long both directions may be silent, between two turns too. The API itself ends a
        /// session after an hour.
        idle_timeout: Duration = default("1h") in "1s"..="1d",
        /// Bytes of one message of a client's. What is longer ends the session with close code
        /// 1009.
        max_message: Size = default("64MiB") in "64KiB"..="1GiB",
        /// Upgraded connections in all.
        max: usize = default(1000) in 1..=100000,
    }
}

textual!(
    Roots,
    Kind::Choice(|| vec!["system", "bundled", "file:PATH"]),
    |text| match (text, text.strip_prefix("file:")) {
        ("system", _) => Ok(Roots::System),
        ("bundled", _) => Ok(Roots::Bundled),
        (_, Some(path)) if !path.is_empty() => Ok(Roots::File(path.into())),
        (_, _) => Err(None),
    },
    |roots: &Roots| match roots {
        Roots::System => "system".to_owned(),
        Roots::Bundled => "bundled".to_owned(),
        Roots::File(path) => format!("file:{}", path.display()),
    }
);

or_word!(FirstEventTimeout, "learned" = Learned, After(Duration));
