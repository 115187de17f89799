//! What waiting costs in memory, and how fairly it ends.

use std::mem::size_of;
use std::task::Waker;
use std::time::Duration;

use super::*;
use crate::admission::quota::Cost;

const CALLERS: u16 = 1000;
/// What a tree or a table holds beyond its entries, at most: nodes half full, places left free.
const SPARSE: usize = 2;

impl<W> Queue<W> {
    /// Bytes that it has taken from the allocator, room for more included.
    fn footprint(&self) -> usize {
        let lanes: usize = self.lanes.iter().map(|lane| lane.order.len()).sum();
        self.slab.footprint()
            + self.rows.capacity() * size_of::<Row>()
            + self.free_rows.capacity() * size_of::<u32>()
            + self.by_caller.capacity() * SPARSE * size_of::<((CallerId, Lane), u32)>()
            + self.backlogs.capacity() * size_of::<Backlog>()
            + lanes * SPARSE * size_of::<(u64, u32)>()
            + self.parked.len() * SPARSE * size_of::<(Moment, Key)>()
            + self.outlooks.iter().map(Outlook::footprint).sum::<usize>()
            + self.deadlines.footprint()
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
        keys.push(queue.push_back(waiter, caller, Lane::Interactive, 1));
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
            queue.ahead(CallerId(3), Lane::Interactive, 0.1);
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

/// Thirty seconds of ten million tokens a minute, of callers whose requests differ by a factor of fifty: within 2 % of their
/// weights, and no two ever further apart than one largest request of each.
#[test]
fn service_follows_weights_within_a_request() {
    const SPAN: u64 = 5_000_000;
    for seed in 0..20 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut queue: Queue<()> = Queue::new();
        let weights = [1_u32, 1, 2, 4, 1, 3, 2, 1];
        let largest = [200_u64, 3000, 10_000, 200, 3000, 10_000, 200, 3000];
        let push = |queue: &mut Queue<()>, rng: &mut fastrand::Rng, caller: usize| {
            // Mostly small ones, where they differ.
            let tokens = if largest[caller] == 10_000 { 10_000 / rng.u64(1..50) } else { largest[caller] };
            let waiter =
                Waiter::new(Cost { tokens, ..Cost::default() }, 0, Moment::START, Moment::NEVER, 0.0);
            queue.push_back(
                waiter,
                CallerId(u16::try_from(caller).unwrap()),
                Lane::Interactive,
                weights[caller],
            );
        };
        for caller in 0..weights.len() {
            push(&mut queue, &mut rng, caller);
            push(&mut queue, &mut rng, caller);
        }
        let mut served = [0_u64; 8];
        while served.iter().sum::<u64>() < SPAN {
            let key = queue.next(0.05).expect("everybody waits");
            let caller = usize::from(queue.rows[queue.waiter(key).row as usize].caller.0);
            served[caller] += queue.waiter(key).cost.tokens;
            queue.serve(key, Moment::START);
            queue.remove(key);
            push(&mut queue, &mut rng, caller);
            let share = |caller: usize| served[caller] as f64 / f64::from(weights[caller]);
            for (one, other) in (0..8).flat_map(|one| (0..one).map(move |other| (one, other))) {
                let by = share(one) - share(other);
                let one_each = [one, other].map(|of| largest[of] as f64 / f64::from(weights[of]));
                let allowed = one_each.iter().sum::<f64>() + 1.0;
                assert!(by.abs() <= allowed, "seed {seed}: {one} is {by} ahead of {other}");
            }
        }
        let total: u32 = weights.iter().sum();
        for (caller, weight) in weights.into_iter().enumerate() {
            let due = SPAN as f64 * f64::from(weight) / f64::from(total);
            assert!(
                (served[caller] as f64 / due - 1.0).abs() <= 0.02,
                "seed {seed}: {caller} got {served:?}"
            );
        }
    }
}
