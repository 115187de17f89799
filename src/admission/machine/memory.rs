//! What a scope keeps over a restart, and takes up after it.

use crate::admission::memory::Learned;
use crate::admission::moment::Moment;

use super::Machine;

impl<W> Machine<W> {
    /// What was learned of the limits of each upstream.
    pub(in crate::admission) fn learned(&self, now: Moment) -> Vec<Learned> {
        let of = |index| {
            let member = self.members.of(index);
            let upstream =
                self.settings.member(member.id).map_or("-".into(), |known| known.name.as_ref().into());
            let (limits, rates) = (member.limits.learned(), member.limits.found_rates(now));
            (!limits.is_empty() || !rates.is_empty()).then_some(Learned { upstream, limits, rates })
        };
        self.members.indices().filter_map(of).collect()
    }

    /// Restores what an earlier process learned, with a confidence of `weight`.
    pub(in crate::admission) fn recall(&mut self, learned: &[Learned], weight: f64, now: Moment) {
        for index in self.members.indices() {
            let member = self.members.of(index);
            let name = self.settings.member(member.id).map_or("-", |known| &known.name);
            let Some(known) = learned.iter().find(|known| *known.upstream == *name) else { continue };
            let limits = &mut self.members.of_mut(index).limits;
            for (slot, limit) in &known.limits {
                limits.apply_peer_limit(*slot, *limit, now);
            }
            for rate in &known.rates {
                limits.recall_rate(rate, weight, now);
            }
        }
    }
}
