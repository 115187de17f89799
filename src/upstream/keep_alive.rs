//! A server's announced idle timeout (`Keep-Alive`, RFC 2068, section 19.7.1.1).

use std::time::Duration;

use http::{HeaderMap, HeaderName};

/// Safety margin below the server's idle timeout, for a close that crosses a request.
const MARGIN: Duration = Duration::from_secs(1);

static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// A response's `Keep-Alive` field; the default is an absent one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct KeepAlive {
    /// The connection's idle timeout.
    pub(super) idle: Option<Duration>,
    /// Requests that the server will still accept.
    pub(super) left: Option<u32>,
}

impl KeepAlive {
    /// Parses a response's `Keep-Alive`. Invalid parameters are ignored.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut told = Self::default();
        let Some(value) = headers.get(&KEEP_ALIVE) else { return told };
        for parameter in value.to_str().unwrap_or_default().split(',') {
            let Some((name, number)) = parameter.split_once('=') else { continue };
            let Ok(number) = number.trim().trim_matches('"').parse::<u32>() else { continue };
            match name.trim() {
                name if name.eq_ignore_ascii_case("timeout") => {
                    told.idle = Some(Duration::from_secs(number.into()).saturating_sub(MARGIN));
                }
                name if name.eq_ignore_ascii_case("max") => told.left = Some(number),
                _ => {}
            }
        }
        told
    }

    /// Whether the connection must not be used again.
    pub(super) fn is_over(self) -> bool {
        self.left == Some(0) || self.idle == Some(Duration::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_hint_is_read_less_a_second() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        for (text, idle, left) in [
            ("timeout=5, max=100", seconds(4), Some(100)),
            ("Timeout = \"65\"", seconds(64), None),
            ("timeout=1", seconds(0), None),
            ("timeout=0", seconds(0), None),
            ("max=0", None, Some(0)),
            ("timeout=-1, max=x, 3, =4", None, None),
            ("", None, None),
        ] {
            let headers = HeaderMap::from_iter([(
                HeaderName::from_static("keep-alive"),
                HeaderValue::from_static(text),
            )]);
            assert_eq!(KeepAlive::of(&headers), KeepAlive { idle, left }, "{text}");
        }
    }
}
