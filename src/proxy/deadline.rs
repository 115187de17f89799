//! Until when a request may wait, and until when its answer must begin.

use std::time::Duration;

use http::{HeaderMap, HeaderName};

use crate::clock::Instant;

/// A caller's own statement of how long it will wait for the answer's head: seconds, or a number with `ms` or `s`.
const DEADLINE: HeaderName = HeaderName::from_static("x-weir-deadline");

/// What is kept back from the caller's timeout, so that Weir's answer arrives before the caller gives up.
const LEAST_MARGIN: Duration = Duration::from_secs(1);
const MARGIN_SHARE: f64 = 0.05;
/// Timeouts beyond this are as good as none, and keep the arithmetic far from its ends.
const LONGEST: Duration = Duration::from_hours(24);

/// A request's two limits in time. Both end with the response head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Deadline {
    /// The latest moment at which a turn is still of use.
    pub(super) turn: Instant,
    /// The latest moment for the response head; none where the caller said nothing.
    pub(super) head: Option<Instant>,
}

impl Deadline {
    /// The deadline of a request that arrived at `now`: the caller's own timeout less a margin, or `max_wait` for its
    /// turn where it names none. Its [`DEADLINE`] is taken out of its headers; `sdk_timeout` is what the SDK's say.
    pub(super) fn take(
        headers: &mut HeaderMap,
        sdk_timeout: Option<Duration>,
        now: Instant,
        max_wait: Duration,
    ) -> Self {
        let stated = headers.remove(DEADLINE);
        let stated = stated.as_ref().and_then(|value| value.to_str().ok()).and_then(parse);
        let timeout = match (stated, sdk_timeout) {
            (Some(stated), Some(sdk)) => Some(stated.min(sdk)),
            (stated, sdk) => stated.or(sdk),
        };
        match timeout {
            Some(timeout) => {
                let head = now + less_margin(timeout.min(LONGEST));
                Self { turn: head, head: Some(head) }
            }
            None => Self { turn: now + max_wait.min(LONGEST), head: None },
        }
    }

    /// The same, but not later than `longest` from `now`.
    #[must_use]
    pub(super) fn at_most(self, now: Instant, longest: Duration) -> Self {
        let latest = now + longest.min(LONGEST);
        Self { turn: self.turn.min(latest), head: self.head.map(|head| head.min(latest)) }
    }
}

/// The timeout less max(1 s, 5 %), but never less than half of it: a caller in a hurry still gets a chance.
fn less_margin(timeout: Duration) -> Duration {
    let margin = timeout.mul_f64(MARGIN_SHARE).max(LEAST_MARGIN).min(timeout / 2);
    timeout.saturating_sub(margin)
}

fn parse(text: &str) -> Option<Duration> {
    let text = text.trim();
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 1e-3),
        None => (text.strip_suffix('s').unwrap_or(text), 1.0),
    };
    let seconds = number.trim_end().parse::<f64>().ok()? * unit;
    (seconds.is_finite() && seconds > 0.0)
        .then(|| Duration::from_secs_f64(seconds.min(LONGEST.as_secs_f64())))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn deadline(stated: Option<&'static str>, sdk: Option<u64>) -> (Duration, Option<Duration>) {
        let now = crate::clock::now();
        let mut headers = HeaderMap::new();
        if let Some(stated) = stated {
            headers.insert(DEADLINE, HeaderValue::from_static(stated));
        }
        let deadline =
            Deadline::take(&mut headers, sdk.map(Duration::from_secs), now, Duration::from_mins(1));
        assert!(headers.is_empty(), "it is Weir's own");
        (deadline.turn - now, deadline.head.map(|head| head - now))
    }

    #[test]
    fn the_callers_timeout_less_its_margin_or_the_longest_wait() {
        let seconds = Duration::from_secs;
        assert_eq!(deadline(None, None), (seconds(60), None));
        assert_eq!(deadline(None, Some(600)), (seconds(570), Some(seconds(570))));
        assert_eq!(deadline(None, Some(10)), (seconds(9), Some(seconds(9))));
        assert_eq!(deadline(Some("30"), Some(600)).0, Duration::from_millis(28_500));
        assert_eq!(deadline(Some("1500ms"), None).0, Duration::from_millis(750));
        assert_eq!(deadline(Some("100 s"), None).0, seconds(95));
    }

    #[test]
    fn nonsense_is_no_deadline() {
        for text in ["", "soon", "-5", "0", "NaN", "inf", "1e400", "ms"] {
            assert_eq!(deadline(Some(text), None), (Duration::from_mins(1), None), "{text}");
        }
        assert!(deadline(Some("1e300"), None).0 < LONGEST);
    }
}
