//! What this replica may use: the parts that the ledger granted it, for as long as they are leased.
//! Pure: no clock, no socket.
//!
//! What changed is told at once, and what is in use as soon as an exchange is small enough: an
//! exchange costs by what it tells.
//!
//! A part that shrinks is used no more before the ledger is told so, and only then can another have
//! it: all parts in use are at most the whole. What can exceed it, and by how much:
//!
//! - replicas that have no part of a scope yet begin with [`floor`], 2 % of the limit for all of
//!   them together;
//! - replicas that reach the upstream and not Redis, while others reach both, use one part in as
//!   many as they last knew of each, once their lease is over.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Instant;

use super::demand::Need;
use super::message::{Answer, Call, Grant, Line, MOST_LINES, Note, ScopeKey, WHOLE};

/// Intervals that a part is this replica's after the last exchange began. After a crash the others
/// have it that much later.
pub(super) const LEASE: u32 = 3;
/// Intervals after the lease's end before a part may grow: the others' leases end at other moments.
const SETTLE: u32 = 2;
/// A part that will be larger by more than this is asked for soon.
const LACKS: u32 = WHOLE / 200;
/// Scopes that an exchange tells of though nothing about them is urgent.
const MOST_DUE: usize = 64;
/// Intervals after which a scope without requests is told again; by then its entry in the ledger
/// has half of its time left.
const TOLD_AGAIN: u32 = 20;
/// Kept for replicas that have no part of a scope, all together.
const RESERVE: u32 = WHOLE / 50;
/// Time constant of the others' rates, in seconds.
const MEASURED_OVER: f64 = 3.0;

/// The part, in millionths, of a replica that the ledger does not know yet in a scope, where there
/// are `replicas` replicas.
pub(super) fn floor(replicas: usize) -> u32 {
    (RESERVE / divisor(replicas)).max(1)
}

/// An even part, in millionths, of `replicas` replicas.
pub(super) fn even(replicas: usize) -> u32 {
    (WHOLE / divisor(replicas)).max(1)
}

fn divisor(replicas: usize) -> u32 {
    u32::try_from(replicas).unwrap_or(u32::MAX).max(1)
}

/// One scope's part, as this replica knows it.
#[derive(Clone, Copy, Debug, Default)]
struct Own {
    need: Need,
    /// What the ledger knows of it; nothing after a loss.
    told: Option<Told>,
    /// When it was told of last, and whether replicas came or went since.
    told_at: Option<Instant>,
    stale: bool,
    /// The part that is used at most. The ledger knows of no less.
    held: u32,
    /// What was not used of the part given back since the last exchange.
    gave: u32,
    /// What is unused of the part gained since it was last applied.
    fresh: u32,
    gained: u32,
    even: u32,
    /// The ledger's totals at the last exchange, and our own that it knows.
    totals: Option<[u64; 2]>,
    reported: [f64; 2],
    /// What the others sent since the part was last applied, and their rates.
    others: [u64; 2],
    rates: [f64; 2],
}

/// What an exchange told of a scope, and what came of it.
#[derive(Clone, Copy, Debug)]
struct Told {
    need: u32,
    /// The part that is this replica's as far as the ledger knows.
    held: u32,
    /// The part that it gives when the others have given way.
    target: u32,
}

/// When a scope is to be told of.
enum Telling {
    /// With the next exchange: somebody waits for it.
    Now,
    /// When an exchange is small enough; first what was told longest ago.
    Due(Instant),
    /// Not yet.
    Later,
}

impl Own {
    /// What the others sent since the scope was told of last, `passed` ago.
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

    /// Whether an exchange soon is worth it: to have more, or to say what was given up.
    fn is_urgent(&self) -> bool {
        let Some(told) = self.told else { return true };
        let need = self.need.part;
        let wants = need > told.need.max(self.held).saturating_add(LACKS.min(need / 40));
        wants || self.held != told.held || told.target > self.held.saturating_add(LACKS.min(told.target / 40))
    }

    /// `floor` is what the replica has in any case.
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
    /// Millionths.
    pub(super) part: u32,
    pub(super) prospect: u32,
    /// The part of what was gained that is unused, from 0 to 1.
    pub(super) fresh: f64,
    /// What the others sent since the last time, requests and tokens, and how many a second.
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
    /// When the last good exchange began.
    renewed: Option<Instant>,
    /// Whether the parts in use are leased.
    granted: bool,
    /// Whether Redis was found out of reach since the last good exchange.
    failed: bool,
    /// An exchange soon is worth it: to have more, or to say what was given up.
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

    /// Replicas that are known, this one included.
    pub(super) fn replicas(&self) -> usize {
        self.members
    }

    /// Whether the parts in use are leased, rather than even ones without Redis.
    pub(super) fn is_granted(&self) -> bool {
        self.granted
    }

    /// Whether a further exchange soon is worth it.
    pub(super) fn is_hungry(&self) -> bool {
        self.hungry
    }

    /// When the lease is over; nothing while there is none.
    pub(super) fn until(&self) -> Option<Instant> {
        self.renewed.filter(|_| self.granted).map(|renewed| renewed + self.interval * LEASE)
    }

    /// What the scopes need now; the others are forgotten. A scope that needs more than it has, and
    /// did not before, is worth an exchange soon.
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
        // With more scopes than usual, each is told again before its entry is dropped.
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

    /// A goodbye: nothing is used any more.
    pub(super) fn goodbye(&self, id: &str) -> Call {
        let mut call = self.call(id, Vec::new(), self.own.iter());
        call.lease = Duration::ZERO;
        for line in &mut call.lines {
            let unused = self.own.get(&line.key).map_or(0.0, |own| own.need.unused);
            (line.gave, line.held) = (share(line.held, unused), 0);
        }
        call
    }

    /// An exchange that began then went well.
    pub(super) fn exchanged(&mut self, call: &Call, answer: &Answer, began: Instant) {
        // A ledger that has forgotten all counts only who has come back: who knew of more goes on
        // by that, and waits with a larger part until the ledger has learned who holds what.
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
        // While the ledger learns, no part grows.
        self.hungry = self.own.values().any(|own| own.told.is_none() || !answer.learning && own.is_urgent());
    }

    /// An exchange failed.
    pub(super) fn failed(&mut self, now: Instant) {
        self.failed = true;
        // It may have been executed, or not.
        self.own.values_mut().for_each(|own| own.told = None);
        self.lapse(now);
    }

    /// Gives up what is no longer leased. To be called at least once in each interval.
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

    /// The scopes that are told of, with what to apply to them.
    pub(super) fn applied(&mut self) -> BTreeMap<ScopeKey, Applied> {
        // Before the first exchange, how many there are is not known: a thousand that begin
        // together would each take 2 %.
        let floor = if self.granted { floor(self.members) } else { 1 };
        let fair = self.prospect();
        let each = self.own.iter_mut().map(|(key, own)| {
            let part = own.held.max(floor);
            let fresh = if own.gained > 0 { f64::from(own.fresh) / f64::from(own.gained) } else { 0.0 };
            let applied = Applied {
                part,
                // A scope that no exchange told of yet.
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

    /// The part of a scope that the ledger was not told of yet.
    pub(super) fn newcomer(&self) -> u32 {
        if self.granted {
            return floor(self.members);
        }
        // Before the first exchange others may have it all: next to nothing, for a moment.
        self.safe_part().unwrap_or(1)
    }

    /// The part that a scope will have at least when it needs it, of which no exchange told yet.
    pub(super) fn prospect(&self) -> u32 {
        even(if self.granted { self.members } else { self.cautious() })
    }

    /// The part without Redis; nothing before the first exchange has been tried.
    fn safe_part(&self) -> Option<u32> {
        (self.failed || self.renewed.is_some()).then(|| even(self.cautious()))
    }

    /// As many replicas as were last known or are expected.
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
