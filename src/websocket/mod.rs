//! WebSocket frames (RFC 6455): read as they pass from one connection to another, never rewritten.
//!
//! # Why no codec
//!
//! The codecs (tungstenite, fastwebsockets and what is built on them) own the stream that they
//! read: they join fragments, answer pings, echo closes, and write frames of their own with new
//! masks and new boundaries. A proxy whose bytes that arrive are the bytes that leave needs the
//! opposite: to know where a frame ends and what it says while somebody else's bytes pass. What
//! remains of a codec for that is section 5.2, 60 lines in [`frame`]; the order of frames of
//! section 5.4, in `reader`. Both are strict: where a frame could be read in two ways, the
//! connection ends, so that the upstream never sees a message that Weir did not. Property tests and
//! a fuzz target compare them with tungstenite, which `weir simulate` speaks.
//!
//! Extensions are never negotiated upstream, so that there are no reserved bits and no compressed
//! payloads.

mod close;
pub mod frame;
mod link;
mod reader;

pub use close::CloseCode;
pub use frame::{Header, Kind, Sender, Violation, unmask, write};
pub use link::Link;
pub use reader::{Data, Part, Reader};
