//! The parts that this replica may use: granted by the ledger, and leased for a limited time. Pure:
//! no clock, no socket.
//!
//! A changed scope is reported at once, and a scope in use as soon as an exchange has space: an
//! exchange's cost grows with the scopes in it.
//!
//! A replica stops using a returned part before it reports that to the ledger, and only then can
//! another replica get it: so the parts in use sum to at most the whole. There are two exceptions:
//!
//! - replicas that have no part of a scope yet start with [`floor`], 2 % of the limit for all of
//!   them together;
//! - replicas that reach the upstream but not Redis, while others reach both, use an even part once
//!   their lease has ended, by the last known number of replicas.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Instant;

use super::demand::Need;
use super::message::{Answer, Call, Grant, Line, MOST_LINES, Note, ScopeKey, WHOLE};

/// The lease in intervals, from the begin of the last exchange. After a crash the others get the
/// part that much later.
pub(super) const LEASE: u32 = 3;
/// Intervals from the lease's end until a part may grow: the others' leases end at other moments.
const SETTLE: u32 = 2;
/// The increase of a part, in millionths, from which an additional exchange is made.
const LACKS: u32 = WHOLE / 200;
/// The most scopes in an exchange that are not urgent.
const MOST_DUE: usize = 64;
/// The intervals after which an unused scope is reported again; its entry in the ledger then has
/// half of its lifetime left.
const TOLD_AGAIN: u32 = 20;
/// Reserved for replicas that have no part of a scope, all together.
const RESERVE: u32 = WHOLE / 50;
/// The time constant of the others' rates, in seconds.
const MEASURED_OVER: f64 = 3.0;

/// The part, in millionths, of a replica that the ledger does not know yet in a scope, among
/// `replicas` replicas.
pub(super) fn floor(replicas: usize) -> u32 {
    (RESERVE / divisor(replicas)).max(1)
}

/// The even part, in millionths, among `replicas` replicas.
pub(super) fn even(replicas: usize) -> u32 {
    (WHOLE / divisor(replicas)).max(1)
}

fn divisor(replicas: usize) -> u32 {
    u32::try_from(replicas).unwrap_or(u32::MAX).max(1)
}

/// One scope's part, from this replica's view.
#[derive(Clone, Copy, Debug, Default)]
struct Own {
    need: Need,
    /// The ledger's view of it; `None` after a loss.
    told: Option<Told>,
    /// When it was last reported, and whether replicas joined or left since.
    told_at: Option<Instant>,
    stale: bool,
    /// The most that is used. The ledger's value is never lower.
    held: u32,
    /// The unused amount of the part returned since the last exchange.
    gave: u32,
    /// The unused amount of the part gained since it was last applied.
    fresh: u32,
    gained: u32,
    even: u32,
    /// The ledger's totals at the last exchange, and this replica's share of them.
    totals: Option<[u64; 2]>,
    reported: [f64; 2],
    /// The amounts that the others sent since the part was last applied, and their rates.
    others: [u64; 2],
    rates: [f64; 2],
}

/// The ledger's view of a scope after an exchange.
#[derive(Clone, Copy, Debug)]
struct Told {
    need: u32,
    /// This replica's part in the ledger.
    held: u32,
    /// The part that it gets once the others have returned theirs.
    target: u32,
}

/// When a scope must be reported.
enum Telling {
    /// With the next exchange: another replica waits for it.
    Now,
    /// When an exchange has space; those reported longest ago come first.
    Due(Instant),
    /// Not yet.
    Later,
}

impl Own {
    /// Records the amounts that the others sent since the last report, `passed` ago.
    fn heard(&mut self, grant: &Grant, sent: [u64; 2], passed: Duration) {
        let seconds = passed.as_secs_f64().max(0.001);
        let totals = [grant.requests, grant.tokens];
        let before = self.totals.replace(totals).unwrap_or(totals);
        let others: [u64; 2] =
            std::array::from_fn(|unit| totals[unit].saturating_sub(before[unit]).saturating_sub(sent[unit]));
        let follow = 1.0 - (-seconds / MEASURED_OVER).exp();
        self.others = std::array::from_fn(|unit| self.others[unit] + others[unit]);
        self.rates = self.rates.map(|rate| rate * (1.0 - follow));
        self.rates = std::array::from_fn(|unit| self.rates[unit] + others[unit] as f64 / seconds * follow);
    }

    /// Whether an additional exchange is useful: to get a larger part, or to return one.
    fn is_urgent(&self) -> bool {
        let Some(told) = self.told else { return true };
        let need = self.need.part;
        let wants = need > told.need.max(self.held).saturating_add(LACKS.min(need / 40));
        wants || self.held != told.held || told.target > self.held.saturating_add(LACKS.min(told.target / 40))
    }

    /// When the scope must be reported. `floor` is the part that the replica has in any case.
    fn telling(&self, floor: u32, interval: Duration, now: Instant) -> Telling {
        let (Some(told), Some(told_at)) = (self.told, self.told_at) else { return Telling::Now };
        if self.is_urgent() || self.need.part.max(floor) < told.need / 2 {
            return Telling::Now;
        }
        let sent = (0..2).any(|unit| self.need.sent[unit] >= self.reported[unit] + 1.0);
        let is_due = self.stale || sent || self.need.part > self.held;
        if is_due || now >= told_at + interval * TOLD_AGAIN { Telling::Due(told_at) } else { Telling::Later }
    }
}

/// A part to apply to a scope.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Applied {
    /// The part in millionths.
    pub(super) part: u32,
    pub(super) prospect: u32,
    /// The unused fraction of the gained part, from 0 to 1.
    pub(super) fresh: f64,
    /// The requests and tokens that the others sent since the last time, and their rates per
    /// second.
    pub(super) others_sent: [u64; 2],
    pub(super) others: [f64; 2],
}

/// The parts of one replica.
#[derive(Debug)]
pub(super) struct Leases {
    interval: Duration,
    expected: usize,
    members: usize,
    own: BTreeMap<ScopeKey, Own>,
    /// When the last successful exchange began.
    renewed: Option<Instant>,
    /// Whether the parts in use are leased.
    granted: bool,
    /// Whether an exchange failed since the last successful one.
    failed: bool,
    /// Whether an additional exchange is useful: to get a larger part, or to return one.
    hungry: bool,
    epoch: u64,
    seen: u64,
}

impl Leases {
    pub(super) fn new(interval: Duration, expected: usize) -> Self {
        Self {
            interval,
            expected: expected.max(1),
            members: 1,
            own: BTreeMap::new(),
            renewed: None,
            granted: false,
            failed: false,
            hungry: false,
            epoch: 0,
            seen: 0,
        }
    }

    /// The number of known replicas, this one included.
    pub(super) fn replicas(&self) -> usize {
        self.members
    }

    /// Whether the parts in use are leased; without Redis they are even.
    pub(super) fn is_granted(&self) -> bool {
        self.granted
    }

    /// Whether an additional exchange is useful.
    pub(super) fn is_hungry(&self) -> bool {
        self.hungry
    }

    /// The end of the lease; `None` without one.
    pub(super) fn until(&self) -> Option<Instant> {
        self.renewed.filter(|_| self.granted).map(|renewed| renewed + self.interval * LEASE)
    }

    /// Sets the scopes' needs; other scopes are dropped. A need that has just grown over its part
    /// makes an additional exchange useful.
    pub(super) fn needs(&mut self, needs: &[(ScopeKey, Need)]) {
        let mut own = std::mem::take(&mut self.own);
        for (key, need) in needs {
            let mut known = own.remove(key).unwrap_or_else(|| self.begun());
            self.hungry |= known.need.part <= known.held && need.part > known.held.saturating_add(LACKS);
            known.need = *need;
            self.own.insert(*key, known);
        }
    }

    fn begun(&self) -> Own {
        let held = if self.granted { 0 } else { self.safe_part().unwrap_or(0) };
        Own { held, ..Own::default() }
    }

    /// The next exchange.
    pub(super) fn outgoing(&self, id: &str, notes: Vec<Note>, now: Instant) -> Call {
        let floor = floor(self.members);
        let (mut urgent, mut due) = (Vec::new(), Vec::new());
        for (key, own) in &self.own {
            match own.telling(floor, self.interval, now) {
                Telling::Now => urgent.push((key, own)),
                Telling::Due(since) => due.push((since, key, own)),
                Telling::Later => {}
            }
        }
        urgent.sort_by_key(|(_, own)| std::cmp::Reverse(own.need.part));
        due.sort_by_key(|(since, ..)| *since);
        // With very many scopes the bound grows, so that each is reported before its entry expires.
        let due = due.into_iter().take(MOST_DUE.max(self.own.len() / 15)).map(|(_, key, own)| (key, own));
        self.call(id, notes, due.chain(urgent))
    }

    fn call<'a>(
        &self,
        id: &str,
        notes: Vec<Note>,
        told: impl Iterator<Item = (&'a ScopeKey, &'a Own)>,
    ) -> Call {
        let lines = told.take(MOST_LINES).map(|(key, own)| {
            let sent = |of: usize| whole(own.need.sent[of] - own.reported[of]);
            let Own { held, gave, need, .. } = *own;
            Line {
                key: *key,
                held,
                gave,
                need: need.part,
                weight: need.weight,
                requests: sent(0),
                tokens: sent(1),
            }
        });
        Call {
            id: id.to_owned(),
            lease: self.interval * LEASE,
            seen: self.seen,
            lines: lines.collect(),
            notes,
        }
    }

    /// The last exchange: it returns all parts.
    pub(super) fn goodbye(&self, id: &str) -> Call {
        let mut call = self.call(id, Vec::new(), self.own.iter());
        call.lease = Duration::ZERO;
        for line in &mut call.lines {
            let unused = self.own.get(&line.key).map_or(0.0, |own| own.need.unused);
            (line.gave, line.held) = (share(line.held, unused), 0);
        }
        call
    }

    /// Records a successful exchange that began at `began`.
    pub(super) fn exchanged(&mut self, call: &Call, answer: &Answer, began: Instant) {
        // A ledger that lost its data knows only replicas that have come back. A replica that knew
        // of more keeps that number, and waits with a larger part until the ledger knows all parts.
        let knew = self.renewed.is_some() && answer.learning;
        let members = self.members;
        self.members = if knew { self.members.max(answer.members) } else { answer.members };
        self.seen = answer.seen;
        let floor = floor(self.members);
        (self.renewed, self.granted, self.failed) = (Some(began), true, false);
        if answer.epoch != self.epoch {
            self.own.values_mut().for_each(|own| own.told = None);
            self.epoch = answer.epoch;
        }
        if self.members != members {
            self.own.values_mut().for_each(|own| own.stale = true);
        }
        for (line, grant) in call.lines.iter().zip(&answer.grants) {
            let Some(own) = self.own.get_mut(&line.key) else { continue };
            let since = own.told_at.replace(began);
            let passed = since.map_or(self.interval, |since| began.saturating_duration_since(since));
            own.told = Some(Told { need: line.need, held: line.held, target: 0 });
            (own.stale, own.gave) = (false, 0);
            let sent = [line.requests, line.tokens];
            own.heard(grant, sent, passed);
            own.reported = std::array::from_fn(|unit| own.reported[unit] + sent[unit] as f64);
        }
        let lines = call.lines.iter().map(|line| line.key).zip(&answer.grants);
        for (key, grant) in lines.chain(answer.recalled.iter().map(|(key, grant)| (*key, grant))) {
            let Some(own) = self.own.get_mut(&key) else { continue };
            let Some(told) = &mut own.told else { continue };
            own.even = grant.even;
            (told.held, told.target) = (told.held.max(grant.part), grant.target);
            let part = if knew { grant.part.min(own.held.max(floor)) } else { grant.part };
            if part >= own.held {
                own.gained += part - own.held;
                own.fresh += grant.fresh;
            } else {
                own.gave = share(own.held - part, own.need.unused);
                (own.gained, own.fresh) = (0, 0);
            }
            own.held = part;
        }
        // While the ledger recovers, no part grows.
        self.hungry = self.own.values().any(|own| own.told.is_none() || !answer.learning && own.is_urgent());
    }

    /// Records a failed exchange.
    pub(super) fn failed(&mut self, now: Instant) {
        self.failed = true;
        // It is unknown whether Redis executed it.
        self.own.values_mut().for_each(|own| own.told = None);
        self.lapse(now);
    }

    /// Gives up parts whose lease has ended. Must be called at least once per interval.
    pub(super) fn lapse(&mut self, now: Instant) {
        let since = match self.renewed {
            Some(renewed) => now.saturating_duration_since(renewed),
            None if self.failed => Duration::MAX,
            None => return,
        };
        if since < self.interval * LEASE {
            return;
        }
        (self.granted, self.hungry) = (false, false);
        let safe = even(self.cautious());
        let may_grow = since >= self.interval * (LEASE + SETTLE);
        for own in self.own.values_mut() {
            if own.held > safe || may_grow {
                own.held = safe;
            }
            (own.gave, own.gained, own.fresh, own.totals, own.even) = (0, 0, 0, None, safe);
            (own.told, own.told_at) = (None, None);
            own.rates = [0.0; 2];
        }
    }

    /// The parts to apply to the scopes that are reported.
    pub(super) fn applied(&mut self) -> BTreeMap<ScopeKey, Applied> {
        // Before the first exchange the number of replicas is unknown: if a thousand started
        // together, each would take 2 %.
        let floor = if self.granted { floor(self.members) } else { 1 };
        let fair = self.prospect();
        let each = self.own.iter_mut().map(|(key, own)| {
            let part = own.held.max(floor);
            let fresh = if own.gained > 0 { f64::from(own.fresh) / f64::from(own.gained) } else { 0.0 };
            let applied = Applied {
                part,
                // A scope that no exchange has reported yet.
                prospect: if own.even > 0 { own.even } else { fair }.max(part),
                fresh: fresh.min(1.0),
                others_sent: own.others,
                others: own.rates,
            };
            (own.gained, own.fresh, own.others) = (0, 0, [0; 2]);
            (*key, applied)
        });
        each.collect()
    }

    /// The part of a scope that is not reported to the ledger yet.
    pub(super) fn newcomer(&self) -> u32 {
        if self.granted {
            return floor(self.members);
        }
        // Before the first exchange others may have everything: take next to nothing, briefly.
        self.safe_part().unwrap_or(1)
    }

    /// The part that an unreported scope will have at least when it needs it.
    pub(super) fn prospect(&self) -> u32 {
        even(if self.granted { self.members } else { self.cautious() })
    }

    /// The part without Redis; `None` before the first exchange was tried.
    fn safe_part(&self) -> Option<u32> {
        (self.failed || self.renewed.is_some()).then(|| even(self.cautious()))
    }

    /// The number of replicas to assume: the last known or the expected one.
    fn cautious(&self) -> usize {
        self.members.max(self.expected)
    }
}

fn share(part: u32, ratio: f64) -> u32 {
    u32::try_from(whole(f64::from(part) * ratio.clamp(0.0, 1.0))).unwrap_or(part)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float's cast saturates")]
fn whole(number: f64) -> u64 {
    number.max(0.0) as u64
}
