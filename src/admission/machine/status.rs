//! How a scope stands, as the page and the metrics show it.

use crate::admission::limits::Cost;
use crate::admission::moment::Moment;
use crate::admission::status::{QueueStatus, ScopeStatus};
use crate::caller::{CallerId, Lane, Mode};

use super::{Machine, Request, Route, Turn};

impl<W> Machine<W> {
    /// How the scope stands.
    pub fn status(&self, name: &str, family: &str, now: Moment) -> ScopeStatus {
        let probe = Request {
            caller: CallerId(u16::MAX),
            weight: 1,
            lane: Lane::Interactive,
            cost: Cost { requests: 1, tokens: 1, ..Cost::default() },
            bytes: 0,
            deadline: Moment::NEVER,
            head_due: false,
            turn: Turn::First,
            mode: Mode::Enforce,
            route: Route::default(),
        };
        let member = self.members.typical();
        ScopeStatus {
            name: name.into(),
            dimensions: self.members.dimensions(now),
            charge_ratio: member.limits.charge_ratio(),
            part: member.limits.part(),
            held_by: self.next_turn().and_then(|next| {
                let charge = member.limits.charge(self.queue.waiter(next.key).cost);
                member.limits.holding(charge, member.in_flight, now)
            }),
            paused_for: member.limits.paused_until().since(now),
            queue: (self.queue.lines())
                .map(|line| QueueStatus {
                    caller: line.caller,
                    lane: line.lane,
                    waiting: line.waiting,
                    oldest: now.since(line.since),
                    predicted: self.predict(&Request { caller: line.caller, lane: line.lane, ..probe }, now),
                    served: line.served,
                    entitled: line.due,
                })
                .collect(),
            queue_bytes: self.queue.bytes(),
            predicted_wait: self.predict(&probe, now),
            breaker: member.breaker.state(self.queue.waiting(), now),
            outage: (self.members.outage(None))
                .map(|outage| (now.since(outage.since), outage.next_probe.since(now))),
            last_failure: self.last_failure,
            breaker_opened: member.breaker.opened(),
            quota_spent_for: member.spent.since().map(|since| now.since(since)),
            quota_spent: member.spent.told().map(|(code, probe)| (code, probe.since(now))),
            budget: self.budget.level(),
            budget_exhausted: self.budget.exhausted(),
            in_flight: self.members.in_flight(),
            limits: member.limits_found(self.settings.limits_of(family, member.id)),
            members: self.members.status(&self.settings, family, self.queue.waiting(), now),
            admitted: self.admitted.last_minute(now),
            #[cfg(test)]
            counts: *self.counts,
        }
    }
}
