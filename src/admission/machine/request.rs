//! What comes to the machine, and what becomes of it.

use crate::admission::limits::Cost;
use crate::admission::moment::Moment;
use crate::admission::queue::Key;
use crate::admission::refusal::Refused;
use crate::caller::{CallerId, Lane, Mode};

use super::attempt::Attempt;
use super::members::Route;

/// A request for a permit, as the machine sees it.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// Whose it is.
    pub caller: CallerId,
    /// The caller's share relative to others, at least 1.
    pub weight: u32,
    /// The lane.
    pub lane: Lane,
    /// What it is expected to cost.
    pub cost: Cost,
    /// Bytes of its body, for the queue's bound.
    pub bytes: usize,
    /// Its turn must come before that.
    pub deadline: Moment,
    /// Whether the head of its answer must come before that, too: then its turn must come sooner.
    pub head_due: bool,
    /// Whether it was here before.
    pub turn: Turn,
    /// How much of its work Weir does for it.
    pub mode: Mode,
    /// Which upstreams it may go to.
    pub route: Route,
}

impl Request {
    /// The same at another price.
    pub(super) fn at(&self, cost: Cost) -> Self {
        Self { cost, ..*self }
    }

    /// Since when it has been here.
    pub(super) fn since(&self, now: Moment) -> Moment {
        match self.turn {
            Turn::Requeued(ticket) => ticket.since,
            Turn::First | Turn::Retry => now,
        }
    }

    /// Until when the upstream that it was refused by must not be asked again.
    pub(super) fn barred_until(&self) -> Moment {
        match self.turn {
            Turn::Requeued(ticket) => ticket.not_before,
            Turn::First | Turn::Retry => Moment::START,
        }
    }
}

/// Whether a request was here before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Turn {
    /// Its first time.
    #[default]
    First,
    /// Back after a rate limit, with its ticket: to the head of its queue.
    Requeued(Ticket),
    /// Back after a failure: like any other, and not counted as received again.
    Retry,
}

/// What a request keeps from an attempt that met a rate limit: its place at the head of its queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    pub(crate) since: Moment,
    pub(crate) not_before: Moment,
}

impl Ticket {
    /// The upstream will not admit the request before that.
    #[cfg(any(test, feature = "internals"))]
    pub fn not_before(&self) -> Moment {
        self.not_before
    }
}

/// What became of a request on arrival.
#[derive(Debug)]
pub enum Arrival {
    /// It may go now.
    Granted(Attempt),
    /// It waits; ask [`Machine::claim`](super::Machine::claim) when woken.
    Waiting(Key),
    /// It may not.
    Refused(Refused),
}

/// What became of a waiting request.
#[derive(Debug)]
pub enum Claim {
    /// It still waits.
    Pending,
    /// It may go now.
    Granted(Attempt),
    /// It may not.
    Refused(Refused),
    /// Its scope was merged into another: it is for [`Machine::adopt`](super::Machine::adopt)
    /// there, in its old place.
    Moved(Box<Request>),
}
