//! Behavior of real upstreams and clients, from public reports about gateways, SDKs and model
//! servers, tested with the real binary over real sockets. A test is named by its report (`r03_…`).
//!
//! Reports that need a paused clock, a second protocol or the SDK are tested elsewhere: R05
//! `admission/outage.rs`, R10's long form `flow/patience.rs`, R12 and R27 `edge/egress.rs`, R15
//! `edge/rotation.rs`, R28 `flow/sessions.rs`, R30 `edge/upstream_http2.rs`, P01
//! `admission/fairness.rs`, P02 `admission/tokens.rs`, P03 `docs.rs`, P04 `classify/tests.rs`, P05
//! `edge/turns.rs`, X02 `openai/request_peek/tests.rs`, X04 `edge/exchanges.rs`, X06
//! `edge/fidelity.rs`.

#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected fails")]
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "real sockets and processes keep real time"
)]

#[path = "../edge/process.rs"]
#[expect(dead_code, reason = "it serves another suite too")]
mod process;
#[path = "../edge/wire.rs"]
#[expect(dead_code, reason = "it serves another suite too")]
mod wire;

mod scripted;

mod answers;
mod bodies;
mod clients;
mod hostile;
mod connections;
mod refusals;
mod requests;
mod streams;
mod windows;
