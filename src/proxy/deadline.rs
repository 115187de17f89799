//! The deadlines of a request: for its admission, and for the response's head.

use std::time::Duration;

use http::{HeaderName, HeaderValue};

use crate::clock::Instant;
use crate::openai::stainless::SdkHeaders;
use crate::upstream::HeadLimit;

/// The header in which a caller states how long it waits for the response's head: seconds, or a
/// number with `ms` or `s`.
pub(super) const DEADLINE: HeaderName = HeaderName::from_static("x-weir-deadline");

/// Shortest margin between the admission deadline and the caller's timeout, so that a refusal
/// arrives in time.
const MIN_MARGIN: Duration = Duration::from_secs(1);
const MARGIN_SHARE: f64 = 0.05;
/// Extra time beyond the timeout in an SDK's headers, which state whole seconds (Node, Go); the
/// SDK's clock may also be slow. The SDK ends the request itself; Weir's limit is for clients that
/// vanished.
const GRACE: Duration = Duration::from_secs(2);
/// Longest timeout. Longer ones have no effect in practice, and could overflow the arithmetic.
const MAX_TIMEOUT: Duration = Duration::from_hours(24);

/// The deadlines of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Deadline {
    /// The latest time at which admission is useful.
    pub(super) turn: Instant,
    /// The deadline for the head of the current attempt's response: never before the SDK's own
    /// timeout.
    pub(super) head: HeadLimit,
    /// Whether the caller stated a timeout.
    pub(super) stated: bool,
    /// The caller's stated timeout between two bytes of a response.
    pub(super) patience: Option<Duration>,
    /// The latest admission, and the time for it after the request's last byte: a read timeout does
    /// not run while a request is sent.
    latest: Instant,
    after_request: Option<Duration>,
}

impl Deadline {
    /// The deadlines of a request that arrived at `now`. Admission gets the caller's timeout minus
    /// a margin, or `max_wait` without a timeout; at most `longest`. `stated` is the [`DEADLINE`]
    /// header, `sdk` the SDK's timeout headers.
    pub(super) fn of(
        stated: Option<&HeaderValue>,
        sdk: SdkHeaders,
        now: Instant,
        max_wait: Duration,
        longest: Duration,
    ) -> Self {
        let stated = stated.and_then(|value| value.to_str().ok()).and_then(parse);
        let [stated, timeout, read_timeout] =
            [stated.map(|stated| stated.min(longest)), sdk.timeout, sdk.read_timeout]
                .map(|time| time.map(|time| time.min(MAX_TIMEOUT)));
        let whole = [stated, timeout].into_iter().flatten().min();
        let is_stated = whole.or(read_timeout).is_some();
        let allowed =
            if is_stated { whole.map_or(MAX_TIMEOUT, less_margin) } else { max_wait.min(MAX_TIMEOUT) };
        let latest = now + allowed.min(longest);
        let mut deadline = Self {
            turn: latest,
            head: HeadLimit {
                by: stated.into_iter().chain(timeout.map(|timeout| timeout + GRACE)).min().map(|by| now + by),
                after_request: read_timeout.map(|timeout| timeout + GRACE),
            },
            stated: is_stated,
            patience: read_timeout.or(timeout).map(|timeout| timeout + GRACE),
            latest,
            after_request: read_timeout.map(less_margin),
        };
        deadline.request_read(now);
        deadline
    }

    /// Updates the deadline: the request's last byte arrived at `now`.
    pub(super) fn request_read(&mut self, now: Instant) {
        if let Some(after) = self.after_request {
            self.turn = self.latest.min(now + after);
        }
    }
}

/// The timeout minus max(1 s, 5 %), but at least half of it, so that a short timeout leaves time
/// for admission.
fn less_margin(timeout: Duration) -> Duration {
    let margin = timeout.mul_f64(MARGIN_SHARE).max(MIN_MARGIN).min(timeout / 2);
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
        .then(|| Duration::from_secs_f64(seconds.min(MAX_TIMEOUT.as_secs_f64())))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    fn deadline(stated: Option<&'static str>, sdk: SdkHeaders) -> Deadline {
        let stated = stated.map(HeaderValue::from_static);
        Deadline::of(stated.as_ref(), sdk, crate::clock::now(), MINUTE, Duration::MAX)
    }

    fn node(seconds: u64) -> SdkHeaders {
        SdkHeaders { timeout: Some(Duration::from_secs(seconds)), ..SdkHeaders::default() }
    }

    fn python(seconds: u64) -> SdkHeaders {
        SdkHeaders { read_timeout: Some(Duration::from_secs(seconds)), ..SdkHeaders::default() }
    }

    const NONE: SdkHeaders = SdkHeaders { retry_count: None, timeout: None, read_timeout: None };

    #[tokio::test(start_paused = true)]
    async fn a_turn_is_of_use_until_the_timeout_less_its_margin_or_the_longest_wait() {
        let now = crate::clock::now();
        let seconds = Duration::from_secs;
        let turn = |stated, sdk| deadline(stated, sdk).turn - now;
        assert_eq!(turn(None, NONE), seconds(60));
        assert_eq!(turn(None, node(600)), seconds(570));
        assert_eq!(turn(None, python(10)), seconds(9));
        assert_eq!(turn(Some("30"), node(600)), Duration::from_millis(28_500));
        assert_eq!(turn(Some("1500ms"), NONE), Duration::from_millis(750));
        assert_eq!(turn(Some("100 s"), NONE), seconds(95));
        let capped = Deadline::of(None, node(600), now, MINUTE, seconds(20));
        assert_eq!((capped.turn - now, capped.head.by), (seconds(20), Some(now + seconds(602))));
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_may_take_what_the_sdk_would_allow_it() {
        let now = crate::clock::now();
        let seconds = Duration::from_secs;
        assert_eq!(deadline(None, NONE).head, HeadLimit::default());
        assert_eq!(deadline(None, node(1)).head, HeadLimit::at(now + seconds(3)));
        assert_eq!(deadline(Some("5"), node(600)).head, HeadLimit::at(now + seconds(5)));
        let read = deadline(None, python(5));
        assert_eq!(read.head, HeadLimit { by: None, after_request: Some(seconds(7)) });
        assert_eq!((read.patience, read.stated), (Some(seconds(7)), true));
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_timeout_does_not_run_while_the_request_is_sent() {
        let now = crate::clock::now();
        let seconds = Duration::from_secs;
        let mut read = deadline(None, python(10));
        read.request_read(now + seconds(30));
        assert_eq!(read.turn - now, seconds(39));
        let mut whole = deadline(None, node(10));
        whole.request_read(now + seconds(30));
        assert_eq!(whole.turn - now, seconds(9));
        let mut both = deadline(Some("20"), python(10));
        both.request_read(now + seconds(15));
        assert_eq!(both.turn - now, seconds(19), "the caller's own word stands");
    }

    #[tokio::test(start_paused = true)]
    async fn nonsense_is_no_deadline() {
        let now = crate::clock::now();
        for text in ["", "soon", "-5", "0", "NaN", "inf", "1e400", "ms"] {
            let deadline = deadline(Some(text), NONE);
            assert_eq!((deadline.turn - now, deadline.stated), (MINUTE, false), "{text}");
        }
        assert!(deadline(Some("1e300"), NONE).turn - now < MAX_TIMEOUT);
    }
}
