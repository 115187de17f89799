//! What this replica may use: claims, granted by the order in which Redis executes transactions. Pure: no clock, no socket.
//!
//! In one transaction a replica writes what it claims and reads what all others claim. It uses of its claim what the
//! others' claims leave, and what it used before; it lowers its use before it tells so. As whoever comes later sees who came
//! before, the parts in use never sum up to more than the whole, whatever each knows of the others' needs. What can exceed it,
//! and by how much:
//!
//! - a replica that others don't know yet begins a scope with the floor of [`super::fair`], at most 2 % of the limit, for two
//!   exchanges; replicas that begin the same scope within one interval have no more than an even part each;
//! - replicas that reach the upstream and not Redis, while others reach both, use `1 / replicas` each once their lease is over.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::clock::Instant;

use super::beat::{Beat, Line, MOST_LINES, ScopeKey, WHOLE};
use super::demand::Need;
use super::fair;
use super::member::{LEASE, Member};

/// Exchanges after connecting in which nobody takes more than an even part: the others may be on their way back too.
const LEARNING: u32 = 5;
/// Intervals after the lease's end before a part may grow: the others' leases end at other moments.
const SETTLE: u32 = 2;
/// A part that is larger than it should be by so little stays, as long as nobody lacks it: one in so many.
const STEADY: u32 = 20;
/// Who has less than it should by more than this lacks it.
const LACKS: u32 = WHOLE / 200;
/// The most replicas that are known at once.
const MOST_MEMBERS: usize = 256;

/// What a replica does next.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// Its beat.
    pub(super) beat: String,
    /// Replicas whose beats are to be removed.
    pub(super) remove: Vec<String>,
}

/// One scope's part.
#[derive(Clone, Copy, Debug, Default)]
struct Own {
    need: Need,
    /// As told to the others.
    claim: u32,
    /// As used; never more than the claim once that is told.
    used: u32,
    told: bool,
}

/// The parts of one replica.
#[derive(Debug)]
pub(super) struct Leases {
    id: String,
    interval: Duration,
    expected: usize,
    number: u64,
    members: BTreeMap<String, Member>,
    own: BTreeMap<ScopeKey, Own>,
    /// When the last good exchange began.
    renewed: Option<Instant>,
    /// Whether the parts in use were granted.
    granted: bool,
    /// Whether Redis was found out of reach since the last good exchange.
    failed: bool,
    /// Good exchanges since connecting.
    exchanges: u32,
    /// A part could be larger if the others gave way.
    hungry: bool,
}

impl Leases {
    pub(super) fn new(id: String, interval: Duration, expected: usize) -> Self {
        Self {
            id,
            interval,
            expected: expected.max(1),
            number: 0,
            members: BTreeMap::new(),
            own: BTreeMap::new(),
            renewed: None,
            granted: false,
            failed: false,
            exchanges: 0,
            hungry: false,
        }
    }

    /// Replicas that are known, this one included.
    pub(super) fn replicas(&self) -> usize {
        self.live().count() + 1
    }

    /// Whether the parts in use are granted, rather than an even part without Redis.
    pub(super) fn is_granted(&self) -> bool {
        self.granted
    }

    /// Whether a further exchange soon might give more.
    pub(super) fn is_hungry(&self) -> bool {
        self.hungry
    }

    /// What the scopes need now; the others are forgotten.
    pub(super) fn needs(&mut self, needs: &[(ScopeKey, Need)]) {
        let mut own = std::mem::take(&mut self.own);
        for (key, need) in needs {
            let mut known = own.remove(key).unwrap_or_else(|| {
                let used = self.newcomer(key.family);
                Own { used, claim: used, ..Own::default() }
            });
            known.need = *need;
            self.own.insert(*key, known);
        }
    }

    /// What to write, and claim, next.
    pub(super) fn outgoing(&mut self) -> Outgoing {
        let gone = |member: &Member| member.is_gone(self.interval);
        let remove: Vec<String> =
            self.members.iter().filter(|(_, member)| gone(member)).map(|(id, _)| id.clone()).collect();
        self.members.retain(|id, _| !remove.contains(id));
        self.number += 1;
        self.hungry = false;
        let mut own = std::mem::take(&mut self.own);
        for (key, own) in &mut own {
            self.claim(*key, own);
        }
        self.own = own;
        let mut told: Vec<(&ScopeKey, &mut Own)> = self.own.iter_mut().collect();
        told.sort_by_key(|(_, own)| std::cmp::Reverse(own.need.part));
        let even = fair::even(self.members.len() + 1);
        for (_, own) in told.iter_mut().skip(MOST_LINES) {
            **own = Own { need: own.need, claim: 0, used: even, told: false };
        }
        let lines = told.iter().take(MOST_LINES).map(|(key, own)| {
            let Need { part: need, requests, tokens } = own.need;
            Line { key: **key, claim: own.claim, need, requests, tokens }
        });
        let beat = Beat::Here { number: self.number, interval: self.interval, lines: lines.collect() };
        Outgoing { beat: beat.text(), remove }
    }

    /// An exchange that began then went well: `new` says that no beat of this replica was there before, `beats` are all.
    pub(super) fn exchanged(&mut self, new: bool, beats: &[(String, Vec<u8>)], began: Instant, now: Instant) {
        let passed = self.renewed.map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        let passed = passed.min(self.interval * 2);
        for (id, _) in beats.iter().take(MOST_MEMBERS).filter(|(id, _)| *id != self.id) {
            self.members.entry(id.clone()).or_default();
        }
        let found: HashMap<&str, &[u8]> =
            beats.iter().map(|(id, bytes)| (id.as_str(), bytes.as_slice())).collect();
        for (id, member) in &mut self.members {
            member.found(found.get(id.as_str()).copied(), passed);
        }
        let granted = self.granted && !new;
        let mut own = std::mem::take(&mut self.own);
        for (key, own) in &mut own {
            let left = WHOLE.saturating_sub(self.others(*key, |line| line.claim));
            own.used = if granted {
                own.claim.min(left).max(own.used.min(own.claim))
            } else {
                own.claim.min(left.max(fair::floor(self.replicas())))
            };
            own.told = true;
        }
        self.own = own;
        self.renewed = Some(began);
        (self.granted, self.failed) = (true, false);
        self.exchanges = self.exchanges.saturating_add(1);
    }

    /// An exchange failed: it will take a new connection.
    pub(super) fn failed(&mut self, now: Instant) {
        self.failed = true;
        self.exchanges = 0;
        self.lapse(now);
    }

    /// Gives up what is no longer granted. To be called at least once in each interval.
    pub(super) fn lapse(&mut self, now: Instant) {
        let since = match self.renewed {
            Some(renewed) => now.saturating_duration_since(renewed),
            None if self.failed => Duration::MAX,
            None => return,
        };
        if since < self.interval * LEASE {
            return;
        }
        if self.granted {
            // The others give theirs up too, or will say what they hold.
            let safe = self.safe();
            self.members.values_mut().for_each(|member| member.lapse(safe));
        }
        self.granted = false;
        let (safe, may_grow) = (self.safe(), since >= self.interval * (LEASE + SETTLE));
        for own in self.own.values_mut() {
            if own.used > safe || may_grow {
                own.used = safe;
            }
            own.claim = own.used;
        }
    }

    /// The scopes that were told of, with their parts in millionths, and what the others use in thousandths a second.
    pub(super) fn parts(&self) -> impl Iterator<Item = (ScopeKey, u32, [u64; 2])> {
        self.own.iter().map(|(key, own)| {
            let sum = |of: fn(&Line) -> u64| self.lines(*key).map(of).fold(0, u64::saturating_add);
            (*key, own.used, [sum(|line| u64::from(line.requests)), sum(|line| line.tokens)])
        })
    }

    /// The part of a scope that nobody was told of yet.
    pub(super) fn newcomer(&self, family: u64) -> u32 {
        if !self.granted {
            // Before the first exchange others may have it all.
            return if self.failed || self.renewed.is_some() {
                self.safe()
            } else {
                fair::floor(self.expected)
            };
        }
        if self.live().any(|member| member.has_family(family)) {
            fair::floor(self.replicas())
        } else {
            fair::even(self.cautious())
        }
    }

    fn claim(&mut self, key: ScopeKey, own: &mut Own) {
        let known: Vec<&Line> = self.lines(key).collect();
        let idle = self.replicas() - 1 - known.len();
        let needs: Vec<u32> =
            std::iter::once(own.need.part).chain(known.iter().map(|line| line.need)).collect();
        let fair = fair::parts(&needs, idle);
        let target = fair[0];
        let lack = known.iter().zip(&fair[1..]).any(|(line, fair)| *fair > line.claim.saturating_add(LACKS));
        let others = self.others(key, |line| line.claim);
        if target < own.used {
            let lack = lack || others.saturating_add(own.used) > WHOLE;
            if lack || target.saturating_add(target / STEADY) < own.used {
                own.used = target;
            }
            own.claim = own.used;
            return;
        }
        let reserved = fair::floor(self.replicas()).saturating_mul(u32::try_from(idle).unwrap_or(u32::MAX));
        let left = WHOLE.saturating_sub(others).saturating_sub(reserved);
        let mut claim = target.min(left);
        if self.exchanges < LEARNING || !own.told {
            claim = claim.min(fair::even(self.cautious()));
        }
        own.claim = claim.max(own.used);
        self.hungry |= own.claim > own.used || target > own.used.saturating_add(LACKS);
    }

    /// How many replicas there may be while not all have come back.
    fn cautious(&self) -> usize {
        if self.exchanges < LEARNING { self.replicas().max(self.expected) } else { self.replicas() }
    }

    /// The part without Redis: even, among as many as were last known or are expected.
    fn safe(&self) -> u32 {
        fair::even(self.replicas().max(self.expected))
    }

    fn live(&self) -> impl Iterator<Item = &Member> {
        self.members.values().filter(|member| member.is_live())
    }

    fn lines(&self, key: ScopeKey) -> impl Iterator<Item = &Line> {
        self.live().filter_map(move |member| member.line(key))
    }

    fn others(&self, key: ScopeKey, of: impl Fn(&Line) -> u32) -> u32 {
        self.lines(key).map(of).fold(0, u32::saturating_add)
    }
}
