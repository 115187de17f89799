//! A row is a doubly linked list through the slab: a request leaves from anywhere at once.

use crate::caller::Lane;

use super::row::{Backlog, NONE, Sums};
use super::{Key, Queue};

impl<W> Queue<W> {
    pub(super) fn link_back(&mut self, key: Key) {
        let index = self.slab.get(key).row;
        let tail = self.rows[index as usize].tail;
        {
            let waiter = self.slab.get_mut(key);
            waiter.previous = tail;
            waiter.next = NONE;
        }
        if tail == NONE {
            self.rows[index as usize].head = key.index;
        } else {
            let before = self.slab.key(tail);
            self.slab.get_mut(before).next = key.index;
        }
        self.rows[index as usize].tail = key.index;
        self.count_in(index, key);
    }

    pub(super) fn link_front(&mut self, key: Key) {
        let index = self.slab.get(key).row;
        let head = self.rows[index as usize].head;
        {
            let waiter = self.slab.get_mut(key);
            waiter.previous = NONE;
            waiter.next = head;
        }
        if head == NONE {
            self.rows[index as usize].tail = key.index;
        } else {
            let after = self.slab.key(head);
            self.slab.get_mut(after).previous = key.index;
        }
        self.rows[index as usize].head = key.index;
        self.count_in(index, key);
    }

    fn count_in(&mut self, index: u32, key: Key) {
        let tokens = self.slab.get(key).cost.tokens.max(1);
        let lane = self.rows[index as usize].lane;
        if self.rows[index as usize].backlog == NONE {
            self.activate(index, lane);
        }
        let backlog = &mut self.backlogs[self.rows[index as usize].backlog as usize];
        backlog.tokens += tokens;
        backlog.requests += 1;
        backlog.sum_up();
        self.outlooks[lane as usize].changed(tokens);
        let lane = &mut self.lanes[lane as usize];
        lane.tokens += tokens;
        lane.requests += 1;
    }

    fn activate(&mut self, index: u32, lane: Lane) {
        let floor = self.floor(lane);
        if self.lanes[lane as usize].order.is_empty() {
            self.restart_lanes();
        }
        let row = &mut self.rows[index as usize];
        row.counter = row.counter.max(floor);
        row.backlog = u32::try_from(self.backlogs.len()).unwrap_or(NONE);
        self.backlogs.push(Backlog {
            counter: row.counter,
            weight: row.weight,
            row: index,
            tokens: 0,
            requests: 0,
            lane,
            sums: Sums::default(),
        });
        self.lanes[lane as usize].order.insert((row.counter, index));
    }

    /// A lane that comes back owes nothing and is owed nothing: both counters start anew.
    fn restart_lanes(&mut self) {
        for lane in &mut self.lanes {
            lane.counter = 0;
        }
    }

    pub(super) fn unlink(&mut self, key: Key) {
        let (index, previous, next, tokens) = {
            let waiter = self.slab.get(key);
            (waiter.row, waiter.previous, waiter.next, waiter.cost.tokens.max(1))
        };
        if previous == NONE {
            self.rows[index as usize].head = next;
        } else {
            let before = self.slab.key(previous);
            self.slab.get_mut(before).next = next;
        }
        if next == NONE {
            self.rows[index as usize].tail = previous;
        } else {
            let after = self.slab.key(next);
            self.slab.get_mut(after).previous = previous;
        }
        let place = self.rows[index as usize].backlog;
        let backlog = &mut self.backlogs[place as usize];
        backlog.tokens -= tokens;
        backlog.requests -= 1;
        backlog.sum_up();
        self.outlooks[backlog.lane as usize].changed(tokens);
        let lane = &mut self.lanes[backlog.lane as usize];
        lane.tokens -= tokens;
        lane.requests -= 1;
        if backlog.requests == 0 {
            self.deactivate(index, place);
        }
    }

    fn deactivate(&mut self, index: u32, place: u32) {
        let row = &mut self.rows[index as usize];
        row.backlog = NONE;
        self.lanes[row.lane as usize].order.remove(&(row.counter, index));
        self.backlogs.swap_remove(place as usize);
        if let Some(moved) = self.backlogs.get(place as usize) {
            self.rows[moved.row as usize].backlog = place;
        }
    }
}
