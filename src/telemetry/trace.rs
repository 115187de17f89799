//! W3C trace context: parsed from a request, propagated, or created.
//!
//! Without span export Weir forwards `traceparent` and `tracestate` unchanged, because an unknown
//! parent would break the trace. With export each attempt is a span and the upstream's parent.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};

/// A trace's id, never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId(u128);

/// A span's id, never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanId(u64);

/// A parsed `traceparent` header. <https://www.w3.org/TR/trace-context/>, section 3.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace that the request belongs to.
    pub trace: TraceId,
    /// The sender's span.
    pub parent: SpanId,
    /// Whether the sender records the trace.
    pub sampled: bool,
}

/// A request's place in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestTrace {
    /// Its trace.
    pub trace: TraceId,
    /// The caller's span; `None` if the trace begins here.
    pub parent: Option<SpanId>,
    /// Weir's span; `None` if the request is not sampled, and headers are forwarded unchanged.
    pub span: Option<SpanId>,
}

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

impl RequestTrace {
    /// A request that Weir does not sample.
    pub fn passing(context: TraceContext) -> Self {
        Self { trace: context.trace, parent: Some(context.parent), span: None }
    }

    /// The span of the attempt with this number, starting at 1.
    pub fn attempt(&self, number: u32) -> Option<SpanId> {
        // Unique without another random number: a request's span is drawn from 64 bits, and it has
        // few attempts.
        self.span.map(|SpanId(own)| SpanId(own.wrapping_add(u64::from(number)).max(1)))
    }

    /// Sets the attempt with this number as the parent in `headers`. If the request is not sampled,
    /// they do not change.
    pub fn write(&self, number: u32, headers: &mut HeaderMap) {
        let Some(span) = self.attempt(number) else { return };
        let context = TraceContext { trace: self.trace, parent: span, sampled: true };
        if let Ok(value) = HeaderValue::try_from(context.to_string()) {
            headers.insert(TRACEPARENT, value);
        }
        if self.parent.is_none() {
            // Without a valid trace, `tracestate` is meaningless.
            headers.remove(TRACESTATE);
        }
    }
}

/// Length of a `traceparent` of version 00.
const LENGTH: usize = 55;

impl TraceContext {
    /// The trace context of a request; `None` if `traceparent` is absent, repeated or invalid.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut lines = headers.get_all(TRACEPARENT).iter();
        let line = lines.next().filter(|_| lines.next().is_none())?;
        Self::parse(line.as_bytes())
    }

    /// Parses a `traceparent` value; `None` if it is invalid, in which case the specification
    /// requires a new trace.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let version = hex(value.get(..2)?)?;
        let whole = match version {
            0 => value.len() == LENGTH,
            0xff => false,
            // Later versions may append fields.
            _ => value.len() == LENGTH || value.get(LENGTH) == Some(&b'-'),
        };
        let dashes = [2, 35, 52].iter().all(|at| value.get(*at) == Some(&b'-'));
        if !whole || !dashes {
            return None;
        }
        let trace = hex(value.get(3..35)?)?;
        let parent = u64::try_from(hex(value.get(36..52)?)?).ok()?;
        let flags = hex(value.get(53..55)?)?;
        if trace == 0 || parent == 0 {
            return None;
        }
        Some(Self { trace: TraceId(trace), parent: SpanId(parent), sampled: flags & 1 == 1 })
    }

    /// Creates a new trace.
    pub fn begin(rng: &mut fastrand::Rng, sampled: bool) -> Self {
        Self { trace: TraceId(rng.u128(1..)), parent: SpanId::new(rng), sampled }
    }
}

/// The value of a `traceparent` header.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace, self.parent, u8::from(self.sampled))
    }
}

impl TraceId {
    pub(super) fn number(self) -> u128 {
        self.0
    }
}

impl SpanId {
    pub(super) fn number(self) -> u64 {
        self.0
    }

    /// A new span's id.
    pub fn new(rng: &mut fastrand::Rng) -> Self {
        Self(rng.u64(1..))
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Parses lower-case hex digits, as the specification requires; at most 32.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |value, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u128::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn reads_and_writes_the_same() {
        let context = TraceContext::parse(GOOD.as_bytes()).unwrap();
        assert!(context.sampled);
        assert_eq!(context.to_string(), GOOD);
        let begun = TraceContext::begin(&mut fastrand::Rng::with_seed(2), false);
        assert_eq!(TraceContext::parse(begun.to_string().as_bytes()), Some(begun));
    }

    #[test]
    fn the_upstream_sees_the_attempt_as_its_parent() {
        let from = TraceContext::parse(GOOD.as_bytes()).unwrap();
        let told = |trace: RequestTrace, number| {
            let mut headers = HeaderMap::new();
            headers.insert(TRACEPARENT, HeaderValue::from_static(GOOD));
            headers.insert(TRACESTATE, HeaderValue::from_static("a=b"));
            trace.write(number, &mut headers);
            (headers[TRACEPARENT].to_str().unwrap().to_owned(), headers.contains_key(TRACESTATE))
        };
        assert_eq!(told(RequestTrace::passing(from), 1), (GOOD.to_owned(), true));
        let recorded = RequestTrace { span: Some(SpanId(0xff)), ..RequestTrace::passing(from) };
        let expected = "00-0af7651916cd43dd8448eb211c80319c-0000000000000101-01";
        assert_eq!(told(recorded, 2), (expected.to_owned(), true));
        let begun = RequestTrace { parent: None, ..recorded };
        assert_eq!(told(begun, 2), (expected.to_owned(), false));
    }

    #[test]
    fn refuses_what_the_specification_refuses() {
        for bad in [
            "",
            "00",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-extra",
            "00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01extra",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0",
        ] {
            assert_eq!(TraceContext::parse(bad.as_bytes()), None, "{bad}");
        }
        let later = "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-extra";
        assert!(TraceContext::parse(later.as_bytes()).is_some());
    }
}
