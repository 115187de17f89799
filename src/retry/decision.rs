//! Retry or stop: the decision after every attempt that ended in an error.

use std::time::Duration;

use super::verdict::{Why, verdict};
use super::{MilliTokens, Policy, Safety, Verdict, cost};
use crate::classify::ErrorClass;

/// The most rate limits that one request meets before the last one goes to its caller. The waits
/// between them grow to 16 s, so 20 span four minutes: a limit that still refuses then is not one
/// that a queue can wait for.
const MAX_REQUEUES: u32 = 20;

/// Everything that the decision is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is an independent fact about the attempt")]
pub struct Situation {
    /// The class of the attempt's error.
    pub class: ErrorClass,
    /// The safety of the operation.
    pub safety: Safety,
    /// Whether the upstream may have begun to work on the request.
    pub may_have_run: bool,
    /// Whether a byte of an answer reached the client.
    pub committed: bool,
    /// Whether the attempt was ended because its stream did not begin in the configured time.
    pub late_stream: bool,
    /// Whether the body is still there to be sent again.
    pub replayable: bool,
    /// The upstream said `x-should-retry: false`.
    pub forbidden: bool,
    /// The configuration says that the endpoint is never attempted twice.
    pub excluded: bool,
    /// Attempts made, this one included; those that went back to the queue after a rate limit do
    /// not count.
    pub attempts: u32,
    /// Rate limits that the request met before and went back to the queue after.
    pub requeues: u32,
    /// How long the answer asks to wait.
    pub hint: Option<Duration>,
    /// What is left until the deadline.
    pub left: Duration,
    /// How long the queue is expected to take before another attempt.
    pub queue: Duration,
    /// How long the head of an answer usually takes.
    pub answer: Duration,
}

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The last answer goes out.
    Stop(StopReason),
    /// Back to the head of the queue, which knows how long to wait.
    Requeue,
    /// Another attempt after this delay, if the scope's budget has this much.
    After {
        /// How long to wait, holding no permit.
        delay: Duration,
        /// What the retry costs the budget.
        cost: MilliTokens,
    },
}

/// Why there is no other attempt; the label `reason` of `weir_retries_stopped_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StopReason {
    /// Another attempt cannot help.
    Final,
    /// The operation may have been carried out, and must not be twice.
    Unsafe,
    /// The client has seen part of an answer.
    Committed,
    /// The body is gone: it was larger than what is kept.
    NotReplayable,
    /// The upstream asked for no other attempt.
    Forbidden,
    /// The configuration allows the endpoint one attempt.
    Excluded,
    /// All attempts are made.
    Attempts,
    /// The deadline leaves no room for the wait, the queue and an answer.
    Deadline,
    /// The scope's budget is spent. The module that holds the budget says so, not [`decide`].
    Budget,
}

impl Situation {
    /// After the first attempt of a request that may be sent again, of which nothing else is known.
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

/// Decides what follows an attempt that ended in an error.
///
/// A requeue after a rate limit counts no attempt: the queue waits until the request can pass. How
/// often is bounded by `MAX_REQUEUES`, whatever the deadline allows.
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
        // It goes to the head of its queue: what waits there is behind it.
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

/// Whether the attempt brought no response in time (Weir's own clock, or that of the edge before
/// the API), and one repeat does no harm. The first may still be under way and is paid for: there
/// is never a second repeat.
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
            // The body is as it is by accident; the configuration is somebody's word.
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

    /// The edge gave up, not the API: each repeat is a generation that is paid for. Direct, the SDK
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
