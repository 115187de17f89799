//! One attempt from its grant to its end.

use std::sync::Arc;
use std::time::Duration;

use crate::admission::concurrency::Flight;
use crate::admission::limits::{Charge, Cost, LimitReports, Marks, RefusalNumbers};
use crate::admission::moment::Moment;
use crate::admission::refusal::{Refused, UpstreamWords};
use crate::classify::ErrorClass;
use crate::pool::UpstreamId;

use super::members::Taken;

/// One admitted attempt: to be settled exactly once.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is an independent fact about the attempt")]
pub struct Attempt {
    /// The member's index, and its upstream.
    pub(super) member: u16,
    pub(super) upstream: UpstreamId,
    pub(super) cost: Cost,
    pub(super) charge: Charge,
    pub(super) granted: Moment,
    pub(super) sent: Option<Moment>,
    pub(super) head: Option<Moment>,
    pub(super) processing: Option<Duration>,
    pub(super) marks: Marks,
    /// It probes whether a failing upstream is back.
    pub(super) probe: bool,
    /// It probes whether a spent quota is back.
    pub(super) quota_probe: bool,
    pub(super) counted: bool,
    pub(super) since: Moment,
    pub(super) predicted: Option<Duration>,
    /// Absent where it would have passed.
    pub(super) would: Option<Box<Would>>,
    pub(super) paced: bool,
    /// Its answer was found good, and counted so.
    pub(super) accepted: bool,
    /// It was counted as taken by the limits.
    pub(super) taken: bool,
    /// Tokens of its input, by the answer.
    pub(super) input: Option<u64>,
    /// Where the bound on attempts in flight is found: what it tells of that, and when its first
    /// event came.
    pub(super) flight: Option<Flight>,
    pub(super) began: Option<Moment>,
}

/// What the observe mode would have done.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Would {
    /// Let it pass.
    #[default]
    Pass,
    /// Delayed it.
    Delay(Duration),
    /// Refused it.
    Refuse(Refused),
}

impl Attempt {
    /// How long it waited.
    pub fn queued(&self) -> Duration {
        self.granted.since(self.since)
    }

    /// How long it was expected to wait when it came; absent where it did not wait.
    pub fn predicted(&self) -> Option<Duration> {
        self.predicted
    }

    /// Whether it asks a failing upstream, or a spent quota, if it is back.
    pub fn is_probe(&self) -> bool {
        self.probe || self.quota_probe
    }

    /// Whether it asks if a spent quota is back.
    pub(crate) fn asks_quota(&self) -> bool {
        self.quota_probe
    }

    /// The answer says how many tokens the input was.
    pub(crate) fn used(&mut self, input: u64) {
        self.input = Some(input);
    }

    /// Whether the time to its first event is of interest.
    pub(crate) fn awaits_its_beginning(&self) -> bool {
        self.flight.is_some() && self.began.is_none()
    }

    /// The upstream that it goes to.
    pub(crate) fn upstream(&self) -> UpstreamId {
        self.upstream
    }

    /// Whether its answer was found good.
    pub(crate) fn is_accepted(&self) -> bool {
        self.accepted
    }

    /// What would have been done with it, were the mode not to observe.
    pub fn would(&self) -> &Would {
        self.would.as_deref().unwrap_or(&Would::Pass)
    }
}

/// What the head of an answer told.
#[derive(Clone, Debug, Default)]
pub struct HeadReport {
    /// The limit headers.
    pub limits: LimitReports,
    /// How long the upstream says that it worked on it.
    pub processing: Option<Duration>,
}

/// How an attempt ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It was never sent, or its end is unknown.
    Dropped,
    /// It succeeded.
    Done,
    /// It failed.
    Failed(ErrorClass),
    /// The account's quota is spent, or what this one request asks for exceeds it: then without
    /// words.
    QuotaExhausted(Option<UpstreamWords>),
    /// It met a rate limit.
    RateLimited {
        /// The class.
        class: ErrorClass,
        /// The numbers in its message.
        numbers: Option<RefusalNumbers>,
        /// When the upstream wants to see it again.
        hint: Option<Duration>,
        /// Its words, where it named a time.
        words: Option<Arc<UpstreamWords>>,
        /// Rate limits that the same request met before this one.
        earlier: u32,
    },
}

/// How an attempt came to be granted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grant {
    pub(super) taken: Taken,
    pub(super) at: Moment,
    /// Since when its request has been here.
    pub(super) since: Moment,
}

impl Grant {
    /// An attempt that did not wait.
    pub(super) fn at_once(self) -> Attempt {
        let Taken { member, upstream, cost, charge, probe, quota_probe } = self.taken;
        Attempt {
            member,
            upstream,
            cost,
            charge,
            granted: self.at,
            sent: None,
            head: None,
            processing: None,
            marks: Marks::default(),
            probe,
            quota_probe,
            counted: true,
            since: self.since,
            predicted: None,
            would: None,
            paced: false,
            accepted: false,
            taken: false,
            input: None,
            flight: None,
            began: None,
        }
    }

    /// An attempt that waited, with the wait that was predicted for it.
    pub(super) fn after_waiting(self, predicted: Duration) -> Attempt {
        Attempt { predicted: Some(predicted), paced: true, ..self.at_once() }
    }
}
