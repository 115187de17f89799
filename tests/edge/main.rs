//! The real binary between real sockets: what a company's network meets.
//!
//! One file for each promise of "A correct and safe HTTP proxy".

#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected fails")]

mod process;
mod wire;

mod egress;
mod exchanges;
mod fidelity;
mod http2;
mod limits;
mod listener_tls;
mod secrets;
mod smuggling;
mod websocket;
