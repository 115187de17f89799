//! Converts a refusal of admission, or a failed attempt, to the caller's response.

use std::borrow::Cow;
use std::time::Duration;

use http::StatusCode;

use super::OwnAnswer;
use crate::admission::{Refused, UpstreamWords};
use crate::classify::{ErrorClass, Failure};

/// The response to a request that admission refused.
pub fn refusal(refused: &Refused, rng: &mut fastrand::Rng) -> OwnAnswer {
    match refused {
        Refused::QueueFull { retry_after } => OwnAnswer::new(
            ErrorClass::WeirQueueFull,
            "Weir's queue for this limit is full: demand exceeds the upstream's limit. \
             Slow down, raise the limit upstream, or raise admission.max_waiting.",
        )
        .retry_after(*retry_after, rng),
        Refused::CallerLimit { retry_after } => OwnAnswer::new(
            ErrorClass::WeirCallerLimit,
            "This caller has reached its limit of waiting requests. Slow down, or raise its callers.max_waiting \
             (admission.max_waiting_per_caller where it has none of its own).",
        )
        .retry_after(*retry_after, rng),
        Refused::Deadline { predicted, retry_after } => OwnAnswer::new(
            ErrorClass::WeirDeadline,
            format!(
                "This request must wait {} for the upstream's limit, longer than its deadline. Allow it more time, or \
                 send less at once.",
                seconds(*predicted)
            ),
        )
        .retry_after(*retry_after, rng),
        Refused::BreakerOpen { failing_for, next_probe } => OwnAnswer::new(
            ErrorClass::WeirBreakerOpen,
            format!(
                "The upstream has been failing for {}; Weir tries it again in {}. The cause is not this request.",
                seconds(*failing_for),
                seconds(*next_probe)
            ),
        )
        .retry_after(*next_probe, rng),
        Refused::Told { words, retry_after } => {
            told(ErrorClass::WeirDeadline, words).retry_after(*retry_after, rng)
        }
        Refused::QuotaExhausted(spent) => told(ErrorClass::WeirBillingBlock, spent).final_answer(),
        Refused::Draining => draining(rng),
    }
}

/// The response to a request that still waits when a drain stops granting permits.
pub(super) fn draining(rng: &mut fastrand::Rng) -> OwnAnswer {
    OwnAnswer::new(
        ErrorClass::WeirDraining,
        "This Weir is shutting down and starts no more requests; another replica, or its successor, can serve this one.",
    )
    .retry_after(Duration::from_secs(1), rng)
}

/// The response after an attempt without one.
pub fn failure(class: ErrorClass, failure: &Failure) -> OwnAnswer {
    OwnAnswer::new(class, format!("Weir got no response from the upstream: {failure}."))
}

/// The response in place of one that was truncated before its content began.
pub fn cut_before_it_began() -> OwnAnswer {
    OwnAnswer::new(
        ErrorClass::StreamCut,
        "The upstream closed the connection before any content of its response.",
    )
}

/// The upstream's own error, so that callers' handlers of its refusals still work.
fn told(class: ErrorClass, words: &UpstreamWords) -> OwnAnswer {
    let owned = |text: &Option<Box<str>>, otherwise: &'static str| match text {
        Some(text) => Cow::Owned(text.as_ref().to_owned()),
        None => Cow::Borrowed(otherwise),
    };
    let otherwise =
        if class == ErrorClass::WeirBillingBlock { "insufficient_quota" } else { "rate_limit_exceeded" };
    OwnAnswer {
        status: StatusCode::from_u16(words.status).unwrap_or(StatusCode::TOO_MANY_REQUESTS),
        kind: owned(&words.kind, otherwise),
        code: owned(&words.code, otherwise),
        body: words.body.clone(),
        ..OwnAnswer::new(class, &*words.message)
    }
}

/// A duration for people: tenths of a second below ten, whole seconds above.
pub(super) fn seconds(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 10.0 { format!("{seconds:.1} s") } else { format!("{seconds:.0} s") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::WordsBody;
    use crate::classify::FailureKind;
    use std::sync::Arc;

    #[test]
    fn a_spent_quota_answers_in_the_upstreams_words_and_stops_the_sdks() {
        let spent = UpstreamWords {
            kind: Some("insufficient_quota".into()),
            code: Some("credit_balance_exhausted".into()),
            message: "You exceeded your current quota.".into(),
            ..UpstreamWords::of_status(429)
        };
        let answer = refusal(&Refused::QuotaExhausted(Arc::new(spent)), &mut fastrand::Rng::with_seed(1));
        assert_eq!(answer.status, 429);
        assert_eq!(answer.code, "credit_balance_exhausted");
        assert_eq!(answer.kind, "insufficient_quota");
        assert_eq!(answer.class, ErrorClass::WeirBillingBlock);
        assert_eq!(answer.should_retry, Some(false));
        assert_eq!(answer.retry_after, None, "waiting does not help");
    }

    #[test]
    fn a_limit_that_comes_back_too_late_is_told_in_the_upstreams_bytes() {
        let body = WordsBody { kind: "text/plain".into(), bytes: b"come back tomorrow".as_slice().into() };
        let words = Arc::new(UpstreamWords { body: Some(body), ..UpstreamWords::of_status(429) });
        let mut rng = fastrand::Rng::with_seed(1);
        for (seconds, should_retry) in [(53_216, Some("false")), (40, None)] {
            let words = Arc::clone(&words);
            let told = Refused::Told { words, retry_after: Duration::from_secs(seconds) };
            let response = refusal(&told, &mut rng).into_response("x");
            let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap());
            assert_eq!((response.status().as_u16(), &response.body()[..]), (429, &b"come back tomorrow"[..]));
            assert_eq!(header("content-type"), Some("text/plain"));
            assert_eq!(header("content-length"), Some("18"));
            assert_eq!(header("x-should-retry"), should_retry, "an SDK obeys a minute at most");
            assert!(header("retry-after").unwrap().parse::<u64>().unwrap() >= seconds);
        }
    }

    #[test]
    fn refusals_say_how_long_and_when_again() {
        let mut rng = fastrand::Rng::with_seed(1);
        let deadline = refusal(
            &Refused::Deadline {
                predicted: Duration::from_millis(4200),
                retry_after: Duration::from_millis(4200),
            },
            &mut rng,
        );
        assert!(deadline.message.contains("wait 4.2 s"), "{}", deadline.message);
        assert_eq!(deadline.should_retry, None);
        let hours = Duration::from_hours(3);
        let far = refusal(&Refused::Deadline { predicted: hours, retry_after: hours }, &mut rng);
        assert_eq!(far.should_retry, Some(false), "no try of the SDK's would pass");
        assert!(far.retry_after.is_some_and(|after| after >= hours), "the true time: {:?}", far.retry_after);
        assert!(deadline.retry_after.unwrap() >= Duration::from_millis(4200));
        let open =
            Refused::BreakerOpen { failing_for: Duration::from_secs(95), next_probe: Duration::from_secs(3) };
        let open = refusal(&open, &mut rng);
        assert!(open.message.contains("failing for 95 s"), "{}", open.message);
        assert_eq!(open.status, 503);
    }

    #[test]
    fn an_attempt_without_an_answer_is_502_with_its_class() {
        let refused = Failure::unsent(FailureKind::Refused, "");
        let answer = failure(ErrorClass::ConnectionRefused, &refused);
        assert_eq!((answer.status.as_u16(), &*answer.code), (502, "connection_refused"));
        assert!(answer.message.contains("refused the connection"));
    }
}
