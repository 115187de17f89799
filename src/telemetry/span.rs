//! Spans as Weir tells them: plain values, made when a request has ended. How they travel is
//! [`super::otlp`]'s business.

use std::borrow::Cow;
use std::time::SystemTime;

use super::trace::{SpanId, TraceId};

/// One stretch of work within a trace.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// The trace.
    pub trace: TraceId,
    /// Its own id.
    pub id: SpanId,
    /// The span that it is part of.
    pub parent: Option<SpanId>,
    /// Which side of a connection it is about.
    pub side: Side,
    /// A name of low cardinality, by the conventions.
    pub name: Cow<'static, str>,
    /// Its begin.
    pub start: SystemTime,
    /// Its end.
    pub end: SystemTime,
    /// What is known of it.
    pub attributes: Vec<(&'static str, Value)>,
    /// Whether it counts as failed.
    pub failed: bool,
}

/// Which side of a connection a span is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// A request that Weir answered. Its parent is the caller's.
    Server,
    /// An attempt that Weir made.
    Client,
}

/// What an attribute holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A word, or more.
    Text(Cow<'static, str>),
    /// Several: what a header's lines hold.
    Texts(Vec<String>),
    /// A count.
    Count(i64),
    /// Seconds.
    Seconds(f64),
    /// Yes or no.
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
