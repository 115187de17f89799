//! How long a request will wait: by what is served before it, and by how fast its caller is served.

use std::cell::RefCell;

use crate::admission::moment::Moment;
use crate::caller::{CallerId, Lane};

use super::row::MEASURED;
use super::{Queue, UNIT};

/// Work that waits before a request.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Ahead {
    pub(crate) requests: f64,
    pub(crate) tokens: f64,
}

/// Up to so many callers everything is added up for each prediction.
const FEW: usize = 64;
/// With more, a sum stands until one in so many of them changed, or as small a part of the lane's tokens.
const STALE: u64 = 4;
/// A sum for each quarter of each power of two that the counter may be away from the least one, and for 0.
const SUMS: usize = 1 + 4 * 62;

/// Sums over a lane's backlogs, remembered at some distances from its least counter; between them it is a line.
///
/// With a thousand callers one sum takes microseconds. A distance and not a counter, for the counters all move on as they are
/// served: what lies ahead at a distance stays about the same.
#[derive(Debug, Default)]
pub(super) struct Outlook {
    sums: RefCell<Vec<Remembered>>,
    changes: u64,
    changed_tokens: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Remembered {
    ahead: Ahead,
    /// How much had changed by then, and one more than that many changes; 0 is never.
    changes: u64,
    changed_tokens: u64,
}

impl Outlook {
    /// So many tokens came to wait, or no longer do.
    pub(super) fn changed(&mut self, tokens: u64) {
        self.changes += 1;
        self.changed_tokens = self.changed_tokens.wrapping_add(tokens);
    }

    /// What `sum` says at a distance, or would have said not long ago.
    fn at(&self, distance: u64, backlogs: usize, tokens: u64, sum: impl Fn(u64) -> Ahead) -> Ahead {
        let mut sums = self.sums.borrow_mut();
        sums.resize(SUMS + 1, Remembered::default());
        let mut known = |index: usize| {
            let known = &mut sums[index];
            let fresh = known.changes > 0
                && (self.changes + 1 - known.changes) * STALE <= backlogs as u64
                && self.changed_tokens.wrapping_sub(known.changed_tokens) <= tokens / STALE;
            if !fresh {
                let (changes, changed_tokens) = (self.changes + 1, self.changed_tokens);
                *known = Remembered { ahead: sum(distance_of(index)), changes, changed_tokens };
            }
            known.ahead
        };
        let below = index_of(distance);
        let (low, high) = (distance_of(below), distance_of(below + 1));
        let mut ahead = known(below);
        if distance > low {
            let further = known(below + 1);
            let part = (distance - low) as f64 / (high - low).max(1) as f64;
            ahead.tokens += (further.tokens - ahead.tokens) * part;
            ahead.requests += (further.requests - ahead.requests) * part;
        }
        ahead
    }
}

#[cfg(test)]
impl Outlook {
    /// Bytes that it has taken from the allocator.
    pub(super) fn footprint(&self) -> usize {
        self.sums.borrow().capacity() * size_of::<Remembered>()
    }
}

/// The remembered distance at or below this one.
fn index_of(distance: u64) -> usize {
    if distance < 4 {
        return 0;
    }
    let octave = 61 - distance.leading_zeros() as usize;
    let quarter = usize::try_from(distance >> octave).unwrap_or(4) - 4;
    1 + 4 * octave + quarter
}

fn distance_of(index: usize) -> u64 {
    let Some(index) = index.checked_sub(1) else { return 0 };
    let distance = (4 + index as u128 % 4) << (index / 4);
    u64::try_from(distance).unwrap_or(u64::MAX)
}

impl<W> Queue<W> {
    /// What would be served before a new request of this caller.
    pub(crate) fn ahead(&self, caller: CallerId, lane: Lane, background_share: f64) -> Ahead {
        let (start, floor) = (self.start(caller, lane), self.floor(lane));
        let mut ahead = if self.backlogs.len() <= FEW {
            self.served_before(start, lane)
        } else {
            let tokens = self.lanes[lane as usize].tokens;
            let sum = |distance: u64| self.served_before(floor.saturating_add(distance), lane);
            self.outlooks[lane as usize].at(start.saturating_sub(floor), self.backlogs.len(), tokens, sum)
        };
        let other = &self.lanes[1 - lane as usize];
        let other_lane = Ahead { requests: other.requests as f64, tokens: other.tokens as f64 };
        let share = match lane {
            Lane::Interactive => background_share / (1.0 - background_share),
            Lane::Background => (1.0 - background_share) / background_share,
        };
        let portion = if other_lane.tokens > 0.0 {
            ((ahead.tokens + 1.0) * share / other_lane.tokens).min(1.0)
        } else {
            1.0
        };
        ahead.tokens += other_lane.tokens * portion;
        ahead.requests += other_lane.requests * portion;
        ahead
    }

    /// The counter at which a new request of this caller has its turn.
    fn start(&self, caller: CallerId, lane: Lane) -> u64 {
        let row = self.by_caller.get(&(caller, lane)).map(|&index| &self.rows[index as usize]);
        let own = row.and_then(|row| self.backlogs.get(row.backlog as usize));
        let floor = self.floor(lane);
        match (row, own) {
            (Some(row), Some(own)) => {
                row.counter.saturating_add(own.tokens.saturating_mul(UNIT) / u64::from(row.weight))
            }
            (Some(row), None) => row.counter.max(floor),
            (None, _) => floor,
        }
    }

    /// What of a lane is served before a counter reaches `start`.
    fn served_before(&self, start: u64, lane: Lane) -> Ahead {
        let mut ahead = Ahead::default();
        let start = start as f64;
        for backlog in &self.backlogs {
            let sums = &backlog.sums;
            if backlog.lane == lane && sums.counter <= start {
                // It is served until its counter passes the start, which is on average half a request further.
                let until = (start - sums.counter) * sums.per_count + sums.half_mean;
                let tokens = until.min(sums.tokens);
                ahead.tokens += tokens;
                ahead.requests += tokens * sums.per_token;
            }
        }
        ahead
    }

    /// Seconds until a new request of this caller is served, at the rate at which its row has been served of late. It knows
    /// what the backlogs don't: how much of the limit those take who never wait for long.
    pub(crate) fn measured_wait(&self, caller: CallerId, lane: Lane, now: Moment) -> Option<f64> {
        let row = &self.rows[*self.by_caller.get(&(caller, lane))? as usize];
        let backlog = self.backlogs.get(row.backlog as usize)?;
        let fresh = row.service.since.is_some_and(|since| now.seconds_since(since) < 2.0 * MEASURED);
        let rate = row.service.rate.filter(|_| fresh && row.service.steady)?;
        Some(backlog.tokens as f64 / rate.max(1e-9))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::queue::Waiter;
    use crate::admission::quota::Cost;

    #[test]
    fn distances_and_their_places_agree() {
        for index in 0..SUMS {
            assert_eq!(index_of(distance_of(index)), index);
            assert!(distance_of(index + 1) > distance_of(index), "{index}");
        }
        for distance in [0, 1, 3, 4, 5, 1000, 123_456_789, u64::MAX] {
            let index = index_of(distance);
            assert!(index < SUMS && distance_of(index) <= distance, "{distance}");
            assert!(distance_of(index + 1) >= distance, "{distance}");
        }
    }

    /// Callers of all weights and sizes come, are served and leave; what is remembered stays near what is so.
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
                let cost = Cost { tokens: rng.u64(1..200) * (1 + u64::from(caller % 7)), ..Cost::default() };
                let waiter = Waiter::new(cost, 0, now, Moment::NEVER, 0.0);
                keys.push(queue.push_back(
                    waiter,
                    CallerId(caller),
                    Lane::Interactive,
                    1 + u32::from(caller % 3),
                ));
            }
            if step > 2000 && rng.bool() {
                let key = queue.next(0.1).expect("somebody waits");
                queue.serve(key, now);
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
                let remembered = queue.ahead(caller, lane, 0.1);
                let fresh = queue.served_before(queue.start(caller, lane), lane);
                errors.push((remembered.tokens - fresh.tokens).abs() / fresh.tokens.max(1.0));
            }
        }
        errors.sort_by(f64::total_cmp);
        assert!(errors.len() > 10_000);
        let (median, most) = (errors[errors.len() / 2], errors[errors.len() * 99 / 100]);
        // What comes of it is a wait that nobody knows to a tenth.
        assert!(median < 0.005 && most < 0.08, "{median} at the median, {most} in 99 of 100");
    }
}
