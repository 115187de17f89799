//! The parts that the ledger leases to this replica. Pure: no clock, no socket.
//!
//! An exchange's cost grows with its number of scopes. So a changed scope is reported at once, and
//! another scope in use when an exchange has space.
//!
//! A replica stops using a returned part before it reports that to the ledger, and only then does
//! another replica get it. So the parts in use sum to at most the whole, with two exceptions:
//!
//! - replicas without a part of a scope start with [`floor`], 2 % of the limit for all of them;
//! - replicas that cannot reach Redis, while others can, use an even part after their lease, by the
//!   last known number of replicas.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Instant;

use super::demand::Need;
use super::message::{Answer, Call, Grant, Line, MOST_LINES, Note, ScopeKey, WHOLE};

/// The lease, in intervals from the start of the last exchange. After a crash the others get the
/// part after this time.
pub(super) const LEASE: u32 = 3;
/// The delay, in intervals, from the lease's end until a part may grow, because the others' leases
/// may end later.
const SETTLE: u32 = 2;
/// The minimum increase of a part, in millionths, for an additional exchange.
const MIN_INCREASE: u32 = WHOLE / 200;
/// The maximum number of scopes in an exchange that are not urgent.
const MOST_DUE: usize = 64;
/// The number of intervals after which an unused scope is reported again, at half of the lifetime
/// of its entry in the ledger.
const REPORT_AGAIN: u32 = 20;
/// The part reserved for all replicas without a part of a scope, in millionths.
const RESERVE: u32 = WHOLE / 50;
/// The time constant of the others' rates, in seconds.
const AVERAGING_SECONDS: f64 = 3.0;

/// The part, in millionths, of a replica that has no entry for a scope, among `replicas` replicas.
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

/// The state of one scope's part on this replica.
#[derive(Clone, Copy, Debug, Default)]
struct Own {
    need: Need,
    /// The ledger's entry; `None` if unknown.
    recorded: Option<Recorded>,
    /// The time of the last report, and whether replicas joined or left since.
    reported_at: Option<Instant>,
    stale: bool,
    /// The maximum part in use. The ledger's value is never lower.
    held: u32,
    /// The unused amount of the part returned since the last exchange.
    unused_returned: u32,
    /// The unused amount of the part gained since it was last applied.
    unused_gained: u32,
    gained: u32,
    even: u32,
    /// The ledger's totals at the last exchange, and the amounts that this replica has reported.
    totals: Option<[u64; 2]>,
    reported: [f64; 2],
    /// The requests and tokens that the others sent since the part was last applied, and their
    /// rates.
    others: [u64; 2],
    rates: [f64; 2],
}

/// The ledger's entry of a scope after an exchange.
#[derive(Clone, Copy, Debug)]
struct Recorded {
    need: u32,
    /// This replica's part in the ledger.
    held: u32,
    /// The part that this replica gets once the others have returned theirs.
    target: u32,
}

/// When a scope must be reported.
enum ReportDue {
    /// With the next exchange.
    Now,
    /// When an exchange has space, in order of the last report.
    Due(Instant),
    /// Not yet.
    Later,
}

impl Own {
    /// Records the amounts that the others sent since the last report, `passed` ago.
    fn record_grant(&mut self, grant: &Grant, sent: [u64; 2], passed: Duration) {
        let seconds = passed.as_secs_f64().max(0.001);
        let totals = [grant.requests, grant.tokens];
        let before = self.totals.replace(totals).unwrap_or(totals);
        let others: [u64; 2] =
            std::array::from_fn(|unit| totals[unit].saturating_sub(before[unit]).saturating_sub(sent[unit]));
        let follow = 1.0 - (-seconds / AVERAGING_SECONDS).exp();
        self.others = std::array::from_fn(|unit| self.others[unit] + others[unit]);
        self.rates = self.rates.map(|rate| rate * (1.0 - follow));
        self.rates = std::array::from_fn(|unit| self.rates[unit] + others[unit] as f64 / seconds * follow);
    }

    /// Whether an additional exchange is useful: to get a larger part, or to return one.
    fn is_urgent(&self) -> bool {
        let Some(recorded) = self.recorded else { return true };
        let need = self.need.part;
        let wants = need > recorded.need.max(self.held).saturating_add(MIN_INCREASE.min(need / 40));
        wants
            || self.held != recorded.held
            || recorded.target > self.held.saturating_add(MIN_INCREASE.min(recorded.target / 40))
    }

    /// When the scope must be reported. `floor` is the part that the replica has in any case.
    fn report_due(&self, floor: u32, interval: Duration, now: Instant) -> ReportDue {
        let (Some(recorded), Some(reported_at)) = (self.recorded, self.reported_at) else {
            return ReportDue::Now;
        };
        if self.is_urgent() || self.need.part.max(floor) < recorded.need / 2 {
            return ReportDue::Now;
        }
        let sent = (0..2).any(|unit| self.need.sent[unit] >= self.reported[unit] + 1.0);
        let is_due = self.stale || sent || self.need.part > self.held;
        if is_due || now >= reported_at + interval * REPORT_AGAIN {
            ReportDue::Due(reported_at)
        } else {
            ReportDue::Later
        }
    }
}

/// A part to apply to a scope.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Applied {
    /// The part in millionths.
    pub(super) part: u32,
    pub(super) prospect: u32,
    /// The unused fraction of the gained part, from 0 to 1.
    pub(super) unused_gained: f64,
    /// The requests and tokens that the others sent since the last call, and their rates per
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
    wants_exchange: bool,
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
            wants_exchange: false,
            epoch: 0,
            seen: 0,
        }
    }

    /// The number of known replicas, this one included.
    pub(super) fn replicas(&self) -> usize {
        self.members
    }

    /// Whether the parts in use are leased. Without a lease they are even.
    pub(super) fn is_granted(&self) -> bool {
        self.granted
    }

    /// Whether an additional exchange is useful.
    pub(super) fn wants_exchange(&self) -> bool {
        self.wants_exchange
    }

    /// The end of the lease; `None` without one.
    pub(super) fn until(&self) -> Option<Instant> {
        self.renewed.filter(|_| self.granted).map(|renewed| renewed + self.interval * LEASE)
    }

    /// Sets the scopes' needs and drops all other scopes. A need that has just exceeded its part
    /// makes an additional exchange useful.
    pub(super) fn needs(&mut self, needs: &[(ScopeKey, Need)]) {
        let mut own = std::mem::take(&mut self.own);
        for (key, need) in needs {
            let mut known = own.remove(key).unwrap_or_else(|| self.new_entry());
            self.wants_exchange |=
                known.need.part <= known.held && need.part > known.held.saturating_add(MIN_INCREASE);
            known.need = *need;
            self.own.insert(*key, known);
        }
    }

    fn new_entry(&self) -> Own {
        let held = if self.granted { 0 } else { self.safe_part().unwrap_or(0) };
        Own { held, ..Own::default() }
    }

    /// The next exchange.
    pub(super) fn outgoing(&self, id: &str, notes: Vec<Note>, now: Instant) -> Call {
        let floor = floor(self.members);
        let (mut urgent, mut due) = (Vec::new(), Vec::new());
        for (key, own) in &self.own {
            match own.report_due(floor, self.interval, now) {
                ReportDue::Now => urgent.push((key, own)),
                ReportDue::Due(since) => due.push((since, key, own)),
                ReportDue::Later => {}
            }
        }
        urgent.sort_by_key(|(_, own)| std::cmp::Reverse(own.need.part));
        due.sort_by_key(|(since, ..)| *since);
        // The bound grows with the number of scopes, so that no entry expires.
        let due = due.into_iter().take(MOST_DUE.max(self.own.len() / 15)).map(|(_, key, own)| (key, own));
        self.call(id, notes, due.chain(urgent))
    }

    fn call<'a>(
        &self,
        id: &str,
        notes: Vec<Note>,
        reports: impl Iterator<Item = (&'a ScopeKey, &'a Own)>,
    ) -> Call {
        let lines = reports.take(MOST_LINES).map(|(key, own)| {
            let sent = |of: usize| whole(own.need.sent[of] - own.reported[of]);
            let Own { held, unused_returned, need, .. } = *own;
            Line {
                key: *key,
                held,
                unused_returned,
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
            (line.unused_returned, line.held) = (share(line.held, unused), 0);
        }
        call
    }

    /// Records a successful exchange that began at `began`.
    pub(super) fn exchanged(&mut self, call: &Call, answer: &Answer, began: Instant) {
        // After a loss of data the ledger counts only replicas that have reported again. A replica
        // keeps its higher number, and its part does not grow until the ledger is complete.
        let knew = self.renewed.is_some() && answer.learning;
        let members = self.members;
        self.members = if knew { self.members.max(answer.members) } else { answer.members };
        self.seen = answer.seen;
        let floor = floor(self.members);
        (self.renewed, self.granted, self.failed) = (Some(began), true, false);
        if answer.epoch != self.epoch {
            self.own.values_mut().for_each(|own| own.recorded = None);
            self.epoch = answer.epoch;
        }
        if self.members != members {
            self.own.values_mut().for_each(|own| own.stale = true);
        }
        for (line, grant) in call.lines.iter().zip(&answer.grants) {
            let Some(own) = self.own.get_mut(&line.key) else { continue };
            let since = own.reported_at.replace(began);
            let passed = since.map_or(self.interval, |since| began.saturating_duration_since(since));
            own.recorded = Some(Recorded { need: line.need, held: line.held, target: 0 });
            (own.stale, own.unused_returned) = (false, 0);
            let sent = [line.requests, line.tokens];
            own.record_grant(grant, sent, passed);
            own.reported = std::array::from_fn(|unit| own.reported[unit] + sent[unit] as f64);
        }
        let lines = call.lines.iter().map(|line| line.key).zip(&answer.grants);
        for (key, grant) in lines.chain(answer.recalled.iter().map(|(key, grant)| (*key, grant))) {
            let Some(own) = self.own.get_mut(&key) else { continue };
            let Some(recorded) = &mut own.recorded else { continue };
            own.even = grant.even;
            (recorded.held, recorded.target) = (recorded.held.max(grant.part), grant.target);
            let part = if knew { grant.part.min(own.held.max(floor)) } else { grant.part };
            if part >= own.held {
                own.gained += part - own.held;
                own.unused_gained += grant.unused_gained;
            } else {
                own.unused_returned = share(own.held - part, own.need.unused);
                (own.gained, own.unused_gained) = (0, 0);
            }
            own.held = part;
        }
        // While the ledger recovers, no part grows.
        self.wants_exchange =
            self.own.values().any(|own| own.recorded.is_none() || !answer.learning && own.is_urgent());
    }

    /// Records a failed exchange.
    pub(super) fn failed(&mut self, now: Instant) {
        self.failed = true;
        // Redis may or may not have executed the exchange.
        self.own.values_mut().for_each(|own| own.recorded = None);
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
        (self.granted, self.wants_exchange) = (false, false);
        let safe = even(self.assumed_replicas());
        let may_grow = since >= self.interval * (LEASE + SETTLE);
        for own in self.own.values_mut() {
            if own.held > safe || may_grow {
                own.held = safe;
            }
            (own.unused_returned, own.gained, own.unused_gained, own.totals, own.even) =
                (0, 0, 0, None, safe);
            (own.recorded, own.reported_at) = (None, None);
            own.rates = [0.0; 2];
        }
    }

    /// The parts to apply to the scopes that are reported.
    pub(super) fn applied(&mut self) -> BTreeMap<ScopeKey, Applied> {
        // Before the first exchange the number of replicas is unknown, so `floor` could be too
        // much for many.
        let floor = if self.granted { floor(self.members) } else { 1 };
        let fair = self.prospect();
        let each = self.own.iter_mut().map(|(key, own)| {
            let part = own.held.max(floor);
            let unused_gained =
                if own.gained > 0 { f64::from(own.unused_gained) / f64::from(own.gained) } else { 0.0 };
            let applied = Applied {
                part,
                // A scope that no exchange has reported yet.
                prospect: if own.even > 0 { own.even } else { fair }.max(part),
                unused_gained: unused_gained.min(1.0),
                others_sent: own.others,
                others: own.rates,
            };
            (own.gained, own.unused_gained, own.others) = (0, 0, [0; 2]);
            (*key, applied)
        });
        each.collect()
    }

    /// The part of a scope that is not in the ledger yet.
    pub(super) fn newcomer(&self) -> u32 {
        if self.granted {
            return floor(self.members);
        }
        // Before the first exchange other replicas may use the whole: use the minimum.
        self.safe_part().unwrap_or(1)
    }

    /// The minimum part that an unreported scope would get on demand.
    pub(super) fn prospect(&self) -> u32 {
        even(if self.granted { self.members } else { self.assumed_replicas() })
    }

    /// The part without Redis; `None` before the first attempt of an exchange.
    fn safe_part(&self) -> Option<u32> {
        (self.failed || self.renewed.is_some()).then(|| even(self.assumed_replicas()))
    }

    /// The number of replicas to assume without Redis: the last known or the expected one.
    fn assumed_replicas(&self) -> usize {
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
