//! Relays response bodies to callers.
//!
//! The caller gets the upstream's bytes as they arrive. A bounded, decoded copy is inspected for
//! usage, for errors in a 200 response, and for whether a stream is complete.

pub(crate) mod decode;
mod reader;
mod relay;

pub use decode::copy;
pub use reader::{Findings, Reader, Tap};
pub use relay::{Aborted, End, Ledger, Relay, Settings};
