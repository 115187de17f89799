//! The answer's body on its way to the caller.
//!
//! The caller gets the upstream's bytes as they come; a bounded, decoded copy is read for usage,
//! for errors hidden in a 200, and for whether a stream is whole.

pub(crate) mod decode;
mod reader;
mod relay;

pub use decode::copy;
pub use reader::{Findings, Reader, Tap};
pub use relay::{Aborted, End, Ledger, Relay, Settings};
