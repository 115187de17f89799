//! Weir: a reverse proxy that paces, retries and counts a company's calls to the OpenAI API.
//!
//! # The tour, in five minutes
//!
//! Each request takes these steps: accept → identify the caller → read and price the request →
//! admit (wait until it fits the limits) → attempt → classify → retry or stop → respond → account.
//! [`proxy`] runs them, top to bottom, in one async function; each step is a module. Tower is used
//! only at the edges: the outer layers of [`server`], and the connector of [`upstream`]. A layer
//! knows nothing about callers.
//!
//! | step | module | where to start reading |
//! |---|---|---|
//! | accept | [`server`] | `Front::serve`: TLS, HTTP/1.1 or 2, timeouts and limits, request rules |
//! | identify | [`caller`] | `Callers::identify`: a key, a certificate or a header becomes a caller |
//! | read | [`replay`], [`openai`] | `Replay::read` keeps the body; `openai::request_peek` parses the fields that pricing needs |
//! | price | [`estimate`] | `Estimator::price`: tokens as the API charges them |
//! | admit | [`admission`] | `admission::machine`: quota, queue, breaker and budget behind one lock |
//! | attempt | [`upstream`] | `Upstream::connection`, then `Ready::send` |
//! | classify | [`classify`] | `ErrorClass`, a closed list; `classify::response` |
//! | retry or stop | [`retry`] | `retry::decide`: a table, a backoff and a deadline |
//! | respond | [`response`], [`stream`] | Weir's own responses; the relay of the upstream's |
//! | account | [`account`], [`metrics`] | `Record`: reported once, however the request ends |
//! | turns | [`websocket`] | `websocket::Reader`; a turn of a WebSocket session takes the same steps as a request |
//!
//! [`layers`] offers admission and retries as tower layers to Rust services that call the API
//! directly.
//!
//! # Words
//!
//! | word | meaning |
//! |---|---|
//! | caller, client | an internal service that uses Weir; its end of one connection |
//! | upstream | one API endpoint behind Weir: a URL, a way to authenticate, its own limits |
//! | pool, member | upstreams that can serve the same requests, with priorities; one of them |
//! | response, answer | an HTTP response; names in the code also say `answer` |
//! | credential | what an upstream request authenticates with: key, organization, project, or an exchanged token |
//! | scope | all requests that share one set of upstream limits |
//! | limit | one rate limit of a scope: requests or tokens in a window, or requests in flight |
//! | part | the fraction of the limits that a replica may use |
//! | estimate, charge | the tokens that a request is expected to cost; the tokens that the upstream charged |
//! | permit | the right to make one attempt; settled or returned exactly once |
//! | turn | a request's admission; in a WebSocket session, one `response.create` with its response |
//! | attempt, outcome | one request sent upstream; how it ended |
//! | error class | one of a closed list, with a metric, a page and a runbook entry for each |
//! | retry budget | limits the number of retries of a scope |
//! | circuit breaker, billing block | stops attempts while a scope fails; while its money is spent |
//! | probe | one attempt that tests whether a stopped scope works again |
//! | record | the data about one request, reported when it ends |
//! | lane | `interactive` or `background` |
//!
//! # The other modules
//!
//! [`config`] reads the configuration into typed values, [`app`] connects all modules, [`admin`]
//! serves the status page and the metrics, [`replicas`] shares the scopes' limits between several
//! processes, and [`catalog`] explains the error classes. [`simulate`] is a simulator of the API,
//! [`whatif`] replays an access log, [`demo`] compares Weir with direct calls, and [`cli`] is the
//! command line. [`gather`] combines small writes, [`http_client`] makes single requests, and
//! [`chart`] draws the results of `demo` and `what-if`.
//!
//! # Threads
//!
//! Each worker is a thread with a current-thread runtime and its own upstream connections, so that
//! a request and its connections stay on one core. The first worker accepts connections and sends
//! each to the worker with the fewest. Scopes, metrics and callers are shared: locks are short, and
//! wakers are called after they are released. The admin address has its own thread, so that a
//! scrape never waits for traffic.
//!
//! # Invariants
//!
//! - A module imports only modules declared below it here: the list is the dependency graph, and
//!   `tests/tidy.rs` enforces it.
//! - Decisions are pure functions of values; only [`proxy`], [`server`], [`upstream`], [`replay`],
//!   [`stream`] and the front of [`admission`] await. Time and randomness are parameters; [`clock`]
//!   is the only source of both clocks.
//! - A permit is settled or returned exactly once, however the attempt ends; a request is accounted
//!   for exactly once, however it ends. Both are guards, so that dropping them counts as an end.
//! - Only [`response`] turns an error into bytes. Only [`proxy`] knows the order of the steps.
//! - Every queue, buffer, map and label set is bounded, and a counter shows when the bound is
//!   reached.
//! - [`simulate`] shares wire types with the proxy but no arithmetic, so that a bug can't cancel
//!   itself out.
//!
//! # Cancel safety
//!
//! hyper drops a request's future when its caller leaves. That removes it from the queue, ends the
//! attempt upstream, returns the permit and accounts for the request: every future here may be
//! dropped at any await.

#![allow(rustdoc::private_intra_doc_links, reason = "the documentation includes private items")]
#![allow(
    unreachable_pub,
    unnameable_types,
    reason = "modules are private except in `internals`; dead code is found anyway"
)]
#![cfg_attr(
    not(all(feature = "otlp", feature = "replicas", feature = "simulate")),
    allow(dead_code, reason = "code that only a feature uses; with all features, dead code is found")
)]
#![cfg_attr(not(feature = "internals"), allow(unused_imports, reason = "imports that only `internals` uses"))]

mod cli;
#[cfg(feature = "simulate")]
mod demo;
mod app;
#[cfg(feature = "simulate")]
mod whatif;
#[cfg(feature = "simulate")]
mod simulate;
mod config;
mod server;
mod admin;
pub mod layers;
mod proxy;
mod response;
mod stream;
mod replicas;
mod admission;
mod upstream;
mod websocket;
mod replay;
mod account;
mod spending;
mod metrics;
mod telemetry;
mod estimate;
mod retry;
mod catalog;
mod classify;
mod rights;
mod openai;
mod pool;
mod caller;
mod http_client;
mod gather;
mod pattern;
mod pem;
mod der;
#[cfg(feature = "simulate")]
mod chart;
mod label;
mod wrap;
mod clock;

#[doc(hidden)]
pub use cli::{main, terminal::Terminal};

/// The modules that the project's own tests and benches use; not a public API.
///
/// Without this feature only [`layers`] is public, so that the compiler finds dead code.
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals {
    pub mod account {
        pub use crate::account::*;
    }
    pub mod admission {
        pub use crate::admission::*;
    }
    pub mod caller {
        pub use crate::caller::*;
    }
    pub mod classify {
        pub use crate::classify::*;
    }
    pub mod cli {
        pub use crate::cli::*;
    }
    pub mod clock {
        pub use crate::clock::*;
    }
    pub mod config {
        pub use crate::config::*;
    }
    #[cfg(feature = "simulate")]
    pub mod demo {
        pub use crate::demo::*;
    }
    pub mod estimate {
        pub use crate::estimate::*;
    }
    pub mod metrics {
        pub use crate::metrics::*;
    }
    pub mod openai {
        pub use crate::openai::*;
    }
    pub mod pool {
        pub use crate::pool::*;
    }
    pub mod proxy {
        pub use crate::proxy::*;
    }
    pub mod replay {
        pub use crate::replay::*;
    }
    pub mod retry {
        pub use crate::retry::*;
    }
    pub mod server {
        pub use crate::server::*;
    }
    #[cfg(feature = "simulate")]
    pub mod simulate {
        pub use crate::simulate::*;
    }
    pub mod stream {
        pub use crate::stream::*;
    }
    pub mod upstream {
        pub use crate::upstream::*;
    }
    pub mod websocket {
        pub use crate::websocket::*;
    }
    #[cfg(feature = "simulate")]
    pub mod whatif {
        pub use crate::whatif::*;
    }
}
