//! The decision after each failed attempt: retry or stop.

use std::time::Duration;

use super::verdict::{Why, verdict};
use super::{MilliTokens, Policy, Safety, Verdict, cost};
use crate::classify::ErrorClass;

/// Most times that a request is requeued after a rate limit. The waits grow to 16 s, so 20 take
/// four minutes; waiting longer for such a limit is pointless.
const MAX_REQUEUES: u32 = 20;

/// The input of the decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is an independent fact about the attempt")]
pub struct Situation {
    /// The error class of the attempt.
    pub class: ErrorClass,
    /// The safety of the operation.
    pub safety: Safety,
    /// Whether the upstream may have started to process the request.
    pub may_have_run: bool,
    /// Whether any byte of a response was sent to the client.
    pub committed: bool,
    /// Whether the attempt was ended because its stream did not begin in time.
    pub late_stream: bool,
    /// Whether the body is available to be sent again.
    pub replayable: bool,
    /// Whether the upstream sent `x-should-retry: false`.
    pub forbidden: bool,
    /// Whether the configuration forbids retries of the endpoint.
    pub excluded: bool,
    /// Attempts so far, this one included; requeued attempts don't count.
    pub attempts: u32,
    /// Times that the request was requeued after a rate limit.
    pub requeues: u32,
    /// The upstream's hint: how long to wait.
    pub hint: Option<Duration>,
    /// Time left until the deadline.
    pub left: Duration,
    /// Expected time in the queue before another attempt.
    pub queue: Duration,
    /// Usual time until a response's head.
    pub answer: Duration,
}

/// The next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The last response is relayed.
    Stop(StopReason),
    /// The request returns to the head of the queue, which decides how long it waits.
    Requeue,
    /// Another attempt after a delay, if the scope's retry budget covers the cost.
    After {
        /// The delay, during which no permit is held.
        delay: Duration,
        /// The cost to the retry budget.
        cost: MilliTokens,
    },
}

/// The reason why there is no further attempt; the label `reason` of `weir_retries_stopped_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StopReason {
    /// Another attempt can't help.
    Final,
    /// The operation may have been processed, and must not be repeated.
    Unsafe,
    /// The client has received part of a response.
    Committed,
    /// The body was too large to keep.
    NotReplayable,
    /// The upstream forbade a retry.
    Forbidden,
    /// The configuration forbids a retry.
    Excluded,
    /// All attempts were made.
    Attempts,
    /// The time left is too short for the delay, the queue and a response.
    Deadline,
    /// The scope's retry budget is spent; set by the budget's module, not by [`decide`].
    Budget,
}

impl Situation {
    /// The situation after the first attempt of a repeatable request, with defaults for all else.
    pub fn new(class: ErrorClass, safety: Safety) -> Self {
        Self {
            class,
            safety,
            may_have_run: true,
            committed: false,
            late_stream: false,
            replayable: true,
            forbidden: false,
            excluded: false,
            attempts: 1,
            requeues: 0,
            hint: None,
            left: Duration::MAX,
            queue: Duration::ZERO,
            answer: Duration::ZERO,
        }
    }
}

/// Decides the next step after a failed attempt.
///
/// Requeueing after a rate limit is not an attempt, because the queue waits until the request can
/// pass. `MAX_REQUEUES` bounds it, whatever the deadline.
pub fn decide(situation: &Situation, policy: &Policy, rng: &mut fastrand::Rng) -> Decision {
    let mut verdict = verdict(situation.class, situation.safety, situation.may_have_run, situation.committed);
    if (policy.response_timeouts || situation.late_stream) && may_ask_again(situation) {
        verdict = Verdict::Backoff(cost(situation.class));
    }
    let cost = match verdict {
        Verdict::Never(why) => return Decision::Stop(why.into()),
        Verdict::Queue => None,
        Verdict::Backoff(cost) => Some(cost),
    };
    if situation.forbidden {
        return Decision::Stop(StopReason::Forbidden);
    }
    if situation.excluded {
        return Decision::Stop(StopReason::Excluded);
    }
    if !situation.replayable {
        return Decision::Stop(StopReason::NotReplayable);
    }
    let Some(cost) = cost else {
        // It returns to the head of its queue, so the queue's length does not delay it.
        if situation.requeues >= MAX_REQUEUES {
            return Decision::Stop(StopReason::Attempts);
        }
        let wait = situation.hint.unwrap_or_default();
        let enough = situation.left > wait.saturating_add(situation.answer);
        return if enough { Decision::Requeue } else { Decision::Stop(StopReason::Deadline) };
    };
    if situation.attempts >= policy.max_attempts {
        return Decision::Stop(StopReason::Attempts);
    }
    let delay = policy.backoff.delay(situation.attempts.saturating_sub(1), situation.hint, rng);
    let needed = delay.saturating_add(situation.queue).saturating_add(situation.answer);
    if situation.left <= needed {
        return Decision::Stop(StopReason::Deadline);
    }
    Decision::After { delay, cost }
}

/// Whether the attempt got no response in time (Weir's timeout, or that of the API's edge) and one
/// repetition is harmless. The first may still be processed and billed, so there is never a second
/// repetition.
fn may_ask_again(situation: &Situation) -> bool {
    matches!(situation.class, ErrorClass::TimeoutResponse | ErrorClass::GatewayTimeout)
        && situation.safety == Safety::Repeatable
        && !situation.committed
        && situation.attempts < 2
}

impl From<Why> for StopReason {
    fn from(why: Why) -> Self {
        match why {
            Why::Class => Self::Final,
            Why::Unsafe => Self::Unsafe,
            Why::Committed => Self::Committed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn situation(class: ErrorClass) -> Situation {
        Situation { left: SECOND * 60, answer: SECOND, ..Situation::new(class, Safety::Repeatable) }
    }

    fn decided(situation: &Situation) -> Decision {
        decide(situation, &Policy::default(), &mut fastrand::Rng::with_seed(3))
    }

    #[test]
    fn a_failure_is_retried_where_safe() {
        let failed = situation(ErrorClass::InternalServerError);
        assert!(matches!(decided(&failed), Decision::After { cost: 1000, delay } if delay <= SECOND / 2));
        for (changed, reason) in [
            (Situation { safety: Safety::OnlyIfUnsent, ..failed }, StopReason::Unsafe),
            (Situation { committed: true, ..failed }, StopReason::Committed),
            (Situation { replayable: false, ..failed }, StopReason::NotReplayable),
            (Situation { forbidden: true, ..failed }, StopReason::Forbidden),
            (Situation { excluded: true, ..failed }, StopReason::Excluded),
            // Explicit configuration takes precedence over the body's size.
            (Situation { excluded: true, replayable: false, ..failed }, StopReason::Excluded),
            (Situation { attempts: 6, ..failed }, StopReason::Attempts),
            (Situation { left: SECOND, ..failed }, StopReason::Deadline),
            (Situation { hint: Some(SECOND * 60), ..failed }, StopReason::Deadline),
            (Situation { queue: SECOND * 60, ..failed }, StopReason::Deadline),
            (
                Situation {
                    hint: Some(Duration::MAX),
                    queue: Duration::MAX,
                    answer: Duration::MAX,
                    ..failed
                },
                StopReason::Deadline,
            ),
            (Situation { class: ErrorClass::QuotaCredit, ..failed }, StopReason::Final),
            (Situation { class: ErrorClass::TimeoutResponse, ..failed }, StopReason::Final),
        ] {
            assert_eq!(decided(&changed), Decision::Stop(reason), "{changed:?}");
        }
    }

    #[test]
    fn a_rate_limit_goes_back_to_the_queue_while_the_deadline_allows() {
        let limited = Situation {
            safety: Safety::OnlyIfUnsent,
            may_have_run: false,
            ..situation(ErrorClass::RateLimitTokens)
        };
        assert_eq!(decided(&limited), Decision::Requeue);
        assert_eq!(decided(&Situation { attempts: 60, ..limited }), Decision::Requeue);
        assert_eq!(decided(&Situation { requeues: 19, ..limited }), Decision::Requeue);
        let often = Situation { requeues: 20, ..limited };
        assert_eq!(decided(&often), Decision::Stop(StopReason::Attempts), "bounded whatever the deadline");
        let excluded = Situation { excluded: true, ..limited };
        assert_eq!(decided(&excluded), Decision::Stop(StopReason::Excluded));
        let late = Situation { hint: Some(SECOND * 59), ..limited };
        assert_eq!(decided(&late), Decision::Stop(StopReason::Deadline));
    }

    #[test]
    fn response_timeouts_are_retried_only_when_asked_and_safe() {
        let policy = Policy { response_timeouts: true, ..Policy::default() };
        let mut rng = fastrand::Rng::with_seed(3);
        let late = situation(ErrorClass::TimeoutResponse);
        assert!(matches!(decide(&late, &policy, &mut rng), Decision::After { cost: 1400, .. }));
        let unsafe_to_repeat = Situation { safety: Safety::OnlyIfUnsent, ..late };
        assert_eq!(decide(&unsafe_to_repeat, &policy, &mut rng), Decision::Stop(StopReason::Final));
    }

    /// The API's edge timed out, not the API, so each repetition is billed. Without Weir, the SDK
    /// makes three.
    #[test]
    fn an_edge_that_gave_up_is_not_asked_again_unless_configured_and_then_once() {
        let mut rng = fastrand::Rng::with_seed(1);
        let configured = Policy { response_timeouts: true, ..Policy::default() };
        let gave_up = situation(ErrorClass::GatewayTimeout);
        assert_eq!(decide(&gave_up, &Policy::default(), &mut rng), Decision::Stop(StopReason::Final));
        assert!(matches!(decide(&gave_up, &configured, &mut rng), Decision::After { cost: 1400, .. }));
        let again = Situation { attempts: 2, ..gave_up };
        assert_eq!(decide(&again, &configured, &mut rng), Decision::Stop(StopReason::Final));
        let stored = Situation { safety: Safety::OnlyIfUnsent, ..gave_up };
        assert_eq!(decide(&stored, &configured, &mut rng), Decision::Stop(StopReason::Final));
    }
}
