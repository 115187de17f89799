//! How long a request will wait: by what is served before it, and by how fast its caller is served.

use std::cell::RefCell;

use crate::admission::moment::Moment;
use crate::caller::{CallerId, Lane};

use super::Queue;
use super::fair::part_of;
use super::flow::{Backlog, NONE};

/// Work that waits before a request.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Ahead {
    pub(crate) requests: f64,
    pub(crate) tokens: f64,
    /// Dominant shares, in windows of the limit that binds.
    pub(crate) share: f64,
}

/// The most callers for which everything is added up for each prediction.
const FEW: usize = 64;
/// Of any number of callers this many are added up, where no more are ahead.
const NEAR: usize = 32;
/// With more callers, the divisor of their number, and of the lane's tokens, that gives how many
/// must have changed before a sum is made anew.
const STALE: u64 = 8;
/// A sum for each quarter of each power of two that a virtual time may be away from the least one,
/// and for 0.
const SUMS: usize = 1 + 4 * OCTAVES;
const OCTAVES: usize = 62;
/// Distances below this, in windows of the limit at weight 1, count as 0.
const LEAST: f64 = 1.0 / (1_u64 << 40) as f64;

/// Sums over a lane's backlogs, remembered at some distances from its least virtual time; between
/// them it is a line.
///
/// With a thousand callers one sum takes microseconds. A distance and not a time, for the times all
/// move on as requests are served: what lies ahead at a distance stays about the same.
#[derive(Debug, Default)]
pub(super) struct Outlook {
    sums: RefCell<Vec<Remembered>>,
    changes: u64,
    /// Dominant shares that came to wait, or no longer do.
    changed: f64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Remembered {
    ahead: Ahead,
    /// How much had changed by then, and one more than that many changes; 0 is never.
    changes: u64,
    changed: f64,
}

impl Outlook {
    /// This share came to wait, or no longer does.
    pub(super) fn changed(&mut self, share: f64) {
        self.changes += 1;
        self.changed += share;
    }

    /// What `sum` says at a distance, or would have said not long ago.
    fn at(&self, distance: f64, backlogs: usize, share: f64, sum: impl Fn(f64) -> Ahead) -> Ahead {
        let mut sums = self.sums.borrow_mut();
        sums.resize(SUMS + 1, Remembered::default());
        let mut known = |index: usize| {
            let known = &mut sums[index];
            let fresh = known.changes > 0
                && (self.changes + 1 - known.changes) * STALE <= backlogs as u64
                && (self.changed - known.changed) * STALE as f64 <= share;
            if !fresh {
                let ahead = sum(distance_of(index));
                *known = Remembered { ahead, changes: self.changes + 1, changed: self.changed };
            }
            known.ahead
        };
        let below = index_of(distance);
        let (low, high) = (distance_of(below), distance_of(below + 1));
        let ahead = known(below);
        if distance <= low {
            return ahead;
        }
        let part = ((distance - low) / (high - low)).min(1.0);
        ahead.plus(known(below + 1).less(ahead).times(part))
    }
}

#[cfg(test)]
impl Outlook {
    /// Bytes that it has taken from the allocator.
    pub(super) fn footprint(&self) -> usize {
        self.sums.borrow().capacity() * size_of::<Remembered>()
    }
}

/// The remembered distance at or below this one: a float's exponent and the first two bits of its
/// fraction.
fn index_of(distance: f64) -> usize {
    if distance < LEAST {
        return 0;
    }
    let quarters = (distance.to_bits() >> 50) - (LEAST.to_bits() >> 50);
    usize::try_from(quarters).unwrap_or(SUMS).min(SUMS - 2) + 1
}

fn distance_of(index: usize) -> f64 {
    let Some(index) = index.checked_sub(1) else { return 0.0 };
    f64::from_bits(((LEAST.to_bits() >> 50) + index as u64) << 50)
}

impl Ahead {
    fn plus(self, other: Self) -> Self {
        Self {
            requests: self.requests + other.requests,
            tokens: self.tokens + other.tokens,
            share: self.share + other.share,
        }
    }

    fn less(self, other: Self) -> Self {
        self.plus(other.times(-1.0))
    }

    fn times(self, by: f64) -> Self {
        Self { requests: self.requests * by, tokens: self.tokens * by, share: self.share * by }
    }
}

impl Backlog {
    /// What of it is served before a virtual time: until its own passes that, which is on average
    /// half a request further.
    fn served_before(&self, start: f64) -> Ahead {
        let until = (start - self.start) * self.weight + self.share / self.requests.max(1.0) / 2.0;
        let part = if self.share > 0.0 { (until / self.share).min(1.0) } else { 1.0 };
        Ahead { requests: self.requests, tokens: self.tokens, share: self.share }.times(part)
    }
}

impl<W> Queue<W> {
    /// What would be served before a new request of this caller with this deadline.
    pub(crate) fn ahead(
        &self,
        caller: CallerId,
        lane: Lane,
        deadline: Moment,
        background_share: f64,
    ) -> Ahead {
        let state = &self.lanes[lane as usize];
        let (start, floor) = (self.start(caller, lane, deadline), state.floor().as_windows());
        let near = state.order.iter().take(NEAR + 1).take_while(|(tag, _)| tag.as_windows() <= start);
        let mut ahead = if near.clone().count() <= NEAR {
            near.map(|&(_, flow)| &self.backlogs[self.flows[flow as usize].backlog as usize])
                .fold(Ahead::default(), |ahead, backlog| ahead.plus(backlog.served_before(start)))
        } else if self.backlogs.len() <= FEW {
            self.served_before(start, lane)
        } else {
            let sum = |distance: f64| self.served_before(floor + distance, lane);
            self.outlooks[lane as usize].at(start - floor, self.backlogs.len(), state.share, sum)
        };
        let own = part_of(lane, background_share);
        let other = &self.lanes[1 - lane as usize];
        if other.requests > 0 {
            let mean = other.share / other.requests as f64;
            let theirs = (ahead.share + mean) * (1.0 - own) / own;
            let part = if other.share > 0.0 { (theirs / other.share).min(1.0) } else { 1.0 };
            let all =
                Ahead { requests: other.requests as f64, tokens: other.tokens as f64, share: other.share };
            ahead = ahead.plus(all.times(part));
        }
        ahead
    }

    /// The virtual time at which a new request of this caller has its turn, in windows of the
    /// limit.
    fn start(&self, caller: CallerId, lane: Lane, deadline: Moment) -> f64 {
        let state = &self.lanes[lane as usize];
        let Some(&index) = self.by_caller.get(&(caller, lane)) else { return state.floor().as_windows() };
        let flow = &self.flows[index as usize];
        if flow.backlog == NONE {
            return state.entry(flow).as_windows();
        }
        flow.tag.as_windows() + flow.order.ahead(&self.slab, deadline) / f64::from(flow.weight)
    }

    /// What of a lane is served before a virtual time.
    fn served_before(&self, start: f64, lane: Lane) -> Ahead {
        let backlogs = self.backlogs.iter().filter(|backlog| backlog.lane == lane && backlog.start <= start);
        backlogs.fold(Ahead::default(), |ahead, backlog| ahead.plus(backlog.served_before(start)))
    }

    /// Seconds until a new request of this caller is served, as fast as its lane was served of
    /// late.
    pub(crate) fn measured_wait(
        &self,
        caller: CallerId,
        lane: Lane,
        deadline: Moment,
        now: Moment,
    ) -> Option<f64> {
        let state = &self.lanes[lane as usize];
        let ahead = self.start(caller, lane, deadline) - state.time.as_windows();
        state.progress.wait(ahead, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::limits::Cost;
    use crate::admission::queue::Waiter;

    #[test]
    fn distances_and_their_places_agree() {
        for index in 0..SUMS {
            assert_eq!(index_of(distance_of(index)), index);
            assert!(distance_of(index + 1) > distance_of(index), "{index}");
        }
        for distance in [0.0, 1e-15, 1e-9, 0.001, 1.0, 5.0, 1e6] {
            let index = index_of(distance);
            assert!(index < SUMS && distance_of(index) <= distance, "{distance}");
            assert!(distance_of(index + 1) >= distance, "{distance}");
        }
    }

    /// Callers of all weights and sizes come, are served and leave; what is remembered stays near
    /// what is so.
    #[test]
    fn what_is_remembered_is_near_what_is_so() {
        let mut rng = fastrand::Rng::with_seed(3);
        let mut queue: Queue<()> = Queue::new();
        let mut keys = Vec::new();
        let mut errors = Vec::new();
        for step in 0..60_000_u32 {
            let now = Moment::START.plus_seconds(f64::from(step) * 0.001);
            let caller = rng.u16(0..400);
            // Some have a hundred times as much waiting as others.
            let count = if step < 20_000 { 1 + usize::from(caller.is_multiple_of(50)) * 20 } else { 1 };
            for _ in 0..count {
                let tokens = rng.u64(1..200) * (1 + u64::from(caller % 7));
                let cost = Cost { tokens, ..Cost::default() };
                let waiter = Waiter::new(cost, 0, now, Moment::NEVER, 0.0);
                let owner = (CallerId(caller), Lane::Interactive, 1 + u32::from(caller % 3));
                keys.push(queue.push(waiter, owner, tokens as f64 * 1e-6, Moment::START, now));
            }
            if step > 2000 && rng.bool() {
                let key = queue.next(0.1, |_| 0.0).expect("somebody waits").key;
                let share = queue.waiter(key).share;
                queue.serve(key, share, 0.1, now);
                queue.remove(key);
            }
            if rng.u8(..) < 60 {
                let key = keys.swap_remove(rng.usize(..keys.len()));
                if queue.find(key).is_some() {
                    queue.withdraw(key);
                    queue.remove(key);
                }
            }
            if step > 4000 && queue.backlogs.len() > FEW {
                let (caller, lane) = (CallerId(caller), Lane::Interactive);
                let remembered = queue.ahead(caller, lane, Moment::NEVER, 0.1);
                let fresh = queue.served_before(queue.start(caller, lane, Moment::NEVER), lane);
                // Where little is ahead of it, it waits for hundredths of what waits in all.
                let least = queue.lanes[lane as usize].tokens as f64 * 0.01;
                errors.push((remembered.tokens - fresh.tokens).abs() / fresh.tokens.max(least));
            }
        }
        errors.sort_by(f64::total_cmp);
        assert!(errors.len() > 10_000);
        let (median, most) = (errors[errors.len() / 2], errors[errors.len() * 99 / 100]);
        // What comes of it is a wait that nobody knows to a tenth.
        assert!(median < 0.005 && most < 0.08, "{median} at the median, {most} in 99 of 100");
    }
}
