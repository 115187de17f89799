//! Who is next: two levels of start-time fair queueing. The lanes share the service by fixed parts,
//! the callers of a lane by their weights; a caller below its share goes first while a credit
//! lasts.

use std::collections::BTreeSet;

use crate::admission::limits::Cost;
use crate::caller::{CallerId, Lane};

use super::flow::{Backlog, Flow, NONE};
use super::progress::Progress;
use super::tag::Tag;
use super::{Key, Queue};

/// The credit of a caller that comes back after it had nothing waiting, as a part of its share of
/// one window of the limit that binds. After a burst a window gives half of its rate until its end;
/// a caller that sends at its share of the whole rate lacks at most half of its share of the window
/// then, and half of that in the mean.
const CREDIT: f64 = 0.25;
/// The credit beside many callers: this many of its usual requests, and at most this part of a
/// window.
const SMALL_CREDIT: (f64, f64) = (6.0, 0.02);

/// The request whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Next {
    pub(crate) key: Key,
    /// Its caller got less than its share of late: it is ahead of those that always have something
    /// waiting.
    pub(crate) sparse: bool,
}

/// One lane's flows and its own place in the service.
#[derive(Debug)]
pub(super) struct LaneState {
    /// The flows that have something queued, by the virtual time of their next request.
    pub(super) order: BTreeSet<(Tag, u32)>,
    /// The virtual time among its callers: the latest start of a request that was served.
    pub(super) time: Tag,
    /// How fast that moves on.
    pub(super) progress: Progress,
    /// The virtual time among the lanes at which its next request starts.
    start: Tag,
    /// Dominant shares, tokens and requests that are queued.
    pub(super) share: f64,
    pub(super) tokens: u64,
    pub(super) requests: u64,
    /// The weights of the flows in `order`.
    active_weight: u64,
    /// What a flow of weight 1 that was always active was entitled to.
    pub(super) fluid: f64,
    /// Its requests that wait, parked ones included, the oldest and the youngest of them, and their
    /// bytes.
    pub(super) waiting: usize,
    pub(super) oldest: u32,
    pub(super) youngest: u32,
    pub(super) bytes: usize,
}

impl Default for LaneState {
    fn default() -> Self {
        Self {
            order: BTreeSet::new(),
            time: Tag::START,
            progress: Progress::default(),
            start: Tag::START,
            share: 0.0,
            tokens: 0,
            requests: 0,
            active_weight: 0,
            fluid: 0.0,
            waiting: 0,
            oldest: NONE,
            youngest: NONE,
            bytes: 0,
        }
    }
}

impl LaneState {
    /// The least virtual time of the waiting callers; the lane's own where none waits.
    pub(super) fn floor(&self) -> Tag {
        self.order.first().map_or(self.time, |&(tag, _)| tag)
    }

    /// Where a flow that has nothing queued starts: not before its last request ended, and before
    /// the others only by its credit.
    pub(super) fn entry(&self, flow: &Flow) -> Tag {
        let credit = CREDIT / (self.active_weight + u64::from(flow.weight)) as f64;
        let small = (flow.typical * SMALL_CREDIT.0 / f64::from(flow.weight)).min(SMALL_CREDIT.1);
        flow.tag.max(self.time.before(if credit > SMALL_CREDIT.1 { credit } else { small }, 1))
    }
}

/// The part of the service that a lane has while both wait.
pub(super) fn part_of(lane: Lane, background_share: f64) -> f64 {
    let background = background_share.clamp(0.001, 0.999);
    match lane {
        Lane::Interactive => 1.0 - background,
        Lane::Background => background,
    }
}

impl<W> Queue<W> {
    /// The request whose turn it is; `share` says what a cost takes at present.
    ///
    /// Lanes are ordered by where their next request ends in the virtual time among them, and not
    /// by where it starts: a lane of small weight does not pass the other with its first request.
    pub(crate) fn next(&self, background_share: f64, share: impl Fn(Cost) -> f64) -> Option<Next> {
        if !self.guarantees.is_empty()
            && let Some(next) = self.next_guaranteed()
        {
            return Some(next);
        }
        let [interactive, background] = Lane::ALL.map(|lane| self.head_of(lane));
        let (tag, head, lane) = match (interactive, background) {
            (Some(interactive), Some(background)) => {
                let [ours, theirs] = [interactive, background].map(|(_, head, lane)| {
                    let waiter = self.slab.at(head);
                    let share = if waiter.is_requeued() { 0.0 } else { share(waiter.cost) };
                    self.lanes[lane as usize].start.after_part(share, part_of(lane, background_share))
                });
                if ours <= theirs { interactive } else { background }
            }
            (one, other) => one.or(other)?,
        };
        Some(Next { key: self.slab.key(head), sparse: tag < self.lanes[lane as usize].time })
    }

    /// The virtual time of a lane's first flow, and the index of that flow's first request.
    fn head_of(&self, lane: Lane) -> Option<(Tag, u32, Lane)> {
        let &(tag, flow) = self.lanes[lane as usize].order.first()?;
        Some((tag, self.flows[flow as usize].order.head()?, lane))
    }

    /// The virtual times move on for a request of a flow that starts at its tag.
    pub(super) fn advance(&mut self, index: u32, share: f64, background_share: f64) {
        let mut out_of_turn = false;
        if !self.guarantees.is_empty() {
            self.earn(index, share);
            let flow = &self.flows[index as usize];
            // What a guarantee brings forward is no part of the caller's share by weight.
            out_of_turn = flow.backlog != NONE && flow.tag > self.lanes[flow.lane as usize].floor();
        }
        let flow = &mut self.flows[index as usize];
        let lane = &mut self.lanes[flow.lane as usize];
        if !out_of_turn {
            lane.time = lane.time.max(flow.tag);
        }
        lane.start = lane.start.after_part(share, part_of(flow.lane, background_share));
        self.time = self.time.max(lane.start);
        if lane.active_weight > 0 {
            lane.fluid += share / lane.active_weight as f64;
            if flow.backlog != NONE {
                flow.entitlement.served += share;
            }
        }
        flow.served(share, out_of_turn);
    }

    /// Counts a request that was served without waiting: what its caller sends next is behind it
    /// all the same.
    pub(crate) fn charge(
        &mut self,
        caller: CallerId,
        lane: Lane,
        weight: u32,
        share: f64,
        background_share: f64,
    ) {
        let index = self.flow(caller, lane, weight);
        if self.flows[index as usize].backlog != NONE {
            return;
        }
        let state = &mut self.lanes[lane as usize];
        if state.order.is_empty() {
            state.start = state.start.max(self.time);
        }
        self.flows[index as usize].tag = state.entry(&self.flows[index as usize]);
        self.advance(index, share, background_share);
    }

    /// A queued request takes its place in its flow.
    pub(super) fn count_in(&mut self, key: Key) {
        let waiter = self.slab.get(key);
        let (index, share, tokens) = (waiter.flow, waiter.share, waiter.cost.tokens);
        if self.flows[index as usize].order.is_empty() {
            self.activate(index);
        }
        let flow = &mut self.flows[index as usize];
        flow.order.insert(&mut self.slab, key.index);
        let backlog = &mut self.backlogs[flow.backlog as usize];
        backlog.share += share;
        backlog.tokens += tokens as f64;
        backlog.requests += 1.0;
        self.outlooks[flow.lane as usize].changed(share);
        let lane = &mut self.lanes[flow.lane as usize];
        lane.share += share;
        lane.tokens += tokens;
        lane.requests += 1;
    }

    /// A queued request leaves its flow.
    pub(super) fn count_out(&mut self, key: Key) {
        let waiter = self.slab.get(key);
        let (index, share, tokens) = (waiter.flow, waiter.share, waiter.cost.tokens);
        let flow = &mut self.flows[index as usize];
        flow.order.remove(&mut self.slab, key.index);
        let backlog = &mut self.backlogs[flow.backlog as usize];
        backlog.share = (backlog.share - share).max(0.0);
        backlog.tokens -= tokens as f64;
        backlog.requests -= 1.0;
        self.outlooks[flow.lane as usize].changed(share);
        let lane = &mut self.lanes[flow.lane as usize];
        lane.share = (lane.share - share).max(0.0);
        lane.tokens -= tokens;
        lane.requests -= 1;
        if flow.order.is_empty() {
            self.deactivate(index);
        }
    }

    fn activate(&mut self, index: u32) {
        let flow = &mut self.flows[index as usize];
        let lane = &mut self.lanes[flow.lane as usize];
        if lane.order.is_empty() {
            lane.start = lane.start.max(self.time);
        }
        flow.tag = lane.entry(flow);
        flow.entitlement.counted = lane.fluid;
        flow.backlog = u32::try_from(self.backlogs.len()).unwrap_or(NONE);
        self.backlogs.push(Backlog {
            flow: index,
            lane: flow.lane,
            weight: f64::from(flow.weight),
            start: flow.tag.as_windows(),
            share: 0.0,
            tokens: 0.0,
            requests: 0.0,
        });
        lane.order.insert((flow.tag, index));
        lane.active_weight += u64::from(flow.weight);
    }

    fn deactivate(&mut self, index: u32) {
        let flow = &mut self.flows[index as usize];
        let lane = &mut self.lanes[flow.lane as usize];
        flow.entitlement.count(lane.fluid, flow.weight);
        lane.order.remove(&(flow.tag, index));
        lane.active_weight -= u64::from(flow.weight);
        let place = std::mem::replace(&mut flow.backlog, NONE);
        self.backlogs.swap_remove(place as usize);
        if let Some(moved) = self.backlogs.get(place as usize) {
            self.flows[moved.flow as usize].backlog = place;
        }
    }

    /// A flow's tag after its request was served or its weight changed, while it still has
    /// something queued.
    pub(super) fn reorder(&mut self, index: u32, before: Tag) {
        let flow = &self.flows[index as usize];
        if flow.backlog == NONE {
            return;
        }
        let order = &mut self.lanes[flow.lane as usize].order;
        order.remove(&(before, index));
        order.insert((flow.tag, index));
        let backlog = &mut self.backlogs[flow.backlog as usize];
        backlog.start = flow.tag.as_windows();
        backlog.weight = f64::from(flow.weight);
    }

    /// Applies a caller's other weight.
    pub(super) fn weigh(&mut self, index: u32, weight: u32) {
        let flow = &mut self.flows[index as usize];
        if flow.weight == weight {
            return;
        }
        if flow.backlog != NONE {
            let lane = &mut self.lanes[flow.lane as usize];
            flow.entitlement.count(lane.fluid, flow.weight);
            lane.active_weight = lane.active_weight - u64::from(flow.weight) + u64::from(weight);
            let backlog = &mut self.backlogs[flow.backlog as usize];
            backlog.weight = f64::from(weight);
            self.outlooks[flow.lane as usize].changed(backlog.share);
        }
        flow.weight = weight;
    }
}
