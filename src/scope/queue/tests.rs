//! What waiting costs in memory.

use std::mem::size_of;
use std::task::Waker;
use std::time::Duration;

use super::*;
use crate::scope::quota::Cost;

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
        let mut waiter = Waiter::new(Cost { requests: 1, tokens: 500 }, 2000, now, deadline, 1.0);
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
        // As many again come and leave, ten times over: what they leave behind is bounded.
        for _ in 0..10 {
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
