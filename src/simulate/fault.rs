//! The simulated faults, and the `x-simulate` header that requests them.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};

use super::errors::ApiError;
use super::notation::{Problem, duration, fraction};

/// A simulated fault of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An error response.
    Error(&'static ApiError),
    /// The connection is reset before the response head.
    ResetBeforeHead,
    /// The connection is reset halfway through the body.
    ResetMidBody,
    /// The head is never sent.
    StallHead,
    /// The body stops halfway with the connection open.
    StallBody,
    /// The body ends cleanly halfway.
    Truncate,
    /// Bytes that are not HTTP, then the end of the connection.
    Garbage,
    /// The body is sent in small pieces with pauses.
    SlowBody,
    /// A stream with status 200 that contains an error. Without a stream, an error response.
    HiddenErrorStream(&'static ApiError),
    /// A stream that ends cleanly without its last event.
    CloseWithoutDone,
    /// A `content-length` larger than the body, then the end of the connection.
    LieContentLength,
}

impl Fault {
    /// The faults that are not error responses, with their names.
    const PLAIN: [(&'static str, Self); 9] = [
        ("reset-before-head", Self::ResetBeforeHead),
        ("reset-mid-body", Self::ResetMidBody),
        ("stall-head", Self::StallHead),
        ("stall-body", Self::StallBody),
        ("truncate", Self::Truncate),
        ("garbage", Self::Garbage),
        ("slow-body", Self::SlowBody),
        ("close-without-done", Self::CloseWithoutDone),
        ("lie-content-length", Self::LieContentLength),
    ];
    const HIDDEN: &'static str = "hidden-error-stream";

    /// The names of the faults that are not error responses.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Self::PLAIN.into_iter().map(|(name, _)| name).chain([Self::HIDDEN])
    }

    /// Parses a fault's name, an error's name, or a status.
    ///
    /// `reset` and `stall` are the faults before the head. `hidden:NAME` sends the error NAME in a
    /// stream.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let text = match text {
            "reset" => "reset-before-head",
            "stall" => "stall-head",
            Self::HIDDEN => "hidden:503",
            other => other,
        };
        if let Some((_, fault)) = Self::PLAIN.into_iter().find(|(name, _)| *name == text) {
            return Ok(fault);
        }
        match text.strip_prefix("hidden:") {
            Some(name) => error(name).map(Self::HiddenErrorStream),
            None => error(text).map(Self::Error),
        }
    }

    /// Whether the response head is regular and the fault is in the body.
    pub(super) const fn is_body_fault(self) -> bool {
        matches!(
            self,
            Self::ResetMidBody
                | Self::StallBody
                | Self::Truncate
                | Self::SlowBody
                | Self::CloseWithoutDone
                | Self::LieContentLength
        )
    }

    /// The name in the counters.
    pub fn as_str(self) -> &'static str {
        if let Self::Error(error) = self {
            return &error.name;
        }
        Self::PLAIN.into_iter().find(|(_, known)| *known == self).map_or(Self::HIDDEN, |(name, _)| name)
    }
}

fn error(text: &str) -> Result<&'static ApiError, Problem> {
    let found = match text.parse::<u16>() {
        Ok(status) => ApiError::with_status(status),
        Err(_) => ApiError::named(text),
    };
    found.ok_or_else(|| {
        Problem::new(format!(
            "`{text}` is no fault: write a status such as 503, an error such as insufficient_quota, or one of {}",
            Fault::names().collect::<Vec<_>>().join(", ")
        ))
    })
}

/// The content of a request's `x-simulate` header.
///
/// Items are `name=value`, separated by `;`, `,` or blanks: `status=503; times=2; retry-after=1`.
#[derive(Clone, Debug, Default)]
pub struct Directive {
    /// `error=NAME`, `status=NUMBER` or `fault=NAME`.
    pub fault: Option<Fault>,
    /// Whether the request is not charged. Set for a session's warm-up, not by the header.
    pub free: bool,
    /// `times=N`: only the first N attempts of the job (see [`JOB_HEADER`]) have the fault.
    pub times: Option<u32>,
    /// `rate=0..1`: the probability of the fault.
    pub rate: Option<f64>,
    /// `before=TIME`: latency before admission, instead of the configured one.
    pub before: Option<Duration>,
    /// `after=TIME`: latency between admission and head, instead of the configured one.
    pub after: Option<Duration>,
    /// `chunks=N`: words in the response, each a chunk of a stream.
    pub chunks: Option<u32>,
    /// `chunk-delay=TIME`: delay between the chunks of a stream or the pieces of a `slow-body`.
    pub chunk_delay: Option<Duration>,
    /// `encoding=gzip|deflate|identity`: the content encoding, regardless of `accept-encoding`.
    pub encoding: Option<Encoding>,
    /// `retry-after=…`, `retry-after-ms=…`, `should-retry=…`: headers of the response.
    pub answer_headers: Vec<(&'static str, HeaderValue)>,
    /// `headers=none`: no limit headers on the response.
    pub without_limit_headers: bool,
    /// `echo`: respond with the content of the request.
    pub echo: bool,
}

/// The request header with the name of the job that an attempt belongs to.
pub const JOB_HEADER: &str = "x-job-id";

/// A content encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// No encoding.
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 1950.
    Deflate,
}

impl Directive {
    /// Parses the `x-simulate` header. Returns the default without one.
    pub fn parse(headers: &HeaderMap) -> Result<Self, Problem> {
        let mut directive = Self::default();
        let Some(value) = headers.get("x-simulate") else { return Ok(directive) };
        let text = value.to_str().map_err(|_| Problem::new("x-simulate is not text"))?;
        for item in text.split([';', ',', ' ']).filter(|item| !item.is_empty()) {
            let (name, value) = item.split_once('=').unwrap_or((item, ""));
            directive.read(name, value).map_err(|problem| problem.within("x-simulate"))?;
        }
        Ok(directive)
    }

    fn read(&mut self, name: &str, value: &str) -> Result<(), Problem> {
        match name {
            "error" | "status" | "fault" => self.fault = Some(Fault::parse(value)?),
            "times" => self.times = Some(number(value)?),
            "rate" => self.rate = Some(fraction(value)?),
            "before" => self.before = Some(duration(value)?),
            "after" => self.after = Some(duration(value)?),
            "chunks" => self.chunks = Some(number(value)?),
            "chunk-delay" => self.chunk_delay = Some(duration(value)?),
            "encoding" => {
                self.encoding = Some(match value {
                    "gzip" => Encoding::Gzip,
                    "deflate" => Encoding::Deflate,
                    "identity" => Encoding::Identity,
                    _ => return Err(Problem::new("`encoding` is gzip, deflate or identity")),
                });
            }
            "retry-after" => self.answer("retry-after", value)?,
            "retry-after-ms" => self.answer("retry-after-ms", value)?,
            "should-retry" => self.answer("x-should-retry", value)?,
            "headers" if value == "none" => self.without_limit_headers = true,
            "echo" => self.echo = true,
            _ => return Err(Problem::new(format!("`{name}={value}` means nothing"))),
        }
        Ok(())
    }

    fn answer(&mut self, name: &'static str, value: &str) -> Result<(), Problem> {
        let value = HeaderValue::from_str(value).map_err(|_| Problem::new("not a header value"))?;
        self.answer_headers.push((name, value));
        Ok(())
    }
}

fn number(text: &str) -> Result<u32, Problem> {
    text.parse().map_err(|_| Problem::new(format!("`{text}` is not a whole number")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directive(text: &str) -> Result<Directive, Problem> {
        let mut headers = HeaderMap::new();
        headers.insert("x-simulate", HeaderValue::from_str(text).unwrap());
        Directive::parse(&headers)
    }

    #[test]
    fn every_name_is_read_back() {
        for name in Fault::names() {
            assert_eq!(Fault::parse(name).unwrap().as_str(), name);
        }
        for error in ApiError::all() {
            assert_eq!(Fault::parse(&error.name).unwrap(), Fault::Error(error));
        }
        assert_eq!(Fault::parse("503").unwrap().as_str(), "server_is_overloaded");
    }

    #[test]
    fn a_header_is_read_item_by_item() {
        let read = directive("status=503; times=2, after=1.5s retry-after=7").unwrap();
        assert_eq!(read.fault.unwrap().as_str(), "server_is_overloaded");
        assert_eq!((read.times, read.after), (Some(2), Some(Duration::from_millis(1_500))));
        assert_eq!(read.answer_headers, [("retry-after", HeaderValue::from_static("7"))]);
    }

    #[test]
    fn a_typing_error_is_told() {
        let problem = directive("fault=rest").unwrap_err().to_string();
        assert!(problem.contains("x-simulate") && problem.contains("rest"), "{problem}");
        assert!(directive("nothing").is_err());
        assert!(directive("status=999").is_err());
    }
}
