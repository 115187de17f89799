//! Which member takes a request: the one of the best priority whose turn comes first. A pure
//! function of what the members offer.

use std::sync::Arc;
use std::time::Duration;

use crate::admission::limits::{Charge, Cost};
use crate::admission::moment::Moment;
use crate::admission::refusal::UpstreamWords;
use crate::admission::settings::Settings;
use crate::admission::spent::Funds;
use crate::pool::UpstreamId;

use super::super::hold;
use super::super::member::{LOOK_AGAIN, Member, Offer};
use super::{Members, Route};

/// Members of one priority that are compared for one request: with hundreds of them, comparing all
/// would cost more than it is worth.
const COMPARED: usize = 2;

/// A request that must not be a probe looks again after this time where no member serves.
const PROBE_LATER: Duration = Duration::from_millis(100);

/// A request as the members see it.
#[derive(Clone, Copy, Debug)]
pub(in crate::admission::machine) struct Query {
    pub(in crate::admission::machine) cost: Cost,
    /// It was here before: it goes at its full price.
    pub(in crate::admission::machine) full_price: bool,
    /// Its caller is below its share, or it was refused once: what others leave free is for it.
    pub(in crate::admission::machine) sparse: bool,
    /// It has the right to ask whether a spent quota is back.
    pub(in crate::admission::machine) asks_quota: bool,
    pub(in crate::admission::machine) since: Moment,
    pub(in crate::admission::machine) deadline: Moment,
    pub(in crate::admission::machine) route: Route,
    /// Until when [`Route::after`] must not be asked again.
    pub(in crate::admission::machine) barred_until: Moment,
}

/// A member's place for a request.
#[derive(Clone, Copy, Debug)]
pub(in crate::admission::machine) struct Taken {
    /// The member's index.
    pub(in crate::admission::machine) member: u16,
    pub(in crate::admission::machine) upstream: UpstreamId,
    pub(in crate::admission::machine) cost: Cost,
    pub(in crate::admission::machine) charge: Charge,
    /// It probes whether the member is back.
    pub(in crate::admission::machine) probe: bool,
    /// It probes whether the member's quota is back.
    pub(in crate::admission::machine) quota_probe: bool,
}

/// What becomes of a request now.
#[derive(Debug)]
pub(in crate::admission::machine) enum Choice {
    /// It goes.
    Takes(Taken),
    /// It waits, for what the offer says.
    Waits(Offer),
    /// No member can serve it before money comes.
    Spent(Arc<UpstreamWords>),
}

/// That a member holds requests back: it need not be asked again for as large a charge until
/// something happens to it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Answer {
    until: Moment,
    pub(super) look: Moment,
    charge: Charge,
    /// The request was one that may use what others leave free.
    sparse: bool,
    /// Requests that no other member can serve wait for this one until then.
    claimed_until: Moment,
}

/// What the members of one priority offer.
#[derive(Debug, Default)]
struct Round {
    best: Option<(Load, Taken)>,
    /// When the first of them may take it, and when to look again; nothing where all of them are
    /// out.
    until: Option<Moment>,
    look: Option<Moment>,
    /// One of them waits for the end of an attempt.
    full: bool,
    /// The earliest probe of one that fails.
    probe: Option<Moment>,
    spent: Option<Arc<UpstreamWords>>,
    compared: usize,
}

/// How busy a member would be.
#[derive(Clone, Copy, Debug)]
struct Load {
    /// Attempts in flight with this one; none for a probe, which goes first.
    in_flight: u32,
    /// The part of its limits that one takes; 0 where none is known.
    share: f64,
}

impl Load {
    /// By what is in flight for the limits, where both are known.
    fn is_less(self, other: Self) -> bool {
        let (own, others) = (f64::from(self.in_flight), f64::from(other.in_flight));
        if self.share > 0.0 && other.share > 0.0 {
            own * self.share < others * other.share
        } else {
            own < others
        }
    }
}

impl Round {
    fn holds(&mut self, until: Moment, look: Moment) {
        self.until = Some(self.until.map_or(until, |other| other.min(until)));
        self.look = Some(self.look.map_or(look, |other| other.min(look)));
    }

    fn join(&mut self, lower: Self) {
        if let (Some(until), Some(look)) = (lower.until, lower.look) {
            self.holds(until, look);
        }
        self.full |= lower.full;
        self.probe = self.probe.into_iter().chain(lower.probe).min();
        self.spent = self.spent.take().or(lower.spent);
    }
}

impl Members {
    /// Which member takes the request now, or what it waits for. `waiting` requests wait.
    pub(in crate::admission::machine) fn choose(
        &mut self,
        query: &Query,
        settings: &Settings,
        waiting: usize,
        now: Moment,
    ) -> Choice {
        if self.pool.is_none() {
            return self.ask_the_first(query, settings, waiting, now);
        }
        if let Some(pin) = query.route.pin {
            let pinned = self.index_of(pin).filter(|index| !self.of(*index).retired);
            // A member that is gone has taken the object with it: the others say so.
            if let Some(index) = pinned {
                let mut round = Round::default();
                self.consider(index, query, settings, waiting, &mut round, now);
                return self.close(round, settings, now);
            }
        }
        let groups = self.pool.as_ref().map_or(0, |pool| pool.groups.len());
        let mut rounds = Round::default();
        for group in 0..groups {
            let round = self.ask_group(group, query, settings, waiting, now);
            if round.best.is_some() {
                if group > 0
                    && rounds.until.is_some()
                    && let Some(pool) = &mut self.pool
                {
                    pool.spills = pool.spills.saturating_sub(1);
                }
                return self.close(round, settings, now);
            }
            let serves = round.until.is_some() || round.full;
            rounds.join(round);
            if serves && group + 1 < groups && !self.may_spill(query, &mut rounds, settings, now) {
                break;
            }
        }
        self.close(rounds, settings, now)
    }

    /// Whether the request may go to members of a lower priority, though better ones will serve it.
    fn may_spill(&self, query: &Query, rounds: &mut Round, settings: &Settings, now: Moment) -> bool {
        let patience = settings.spill_after.map_or(Moment::NEVER, |after| query.since.plus(after));
        let until = if rounds.full { None } else { rounds.until };
        let late = until
            .is_some_and(|until| until > query.deadline || until > patience || until.since(now) > hold::LONG);
        let retries = query.route.after.is_some() && query.barred_until <= now;
        if late || retries || now >= patience || self.pool.as_ref().is_some_and(|pool| pool.spills > 0) {
            return true;
        }
        if patience < Moment::NEVER {
            rounds.look = Some(rounds.look.map_or(patience, |look| look.min(patience)));
        }
        false
    }

    /// The only member there is.
    fn ask_the_first(&mut self, query: &Query, settings: &Settings, waiting: usize, now: Moment) -> Choice {
        let member = &mut self.first;
        let cost = member.price(query.cost, query.full_price);
        let charge = member.limits.charge(cost);
        let probe = match member.offer(charge, query.sparse, settings, waiting, now) {
            Offer::Takes(probe) => probe,
            offer @ (Offer::Blocked(_) | Offer::Held { .. } | Offer::Full) => return Choice::Waits(offer),
        };
        let quota_probe = query.asks_quota
            || match member.spent.check(settings.quota_probe, now) {
                Funds::Pass => false,
                Funds::Probe => true,
                Funds::Spent(answer) => return Choice::Spent(answer),
            };
        Choice::Takes(Taken { member: 0, upstream: member.id, cost, charge, probe, quota_probe })
    }

    /// What the members of one priority offer: of those that take the request now, the one with the
    /// least in flight for its limits.
    fn ask_group(
        &mut self,
        group: usize,
        query: &Query,
        settings: &Settings,
        waiting: usize,
        now: Moment,
    ) -> Round {
        let mut round = Round::default();
        let Some(pool) = &mut self.pool else { return round };
        let place = &mut pool.groups[group];
        let count = place.members.len();
        let begin = place.cursor;
        place.cursor = (begin + 1) % count.max(1);
        let mut own: Option<u16> = None;
        for step in 0..count {
            let Some(pool) = &self.pool else { break };
            let index = pool.groups[group].members[(begin + step) % count];
            if query.route.after.is_some_and(|after| after == self.of(index).id) {
                own = Some(index);
                continue;
            }
            self.consider(index, query, settings, waiting, &mut round, now);
            if round.compared >= COMPARED && round.best.is_some() {
                break;
            }
        }
        // The one where the last attempt failed is asked where no other takes it.
        if let Some(index) = own.filter(|_| round.best.is_none()) {
            self.consider(index, query, settings, waiting, &mut round, now);
        }
        round
    }

    /// Asks one member, and notes what it offers.
    fn consider(
        &mut self,
        index: u16,
        query: &Query,
        settings: &Settings,
        waiting: usize,
        round: &mut Round,
        now: Moment,
    ) {
        round.compared += 1;
        let Some(pool) = &self.pool else { return };
        let before = pool.answers[usize::from(index)];
        let member = self.of(index);
        if let Some(answer) = member.spent.blocks(now) {
            round.spent = Some(answer);
            return;
        }
        if query.route.after == Some(member.id) && query.barred_until > now {
            return round.holds(query.barred_until, query.barred_until);
        }
        let pinned = query.route.pin.is_some();
        if !pinned && before.claimed_until > now {
            return round.holds(before.claimed_until, before.claimed_until);
        }
        let cost = member.price(query.cost, query.full_price);
        let charge = member.limits.charge(cost);
        let sparse = query.sparse;
        let as_large = charge.requests >= before.charge.requests && charge.tokens >= before.charge.tokens;
        if before.look > now && as_large && before.sparse >= sparse {
            return round.holds(before.until, before.look);
        }
        let fails = member.breaker.outage().is_some();
        let member = match index.checked_sub(1) {
            None => &mut self.first,
            Some(other) => match &mut self.pool {
                Some(pool) => &mut pool.others[usize::from(other)],
                None => return,
            },
        };
        match member.offer(charge, sparse, settings, waiting, now) {
            Offer::Takes(probe) => {
                if probe && query.route.once && self.all().any(Member::serves) {
                    return round.probe = round.probe.into_iter().chain([now.plus(PROBE_LATER)]).min();
                }
                // A member that fails is asked by the first request that may do so: else it would
                // never be back.
                let member = self.of(index);
                let in_flight = if probe { 0 } else { member.in_flight + 1 };
                let load = Load { in_flight, share: member.limits.share_of(charge) };
                let upstream = member.id;
                let taken = Taken { member: index, upstream, cost, charge, probe, quota_probe: false };
                if round.best.is_none_or(|(least, _)| load.is_less(least)) {
                    round.best = Some((load, taken));
                }
            }
            Offer::Blocked(at) if fails => round.probe = round.probe.into_iter().chain([at]).min(),
            Offer::Blocked(at) => round.holds(at, at),
            Offer::Held { until, look } => {
                round.holds(until, look);
                if let Some(pool) = &mut self.pool {
                    let answer = &mut pool.answers[usize::from(index)];
                    *answer = Answer { until, look, charge, sparse, claimed_until: answer.claimed_until };
                }
            }
            Offer::Full => round.full = true,
        }
    }

    /// What the members' offers come to.
    fn close(&mut self, round: Round, settings: &Settings, now: Moment) -> Choice {
        if let Some((_, mut taken)) = round.best {
            match self.of(taken.member).spent.check(settings.quota_probe, now) {
                Funds::Pass => {}
                Funds::Probe => taken.quota_probe = true,
                // Another scope's request was the probe: the other members are asked again.
                Funds::Spent(_) => {
                    let look = now.plus(LOOK_AGAIN);
                    return Choice::Waits(Offer::Held { until: look, look });
                }
            }
            return Choice::Takes(taken);
        }
        let look = round.look.into_iter().chain(round.probe).min();
        match (round.until, round.full, look) {
            (Some(until), _, Some(look)) => Choice::Waits(Offer::Held { until, look }),
            (None, true, None) => Choice::Waits(Offer::Full),
            (_, true, Some(look)) => Choice::Waits(Offer::Held { until: look, look }),
            (_, false, Some(look)) => Choice::Waits(Offer::Blocked(look)),
            (_, _, None) => match round.spent {
                Some(answer) => Choice::Spent(answer),
                None => Choice::Waits(Offer::Full),
            },
        }
    }

    /// A member for a request that is sent whatever the limits say.
    pub(in crate::admission::machine) fn any(&self, route: Route) -> u16 {
        let pinned = route.pin.and_then(|pin| self.index_of(pin));
        let first = || {
            let pool = self.pool.as_ref()?;
            let mut all = pool.groups.iter().flat_map(|group| {
                let (before, from) = group.members.split_at(group.cursor.min(group.members.len()));
                from.iter().chain(before).copied()
            });
            all.clone().find(|index| self.of(*index).serves()).or_else(|| all.next())
        };
        pinned.or_else(first).unwrap_or(0)
    }

    /// A request that only one member can serve waits for it until then: others leave that to it.
    pub(in crate::admission::machine) fn claim(&mut self, pin: UpstreamId, until: Moment) {
        if let Some(index) = self.index_of(pin)
            && let Some(pool) = &mut self.pool
        {
            let claimed = &mut pool.answers[usize::from(index)].claimed_until;
            *claimed = until.max(*claimed);
        }
    }

    /// One more of the waiting requests is not served in time by the better members: the next ones
    /// go to lower ones.
    pub(in crate::admission::machine) fn spill(&mut self, waiting: usize) {
        if let Some(pool) = &mut self.pool {
            pool.spills = (pool.spills + 1).min(waiting);
        }
    }
}
