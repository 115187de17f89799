//! What the members of a queue come to together: their state, their pace, and the wait before them.

use std::sync::Arc;
use std::time::Duration;

use crate::admission::breaker::{BreakerState, Outage};
use crate::admission::limits::{Cost, Demand, Part};
use crate::admission::moment::Moment;
use crate::admission::refusal::UpstreamWords;
use crate::admission::settings::{BreakerSettings, Settings};
use crate::admission::spent::Funds;
use crate::admission::status::{DimensionStatus, MemberStatus, OutBecause};
use crate::pool::UpstreamId;

use super::super::member::Member;
use super::{Members, Route};

/// Members whose wait is computed for one prediction; the others count as these do.
const SAMPLED: usize = 16;

/// In a pool that has requests waiting, stalls are looked for this often.
const STALL_LOOK: Duration = Duration::from_secs(1);

impl Members {
    /// Attempts in flight.
    pub(in crate::admission::machine) fn in_flight(&self) -> u32 {
        self.all().map(|member| member.in_flight).sum()
    }

    /// While no member serves, for none of them is paid for or works: the outage that ends first.
    pub(in crate::admission::machine) fn outage(&self, pin: Option<UpstreamId>) -> Option<Outage> {
        if self.pool.is_none() {
            return self.first.breaker.outage();
        }
        let mut last: Option<Outage> = None;
        for member in self.all().filter(|member| !member.retired && pin.is_none_or(|pin| pin == member.id)) {
            match member.breaker.outage() {
                None if !member.spent.is_open() => return None,
                None => {}
                Some(outage) => {
                    last = Some(last.map_or(outage, |other| Outage {
                        since: other.since.max(outage.since),
                        opened: other.opened.max(outage.opened),
                        next_probe: other.next_probe.min(outage.next_probe),
                    }));
                }
            }
        }
        last
    }

    /// Whether every member that serves does so as ever: what is measured then is a measure of what
    /// comes.
    pub(in crate::admission::machine) fn are_calm(&self, waiting: usize, now: Moment) -> bool {
        let calm = |member: &Member| member.breaker.state(waiting, now) == BreakerState::Closed;
        match &self.pool {
            None => calm(&self.first),
            Some(_) => self.all().filter(|member| member.serves()).all(calm),
        }
    }

    /// Until when every member is held back by a far limit.
    pub(in crate::admission::machine) fn held_until(&self) -> Moment {
        if self.pool.is_none() {
            return self.first.hold.until();
        }
        let serving = self.all().filter(|member| member.serves());
        serving.map(|member| member.hold.until()).min().unwrap_or(Moment::START)
    }

    /// Seconds until `ahead` and then `cost` have gone: by the members of the best priority alone,
    /// and by all.
    pub(in crate::admission::machine) fn predict(
        &self,
        ahead: (f64, f64),
        cost: Cost,
        pin: Option<UpstreamId>,
        now: Moment,
    ) -> (f64, f64) {
        let alone = |member: &Member| {
            let ahead = member.limits.charge_of(ahead.0, ahead.1);
            member.limits.predict(ahead, member.limits.charge(cost), now)
        };
        let Some(pool) = &self.pool else {
            let alone = alone(&self.first);
            return (alone, alone);
        };
        if let Some(index) = pin.and_then(|pin| self.index_of(pin)) {
            let alone = alone(self.of(index));
            return (alone, alone);
        }
        // Each takes a part of what waits that fits its pace: together they take the harmonic mean
        // of their times.
        let (mut pace, mut best) = (0.0, None);
        for group in &pool.groups {
            let serving = || group.members.iter().map(|index| self.of(*index)).filter(|one| one.serves());
            let count = serving().count();
            let sample = serving().take(SAMPLED).map(|member| 1.0 / alone(member).max(1e-9)).sum::<f64>();
            pace += sample * count.max(1) as f64 / count.clamp(1, SAMPLED) as f64;
            if count > 0 {
                best.get_or_insert(1.0 / pace);
            }
        }
        let instant = |seconds: f64| if seconds < 1e-8 { 0.0 } else { seconds };
        let Some(best) = best else {
            let alone = alone(self.typical());
            return (alone, alone);
        };
        (instant(best), instant(1.0 / pace))
    }

    /// How long a request waits at most for a better member where others of a lower priority serve
    /// it, too.
    pub(in crate::admission::machine) fn patience(
        &self,
        deadline: Moment,
        settings: &Settings,
        now: Moment,
    ) -> Option<Duration> {
        let pool = self.pool.as_ref()?;
        let left = deadline.since(now);
        (pool.groups.len() > 1).then(|| settings.spill_after.map_or(left, |after| after.min(left)))
    }

    /// What was sent to all of them, and what their limits give together.
    pub(in crate::admission::machine) fn demand(&self, now: Moment) -> Demand {
        let of = |member: &Member| Demand { in_flight: member.in_flight, ..member.limits.demand(now) };
        let sum = |one: Option<f64>, other: Option<f64>| Some(one? + other?);
        let used = self.all().filter(|member| !member.retired).map(of);
        used.reduce(|one, other| Demand {
            sent_requests: one.sent_requests + other.sent_requests,
            sent_tokens: one.sent_tokens + other.sent_tokens,
            in_flight: one.in_flight + other.in_flight,
            limit_requests: sum(one.limit_requests, other.limit_requests),
            limit_tokens: sum(one.limit_tokens, other.limit_tokens),
            ..one
        })
        .unwrap_or_default()
    }

    /// The upstream's words, where every member that serves named a moment after `deadline`, and
    /// the first such moment.
    pub(in crate::admission::machine) fn told_beyond(
        &self,
        deadline: Moment,
    ) -> Option<(Arc<UpstreamWords>, Moment)> {
        if self.pool.is_none() {
            return self.first.hold.told_beyond(deadline);
        }
        let serving = self.all().filter(|member| member.serves());
        let told = serving.map(|member| member.hold.told_beyond(deadline)).collect::<Option<Vec<_>>>()?;
        told.into_iter().min_by_key(|(_, until)| *until)
    }

    /// Attempts in flight at most, where each has a bound.
    pub(in crate::admission::machine) fn bound(&self) -> Option<u32> {
        self.all().filter(|member| !member.retired).map(|member| member.bound).sum()
    }

    /// Changes the part of every member's limits that is this replica's.
    pub(in crate::admission::machine) fn set_part(&mut self, part: Part, now: Moment) {
        for index in self.indices() {
            self.of_mut(index).limits.set_part(part, now);
        }
    }

    /// The limits, those of one kind added up over the members that serve.
    pub(in crate::admission::machine) fn dimensions(&self, now: Moment) -> Vec<DimensionStatus> {
        let mut sums: Vec<DimensionStatus> = Vec::new();
        for member in self.all().filter(|member| self.pool.is_none() || member.serves()) {
            for dimension in member.limits.status(now) {
                match sums.iter_mut().find(|sum| self.pool.is_some() && sum.slot == dimension.slot) {
                    Some(sum) => {
                        sum.limit += dimension.limit;
                        sum.level += dimension.level;
                        sum.pacer_burst += dimension.pacer_burst;
                        sum.window = sum.window.max(dimension.window);
                        sum.foreign_use = sum.foreign_use.max(dimension.foreign_use);
                    }
                    None => sums.push(dimension),
                }
            }
        }
        sums
    }

    /// How each member stands, where there are several.
    pub(in crate::admission::machine) fn status(
        &self,
        settings: &Settings,
        family: &str,
        waiting: usize,
        now: Moment,
    ) -> Vec<MemberStatus> {
        let of = |member: &Member| {
            let configured = settings.member(member.id)?;
            let spent = member.spent.told();
            let (out, next_probe) = match (member.breaker.outage(), spent) {
                (_, Some((word, probe))) => {
                    let since = member.spent.since().map(|since| now.since(since));
                    (Some((OutBecause::Refused(word), since.unwrap_or_default())), Some(probe.since(now)))
                }
                (Some(outage), None) => {
                    let since = now.since(outage.since);
                    (Some((OutBecause::Failing, since)), Some(outage.next_probe.since(now)))
                }
                (None, None) => (None, None),
            };
            Some(MemberStatus {
                name: configured.name.clone(),
                priority: configured.priority,
                out,
                next_probe,
                breaker: member.breaker.state(waiting, now),
                last_failure: member.last_failure,
                dimensions: member.limits.status(now),
                in_flight: member.in_flight,
                granted: member.granted,
                limits: member.limits_found(settings.limits_of(family, member.id)),
            })
        };
        if self.pool.is_none() {
            Vec::new()
        } else {
            self.all().filter(|one| !one.retired).filter_map(of).collect()
        }
    }

    /// Whether a request may go as far as money is concerned: where there is a choice, that is
    /// looked at with each member.
    pub(in crate::admission::machine) fn funds(
        &self,
        route: Route,
        interval: Duration,
        now: Moment,
    ) -> Funds {
        if self.pool.is_none() {
            return self.first.spent.check(interval, now);
        }
        let pinned = route.pin.and_then(|pin| self.index_of(pin));
        let usable =
            |member: &&Member| !member.retired && pinned.is_none_or(|pin| self.of(pin).id == member.id);
        let mut spent = None;
        for member in self.all().filter(usable) {
            match member.spent.blocks(now) {
                Some(answer) => spent = Some(answer),
                None => return Funds::Pass,
            }
        }
        spent.map_or(Funds::Pass, Funds::Spent)
    }

    /// When to look whether an attempt in flight takes too long for its upstream to be alive.
    pub(in crate::admission::machine) fn stall_at(
        &self,
        settings: &BreakerSettings,
        now: Moment,
    ) -> Option<Moment> {
        match &self.pool {
            None => self.first.breaker.stall_at(settings, self.first.in_flight),
            Some(_) => Some(now.plus(STALL_LOOK)),
        }
    }

    /// Whether a request that failed at one member can go to another one at once.
    pub(in crate::admission::machine) fn has_other(&self, than: UpstreamId) -> bool {
        self.all().any(|member| member.id != than && member.serves())
    }

    /// The member that stands for all where any would do: prices and shares are told by it.
    pub(in crate::admission::machine) fn typical(&self) -> &Member {
        match &self.pool {
            None => &self.first,
            Some(pool) => {
                let best = pool.groups.iter().flat_map(|group| &group.members).map(|index| self.of(*index));
                best.clone().find(|member| member.serves()).or(best.clone().next()).unwrap_or(&self.first)
            }
        }
    }
}
