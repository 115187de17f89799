//! The ledger's arithmetic in Rust, as `ledger.lua` has it for Redis: for simulations, and to be compared with it.

use std::collections::BTreeMap;

use super::message::{Answer, Call, Grant, ScopeKey, WHOLE};

/// Kept for replicas that have no part of a scope yet, all together: 2 %.
const RESERVE: u64 = 20_000;
/// Who should have more than it has by more than this, or by more than a twentieth of what it should have, lacks it.
const LACK: u64 = 5_000;
/// The divisor of a part that gives the excess it may keep, as long as all parts together are not too large.
const STEADY: u64 = 20;
/// Milliseconds after which what is free counts as unused.
const REGROWN: u64 = 60_000;

/// Milliseconds.
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

/// All that one group of replicas has in Redis but the notes.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    created: Option<Time>,
    members: Vec<(String, Time)>,
    records: BTreeMap<ScopeKey, Record>,
}

/// Max-min fair parts of `whole`: who needs less than its weighted part of what is left gets it, and the others share the rest
/// by weight. What nobody needs is shared by weight too.
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
    /// Executes an exchange.
    pub(super) fn execute(&mut self, call: &Call, now: Time) -> Answer {
        let lease = u64::try_from(call.lease.as_millis()).unwrap_or(u64::MAX);
        let renewed = self.members.iter().any(|(id, until)| *id == call.id && *until > now);
        self.members.retain(|(id, until)| *id != call.id && *until > now);
        // Who held parts is not known after a loss, nor when all leases ended without a goodbye.
        let since = match (self.created, self.members.is_empty()) {
            (_, true) if lease == 0 => 0,
            (None, _) => now,
            (Some(since), true) if since > 0 && !renewed => now,
            (Some(since), _) => since.max(1),
        };
        self.created = Some(since);
        let learning = now < since + lease;
        if lease > 0 {
            self.members.push((call.id.clone(), now + lease));
        }
        let members = self.members.len().max(1) as u64;
        let mut grants = Vec::with_capacity(call.lines.len());
        for line in &call.lines {
            let old = self.records.remove(&line.key).filter(|old| !old.is_over(now));
            let old = old.unwrap_or_else(|| Record { at: now, ..Record::default() });
            let was_free = u64::from(WHOLE).saturating_sub(old.entries.iter().map(|entry| entry.held).sum());
            let grown = was_free * (now - old.at).min(REGROWN) / REGROWN;
            let mut credit = was_free.min(old.credit + grown);
            let own = old.entries.iter().find(|entry| entry.id == call.id).map_or(0, |entry| entry.held);
            let held = u64::from(line.held);
            credit += u64::from(line.gave).min(own.saturating_sub(held));
            let others = old.entries.into_iter().filter(|entry| entry.id != call.id && entry.until > now);
            let mut entries: Vec<Entry> = others.collect();
            let others_hold: u64 = entries.iter().map(|entry| entry.held).sum();
            // What is over-committed is less than nothing.
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
                part +=
                    u64::try_from(signed(most.saturating_sub(held)).min(free - signed(reserve))).unwrap_or(0);
            } else if target < held {
                let lacks = |(entry, part): (&Entry, &u64)| *part > entry.held + LACK.min(part / STEADY);
                let lacked = over || entries.iter().zip(&parts).any(lacks);
                if lacked && (over || target + target / STEADY < held) {
                    part = target;
                }
            }
            let gained = part.saturating_sub(held);
            let fresh = if gained > 0 { gained * credit / u64::try_from(free).unwrap_or(1) } else { 0 };
            credit -= fresh;
            if lease > 0 {
                let (id, until) = (call.id.clone(), now + lease);
                entries.push(Entry { id, until, need, weight, held: held.max(part) });
            }
            let even = (u64::from(WHOLE) - reserve) * weight / weights.iter().sum::<u64>();
            let record = Record {
                credit,
                at: now,
                requests: old.requests + line.requests,
                tokens: old.tokens + line.tokens,
                entries,
            };
            let [part, fresh, target, even] =
                [part, fresh, target, even].map(|of| u32::try_from(of).unwrap_or(WHOLE));
            grants.push(Grant {
                part,
                fresh,
                target,
                even,
                requests: record.requests,
                tokens: record.tokens,
            });
            self.records.insert(line.key, record);
        }
        Answer { members: self.members.len().max(1), learning, seen: 0, grants, notes: Vec::new() }
    }
}

impl Record {
    /// Nobody holds a part of the scope, and all that was used came back.
    fn is_over(&self, now: Time) -> bool {
        let last = self.entries.iter().map(|entry| entry.until).fold(self.at, Time::max);
        last + REGROWN <= now
    }
}

fn signed(part: u64) -> i64 {
    i64::try_from(part).unwrap_or(i64::MAX)
}
