//! Weir: a reverse proxy that paces, retries and counts a company's calls to the OpenAI API.
//!
//! # The tour, in five minutes
//!
//! One request, one sentence: accept → identify the caller → read and price the request → admit (wait for its turn)
//! → attempt → classify → retry or stop → respond → account. [`proxy`] says it, top to bottom, as one plain async function;
//! each word of it is a room of its own. Tower stands at the edges only: the outer layers of [`server`], the connector of
//! [`upstream`]. A layer never knows what a caller is; whatever does is a step of the sentence.
//!
//! | word | room | what to read first |
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
//! [`layers`] offers admission and retries as tower layers to Rust services that call the API without a proxy between.
//!
//! Around the sentence: [`config`] becomes typed values, [`app`] wires every room once, [`admin`] shows what happens,
//! [`replicas`] shares the scopes' limits between several processes, [`catalog`] has the words for it, [`simulate`] is a stand-in for the API, [`whatif`] replays an access log, [`demo`] compares, [`cli`] is what a person types.
//! Beneath both ends, [`gather`] writes small parts as one; [`chart`] draws what `demo` and `what-if` found.
//!
//! # Threads
//!
//! Each worker is a thread with a current-thread runtime and an upstream pool of its own, so that a request and its
//! connections stay on one core. The first worker accepts for all and deals connections to the one with the fewest. Scopes,
//! metrics and callers are shared: short locks, wakers called after them. The admin address has its own thread; a scrape
//! never waits for traffic.
//!
//! # Invariants
//!
//! - A room imports only rooms declared below it here: the list is the dependency graph, and `tests/tidy.rs` enforces it.
//! - Decisions are pure functions over values; only [`proxy`], [`server`], [`upstream`], [`replay`], [`stream`] and the front
//!   of [`admission`] await. Time and randomness are passed in; [`clock`] is the only door to both clocks.
//! - A permit is settled or given back exactly once, whatever ends the attempt; a record accounts exactly once, whatever ends
//!   the request. Both are guards: dropping them is an end like any other.
//! - Only [`response`] turns an error into bytes. Only [`proxy`] knows the order of the steps.
//! - Every queue, buffer, map and label set has a bound, and something counts when it is reached.
//! - [`simulate`] shares wire types with the proxy, never its arithmetic: a bug must not cancel itself out.
//!
//! # Cancel safety
//!
//! hyper drops a request's future when its caller leaves. That is how Weir leaves the queue, ends the attempt upstream,
//! gives back the permit and accounts for the request: every future here may be dropped at any await.

pub mod cli;
pub mod demo;
pub mod app;
pub mod whatif;
pub mod simulate;
pub mod config;
pub mod server;
pub mod admin;
pub mod layers;
pub mod proxy;
pub mod response;
pub mod stream;
pub mod replicas;
pub mod admission;
pub mod upstream;
pub mod websocket;
pub mod replay;
pub mod account;
pub mod spending;
pub mod metrics;
pub mod telemetry;
pub mod estimate;
pub mod retry;
pub mod catalog;
pub mod classify;
pub mod rights;
pub mod openai;
pub mod pool;
pub mod caller;
pub mod gather;
pub mod pattern;
pub mod pem;
pub mod chart;
pub mod clock;
