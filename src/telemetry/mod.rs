//! What leaves the process for people and collectors to read: log lines, trace context, and what must never be in them.

mod redact;
mod trace;

pub use redact::{MAX_MESSAGE, masked};
pub use trace::{SpanId, TraceContext, TraceId};
