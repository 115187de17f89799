//! The fair queue of one scope: weighted by caller and counted in tokens, with a lane for background work.
//!
//! Each caller has a virtual counter, advanced by tokens ÷ weight as it is served; the caller with the least is next. A
//! caller that was idle is lifted to the least counter of those that wait: idleness earns nothing. The two lanes share by the
//! same rule, the background lane with a small fixed part.

mod deadlines;
mod row;
mod links;
mod prediction;
mod slab;

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};

use foldhash::quality::RandomState;

use crate::caller::{CallerId, Lane};

use super::moment::Moment;
use super::settings::QueueSettings;

use deadlines::Deadlines;
use prediction::Outlook;
use row::{Backlog, LaneState, NONE, Row, Service};
pub use slab::Key;
pub(crate) use slab::{Slab, State, Waiter};

/// Virtual time per token at weight 1; a weight divides it.
const UNIT: u64 = 1 << 10;
/// The waiting requests of one scope. The fields lie as they are written: who needs not wait looks at the first two.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Queue<W> {
    waiting: usize,
    /// What is waiting of each caller that has any, densely packed: predictions read them all.
    backlogs: Vec<Backlog>,
    bytes: usize,
    slab: Slab<W>,
    rows: Vec<Row>,
    free_rows: Vec<u32>,
    by_caller: HashMap<(CallerId, Lane), u32, RandomState>,
    lanes: [LaneState; 2],
    /// What predictions remember, by lane.
    outlooks: [Outlook; 2],
    deadlines: Deadlines,
    /// Requests that know they cannot pass before a moment, by that moment.
    parked: BTreeSet<(Moment, Key)>,
}

/// Which bound a request would exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    Queue,
    Caller,
}

impl<W> Queue<W> {
    pub(crate) fn new() -> Self {
        Self {
            slab: Slab::default(),
            rows: Vec::new(),
            free_rows: Vec::new(),
            by_caller: HashMap::with_hasher(RandomState::default()),
            backlogs: Vec::new(),
            lanes: [LaneState::default(), LaneState::default()],
            outlooks: [Outlook::default(), Outlook::default()],
            deadlines: Deadlines::default(),
            parked: BTreeSet::new(),
            waiting: 0,
            bytes: 0,
        }
    }

    /// Requests queued or parked.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
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
        if self.waiting >= settings.max_waiting || self.bytes.saturating_add(bytes) > settings.max_bytes {
            return Err(Full::Queue);
        }
        let Some(row) = self.by_caller.get(&(caller, lane)).map(|&row| &self.rows[row as usize]) else {
            return Ok(());
        };
        let full = row.waiting >= settings.max_waiting_per_caller
            || row.bytes.saturating_add(bytes) > settings.max_bytes_per_caller;
        if full { Err(Full::Caller) } else { Ok(()) }
    }

    /// Adds a request at the end of its caller's row.
    pub(crate) fn push_back(
        &mut self,
        mut waiter: Waiter<W>,
        caller: CallerId,
        lane: Lane,
        weight: u32,
    ) -> Key {
        let row = self.row(caller, lane, weight);
        waiter.row = row;
        let (deadline, bytes) = (waiter.deadline, waiter.bytes as usize);
        let key = self.slab.insert(waiter);
        self.enter(row, bytes);
        self.link_back(key);
        self.deadlines.push(deadline, key);
        key
    }

    /// Adds a request at the head of its caller's row; until `not_before` it holds up nobody.
    pub(crate) fn push_front(
        &mut self,
        mut waiter: Waiter<W>,
        caller: CallerId,
        lane: Lane,
        weight: u32,
        not_before: Moment,
        now: Moment,
    ) -> Key {
        let row = self.row(caller, lane, weight);
        waiter.row = row;
        let (deadline, bytes) = (waiter.deadline, waiter.bytes as usize);
        let key = self.slab.insert(waiter);
        self.enter(row, bytes);
        if not_before > now {
            self.slab.get_mut(key).state = State::Parked { until: not_before };
            self.parked.insert((not_before, key));
        } else {
            self.link_front(key);
        }
        self.deadlines.push(deadline, key);
        key
    }

    /// Lets parked requests whose time has come take the head of their row.
    pub(crate) fn unpark(&mut self, now: Moment) {
        while let Some(&(until, key)) = self.parked.first() {
            if until > now {
                return;
            }
            self.parked.remove(&(until, key));
            self.slab.get_mut(key).state = State::Queued;
            self.link_front(key);
        }
    }

    /// When the next parked request may go.
    pub(crate) fn next_unpark(&self) -> Option<Moment> {
        self.parked.first().map(|parked| parked.0)
    }

    /// The request whose turn it is.
    pub(crate) fn next(&self, background_share: f64) -> Option<Key> {
        let lane = self.next_lane(background_share)?;
        let &(_, row) = self.lanes[lane as usize].order.first()?;
        Some(self.slab.key(self.rows[row as usize].head))
    }

    /// Takes the request whose turn it is out of the queue, to be served: its caller's counter advances.
    pub(crate) fn serve(&mut self, key: Key, now: Moment) {
        let (row, tokens) = {
            let waiter = self.slab.get(key);
            (waiter.row, waiter.cost.tokens.max(1))
        };
        self.unlink(key);
        let (lane, before, after) = {
            let row = &mut self.rows[row as usize];
            let before = row.counter;
            row.counter += (tokens * UNIT) / u64::from(row.weight);
            if row.backlog == NONE {
                row.service = Service::default();
            } else {
                row.service.served(tokens, now);
            }
            (row.lane, before, row.counter)
        };
        let state = &mut self.lanes[lane as usize];
        state.reached = state.reached.max(before);
        state.counter += tokens;
        if state.order.remove(&(before, row)) {
            state.order.insert((after, row));
            let backlog = self.rows[row as usize].backlog;
            let backlog = &mut self.backlogs[backlog as usize];
            backlog.counter = after;
            backlog.sum_up();
        }
        self.leave(key);
    }

    /// Takes a request out of the queue wherever it stands; its state is the caller's to set.
    pub(crate) fn withdraw(&mut self, key: Key) {
        match self.slab.get(key).state {
            State::Queued => {
                self.unlink(key);
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

    /// Every request that waits in a lane, in no order.
    pub(crate) fn keys(&self, lane: Option<Lane>) -> Vec<Key> {
        self.slab
            .waiting()
            .filter(|&(_, waiter)| lane.is_none_or(|lane| self.rows[waiter.row as usize].lane == lane))
            .map(|(key, _)| key)
            .collect()
    }

    /// Whose request it is: caller, lane and weight.
    pub(crate) fn owner(&self, key: Key) -> (CallerId, Lane, u32) {
        let row = &self.rows[self.slab.get(key).row as usize];
        (row.caller, row.lane, row.weight)
    }

    /// What waits, by caller and lane: (caller, lane, requests, oldest).
    pub(crate) fn rows(&self) -> impl Iterator<Item = (CallerId, Lane, usize, Moment)> {
        self.rows.iter().filter(|row| row.waiting > 0).map(|row| {
            let oldest =
                if row.head == NONE { Moment::NEVER } else { self.slab.get(self.slab.key(row.head)).since };
            (row.caller, row.lane, row.waiting, oldest)
        })
    }

    fn next_lane(&self, background_share: f64) -> Option<Lane> {
        let [interactive, background] = &self.lanes;
        match (interactive.order.is_empty(), background.order.is_empty()) {
            (true, true) => None,
            (false, true) => Some(Lane::Interactive),
            (true, false) => Some(Lane::Background),
            (false, false) => {
                let share = background_share.clamp(0.001, 0.999);
                let owed = interactive.counter as f64 / (1.0 - share) > background.counter as f64 / share;
                Some(if owed { Lane::Background } else { Lane::Interactive })
            }
        }
    }

    /// The least counter of a lane's waiting callers; the last served one's where none waits.
    pub(super) fn floor(&self, lane: Lane) -> u64 {
        let state = &self.lanes[lane as usize];
        state.order.first().map_or(state.reached, |&(counter, _)| counter)
    }

    fn row(&mut self, caller: CallerId, lane: Lane, weight: u32) -> u32 {
        let weight = weight.max(1);
        if let Some(&index) = self.by_caller.get(&(caller, lane)) {
            let row = &mut self.rows[index as usize];
            row.weight = weight;
            if row.backlog != NONE {
                let backlog = &mut self.backlogs[row.backlog as usize];
                if backlog.weight != weight {
                    backlog.weight = weight;
                    backlog.sum_up();
                    self.outlooks[lane as usize].changed(backlog.tokens);
                }
            }
            return index;
        }
        self.forget_idle_rows();
        let row = Row {
            caller,
            lane,
            weight,
            counter: 0,
            head: NONE,
            tail: NONE,
            waiting: 0,
            bytes: 0,
            backlog: NONE,
            service: Service::default(),
        };
        let index = if let Some(index) = self.free_rows.pop() {
            self.rows[index as usize] = row;
            index
        } else {
            self.rows.push(row);
            u32::try_from(self.rows.len() - 1).unwrap_or(NONE)
        };
        self.by_caller.insert((caller, lane), index);
        index
    }

    /// Lines with nothing waiting and no debt are as good as new ones.
    fn forget_idle_rows(&mut self) {
        if self.by_caller.len() < 64 + 2 * self.backlogs.len() {
            return;
        }
        let floors = Lane::ALL.map(|lane| self.floor(lane));
        let rows = &self.rows;
        let free = &mut self.free_rows;
        self.by_caller.retain(|_, &mut index| {
            let row = &rows[index as usize];
            let keep = row.waiting > 0 || row.counter > floors[row.lane as usize];
            if !keep {
                free.push(index);
            }
            keep
        });
    }

    fn enter(&mut self, row: u32, bytes: usize) {
        let row = &mut self.rows[row as usize];
        row.waiting += 1;
        row.bytes += bytes;
        self.waiting += 1;
        self.bytes += bytes;
        if self.deadlines.len() > 64 + 2 * self.waiting {
            let slab = &self.slab;
            self.deadlines.retain(|key| slab.waits(key));
        }
    }

    fn leave(&mut self, key: Key) {
        let waiter = self.slab.get(key);
        let bytes = waiter.bytes as usize;
        let row = &mut self.rows[waiter.row as usize];
        row.waiting -= 1;
        row.bytes -= bytes;
        self.waiting -= 1;
        self.bytes -= bytes;
        if self.waiting == 0 {
            self.deadlines.clear();
        }
    }
}
