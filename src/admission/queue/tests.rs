//! What waiting costs in memory, how fairly it ends, and in which order.

use std::mem::size_of;
use std::task::Waker;
use std::time::Duration;

use super::*;
use crate::admission::limits::Cost;

const CALLERS: u16 = 1000;
const BACKGROUND: f64 = 0.05;
/// What a tree or a table holds beyond its entries, at most: nodes half full, places left free.
const SPARSE: usize = 2;

impl<W> Queue<W> {
    /// Bytes that it has taken from the allocator, spare places included.
    fn footprint(&self) -> usize {
        let lanes: usize = self.lanes.iter().map(|lane| lane.order.len()).sum();
        self.slab.footprint()
            + self.flows.capacity() * size_of::<Flow>()
            + self.free_flows.capacity() * size_of::<u32>()
            + self.by_caller.capacity() * SPARSE * size_of::<((CallerId, Lane), u32)>()
            + self.backlogs.capacity() * size_of::<Backlog>()
            + lanes * SPARSE * size_of::<(Tag, u32)>()
            + self.parked.len() * SPARSE * size_of::<(Moment, Key)>()
            + self.outlooks.iter().map(Outlook::footprint).sum::<usize>()
            + self.deadlines.footprint()
    }

    /// The one that is next: its tokens are millionths of its share.
    fn turn(&self) -> Option<Next> {
        self.next(BACKGROUND, |cost| cost.tokens as f64 * 1e-6)
    }

    /// Adds a request of a caller, with this share and deadline in seconds.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "shares are small")]
    fn add(&mut self, caller: u16, lane: Lane, weight: u32, share: f64, deadline: f64) -> Key {
        let until = Moment::START.plus_seconds(deadline);
        let cost = Cost { tokens: (share * 1e6) as u64, ..Cost::default() };
        let waiter = Waiter::new(cost, 10, Moment::START, until, 0.0);
        self.push(waiter, (CallerId(caller), lane, weight), share, Moment::START, Moment::START)
    }

    /// Serves the one that is next. Returns whose it was, and its share.
    fn serve_next(&mut self) -> Option<(u16, Lane, f64)> {
        let key = self.turn()?.key;
        let (caller, lane, _) = self.owner(key);
        let waiter = self.slab.get(key);
        let share = if waiter.is_requeued() { 0.0 } else { waiter.share };
        self.serve(key, share, BACKGROUND, Moment::START);
        self.remove(key);
        Some((caller.0, lane, share))
    }
}

/// `count` requests of all callers, with deadlines spread over a minute.
fn fill(queue: &mut Queue<Waker>, count: usize, now: Moment) -> Vec<Key> {
    let mut keys = Vec::new();
    for number in 0..count {
        let caller = CallerId(u16::try_from(number % usize::from(CALLERS)).unwrap());
        let deadline = now.plus(Duration::from_millis(number as u64 % 60_000));
        let mut waiter = Waiter::new(Cost { tokens: 500, ..Cost::default() }, 2000, now, deadline, 1.0);
        waiter.waker = Some(Waker::noop().clone());
        keys.push(queue.push(waiter, (caller, Lane::Interactive, 1), 0.0005, now, now));
    }
    keys
}

#[test]
fn a_hundred_thousand_waiting_take_less_than_300_bytes_each() {
    // Just after a doubling would have happened, too.
    for count in [100_000, 65_537, 131_073] {
        let mut queue = Queue::new();
        let mut keys = fill(&mut queue, count, Moment::START);
        let each = queue.footprint() / count;
        assert!(each <= 300, "{each} bytes for each of {count}");
        // As many again come and leave, three times over: what they leave behind is bounded.
        for _ in 0..3 {
            for key in keys.drain(..) {
                queue.withdraw(key);
                queue.remove(key);
            }
            keys = fill(&mut queue, count, Moment::START);
            queue.ahead(CallerId(3), Lane::Interactive, Moment::NEVER, 0.1);
        }
        let each = queue.footprint() / count;
        assert!(each <= 300, "{each} bytes for each of {count}, after others left");
        for key in keys {
            queue.withdraw(key);
            queue.remove(key);
        }
        assert!(queue.footprint() < 1_000_000, "{} bytes for nobody", queue.footprint());
    }
}

/// A million steps of callers that always have something waiting, with weights up to a million
/// (B16) and requests that come, leave, park and come back after a refusal: the service by weight
/// of any two never differs by more than one largest request of each.
#[test]
fn for_any_two_backlogged_callers_the_service_never_differs_by_more_than_two_requests() {
    const STEPS: usize = 250_000;
    for seed in 0..4 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut queue: Queue<()> = Queue::new();
        let extreme = seed % 2 == 0;
        let weights =
            if extreme { [1_u32, 1, 2, 5, 1000, 1_000_000, 1, 3] } else { [1, 1, 2, 5, 3, 4, 1, 3] };
        let largest = [0.001, 0.5, 0.02, 0.1, 0.3, 0.01, 0.05, 1.0];
        let mut served = [0.0_f64; 8];
        let mut keys: [Vec<Key>; 8] = Default::default();
        let allowed = |one: usize| largest[one] / f64::from(weights[one]);
        for step in 0..STEPS {
            for caller in 0..weights.len() {
                while keys[caller].len() < 3 || (keys[caller].len() < 6 && rng.u8(..) < 20) {
                    // Mostly small ones.
                    let share = largest[caller] / f64::from(rng.u32(1..30));
                    let deadline = rng.f64() * 1e6;
                    let weight = weights[caller];
                    let number = u16::try_from(caller).unwrap();
                    keys[caller].push(queue.add(number, Lane::Interactive, weight, share, deadline));
                }
            }
            if rng.u8(..) < 30 {
                let caller = rng.usize(..weights.len());
                let key = keys[caller].swap_remove(rng.usize(..keys[caller].len()));
                queue.withdraw(key);
                let mut waiter = queue.remove(key).expect("it waited");
                if rng.bool() {
                    // It was sent, refused, and comes back.
                    (waiter.precedence, waiter.state) = (Precedence::Requeued, State::Queued);
                    let owner =
                        (CallerId(u16::try_from(caller).unwrap()), Lane::Interactive, weights[caller]);
                    let until = Moment::from_nanos(rng.u64(0..2));
                    keys[caller].push(queue.push(waiter, owner, 0.0, until, Moment::START));
                    queue.unpark(Moment::from_nanos(2));
                }
            }
            let key = queue.turn().expect("everybody waits").key;
            let (caller, ..) = queue.owner(key);
            keys[usize::from(caller.0)].retain(|other| *other != key);
            let (caller, _, share) = queue.serve_next().expect("everybody waits");
            served[usize::from(caller)] += share / f64::from(weights[usize::from(caller)]);
            if step % 8 > 0 {
                continue;
            }
            for (one, other) in (0..8).flat_map(|one| (0..one).map(move |other| (one, other))) {
                let apart = (served[one] - served[other]).abs();
                assert!(
                    apart <= allowed(one) + allowed(other) + 1e-9,
                    "seed {seed}, step {step}: {one} and {other} are {apart} apart"
                );
            }
        }
        let (sum, squares) =
            served.iter().fold((0.0, 0.0), |(sum, squares), one| (sum + one, squares + one * one));
        let jain = sum * sum / (8.0 * squares);
        // Of a weight of a million a single large request of another is most of the time.
        assert!(extreme || jain >= 0.999, "seed {seed}: Jain {jain}");
    }
}

/// B3: the lanes' counters started anew whenever a lane was empty.
#[test]
fn background_gets_its_part_whoever_has_one_request_at_a_time() {
    // (interactive share, one at a time?), (background share, one at a time?)
    for (interactive, background) in [
        ((0.33, true), (0.33, false)),
        ((0.001, false), (0.1, true)),
        ((0.01, false), (0.01, true)),
        ((0.01, false), (0.01, false)),
        ((0.3, true), (0.001, false)),
    ] {
        let mut queue: Queue<()> = Queue::new();
        let mut served = [0.0, 0.0];
        let mut waiting = [0_u32, 0];
        for _ in 0..40_000 {
            for (lane, (share, alone)) in [(Lane::Interactive, interactive), (Lane::Background, background)] {
                // The next one comes while others are served, but only after the last one was.
                while waiting[lane as usize] < if alone { 1 } else { 5 } {
                    queue.add(lane as u16, lane, 1, share, 1e6);
                    waiting[lane as usize] += 1;
                }
            }
            let (_, lane, share) = queue.serve_next().expect("both wait");
            served[lane as usize] += share;
            waiting[lane as usize] -= 1;
        }
        let part = served[1] / (served[0] + served[1]);
        assert!((0.048..0.052).contains(&part), "{interactive:?} {background:?}: {part}");
    }
}

#[test]
fn a_caller_below_its_share_goes_first_while_its_credit_lasts() {
    let mut queue: Queue<()> = Queue::new();
    for _ in 0..300 {
        queue.add(0, Lane::Interactive, 1, 0.01, 1e6);
    }
    for _ in 0..50 {
        queue.serve_next();
    }
    queue.add(1, Lane::Interactive, 1, 0.01, 1e6);
    assert_eq!(queue.serve_next().map(|next| next.0), Some(1));
    for _ in 0..20 {
        queue.serve_next();
    }
    for _ in 0..30 {
        queue.add(1, Lane::Interactive, 1, 0.01, 1e6);
    }
    assert!(queue.turn().is_some_and(|next| next.sparse));
    let first: Vec<u16> = (0..40).filter_map(|_| queue.serve_next()).map(|next| next.0).collect();
    let alone = first.iter().take_while(|caller| **caller == 1).count();
    assert!((13..=14).contains(&alone), "a quarter of its half of a window, and its turn: {first:?}");
    assert!(!queue.turn().expect("more wait").sparse);
    assert!(first[alone..alone + 3].contains(&1), "and then its turn like the other's: {first:?}");
    // Idleness earns no more than that: one that always has something waiting is never sparse.
    let share = queue.lines().find(|line| line.caller.0 == 0).expect("it waits");
    assert!((share.served / share.due - 1.0).abs() < 0.2, "{share:?}");
}

#[test]
fn within_a_caller_the_earliest_deadline_is_first_and_what_comes_back_keeps_its_order() {
    let mut queue: Queue<()> = Queue::new();
    let owner = (CallerId(0), Lane::Interactive, 1);
    let at = |seconds: f64| Moment::START.plus_seconds(seconds);
    let late = queue.add(0, Lane::Interactive, 1, 0.1, 60.0);
    let early = queue.add(0, Lane::Interactive, 1, 0.1, 5.0);
    let mut back = Vec::new();
    // B23: three that come back in one moment left in reverse order.
    for since in [1.0, 2.0, 3.0] {
        let mut waiter = Waiter::new(Cost::default(), 0, at(since), at(100.0), 0.0);
        waiter.precedence = Precedence::Requeued;
        back.push(queue.push(waiter, owner, 0.1, at(10.0), at(4.0)));
    }
    assert_eq!(queue.turn().map(|next| next.key), Some(early), "nobody waits for what is parked");
    queue.unpark(at(10.0));
    for expected in [back[0], back[1], back[2], early, late] {
        assert_eq!(queue.turn().map(|next| next.key), Some(expected));
        queue.serve(expected, 0.1, BACKGROUND, at(10.0));
        queue.remove(expected);
    }
}

/// B23: a caller keeps its number for as long as Weir runs, whatever a reload adds; what waits
/// stays its own.
#[test]
fn what_waits_belongs_to_its_caller_when_others_are_added() {
    let mut queue: Queue<()> = Queue::new();
    for caller in [3, 1, 2] {
        queue.add(caller, Lane::Interactive, u32::from(caller), 0.1, 60.0);
    }
    queue.add(900, Lane::Interactive, 1, 0.1, 60.0);
    let mut callers: Vec<u16> = queue.lines().map(|line| line.caller.0).collect();
    callers.sort_unstable();
    assert_eq!(callers, [1, 2, 3, 900]);
}

#[test]
fn the_youngest_background_request_makes_place_where_that_is_enough() {
    let mut queue: Queue<()> = Queue::new();
    let settings = QueueSettings { max_waiting: 4, max_bytes: 40, ..QueueSettings::default() };
    queue.add(0, Lane::Interactive, 1, 0.1, 60.0);
    queue.add(1, Lane::Background, 1, 0.1, 60.0);
    queue.add(2, Lane::Background, 1, 0.1, 60.0);
    let youngest = queue.add(1, Lane::Background, 1, 0.1, 30.0);
    assert_eq!(queue.room(CallerId(9), Lane::Interactive, 10, &settings), Err(Full::Queue));
    assert_eq!(queue.displaceable(10, &settings), Some(youngest));
    assert_eq!(queue.displaceable(31, &settings), None, "all of the background would not be enough");
    queue.withdraw(youngest);
    queue.remove(youngest);
    assert_eq!(queue.room(CallerId(9), Lane::Interactive, 10, &settings), Ok(()));
    assert_ne!(queue.displaceable(10, &settings), None);
}

/// Two members of a pool have limits of which a request takes a hundredth and a tenth. From the
/// 150th request on the first limit is ten times as large.
#[test]
fn progress_is_measured_anew_when_a_limit_changes_and_not_between_members() {
    let mut queue: Queue<()> = Queue::new();
    let keys: Vec<Key> = (0..200).map(|_| queue.add(1, Lane::Interactive, 1, 0.01, 1e6)).collect();
    let at = |number: usize| Moment::START.plus_seconds(number as f64 * 0.1);
    let is_measured = |queue: &Queue<()>, now| {
        queue.measured_wait(CallerId(2), Lane::Interactive, Moment::NEVER, now).is_some()
    };
    for (number, key) in keys.into_iter().enumerate() {
        queue.compare_share(key, if number < 150 { 0.01 } else { 0.001 });
        let share = if number.is_multiple_of(2) { 0.01 } else { 0.1 };
        queue.serve(key, share, BACKGROUND, at(number));
        queue.remove(key);
        // The first four seconds are too short for a measure.
        if !(35..45).contains(&number) && number < 199 {
            assert_eq!(is_measured(&queue, at(number)), (45..150).contains(&number), "{number}");
        }
    }
}
