//! Tests of the real binary over real sockets.
//!
//! One file per topic.

#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected fails")]
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "real sockets and processes keep real time"
)]

/// Prints a figure, visible with `--nocapture`.
macro_rules! say {
    ($($text:tt)+) => { std::io::Write::write_all(&mut std::io::stderr(), format!("{}\n", format_args!($($text)+)).as_bytes()).unwrap() };
}

mod frames;
mod process;
mod wire;

mod allowances;
mod build;
mod callers;
mod drain;
mod egress;
mod exchanges;
mod fidelity;
mod http2;
mod http2_attacks;
mod issued;
mod limits;
mod listener_tls;
mod pools;
mod reload;
mod rights;
mod rotation;
mod secrets;
mod session_bounds;
mod smuggling;
mod tokens;
mod turn_ends;
mod turns;
mod uploads;
mod upstream_http2;
mod upstream_tls;
mod websocket;
