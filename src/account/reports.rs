//! The last failures, bounded so that many of one kind do not displace the others.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use super::record::Record;
use super::report::Report;
use super::timestamp::Rfc3339;
use crate::caller::CallerId;
use crate::classify::ErrorClass;
use crate::clock::Instant;
use crate::openai::Endpoint;

/// Most kinds of failure that are counted; the one without failures for longest is replaced.
const MAX_KINDS: usize = 512;

/// A bounded ring of [`Report`]s.
#[derive(Debug)]
pub struct Reports {
    capacity: usize,
    ring: Mutex<Ring>,
}

#[derive(Debug, Default)]
struct Ring {
    next: u64,
    /// The reports, the oldest first.
    reports: VecDeque<(Report, u64)>,
    kinds: Vec<KindCount>,
    next_kind: u64,
}

/// The number of failures of one kind.
#[derive(Debug)]
struct KindCount {
    id: u64,
    kind: FailureKind,
    occurrences: u64,
    since: SystemTime,
    last: u64,
}

#[derive(Debug, PartialEq, Eq)]
struct FailureKind {
    class: ErrorClass,
    endpoint: Endpoint,
    model: Option<Box<str>>,
    code: Option<String>,
    caller: CallerId,
    peer: Option<IpAddr>,
}

impl Reports {
    /// An empty ring of `capacity` reports.
    pub fn new(capacity: usize) -> Self {
        Self { capacity, ring: Mutex::default() }
    }

    /// The reports, the newest first, each with the current count of its kind.
    pub fn list(&self) -> Vec<Report> {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.reports.iter().rev().map(|(report, kind)| ring.told(report, *kind)).collect()
    }

    /// The newest report of each kind, the newest first.
    pub fn newest_of_each_kind(&self) -> Vec<Report> {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seen: Vec<u64> = Vec::new();
        let mut newest = Vec::new();
        for (report, kind) in ring.reports.iter().rev() {
            if !seen.contains(kind) {
                seen.push(*kind);
                newest.push(ring.told(report, *kind));
            }
        }
        newest
    }

    /// The report with this id, if it is still stored; `last` is the newest.
    pub fn find(&self, id: &str) -> Option<Report> {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let found = match id {
            "last" => ring.reports.back(),
            _ => ring.reports.iter().find(|(report, _)| report.id == id),
        };
        found.map(|(report, kind)| ring.told(report, *kind))
    }

    /// Number of stored reports.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner).reports.len()
    }

    /// Whether no report is stored.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn add(
        &self,
        record: &Record,
        class: ErrorClass,
        caller: &str,
        wall: SystemTime,
        now: Instant,
    ) {
        if self.capacity == 0 {
            return;
        }
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.next += 1;
        let number = ring.next;
        let kind = ring.count(FailureKind::of(record, class), number, wall);
        if ring.reports.len() >= self.capacity {
            ring.make_room();
        }
        let report = Report::of(record, class, caller, number, wall, now);
        ring.reports.push_back((report, kind));
    }
}

impl Ring {
    /// Drops the oldest report of the kind with the most reports.
    fn make_room(&mut self) {
        let mut held: Vec<(u64, usize)> = Vec::new();
        for (_, kind) in &self.reports {
            match held.iter_mut().find(|(known, _)| known == kind) {
                Some((_, count)) => *count += 1,
                None => held.push((*kind, 1)),
            }
        }
        // Of equal counts, the kind with the oldest report.
        let most = held.iter().rev().max_by_key(|(_, count)| *count).map(|(kind, _)| *kind);
        if let Some(at) = self.reports.iter().position(|(_, kind)| Some(*kind) == most) {
            self.reports.remove(at);
        }
    }

    /// Counts a failure. Returns the id of its kind.
    fn count(&mut self, kind: FailureKind, number: u64, wall: SystemTime) -> u64 {
        if let Some(known) = self.kinds.iter_mut().find(|known| known.kind == kind) {
            known.occurrences += 1;
            known.last = number;
            return known.id;
        }
        if self.kinds.len() >= MAX_KINDS
            && let Some(quiet) = (0..self.kinds.len()).min_by_key(|at| self.kinds[*at].last)
        {
            self.kinds.swap_remove(quiet);
        }
        self.next_kind += 1;
        self.kinds.push(KindCount { id: self.next_kind, kind, occurrences: 1, since: wall, last: number });
        self.next_kind
    }

    fn told(&self, report: &Report, kind: u64) -> Report {
        let mut report = report.clone();
        if let Some(known) = self.kinds.iter().find(|known| known.id == kind) {
            report.occurrences = known.occurrences;
            report.since = Rfc3339(known.since);
        }
        report
    }
}

impl FailureKind {
    fn of(record: &Record, class: ErrorClass) -> Self {
        let detail = record.detail.as_deref();
        let (code, peer) =
            (detail.and_then(|detail| detail.code.clone()), detail.and_then(|detail| detail.peer));
        Self {
            class,
            endpoint: record.endpoint,
            model: record.model.clone(),
            code,
            caller: record.caller,
            peer,
        }
    }
}
