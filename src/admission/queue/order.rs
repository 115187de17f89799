//! One caller's requests in the order of their turns: a treap through the slab.
//!
//! The earliest deadline is first; what came back after a refusal is before all others, in the
//! order in which it first came. Each node knows the cost of its subtree, so a prediction reads
//! what is ahead of a deadline in logarithmic time.

use crate::admission::moment::Moment;

use super::Slab;
use super::flow::NONE;

/// A waiting request's place in the treap, by indices of the slab.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    left: u32,
    right: u32,
    parent: u32,
    /// Of the subtree.
    count: u32,
    /// Dominant shares of the subtree.
    sum: f64,
}

impl Default for Node {
    fn default() -> Self {
        Self { left: NONE, right: NONE, parent: NONE, count: 1, sum: 0.0 }
    }
}

/// The requests of one caller that could be next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    root: u32,
    /// The first.
    head: u32,
}

impl Default for Order {
    fn default() -> Self {
        Self { root: NONE, head: NONE }
    }
}

/// A node's priority: a mixed index, so that the depth is logarithmic whatever order deadlines come
/// in.
fn priority(index: u32) -> u32 {
    let mixed = (index ^ (index >> 16)).wrapping_mul(0x85eb_ca6b);
    let mixed = (mixed ^ (mixed >> 13)).wrapping_mul(0xc2b2_ae35);
    mixed ^ (mixed >> 16)
}

impl Order {
    pub(super) fn is_empty(self) -> bool {
        self.root == NONE
    }

    /// The index of the first.
    pub(super) fn head(self) -> Option<u32> {
        (self.head != NONE).then_some(self.head)
    }

    /// The cost of those that have their turn before a new request with this deadline.
    pub(super) fn ahead<W>(self, slab: &Slab<W>, deadline: Moment) -> f64 {
        let (mut at, mut sum) = (self.root, 0.0);
        while at != NONE {
            let waiter = slab.at(at);
            if waiter.rank() > deadline {
                at = waiter.node.left;
            } else {
                let left = waiter.node.left;
                sum += waiter.share + if left == NONE { 0.0 } else { slab.at(left).node.sum };
                at = waiter.node.right;
            }
        }
        sum
    }

    pub(super) fn insert<W>(&mut self, slab: &mut Slab<W>, index: u32) {
        let share = slab.at(index).share;
        slab.at_mut(index).node = Node { sum: share, ..Node::default() };
        if self.root == NONE {
            (self.root, self.head) = (index, index);
            return;
        }
        if before(slab, index, self.head) {
            self.head = index;
        }
        let mut at = self.root;
        loop {
            let left = before(slab, index, at);
            let node = &mut slab.at_mut(at).node;
            node.count += 1;
            node.sum += share;
            let child = if left { &mut node.left } else { &mut node.right };
            if *child == NONE {
                *child = index;
                slab.at_mut(index).node.parent = at;
                break;
            }
            at = *child;
        }
        while let Some(parent) = parent_of(slab, index) {
            if priority(parent) >= priority(index) {
                break;
            }
            self.rotate_up(slab, index);
        }
    }

    pub(super) fn remove<W>(&mut self, slab: &mut Slab<W>, index: u32) {
        if self.head == index {
            let Node { right, parent, .. } = slab.at(index).node;
            // The first has nothing to its left.
            self.head = if right == NONE { parent } else { first_of(slab, right) };
        }
        loop {
            let Node { left, right, .. } = slab.at(index).node;
            let child = match (left, right) {
                (NONE, NONE) => break,
                (child, NONE) | (NONE, child) => child,
                (left, right) => {
                    if priority(left) > priority(right) {
                        left
                    } else {
                        right
                    }
                }
            };
            self.rotate_up(slab, child);
        }
        let (parent, share) = (slab.at(index).node.parent, slab.at(index).share);
        self.replace_child(slab, parent, index, NONE);
        let mut at = parent;
        while at != NONE {
            let node = &mut slab.at_mut(at).node;
            node.count -= 1;
            node.sum -= share;
            at = node.parent;
        }
    }

    /// Puts a node in its parent's place, and the parent below it.
    fn rotate_up<W>(&mut self, slab: &mut Slab<W>, index: u32) {
        let node = slab.at(index).node;
        let parent = node.parent;
        let above = slab.at(parent).node;
        let moved = if above.left == index { node.right } else { node.left };
        if above.left == index {
            slab.at_mut(parent).node.left = moved;
            slab.at_mut(index).node.right = parent;
        } else {
            slab.at_mut(parent).node.right = moved;
            slab.at_mut(index).node.left = parent;
        }
        if moved != NONE {
            slab.at_mut(moved).node.parent = parent;
        }
        slab.at_mut(parent).node.parent = index;
        slab.at_mut(index).node.parent = above.parent;
        self.replace_child(slab, above.parent, parent, index);
        let (moved_count, moved_sum) =
            if moved == NONE { (0, 0.0) } else { (slab.at(moved).node.count, slab.at(moved).node.sum) };
        let upper = &mut slab.at_mut(index).node;
        (upper.count, upper.sum) = (above.count, above.sum);
        let lower = &mut slab.at_mut(parent).node;
        lower.count = above.count - node.count + moved_count;
        lower.sum = above.sum - node.sum + moved_sum;
    }

    fn replace_child<W>(&mut self, slab: &mut Slab<W>, parent: u32, child: u32, by: u32) {
        if parent == NONE {
            self.root = by;
            return;
        }
        let node = &mut slab.at_mut(parent).node;
        if node.left == child {
            node.left = by;
        } else {
            node.right = by;
        }
    }
}

fn parent_of<W>(slab: &Slab<W>, index: u32) -> Option<u32> {
    let parent = slab.at(index).node.parent;
    (parent != NONE).then_some(parent)
}

fn first_of<W>(slab: &Slab<W>, mut index: u32) -> u32 {
    while slab.at(index).node.left != NONE {
        index = slab.at(index).node.left;
    }
    index
}

/// Whether the one has its turn before the other.
fn before<W>(slab: &Slab<W>, one: u32, other: u32) -> bool {
    let key = |index: u32| {
        let waiter = slab.at(index);
        (waiter.rank(), waiter.since, waiter.sequence)
    };
    key(one) < key(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::limits::Cost;
    use crate::admission::queue::{Precedence, Waiter};

    #[test]
    fn it_is_a_sorted_list_with_sums() {
        for seed in 0..30 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut slab: Slab<()> = Slab::default();
            let (mut order, mut model) = (Order::default(), Vec::new());
            for step in 0..3000_u32 {
                if rng.u8(..) < 140 || model.is_empty() {
                    let deadline = Moment::from_nanos(rng.u64(1..500));
                    let since = Moment::from_nanos(rng.u64(0..9));
                    let mut waiter = Waiter::new(Cost::default(), 0, since, deadline, 0.0);
                    if rng.u8(..) < 20 {
                        waiter.precedence = Precedence::Requeued;
                    }
                    waiter.share = f64::from(rng.u8(..));
                    waiter.sequence = step;
                    let key = slab.insert(waiter);
                    order.insert(&mut slab, key.index);
                    model.push(key);
                } else {
                    let key = model.swap_remove(rng.usize(..model.len()));
                    order.remove(&mut slab, key.index);
                    slab.remove(key);
                }
                model.sort_by_key(|key| {
                    let waiter = slab.get(*key);
                    (waiter.rank(), waiter.since, waiter.sequence)
                });
                assert_eq!(order.head(), model.first().map(|key| key.index), "seed {seed}");
                let deadline = Moment::from_nanos(rng.u64(1..500));
                let ahead = |key: &&super::super::Key| slab.get(**key).rank() <= deadline;
                let sum: f64 = model.iter().filter(ahead).map(|key| slab.get(*key).share).sum();
                assert!((order.ahead(&slab, deadline) - sum).abs() < 1e-6);
            }
        }
    }
}
