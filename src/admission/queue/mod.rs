//! The fair queue of one scope. It knows nothing of limits: whoever asks says what a request's
//! dominant share is, the largest part that it takes of any limit, and to whom the request whose
//! turn it is can be given.
//!
//! Two levels of fair queueing ([`fair`]): the lanes share the service by fixed parts, the callers
//! of a lane by their weights. For any two callers that always have something waiting, the service
//! by weight never differs by more than one largest request of each. Within a caller the earliest
//! deadline is first ([`order`]).

mod deadlines;
mod fair;
mod flow;
mod guarantee;
mod order;
mod prediction;
mod progress;
mod slab;
mod tag;

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};

use foldhash::quality::RandomState;

use crate::caller::{CallerId, Lane};

use super::moment::Moment;
use super::settings::QueueSettings;

use deadlines::Deadlines;
use fair::LaneState;
pub(crate) use fair::Next;
use flow::{Backlog, Flow, NONE};
use guarantee::Guaranteed;
use prediction::Outlook;
use progress::{Progress, are_alike};
pub use slab::Key;
pub(crate) use slab::{Precedence, Slab, State, Waiter};
use tag::Tag;

/// The waiting requests of one scope. The fields lie as they are written: a request that need not
/// wait looks at the first two.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Queue<W> {
    waiting: usize,
    /// What is queued of each caller that has anything, densely packed: predictions read them all.
    backlogs: Vec<Backlog>,
    bytes: usize,
    slab: Slab<W>,
    flows: Vec<Flow>,
    free_flows: Vec<u32>,
    by_caller: HashMap<(CallerId, Lane), u32, RandomState>,
    lanes: [LaneState; 2],
    /// The virtual time among the lanes.
    time: Tag,
    sequence: u32,
    /// What predictions remember, by lane.
    outlooks: [Outlook; 2],
    deadlines: Deadlines,
    /// Callers that have a part of the service for certain.
    guarantees: Box<[Guaranteed]>,
    /// Requests that know they cannot pass before a moment, by that moment.
    parked: BTreeSet<(Moment, Key)>,
}

/// Which bound a request would exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    Queue,
    Caller,
}

/// What waits of one caller in one lane.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    pub(crate) caller: CallerId,
    pub(crate) lane: Lane,
    /// Requests, parked ones included.
    pub(crate) waiting: usize,
    /// When the one that is next came; [`Moment::NEVER`] where all are parked.
    pub(crate) since: Moment,
    /// What it was served and was entitled to while it waited lately, in windows of the limit that
    /// binds.
    pub(crate) served: f64,
    pub(crate) due: f64,
}

impl<W> Queue<W> {
    pub(crate) fn new() -> Self {
        Self {
            slab: Slab::default(),
            flows: Vec::new(),
            free_flows: Vec::new(),
            by_caller: HashMap::with_hasher(RandomState::default()),
            backlogs: Vec::new(),
            lanes: [LaneState::default(), LaneState::default()],
            time: Tag::START,
            sequence: 0,
            outlooks: [Outlook::default(), Outlook::default()],
            deadlines: Deadlines::default(),
            guarantees: Box::default(),
            parked: BTreeSet::new(),
            waiting: 0,
            bytes: 0,
        }
    }

    /// Requests queued or parked.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// The sum of the weights of the callers that have anything queued.
    pub(crate) fn weight(&self) -> u32 {
        let weights = self.backlogs.iter().map(|backlog| self.flows[backlog.flow as usize].weight);
        weights.fold(0, u32::saturating_add)
    }

    /// Tokens of the requests that are queued.
    pub(crate) fn tokens(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.tokens).sum()
    }

    /// Bytes of the bodies that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether anything could be next.
    pub(crate) fn is_empty(&self) -> bool {
        self.backlogs.is_empty()
    }

    /// Whether one more request fits within the bounds.
    pub(crate) fn room(
        &self,
        caller: CallerId,
        lane: Lane,
        bytes: usize,
        settings: &QueueSettings,
    ) -> Result<(), Full> {
        let flow = self.by_caller.get(&(caller, lane)).map(|&index| &self.flows[index as usize]);
        if flow.is_some_and(|flow| {
            flow.waiting >= settings.max_waiting_per_caller
                || flow.bytes.saturating_add(bytes) > settings.max_bytes_per_caller
        }) {
            return Err(Full::Caller);
        }
        let full =
            self.waiting >= settings.max_waiting || self.bytes.saturating_add(bytes) > settings.max_bytes;
        if full { Err(Full::Queue) } else { Ok(()) }
    }

    /// The youngest request of the background lane, where all of that lane would make place for one
    /// more of this size.
    pub(crate) fn displaceable(&self, bytes: usize, settings: &QueueSettings) -> Option<Key> {
        let background = &self.lanes[Lane::Background as usize];
        let others = self.waiting - background.waiting;
        let their_bytes = self.bytes - background.bytes;
        let fits = others < settings.max_waiting && their_bytes.saturating_add(bytes) <= settings.max_bytes;
        (fits && background.youngest != NONE).then(|| self.slab.key(background.youngest))
    }

    /// Adds a request of a dominant share, in its caller's order; until `not_before` it holds up
    /// nobody.
    pub(crate) fn push(
        &mut self,
        mut waiter: Waiter<W>,
        (caller, lane, weight): (CallerId, Lane, u32),
        share: f64,
        not_before: Moment,
        now: Moment,
    ) -> Key {
        waiter.flow = self.flow(caller, lane, weight);
        waiter.share = share;
        self.sequence = self.sequence.wrapping_add(1);
        waiter.sequence = self.sequence;
        let (deadline, parked) = (waiter.deadline, not_before > now);
        if parked {
            waiter.state = State::Parked { until: not_before };
        }
        let key = self.slab.insert(waiter);
        self.enter(key, lane);
        if parked {
            self.parked.insert((not_before, key));
        } else {
            self.count_in(key);
        }
        self.deadlines.push(deadline, key);
        key
    }

    /// Takes a queued request out of its caller's order until a moment: it holds up nobody until
    /// then.
    pub(crate) fn park(&mut self, key: Key, until: Moment) {
        self.count_out(key);
        self.slab.get_mut(key).state = State::Parked { until };
        self.parked.insert((until, key));
    }

    /// Lets parked requests whose time has come take their place in their caller's order.
    pub(crate) fn unpark(&mut self, now: Moment) {
        while let Some(&(until, key)) = self.parked.first() {
            if until > now {
                return;
            }
            self.parked.remove(&(until, key));
            self.slab.get_mut(key).state = State::Queued;
            self.count_in(key);
        }
    }

    /// When the next parked request may go.
    pub(crate) fn next_unpark(&self) -> Option<Moment> {
        self.parked.first().map(|parked| parked.0)
    }

    /// Compares a request's dominant share now with that at its arrival. If they differ, a limit
    /// became known or changed, and the measured progress of the lane is in parts of another limit.
    pub(crate) fn compare_share(&mut self, key: Key, share: f64) {
        let waiter = self.slab.get(key);
        if !are_alike(share, waiter.share) {
            let lane = self.flows[waiter.flow as usize].lane as usize;
            self.lanes[lane].progress = Progress::default();
        }
    }

    /// Takes the request whose turn it is out of the queue, to be served at this dominant share:
    /// its caller's virtual time moves on.
    pub(crate) fn serve(&mut self, key: Key, share: f64, background_share: f64, now: Moment) {
        let waiter = self.slab.get(key);
        let (index, is_again) = (waiter.flow, waiter.is_requeued());
        // What a refused attempt of it was charged stays charged.
        let share = if is_again { 0.0 } else { share };
        let before = self.flows[index as usize].tag;
        let lane = self.flows[index as usize].lane as usize;
        let time = self.lanes[lane].time;
        self.advance(index, share, background_share);
        self.reorder(index, before);
        self.count_out(key);
        let state = &mut self.lanes[lane];
        if state.order.is_empty() {
            state.progress = Progress::default();
        } else if is_again {
            state.progress.served_again(now);
        } else {
            state.progress.served(state.time.as_windows() - time.as_windows(), now);
        }
        self.leave(key);
    }

    /// Takes a request out of the queue wherever it stands; its state is the caller's to set.
    pub(crate) fn withdraw(&mut self, key: Key) {
        match self.slab.get(key).state {
            State::Queued => {
                self.count_out(key);
                self.leave(key);
            }
            State::Parked { until } => {
                self.parked.remove(&(until, key));
                self.leave(key);
            }
            State::Granted { .. } | State::Refused(_) | State::Moved(_) => {}
        }
    }

    /// A request that is still known.
    pub(crate) fn find(&mut self, key: Key) -> Option<&mut Waiter<W>> {
        self.slab.find(key)
    }

    /// A request that is known to exist.
    pub(crate) fn waiter(&self, key: Key) -> &Waiter<W> {
        self.slab.get(key)
    }

    /// The same, to change.
    pub(crate) fn waiter_mut(&mut self, key: Key) -> &mut Waiter<W> {
        self.slab.get_mut(key)
    }

    /// Forgets a request that no longer waits.
    pub(crate) fn remove(&mut self, key: Key) -> Option<Waiter<W>> {
        self.slab.remove(key)
    }

    /// A request whose deadline has passed.
    pub(crate) fn expired(&mut self, now: Moment) -> Option<Key> {
        self.deadlines.expired(now, |key| self.slab.waits(key))
    }

    /// When to look for expired requests again, roughly: entries of those that left are included.
    pub(crate) fn next_deadline(&self) -> Option<Moment> {
        self.deadlines.next()
    }

    /// Takes the wakers of all requests that are known.
    pub(crate) fn take_wakers(&mut self) -> Vec<W> {
        self.slab.take_wakers()
    }

    /// The request that has waited longest in a lane, parked ones included.
    pub(crate) fn oldest(&self, lane: Lane) -> Option<Key> {
        let oldest = self.lanes[lane as usize].oldest;
        (oldest != NONE).then(|| self.slab.key(oldest))
    }

    /// Whose request it is: caller, lane and weight.
    pub(crate) fn owner(&self, key: Key) -> (CallerId, Lane, u32) {
        let flow = &self.flows[self.slab.get(key).flow as usize];
        (flow.caller, flow.lane, flow.weight)
    }

    /// What waits, by caller and lane.
    pub(crate) fn lines(&self) -> impl Iterator<Item = Line> {
        self.flows.iter().filter(|flow| flow.waiting > 0).map(|flow| {
            let since = flow.order.head().map_or(Moment::NEVER, |head| self.slab.at(head).since);
            let mut entitlement = flow.entitlement;
            if flow.backlog != NONE {
                entitlement.count(self.lanes[flow.lane as usize].fluid, flow.weight);
            }
            let (served, due) = (entitlement.served, entitlement.due);
            Line { caller: flow.caller, lane: flow.lane, waiting: flow.waiting, since, served, due }
        })
    }

    /// A caller's flow in a lane, at its present weight.
    fn flow(&mut self, caller: CallerId, lane: Lane, weight: u32) -> u32 {
        let weight = weight.max(1);
        if let Some(&index) = self.by_caller.get(&(caller, lane)) {
            self.weigh(index, weight);
            return index;
        }
        self.forget_idle_flows();
        let flow = Flow::new(caller, lane, weight);
        let index = if let Some(index) = self.free_flows.pop() {
            self.flows[index as usize] = flow;
            index
        } else {
            self.flows.push(flow);
            u32::try_from(self.flows.len() - 1).unwrap_or(NONE)
        };
        self.by_caller.insert((caller, lane), index);
        index
    }

    /// Flows with nothing waiting that are not ahead of the others are as good as new ones.
    fn forget_idle_flows(&mut self) {
        if self.by_caller.len() < 64 + 2 * self.backlogs.len() {
            return;
        }
        let (flows, lanes) = (&self.flows, &self.lanes);
        let free = &mut self.free_flows;
        self.by_caller.retain(|_, &mut index| {
            let flow = &flows[index as usize];
            let keep = flow.waiting > 0 || flow.tag > lanes[flow.lane as usize].time;
            if !keep {
                free.push(index);
            }
            keep
        });
    }

    fn enter(&mut self, key: Key, lane: Lane) {
        let waiter = self.slab.get(key);
        let bytes = waiter.bytes as usize;
        let flow = &mut self.flows[waiter.flow as usize];
        flow.waiting += 1;
        flow.bytes += bytes;
        self.waiting += 1;
        self.bytes += bytes;
        let lane = &mut self.lanes[lane as usize];
        lane.waiting += 1;
        lane.bytes += bytes;
        let before = std::mem::replace(&mut lane.youngest, key.index);
        if before == NONE {
            lane.oldest = key.index;
        } else {
            self.slab.at_mut(before).next = key.index;
        }
        let waiter = self.slab.get_mut(key);
        (waiter.previous, waiter.next) = (before, NONE);
        if self.deadlines.len() > 64 + 2 * self.waiting {
            let slab = &self.slab;
            self.deadlines.retain(|key| slab.waits(key));
        }
    }

    fn leave(&mut self, key: Key) {
        let waiter = self.slab.get(key);
        let (bytes, previous, next) = (waiter.bytes as usize, waiter.previous, waiter.next);
        let flow = &mut self.flows[waiter.flow as usize];
        flow.waiting -= 1;
        flow.bytes -= bytes;
        self.waiting -= 1;
        self.bytes -= bytes;
        let lane = &mut self.lanes[flow.lane as usize];
        lane.waiting -= 1;
        lane.bytes -= bytes;
        if previous == NONE {
            lane.oldest = next;
        } else {
            self.slab.at_mut(previous).next = next;
        }
        if next == NONE {
            lane.youngest = previous;
        } else {
            self.slab.at_mut(next).previous = previous;
        }
        if self.waiting == 0 {
            self.deadlines.clear();
        }
    }
}
