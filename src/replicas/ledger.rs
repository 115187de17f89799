//! The ledger of `ledger.lua` in Rust, for simulations and for a test that compares the two.

use std::collections::{BTreeMap, BTreeSet};

use super::message::{Answer, Call, Grant, Line, ScopeKey, WHOLE};

/// The part reserved for all replicas that have no part of a scope yet: 2 %, in millionths.
const RESERVE: u64 = 20_000;
/// The increase, in millionths, above which a replica lacks a part; also the fraction 1/[`STEADY`]
/// of its part. Parts stay while no replica lacks any and their sum is at most the whole.
const MIN_LACK: u64 = 5_000;
const STEADY: u64 = 40;
/// The time, in milliseconds, after which a free part counts as unused.
const REFILL_MS: u64 = 60_000;

/// The lifetime of an entry that its replica does not report, in leases.
const ENTRY_LEASES: u64 = 14;

/// A time in milliseconds.
pub(super) type Time = u64;

#[derive(Clone, Debug)]
struct Entry {
    id: String,
    until: Time,
    need: u64,
    weight: u64,
    held: u64,
}

#[derive(Clone, Debug, Default)]
struct Record {
    credit: u64,
    at: Time,
    requests: u64,
    tokens: u64,
    entries: Vec<Entry>,
}

/// All data of one group of replicas in Redis, except the notes.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    created: Option<Time>,
    members: BTreeMap<String, Time>,
    records: BTreeMap<ScopeKey, Record>,
    /// By replica, the scopes in which it should get more, or return a part that others lack.
    recalls: BTreeMap<String, BTreeSet<ScopeKey>>,
}

/// The values common to all lines of one exchange.
struct Exchange<'a> {
    id: &'a str,
    lease: Time,
    now: Time,
    learning: bool,
    members: u64,
}

/// Max-min fair parts of `whole`: a replica that needs less than its weighted part gets its need,
/// and the others share the rest by weight. Unneeded parts are shared by weight too.
pub(super) fn divide(needs: &[u64], weights: &[u64], whole: u64) -> Vec<u64> {
    let all: u64 = weights.iter().sum();
    let (mut left, mut weight, mut open) = (whole, all, needs.len());
    let mut parts = vec![None; needs.len()];
    loop {
        let was = (left, weight, open);
        for (index, part) in parts.iter_mut().enumerate() {
            if part.is_none() && needs[index] * was.1 <= was.0 * weights[index] {
                *part = Some(needs[index]);
                (left, weight, open) = (left - needs[index], weight - weights[index], open - 1);
            }
        }
        if open == 0 || open == was.2 {
            break;
        }
    }
    let each = parts.iter().zip(weights).map(|(part, own)| match part {
        Some(part) if open == 0 => part + left * own / all,
        Some(part) => *part,
        None => left * own / weight,
    });
    each.collect()
}

impl Ledger {
    /// Runs an exchange.
    pub(super) fn execute(&mut self, call: &Call, now: Time) -> Answer {
        let lease = u64::try_from(call.lease.as_millis()).unwrap_or(u64::MAX);
        let renewed = self.members.remove(&call.id).is_some_and(|until| until > now);
        self.members.retain(|_, until| *until > now);
        let mut recalled = self.recalls.remove(&call.id).unwrap_or_default();
        self.recalls.retain(|of, _| self.members.contains_key(of));
        // The parts are unknown after a loss, and after all leases ended without a goodbye.
        let since = match (self.created, self.members.is_empty()) {
            (_, true) if lease == 0 => 0,
            (None, _) => now,
            (Some(since), true) if since > 0 && !renewed => now,
            (Some(since), _) => since.max(1),
        };
        self.created = Some(since);
        let learning = now < since + lease;
        if lease > 0 {
            self.members.insert(call.id.clone(), now + lease);
        }
        let members = self.members.len().max(1) as u64;
        let exchange = Exchange { id: &call.id, lease, now, learning, members };
        let grants = call.lines.iter().map(|line| self.settle(&exchange, line, None)).collect();
        for line in &call.lines {
            recalled.remove(&line.key);
        }
        let answered = recalled.into_iter().filter_map(|key| {
            let record = self.records.get(&key).filter(|record| !record.is_over(now))?;
            let last = record.entries.iter().find(|entry| entry.id == call.id && entry.until > now)?;
            let part = |of| u32::try_from(of).unwrap_or(WHOLE);
            let (held, need, weight) = (part(last.held), part(last.need), part(last.weight));
            let (line, until) = (Line { key, held, need, weight, ..Line::default() }, last.until);
            Some((key, self.settle(&exchange, &line, Some(until))))
        });
        let recalled = answered.collect();
        let members = self.members.len().max(1);
        Answer { members, learning, epoch: since, seen: 0, grants, recalled, notes: Vec::new() }
    }

    fn settle(&mut self, exchange: &Exchange<'_>, line: &Line, kept_until: Option<Time>) -> Grant {
        let &Exchange { id, lease, now, learning, members } = exchange;
        let old = self.records.remove(&line.key).filter(|old| !old.is_over(now));
        let old = old.unwrap_or_else(|| Record { at: now, ..Record::default() });
        let was_free = u64::from(WHOLE).saturating_sub(old.entries.iter().map(|entry| entry.held).sum());
        let grown = was_free * (now - old.at).min(REFILL_MS) / REFILL_MS;
        let mut credit = was_free.min(old.credit + grown);
        let own = old.entries.iter().find(|entry| entry.id == id).map_or(0, |entry| entry.held);
        let held = u64::from(line.held);
        credit += u64::from(line.unused_returned).min(own.saturating_sub(held));
        let others = old.entries.into_iter();
        let others = others
            .filter(|entry| entry.id != id && entry.until > now && self.members.contains_key(&entry.id));
        let mut entries: Vec<Entry> = others.collect();
        let others_hold: u64 = entries.iter().map(|entry| entry.held).sum();
        // Negative if the parts sum to more than the whole.
        let free = i64::from(WHOLE) - signed(others_hold) - signed(held);
        credit = credit.min(u64::try_from(free).unwrap_or(0));
        let floor = RESERVE / members;
        let need = u64::from(line.need).min(WHOLE.into()).max(floor);
        let weight = u64::from(line.weight).max(1);
        let with_own = |of: fn(&Entry) -> u64, own| entries.iter().map(of).chain([own]).collect();
        let needs: Vec<u64> = with_own(|entry| entry.need, need);
        let weights: Vec<u64> = with_own(|entry| entry.weight, weight);
        let reserve = floor * members.saturating_sub(needs.len() as u64);
        let parts = divide(&needs, &weights, u64::from(WHOLE) - reserve);
        let target = if lease > 0 { parts[entries.len()] } else { 0 };
        let over = free < signed(reserve);
        let mut part = held;
        if target > held {
            let most = if learning { target.min(floor) } else { target };
            part += u64::try_from(signed(most.saturating_sub(held)).min(free - signed(reserve))).unwrap_or(0);
        } else if target < held {
            let lacks = |(entry, part): (&Entry, &u64)| *part > entry.held + MIN_LACK.min(part / STEADY);
            // While the parts are unknown, a returned part can't be given to another replica.
            let lacked = over || !learning && entries.iter().zip(&parts).any(lacks);
            if lacked {
                part = target;
            }
        }
        let short = over || target.saturating_sub(part) > MIN_LACK.min(target / STEADY) && !learning;
        for (entry, part) in entries.iter().zip(&parts).filter(|_| lease > 0) {
            let gives = short && *part < entry.held;
            if gives || !learning && *part > entry.held + MIN_LACK.min(part / STEADY) {
                self.recalls.entry(entry.id.clone()).or_default().insert(line.key);
            }
        }
        let gained = part.saturating_sub(held);
        let unused_gained = if gained > 0 { gained * credit / u64::try_from(free).unwrap_or(1) } else { 0 };
        credit -= unused_gained;
        if lease > 0 {
            let (id, until) = (id.to_owned(), kept_until.unwrap_or(now + lease * ENTRY_LEASES));
            entries.push(Entry { id, until, need, weight, held: held.max(part) });
        }
        let even = (u64::from(WHOLE) - reserve) * weight / weights.iter().sum::<u64>();
        let (requests, tokens) = (old.requests + line.requests, old.tokens + line.tokens);
        self.records.insert(line.key, Record { credit, at: now, requests, tokens, entries });
        let [part, unused_gained, target, even] =
            [part, unused_gained, target, even].map(|of| u32::try_from(of).unwrap_or(WHOLE));
        Grant { part, unused_gained, target, even, requests, tokens }
    }
}

impl Record {
    /// Whether no replica has a part of the scope, and all used units are available again.
    fn is_over(&self, now: Time) -> bool {
        let last = self.entries.iter().map(|entry| entry.until).fold(self.at, Time::max);
        last + REFILL_MS <= now
    }
}

fn signed(part: u64) -> i64 {
    i64::try_from(part).unwrap_or(i64::MAX)
}
