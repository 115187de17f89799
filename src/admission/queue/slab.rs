//! Where waiting requests are kept: one place each, reused, with a generation so that a late key
//! finds nothing.

use std::time::Duration;

use crate::admission::limits::{Charge, Cost};
use crate::admission::machine::{Request, Route};
use crate::admission::moment::Moment;
use crate::admission::refusal::Refused;

use super::flow::NONE;
use super::order::Node;

/// How far behind its deadline a request that failed during an outage stands in its caller's order:
/// longer than any deadline.
const BEHIND: Duration = Duration::from_hours(48);

/// Names a waiting request; valid until it is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub(super) index: u32,
    generation: u32,
}

/// How a request in the slab stands.
#[derive(Debug)]
pub(crate) enum State {
    /// In its caller's order.
    Queued,
    /// Not before that moment; it holds up nobody until then.
    Parked { until: Moment },
    /// Its turn came; what was taken for it waits to be claimed.
    Granted { at: Moment, charge: Charge, member: u16, probe: bool, quota_probe: bool },
    /// It will have no turn.
    Refused(Refused),
    /// It waits in another queue from now on.
    Moved(Box<Request>),
}

/// Where a request stands among those of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Precedence {
    /// Before all others: it is larger than a limit, and what comes of its one try is told soon.
    Try,
    /// Before all others: it is back after a refusal, and waits at its full price.
    Requeued,
    /// By its deadline.
    ByDeadline,
    /// After all others: it failed during the outage that it waits out, and is not to be each probe
    /// of it.
    Behind,
}

/// A waiting request.
#[derive(Debug)]
pub(crate) struct Waiter<W> {
    pub(crate) state: State,
    /// What to wake when the state changes.
    pub(crate) waker: Option<W>,
    pub(crate) cost: Cost,
    pub(crate) bytes: u32,
    pub(crate) since: Moment,
    pub(crate) deadline: Moment,
    /// Seconds that it was expected to wait.
    pub(crate) predicted: f32,
    /// It may ask whether a spent quota is back.
    pub(crate) asks_quota: bool,
    pub(crate) precedence: Precedence,
    /// The upstreams that it may go to, and until when not to the one that it was refused by.
    pub(crate) route: Route,
    pub(crate) barred_until: Moment,
    /// The dominant share that it was expected to take, in windows of the limit that binds.
    pub(super) share: f64,
    /// Tells requests apart that came at the same moment.
    pub(super) sequence: u32,
    pub(super) flow: u32,
    pub(super) node: Node,
    /// Its neighbors among all that wait in its lane, by arrival here.
    pub(super) previous: u32,
    pub(super) next: u32,
}

impl<W> Waiter<W> {
    pub(crate) fn new(cost: Cost, bytes: usize, since: Moment, deadline: Moment, predicted: f32) -> Self {
        Self {
            state: State::Queued,
            waker: None,
            cost,
            bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
            since,
            deadline,
            predicted,
            asks_quota: false,
            precedence: Precedence::ByDeadline,
            route: Route::default(),
            barred_until: Moment::START,
            share: 0.0,
            sequence: 0,
            flow: NONE,
            node: Node::default(),
            previous: NONE,
            next: NONE,
        }
    }

    /// What its place in its caller's order is decided by first.
    pub(super) fn rank(&self) -> Moment {
        match self.precedence {
            Precedence::Try | Precedence::Requeued => Moment::START,
            Precedence::ByDeadline => self.deadline,
            Precedence::Behind => self.deadline.plus(BEHIND),
        }
    }

    /// Whether it is back after a refusal.
    pub(crate) fn is_requeued(&self) -> bool {
        self.precedence == Precedence::Requeued
    }

    pub(crate) fn waits(&self) -> bool {
        matches!(self.state, State::Queued | State::Parked { .. })
    }
}

/// Places for waiting requests.
#[derive(Debug)]
pub(crate) struct Slab<W> {
    places: Vec<Place<W>>,
    free: Vec<u32>,
    /// Of places never used before: above all that were ever used.
    first_generation: u32,
}

#[derive(Debug)]
struct Place<W> {
    generation: u32,
    waiter: Option<Waiter<W>>,
}

impl<W> Default for Slab<W> {
    fn default() -> Self {
        Self { places: Vec::new(), free: Vec::new(), first_generation: 0 }
    }
}

impl<W> Slab<W> {
    pub(crate) fn insert(&mut self, waiter: Waiter<W>) -> Key {
        if let Some(index) = self.free.pop() {
            let place = &mut self.places[index as usize];
            place.waiter = Some(waiter);
            return Key { index, generation: place.generation };
        }
        let generation = self.first_generation;
        if self.places.len() == self.places.capacity() {
            // By a quarter, not to twice as much: places are what a long queue's memory consists
            // of.
            self.places.reserve_exact((self.places.len() / 4).max(16));
        }
        self.places.push(Place { generation, waiter: Some(waiter) });
        Key { index: u32::try_from(self.places.len() - 1).unwrap_or(u32::MAX), generation }
    }

    /// The key of an occupied place.
    pub(crate) fn key(&self, index: u32) -> Key {
        Key { index, generation: self.places[index as usize].generation }
    }

    pub(crate) fn find(&mut self, key: Key) -> Option<&mut Waiter<W>> {
        let place = self.places.get_mut(key.index as usize)?;
        if place.generation == key.generation { place.waiter.as_mut() } else { None }
    }

    /// # Panics
    /// When the place is empty: keys inside the queue are those of requests that it holds.
    pub(crate) fn get(&self, key: Key) -> &Waiter<W> {
        self.places[key.index as usize].waiter.as_ref().expect("the queue's own keys name waiting requests")
    }

    /// # Panics
    /// As [`Slab::get`].
    pub(super) fn at(&self, index: u32) -> &Waiter<W> {
        self.places[index as usize].waiter.as_ref().expect("the queue's own indices name waiting requests")
    }

    /// # Panics
    /// As [`Slab::get`].
    pub(super) fn at_mut(&mut self, index: u32) -> &mut Waiter<W> {
        self.places[index as usize].waiter.as_mut().expect("the queue's own indices name waiting requests")
    }

    /// # Panics
    /// As [`Slab::get`].
    pub(crate) fn get_mut(&mut self, key: Key) -> &mut Waiter<W> {
        self.places[key.index as usize].waiter.as_mut().expect("the queue's own keys name waiting requests")
    }

    pub(crate) fn waits(&self, key: Key) -> bool {
        self.places.get(key.index as usize).is_some_and(|place| {
            place.generation == key.generation && place.waiter.as_ref().is_some_and(Waiter::waits)
        })
    }

    pub(crate) fn take_wakers(&mut self) -> Vec<W> {
        let waiters = self.places.iter_mut().filter_map(|place| place.waiter.as_mut());
        waiters.filter_map(|waiter| waiter.waker.take()).collect()
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<Waiter<W>> {
        let place = self.places.get_mut(key.index as usize)?;
        if place.generation != key.generation {
            return None;
        }
        let waiter = place.waiter.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(key.index);
        // A burst's memory is given back once nothing waits.
        if self.free.len() == self.places.len() && self.places.len() > 4096 {
            let latest = self.places.iter().map(|place| place.generation).max().unwrap_or_default();
            *self = Self { first_generation: latest.wrapping_add(1), ..Self::default() };
        }
        Some(waiter)
    }
}

#[cfg(test)]
impl<W> Slab<W> {
    /// Bytes that it has taken from the allocator.
    pub(super) fn footprint(&self) -> usize {
        self.places.capacity() * size_of::<Place<W>>() + self.free.capacity() * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_key_finds_nothing() {
        let mut slab: Slab<u8> = Slab::default();
        let waiter = || Waiter::new(Cost::default(), 0, Moment::START, Moment::NEVER, 0.0);
        let first = slab.insert(waiter());
        assert!(slab.remove(first).is_some());
        let second = slab.insert(waiter());
        assert_eq!(first.index, second.index);
        assert!(slab.find(first).is_none() && slab.remove(first).is_none());
        // Also after the memory of a burst was given back.
        let keys: Vec<Key> = (0..5000).map(|_| slab.insert(waiter())).collect();
        for key in keys.iter().chain([&second]) {
            assert!(slab.remove(*key).is_some());
        }
        for _ in 0..5001 {
            let _ = slab.insert(waiter());
        }
        assert!(keys.iter().all(|key| slab.find(*key).is_none()));
    }
}
