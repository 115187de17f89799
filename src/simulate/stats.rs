//! The counts of the simulator, for tests and for people.

use std::collections::{BTreeMap, HashMap, VecDeque};

use serde::Serialize;

use super::limiter::{Dimension, JointRefusal};

/// Counts since the start or the last reset.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Stats {
    /// Seconds since the start or the last reset.
    pub seconds: f64,
    /// Requests that arrived, those to `/simulate/` apart.
    pub requests: u64,
    /// Requests that the limiter let in.
    pub admitted: u64,
    /// Tokens charged to them.
    pub tokens: u64,
    /// Requests that the limiter refused, by dimension (`rpm`, `rpd`, `tpm`, `tpd`), and those too
    /// large ever to pass (`too_large`).
    pub refused: BTreeMap<&'static str, u64>,
    /// When the last one was refused, in seconds since the start.
    pub last_refusal: Option<f64>,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Faults by name, those of outages included.
    pub faults: BTreeMap<&'static str, u64>,
    /// Requests that declare themselves a retry (`x-stainless-retry-count` above 0).
    pub declared_retries: u64,
    /// Requests by job (`x-job-id`): how many jobs made one, two, … attempts.
    pub jobs_by_attempts: BTreeMap<u32, u64>,
    /// Attempts of jobs beyond the bound of the table of jobs.
    pub jobs_overflowed: u64,
    /// Connections accepted.
    pub connections: u64,
    /// Requests under way.
    pub in_flight: u64,
    /// Most requests under way at once.
    pub in_flight_peak: u64,
    /// The last hour, second by second; seconds without requests are left out.
    pub history: VecDeque<Second>,
}

impl Stats {
    /// All that the limiter refused.
    pub fn refused_total(&self) -> u64 {
        self.refused.values().sum()
    }

    /// Answers with this status.
    #[cfg(any(test, feature = "internals"))]
    pub fn status(&self, status: u16) -> u64 {
        self.statuses.get(&status).copied().unwrap_or_default()
    }

    /// Jobs seen, and attempts made for them.
    #[cfg(any(test, feature = "internals"))]
    pub fn jobs(&self) -> (u64, u64) {
        self.jobs_by_attempts.iter().fold((0, 0), |(jobs, attempts), (each, count)| {
            (jobs + count, attempts + u64::from(*each) * count)
        })
    }
}

/// One second of the history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Second {
    /// Since the start.
    pub second: u64,
    /// Requests that arrived.
    pub requests: u64,
    /// Let in by the limiter.
    pub admitted: u64,
    /// Refused by the limiter.
    pub refused: u64,
    /// Met a fault.
    pub failed: u64,
}

const HISTORY: usize = 3_600;
/// The most jobs that are distinguished. At about 100 bytes each they take 10 MB.
const MAX_JOBS: usize = 100_000;
/// The most bytes of a job's name.
const MAX_JOB_NAME: usize = 256;

/// Keeps the counts.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    stats: Stats,
    attempts: HashMap<Box<str>, u32>,
}

impl Recorder {
    /// A request has arrived. Returns which attempt of its job it is, from 1.
    pub(super) fn arrived(&mut self, second: u64, job: Option<&str>, declares_retry: bool) -> u32 {
        self.stats.requests += 1;
        self.stats.declared_retries += u64::from(declares_retry);
        self.stats.in_flight += 1;
        self.stats.in_flight_peak = self.stats.in_flight_peak.max(self.stats.in_flight);
        self.second(second).requests += 1;
        let Some(job) = job else { return 1 };
        if let Some(attempts) = self.attempts.get_mut(job) {
            *attempts += 1;
            return *attempts;
        }
        if self.attempts.len() >= MAX_JOBS || job.len() > MAX_JOB_NAME {
            self.stats.jobs_overflowed += 1;
        } else {
            self.attempts.insert(job.into(), 1);
        }
        1
    }

    pub(super) fn left(&mut self) {
        self.stats.in_flight = self.stats.in_flight.saturating_sub(1);
    }

    pub(super) fn connected(&mut self) {
        self.stats.connections += 1;
    }

    pub(super) fn admitted(&mut self, second: u64, tokens: u64) {
        self.stats.admitted += 1;
        self.stats.tokens = self.stats.tokens.saturating_add(tokens);
        self.second(second).admitted += 1;
    }

    pub(super) fn refused(&mut self, seconds: f64, second: u64, refused: &JointRefusal) {
        let name = if refused.refusal.too_large { "too_large" } else { Dimension::as_str(refused.dimension) };
        *self.stats.refused.entry(name).or_default() += 1;
        self.stats.last_refusal = Some(seconds);
        self.second(second).refused += 1;
    }

    pub(super) fn failed(&mut self, second: u64, name: &'static str) {
        *self.stats.faults.entry(name).or_default() += 1;
        self.second(second).failed += 1;
    }

    pub(super) fn answered(&mut self, status: u16) {
        *self.stats.statuses.entry(status).or_default() += 1;
    }

    pub(super) fn snapshot(&self, seconds: f64) -> Stats {
        let mut stats = Stats { seconds, ..self.stats.clone() };
        for attempts in self.attempts.values() {
            *stats.jobs_by_attempts.entry(*attempts).or_default() += 1;
        }
        stats
    }

    /// Starts to count anew; what is under way stays so.
    pub(super) fn reset(&mut self) {
        let in_flight = self.stats.in_flight;
        *self = Self { stats: Stats { in_flight, ..Stats::default() }, attempts: HashMap::new() };
    }

    fn second(&mut self, second: u64) -> &mut Second {
        let history = &mut self.stats.history;
        if history.back().is_none_or(|last| last.second < second) {
            if history.len() >= HISTORY {
                history.pop_front();
            }
            history.push_back(Second { second, ..Second::default() });
        }
        let last = history.len() - 1;
        &mut history[last]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_counted_by_job() {
        let mut recorder = Recorder::default();
        assert_eq!(recorder.arrived(0, Some("a"), false), 1);
        assert_eq!(recorder.arrived(0, Some("a"), true), 2);
        assert_eq!(recorder.arrived(1, Some("b"), false), 1);
        assert_eq!(recorder.arrived(1, None, false), 1);
        let stats = recorder.snapshot(2.0);
        assert_eq!(stats.jobs(), (2, 3));
        assert_eq!((stats.requests, stats.in_flight, stats.declared_retries), (4, 4, 1));
        assert_eq!(stats.history.iter().map(|second| second.requests).collect::<Vec<_>>(), [2, 2]);
        recorder.reset();
        assert_eq!(recorder.snapshot(0.0).requests, 0);
        assert_eq!(recorder.snapshot(0.0).in_flight, 4);
    }
}
