//! Weir: a reverse proxy that paces, retries and counts a company's calls to the OpenAI API.
//!
//! # The tour, in five minutes
//!
//! One request, one sentence: accept → identify the caller → read and price the request → admit
//! (wait for its turn) → attempt → classify → retry or stop → respond → account. [`proxy`] says it,
//! top to bottom, as one plain async function; each word of it is a module of its own. Tower stands
//! at the edges only: the outer layers of [`server`], the connector of [`upstream`]. A layer never
//! knows what a caller is; whatever does is a step of the sentence.
//!
//! | word | module | what to read first |
//! |---|---|---|
//! | accept | [`server`] | `Front::serve`: TLS, HTTP/1.1 or 2, clocks and limits, hygiene |
//! | identify | [`caller`] | `Callers::identify`: a key, a certificate or a header becomes a caller |
//! | read | [`replay`], [`openai`] | `Replay::read` keeps the body; `openai::request_peek` reads what pricing needs |
//! | price | [`estimate`] | `Estimator::price`: tokens as the API charges them |
//! | admit | [`admission`] | `admission::machine`: quota, queue, breaker and budget behind one lock |
//! | attempt | [`upstream`] | `Upstream::connection`, then `Ready::send` |
//! | classify | [`classify`] | `ErrorClass`, the closed list; `classify::response` |
//! | retry or stop | [`retry`] | `retry::decide`: a table, a backoff, a deadline |
//! | respond | [`response`], [`stream`] | Weir's own answers; the upstream's on their way |
//! | account | [`account`], [`metrics`] | `Record`: told once, when whatever ends the request ends it |
//! | turns | [`websocket`] | `websocket::Reader`; a turn of a WebSocket session goes the same way as a request |
//!
//! [`layers`] offers admission and retries as tower layers to Rust services that call the API
//! without a proxy between.
//!
//! # Words
//!
//! | word | meaning |
//! |---|---|
//! | caller | an internal service that uses Weir |
//! | upstream | one API endpoint behind Weir: a URL, a way to authenticate, its own limits |
//! | pool, member | upstreams that can serve the same requests, with priorities; one of them |
//! | credential | what a request bears upstream: key, organization, project, or an exchanged token |
//! | scope | everything that shares one set of upstream limits |
//! | limit | one rate limit of a scope: requests or tokens in a window, or requests in flight |
//! | part | the share of the limits that a replica may use |
//! | estimate, charge | the tokens that a request is expected to cost, and what the upstream charged |
//! | permit | the right to make one attempt; settled or given back exactly once |
//! | turn | the moment when a waiting request gets its permit; on a WebSocket, one `response.create` |
//! | attempt, outcome | one request sent upstream, and how it ended |
//! | error class | one of a closed list, with a metric, a page and a runbook entry for each |
//! | retry budget, circuit breaker, billing block | what bounds retries, what stops attempts while a scope fails, and what stops them while money is spent |
//! | probe | one attempt that finds out whether a stopped scope serves again |
//! | lane | `interactive` or `background` |
//!
//! # Around the sentence
//!
//! [`config`] becomes typed values, [`app`] wires every module once, [`admin`]
//! shows what happens, [`replicas`] shares the scopes' limits between several processes,
//! [`catalog`] has the words for it, [`simulate`] is a stand-in for the API, [`whatif`] replays an
//! access log, [`demo`] compares, [`cli`] is what a person types. Beneath both ends, [`gather`]
//! writes small parts as one; [`http_client`] asks once, on a connection of its own; [`chart`]
//! draws what `demo` and `what-if` found.
//!
//! # Threads
//!
//! Each worker is a thread with a current-thread runtime and an upstream pool of its own, so that a
//! request and its connections stay on one core. The first worker accepts for all and deals
//! connections to the one with the fewest. Scopes, metrics and callers are shared: short locks,
//! wakers called after them. The admin address has its own thread; a scrape never waits for
//! traffic.
//!
//! # Invariants
//!
//! - A module imports only modules declared below it here: the list is the dependency graph, and
//!   `tests/tidy.rs` enforces it.
//! - Decisions are pure functions over values; only [`proxy`], [`server`], [`upstream`],
//!   [`replay`], [`stream`] and the front of [`admission`] await. Time and randomness are passed
//!   in; [`clock`] is the only door to both clocks.
//! - A permit is settled or given back exactly once, whatever ends the attempt; a record accounts
//!   exactly once, whatever ends the request. Both are guards: dropping them is an end like any
//!   other.
//! - Only [`response`] turns an error into bytes. Only [`proxy`] knows the order of the steps.
//! - Every queue, buffer, map and label set has a bound, and something counts when it is reached.
//! - [`simulate`] shares wire types with the proxy, never its arithmetic: a bug must not cancel
//!   itself out.
//!
//! # Cancel safety
//!
//! hyper drops a request's future when its caller leaves. That is how Weir leaves the queue, ends
//! the attempt upstream, gives back the permit and accounts for the request: every future here may
//! be dropped at any await.

#![allow(rustdoc::private_intra_doc_links, reason = "the documentation is built with what is private")]
#![allow(
    unreachable_pub,
    unnameable_types,
    reason = "modules are private but for `internals`; dead code is found all the same"
)]
#![cfg_attr(
    not(all(feature = "otlp", feature = "replicas", feature = "simulate")),
    allow(dead_code, reason = "what only a feature uses; dead code is found with all of them")
)]
#![cfg_attr(not(feature = "internals"), allow(unused_imports, reason = "what only `internals` uses"))]

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

/// The modules that the project's own tests and benches use: not an interface.
///
/// Without this feature all but [`layers`] is private, so that the compiler finds dead code.
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
