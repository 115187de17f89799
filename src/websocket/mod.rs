//! WebSocket frames (RFC 6455): parsed while they are relayed, never rewritten.
//!
//! # Why no codec
//!
//! Codecs (tungstenite, fastwebsockets and what is built on them) own their stream: they join
//! fragments, answer pings, echo closes, and write frames with new masks and boundaries. A proxy
//! that relays bytes unchanged needs only to know where a frame ends and what it contains. That is
//! section 5.2, 60 lines in [`frame`], and the order of frames of section 5.4, in `reader`. Both
//! are strict: if a frame is ambiguous, the connection ends, so that the upstream never sees a
//! message that Weir did not. Property tests and a fuzz target compare them with tungstenite, which
//! `weir simulate` uses.
//!
//! Extensions are never negotiated upstream, so there are no reserved bits and no compressed
//! payloads.

mod close;
pub mod frame;
mod link;
mod reader;

pub use close::CloseCode;
pub use frame::{Header, Kind, Sender, Violation, unmask, write};
pub use link::Link;
pub use reader::{Data, Part, Reader};
