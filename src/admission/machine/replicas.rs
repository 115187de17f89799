//! What a scope tells other replicas, and what it hears from them: demand and parts, and what each
//! learned of the upstream.

use crate::admission::knowledge::{Knowledge, PeerUpdate};
use crate::admission::limits::{Demand, Part};
use crate::admission::moment::Moment;

use super::member::Member;
use super::{Machine, hold};

impl<W> Machine<W> {
    /// What the scope sent, and what it would send if it were let.
    pub fn demand(&self, now: Moment) -> Demand {
        Demand {
            waiting_requests: self.queue.waiting() as f64,
            waiting_tokens: self.queue.tokens() as f64,
            bound: self.members.bound(),
            totals: self.admitted.totals,
            weight: self.queue.weight(),
            ..self.members.demand(now)
        }
    }

    /// Changes the part of the limits that is this replica's, where several share them.
    pub fn set_part(&mut self, part: Part, now: Moment) {
        self.members.set_part(part, now);
    }

    /// What it knows of its upstream that other replicas can use.
    pub fn knowledge(&self, now: Moment) -> Knowledge {
        // What several upstreams told can't be told apart elsewhere.
        let Some(member) = self.members.sole() else { return Knowledge::default() };
        let paused = member.limits.paused_until().max(member.hold.until());
        Knowledge {
            limits: member.limits.learned(),
            pause: paused.since(now),
            failing_for: member.breaker.outage().map(|outage| now.since(outage.since)),
            spent: member.spent.words(),
        }
    }

    /// Applies a fact about the upstream, received from another replica.
    pub fn apply_peer_update(&mut self, update: &PeerUpdate, now: Moment) {
        let Some(Member { limits, breaker, hold, spent, .. }) = self.members.sole_mut() else { return };
        match update {
            PeerUpdate::Limits(reported) => {
                for (slot, limit) in reported {
                    limits.apply_peer_limit(*slot, *limit, now);
                }
            }
            PeerUpdate::Pause(pause) if *pause > hold::LONG => hold.refused(*pause, true, None, now),
            PeerUpdate::Pause(pause) => limits.paused_elsewhere(*pause, now),
            PeerUpdate::Failing(lasted) => {
                breaker.failing_elsewhere(*lasted, &self.settings.breaker, &mut self.rng, now);
            }
            PeerUpdate::Recovered => breaker.recovered_elsewhere(now),
            PeerUpdate::Spent(words) if !spent.is_open() => {
                spent.trip(words.clone(), self.settings.quota_probe, now);
            }
            PeerUpdate::Spent(_) => {}
            PeerUpdate::Refilled => spent.charged(now),
        }
    }
}
