//! One caller's requests in one lane: a flow of the fair queue.

use crate::caller::{CallerId, Lane};

use super::order::Order;
use super::tag::Tag;

/// No place.
pub(super) const NONE: u32 = u32::MAX;
/// What was served and due is halved when this much was due, in windows of the limit: the ratio
/// follows the last minutes.
const REMEMBERED: f64 = 1.0;

/// One caller's requests in one lane.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) caller: CallerId,
    pub(super) lane: Lane,
    pub(super) weight: u32,
    /// While anything is queued, the virtual time at which its next request starts; else at which
    /// its last one ended.
    pub(super) tag: Tag,
    pub(super) order: Order,
    /// Queued or parked.
    pub(super) waiting: usize,
    pub(super) bytes: usize,
    /// Its place in `backlogs` while anything is queued.
    pub(super) backlog: u32,
    /// The usual dominant share of one of its requests.
    pub(super) typical: f64,
    pub(super) entitlement: Entitlement,
}

impl Flow {
    pub(super) fn new(caller: CallerId, lane: Lane, weight: u32) -> Self {
        Self {
            caller,
            lane,
            weight,
            tag: Tag::START,
            order: Order::default(),
            waiting: 0,
            bytes: 0,
            backlog: NONE,
            typical: 0.0,
            entitlement: Entitlement::default(),
        }
    }

    /// A request of this dominant share is served; out of its turn it does not count for the flow's
    /// share by weight.
    pub(super) fn served(&mut self, share: f64, out_of_turn: bool) {
        self.typical = if self.typical > 0.0 { self.typical * 0.9 + share * 0.1 } else { share };
        if !out_of_turn {
            self.tag = self.tag.after(share, self.weight);
        }
    }
}

/// What a flow got while it waited, and what its weight entitled it to, in windows of the limit
/// that binds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Entitlement {
    pub(super) served: f64,
    pub(super) due: f64,
    /// The lane's service for a weight of one, when `due` was brought up to date.
    pub(super) counted: f64,
}

impl Entitlement {
    /// Counts what has been due since the last time.
    pub(super) fn count(&mut self, fluid: f64, weight: u32) {
        self.due += (fluid - self.counted) * f64::from(weight);
        self.counted = fluid;
        if self.due > REMEMBERED {
            self.due *= 0.5;
            self.served *= 0.5;
        }
    }
}

/// What is queued of one flow, in the form that predictions read.
#[derive(Debug)]
pub(super) struct Backlog {
    pub(super) flow: u32,
    pub(super) lane: Lane,
    pub(super) weight: f64,
    /// The flow's virtual time.
    pub(super) start: f64,
    /// Dominant shares, tokens and requests that are queued.
    pub(super) share: f64,
    pub(super) tokens: f64,
    pub(super) requests: f64,
}
