//! When waiting requests expire: bins of a fraction of a second, and the order within the one that
//! has come.
//!
//! Most requests are served long before their deadline. In one heap each of them would have to be
//! sifted out all the same; in a bin it costs nothing until its time comes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use crate::admission::moment::Moment;

use super::Key;

/// The width of a bin: 2²⁸ ns, about a quarter of a second.
const BIN_BITS: u32 = 28;
/// The capacity that is kept for the next ones.
const MOST_KEPT: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Deadlines {
    /// Those in the bins that have come.
    near: BinaryHeap<Reverse<(Moment, Key)>>,
    /// The others. No bin is empty.
    far: BTreeMap<u64, Vec<(Moment, Key)>>,
    /// The bin that has come.
    reached: u64,
    entries: usize,
}

impl Deadlines {
    /// Entries, those of requests that no longer wait included.
    pub(super) fn len(&self) -> usize {
        self.entries
    }

    pub(super) fn push(&mut self, deadline: Moment, key: Key) {
        let bin = bin(deadline);
        if bin <= self.reached {
            self.near.push(Reverse((deadline, key)));
        } else {
            self.far.entry(bin).or_default().push((deadline, key));
        }
        self.entries += 1;
    }

    /// Takes out one that expired while it waited.
    pub(super) fn expired(&mut self, now: Moment, waits: impl Fn(Key) -> bool) -> Option<Key> {
        self.reach(bin(now), &waits);
        while let Some(&Reverse((deadline, key))) = self.near.peek() {
            let waits = waits(key);
            if waits && deadline > now {
                return None;
            }
            self.near.pop();
            self.entries -= 1;
            if waits {
                return Some(key);
            }
        }
        None
    }

    /// When to look again: no deadline passes before.
    pub(super) fn next(&self) -> Option<Moment> {
        let far = || self.far.first_key_value().map(|(bin, _)| Moment::from_nanos(bin << BIN_BITS));
        self.near.peek().map(|Reverse((deadline, _))| *deadline).or_else(far)
    }

    /// Forgets those that no longer wait.
    pub(super) fn retain(&mut self, waits: impl Fn(Key) -> bool) {
        self.near.retain(|Reverse((_, key))| waits(*key));
        self.far.retain(|_, bin| {
            bin.retain(|(_, key)| waits(*key));
            bin.shrink_to(2 * bin.len());
            !bin.is_empty()
        });
        self.entries = self.near.len() + self.far.values().map(Vec::len).sum::<usize>();
    }

    /// Nobody waits any more: everything is forgotten, and a burst's memory given back.
    pub(super) fn clear(&mut self) {
        if self.near.capacity() > MOST_KEPT {
            self.near = BinaryHeap::new();
        }
        self.near.clear();
        self.far.clear();
        self.entries = 0;
    }

    fn reach(&mut self, bin: u64, waits: &impl Fn(Key) -> bool) {
        if bin <= self.reached {
            return;
        }
        self.reached = bin;
        while let Some(first) = self.far.first_entry().filter(|first| *first.key() <= bin) {
            let come = first.remove();
            self.entries -= come.len();
            let waiting = come.into_iter().filter(|(_, key)| waits(*key)).map(Reverse);
            let before = self.near.len();
            self.near.extend(waiting);
            self.entries += self.near.len() - before;
        }
    }
}

#[cfg(test)]
impl Deadlines {
    /// Bytes that it has taken from the allocator; of the tree's nodes, half may be empty.
    pub(super) fn footprint(&self) -> usize {
        let entries = self.near.capacity() + self.far.values().map(Vec::capacity).sum::<usize>();
        entries * size_of::<(Moment, Key)>() + self.far.len() * 2 * size_of::<(u64, Vec<(Moment, Key)>)>()
    }
}

fn bin(moment: Moment) -> u64 {
    moment.as_nanos() >> BIN_BITS
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::admission::limits::Cost;
    use crate::admission::queue::{Slab, Waiter};

    #[test]
    fn everyone_expires_in_order_and_at_once_and_none_that_left() {
        for seed in 0..50 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut slab: Slab<()> = Slab::default();
            let mut deadlines = Deadlines::default();
            let mut model: BTreeSet<(Moment, Key)> = BTreeSet::new();
            let mut now = Moment::START;
            for _ in 0..2000 {
                let deadline = now.plus(std::time::Duration::from_millis(rng.u64(0..3000)));
                let key = slab.insert(Waiter::new(Cost::default(), 0, now, deadline, 0.0));
                deadlines.push(deadline, key);
                model.insert((deadline, key));
                if rng.u8(..) < 90
                    && let Some(&(deadline, key)) = model.iter().nth(rng.usize(..model.len()))
                {
                    slab.remove(key);
                    model.remove(&(deadline, key));
                }
                if rng.u8(..) < 3 {
                    deadlines.retain(|key| slab.waits(key));
                    assert_eq!(deadlines.len(), model.len());
                }
                now = now.plus(std::time::Duration::from_millis(rng.u64(0..20)));
                while let Some(key) = deadlines.expired(now, |key| slab.waits(key)) {
                    let (deadline, first) = model.pop_first().expect("nobody expires twice");
                    assert!(deadline <= now && slab.get(key).deadline == deadline, "seed {seed}");
                    model.remove(&(slab.get(key).deadline, key));
                    if first != key {
                        model.insert((deadline, first));
                    }
                    slab.remove(key);
                }
                let first = model.first().map(|first| first.0);
                assert!(first.is_none_or(|first| first > now), "seed {seed}: somebody was forgotten");
                assert!(
                    deadlines.next().is_some_and(|next| first.is_none_or(|first| next <= first))
                        || first.is_none()
                );
            }
        }
    }
}
