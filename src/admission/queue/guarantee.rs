//! Guarantees: a part of all service that a caller has for certain while it has something waiting.
//!
//! With every request that is served, whoever's it is, a guaranteed caller earns its part of it,
//! and pays for its own. While it has earned more than it got, its next request goes first: it is
//! never further behind its part than one request. What it does not need others have, and there is
//! nothing to give back but the next turn.

use crate::caller::{CallerId, Lane};

use super::flow::NONE;
use super::{Next, Queue};

/// One caller's guarantee.
#[derive(Debug)]
pub(super) struct Guaranteed {
    caller: CallerId,
    part: f64,
    /// What it earned and did not get, in windows of the limit that binds.
    credit: f64,
}

impl<W> Queue<W> {
    /// Gives these callers their parts of the service.
    pub(crate) fn guarantee(&mut self, parts: Vec<(CallerId, f64)>) {
        let before = std::mem::take(&mut self.guarantees);
        self.guarantees = parts
            .into_iter()
            .map(|(caller, part)| {
                let known = before.iter().find(|known| known.caller == caller);
                Guaranteed { caller, part, credit: known.map_or(0.0, |known| known.credit) }
            })
            .collect();
    }

    /// The next request of the guaranteed caller that is furthest behind its part.
    pub(super) fn next_guaranteed(&self) -> Option<Next> {
        let behind = self.guarantees.iter().filter(|own| own.credit > 0.0);
        let heads = behind.filter_map(|own| Some((own.credit, self.head_of_caller(own.caller)?)));
        let (_, head) = heads.max_by(|one, other| one.0.total_cmp(&other.0))?;
        Some(Next { key: self.slab.key(head), sparse: true })
    }

    /// Counts a request that is served, of this flow and share.
    pub(super) fn earn(&mut self, flow: u32, share: f64) {
        let served = self.flows[flow as usize].caller;
        for place in 0..self.guarantees.len() {
            let waits = self.head_of_caller(self.guarantees[place].caller).is_some();
            let own = &mut self.guarantees[place];
            own.credit += own.part * share;
            if own.caller == served {
                own.credit -= share;
            }
            // What it did not need is nobody's debt.
            if !waits {
                own.credit = own.credit.min(0.0);
            }
        }
    }

    fn head_of_caller(&self, caller: CallerId) -> Option<u32> {
        Lane::ALL.into_iter().find_map(|lane| {
            let flow = &self.flows[*self.by_caller.get(&(caller, lane))? as usize];
            if flow.backlog == NONE { None } else { flow.order.head() }
        })
    }
}
