//! Spans as plain values, created when a request has ended and exported by [`super::otlp`].

use std::borrow::Cow;
use std::time::SystemTime;

use super::trace::{SpanId, TraceId};

/// One operation within a trace.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// The trace.
    pub trace: TraceId,
    /// Its own id.
    pub id: SpanId,
    /// The parent span.
    pub parent: Option<SpanId>,
    /// The side of the connection.
    pub side: Side,
    /// A name of low cardinality, by the conventions.
    pub name: Cow<'static, str>,
    /// The start time.
    pub start: SystemTime,
    /// The end time.
    pub end: SystemTime,
    /// The attributes.
    pub attributes: Vec<(&'static str, Value)>,
    /// Whether it failed.
    pub failed: bool,
}

/// The side of the connection that a span describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// A request that Weir answered. Its parent is the caller's span.
    Server,
    /// An attempt that Weir made.
    Client,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A string.
    Text(Cow<'static, str>),
    /// A list of strings, such as a header's values.
    Texts(Vec<String>),
    /// A count.
    Count(i64),
    /// Seconds.
    Seconds(f64),
    /// A boolean.
    Flag(bool),
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl From<u64> for Value {
    fn from(count: u64) -> Self {
        Self::Count(i64::try_from(count).unwrap_or(i64::MAX))
    }
}

impl From<u32> for Value {
    fn from(count: u32) -> Self {
        Self::Count(i64::from(count))
    }
}

impl From<u16> for Value {
    fn from(count: u16) -> Self {
        Self::Count(i64::from(count))
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}
