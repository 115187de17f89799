//! The retry table: for each error class, whether the attempt may be repeated, and what it says
//! about the upstream's health.

use super::Safety;
use crate::classify::{ErrorClass, Health, Repeat, Work};

/// Thousandths of a retry budget token; a success earns 500.
pub type MilliTokens = u32;

/// The table's verdict on a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Another attempt can't help, or may do harm.
    Never(Why),
    /// The request returns to the head of its queue, which waits at no cost to the budget.
    Queue,
    /// Another attempt after a backoff, if the budget covers this cost.
    Backoff(MilliTokens),
}

/// The reason why there is no further attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// This class is never repeated, whatever the operation.
    Class,
    /// The operation may have been processed, and a repetition may do it twice.
    Unsafe,
    /// The client has received part of a response.
    Committed,
}

/// Whether an attempt that failed with this class may be repeated.
///
/// `may_have_run`: whether the upstream may have started to process the request (see
/// `Classified::may_have_run` and `Failure::sent`). `committed`: whether any byte of a response was
/// sent to the client.
pub const fn verdict(class: ErrorClass, safety: Safety, may_have_run: bool, committed: bool) -> Verdict {
    if committed {
        return Verdict::Never(Why::Committed);
    }
    let cost = if may_have_run { cost(class) } else { REJECTED };
    match (class.meaning().repeat, may_have_run, safety) {
        (Repeat::Never, ..) => Verdict::Never(Why::Class),
        (Repeat::Queue, ..) => Verdict::Queue,
        (Repeat::WhereSafe, true, Safety::OnlyIfUnsent) => Verdict::Never(Why::Unsafe),
        (Repeat::Always, ..)
        | (Repeat::WhereSafe, true, Safety::Repeatable)
        | (Repeat::WhereSafe, false, _) => Verdict::Backoff(cost),
    }
}

/// The cost of a retry after this class, if the upstream may have processed the request.
///
/// A fast failure costs less than one that kept the upstream busy, and a timeout costs most (the
/// ratio is that of AWS's clients). The lowest cost is a half: with a reserve of 2 % this keeps
/// attempts within 1.1 times the requests when everything fails.
pub const fn cost(class: ErrorClass) -> MilliTokens {
    match class.meaning().work {
        // AWS's ratio would make the first 200.
        Work::NotSent | Work::Refused => REJECTED,
        Work::Failed => 1000,
        Work::TimedOut => 1400,
    }
}

/// Whether this class is a rate limit, for which the queue waits.
pub const fn is_rate_limit(class: ErrorClass) -> bool {
    matches!(class.meaning().repeat, Repeat::Queue)
}

/// What this class says about the upstream's health.
pub(crate) const fn health(class: ErrorClass) -> Health {
    class.meaning().health
}

/// The cost if the upstream refused the request before processing it.
const REJECTED: MilliTokens = 500;

#[cfg(test)]
mod tests {
    use super::*;

    fn told(class: ErrorClass, safety: Safety, may_have_run: bool) -> String {
        match verdict(class, safety, may_have_run, false) {
            Verdict::Never(_) => "never".to_owned(),
            Verdict::Queue => "queue".to_owned(),
            Verdict::Backoff(cost) => cost.to_string(),
        }
    }

    #[test]
    fn the_table_is_what_the_design_says() {
        for class in ErrorClass::ALL {
            // For a repeatable operation, for another, and for an attempt that provably had no
            // effect.
            let (safe, other, unsent) = match class.as_str() {
                "rate_limit_requests" | "rate_limit_tokens" | "rate_limit_other" | "slow_down" => {
                    ("queue", "queue", "queue")
                }
                "overloaded"
                | "resource_unavailable"
                | "connection_dns"
                | "connection_refused"
                | "connection_tls"
                | "connection_proxy"
                | "timeout_connect"
                | "weir_internal" => ("500", "500", "500"),
                "internal_server_error"
                | "bad_gateway"
                | "connection_reset"
                | "stream_error"
                | "stream_cut"
                | "empty_response"
                | "malformed_response" => ("1000", "never", "500"),
                _ => ("never", "never", "never"),
            };
            assert_eq!(told(class, Safety::Repeatable, true), safe, "{class:?}");
            assert_eq!(told(class, Safety::OnlyIfUnsent, true), other, "{class:?}");
            assert_eq!(told(class, Safety::OnlyIfUnsent, false), unsent, "{class:?}");
        }
    }

    /// The step after each kind of failure, for each endpoint: `q` requeue, `r` retry, `-` stop.
    /// The failures: a rate limit, "queue is full", overloaded, no connection, a 500, a 502, a
    /// reset after sending, an error in a stream before output, a 200 without a result, a 504, no
    /// head in time, a 400, a 401, a spent quota.
    const ENDS: [&str; 14] = [
        "rate_limit_tokens",
        "slow_down",
        "overloaded",
        "connection_refused",
        "internal_server_error",
        "bad_gateway",
        "connection_reset",
        "stream_error",
        "empty_response",
        "gateway_timeout",
        "timeout_response",
        "bad_request",
        "authentication_incorrect_key",
        "quota_insufficient",
    ];
    const AFTER_EACH: [(&str, &str, &str); 24] = [
        ("POST /v1/chat/completions", "{}", "qqrrrrrrr-----"),
        ("POST /v1/chat/completions", r#"{"store":true}"#, "qqrr----------"),
        ("POST /openai/deployments/d/chat/completions", "{}", "qqrrrrrrr-----"),
        ("POST /v1/completions", "{}", "qqrrrrrrr-----"),
        ("POST /v1/embeddings", "{}", "qqrrrrrrr-----"),
        ("POST /v1/moderations", "{}", "qqrrrrrrr-----"),
        ("POST /v1/responses", "{}", "qqrr----------"),
        ("POST /v1/responses", r#"{"store":false}"#, "qqrrrrrrr-----"),
        ("GET /v1/responses/resp_1", "", "qqrrrrrrr-----"),
        ("POST /v1/responses/resp_1/cancel", "", "qqrr----------"),
        ("POST /v1/audio/speech", "{}", "qqrr----------"),
        ("POST /v1/audio/transcriptions", "", "qqrr----------"),
        ("POST /v1/images/generations", "{}", "qqrr----------"),
        ("POST /v1/videos", "{}", "qqrr----------"),
        ("POST /v1/files", "", "qqrr----------"),
        ("GET /v1/files/file_1", "", "qqrrrrrrr-----"),
        ("DELETE /v1/files/file_1", "", "qqrrrrrrr-----"),
        ("POST /v1/batches", "{}", "qqrr----------"),
        ("POST /v1/fine_tuning/jobs", "{}", "qqrr----------"),
        ("POST /v1/vector_stores", "{}", "qqrr----------"),
        ("POST /v1/threads/t/runs", "{}", "qqrr----------"),
        ("POST /v1/conversations", "{}", "qqrr----------"),
        ("GET /v1/models", "", "qqrrrrrrr-----"),
        ("POST /v1/something/new", "{}", "qqrr----------"),
    ];

    #[test]
    fn what_follows_each_end_at_each_endpoint() {
        for (request, body, expected) in AFTER_EACH {
            let (method, path) = request.split_once(' ').unwrap();
            let peek = crate::openai::request_peek::peek(body.as_bytes()).ok();
            let named = crate::openai::endpoint::Named::by(path);
            let safety = Safety::of(&method.parse().unwrap(), path, named, peek.as_ref(), &[]);
            let after = ENDS.map(|name| {
                let class = ErrorClass::named(name).unwrap();
                let sent = class != ErrorClass::ConnectionRefused;
                match verdict(class, safety, sent, false) {
                    Verdict::Never(_) => '-',
                    Verdict::Queue => 'q',
                    Verdict::Backoff(_) => 'r',
                }
            });
            assert_eq!(after.iter().collect::<String>(), expected, "{request} {body}");
        }
    }

    /// Only a failing upstream, or an unknown cause, justifies another attempt; and a class that
    /// may be repeated at once does not prove that the upstream is healthy.
    #[test]
    fn a_class_that_blames_the_request_is_never_repeated_by_weir() {
        for class in ErrorClass::ALL {
            let repeats = matches!(verdict(class, Safety::Repeatable, true, false), Verdict::Backoff(_));
            let is_alone = class == ErrorClass::ResourceUnavailable;
            assert!(!repeats || is_alone || health(class) != Health::Alive, "{class:?}");
        }
    }

    #[test]
    fn nothing_is_repeated_once_the_client_saw_a_byte() {
        for class in ErrorClass::ALL {
            let verdict = verdict(class, Safety::Repeatable, false, true);
            assert_eq!(verdict, Verdict::Never(Why::Committed), "{class:?}");
        }
    }

    #[test]
    fn no_retry_costs_less_than_half_a_token() {
        assert!(ErrorClass::ALL.into_iter().all(|class| cost(class) >= 500));
        assert_eq!(cost(ErrorClass::TimeoutResponse), 1400);
    }
}
