//! The simulator's counters, for tests and users.

use std::collections::{BTreeMap, HashMap, VecDeque};

use serde::Serialize;

use super::limiter::{Dimension, JointRefusal};

/// Counts since the start or the last reset.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Stats {
    /// Seconds since the start or the last reset.
    pub seconds: f64,
    /// Requests received, without those to `/simulate/`.
    pub requests: u64,
    /// Requests that the limiter admitted.
    pub admitted: u64,
    /// Tokens charged to them.
    pub tokens: u64,
    /// Requests that the limiter refused, by dimension (`rpm`, `rpd`, `tpm`, `tpd`), or `too_large`
    /// for a cost above the limit.
    pub refused: BTreeMap<&'static str, u64>,
    /// The time of the last refusal, in seconds since the start.
    pub last_refusal: Option<f64>,
    /// Responses by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Faults by name, including those of outages.
    pub faults: BTreeMap<&'static str, u64>,
    /// Requests that declare themselves a retry (`x-stainless-retry-count` above 0).
    pub declared_retries: u64,
    /// The number of jobs (`x-job-id`) by their number of attempts.
    pub jobs_by_attempts: BTreeMap<u32, u64>,
    /// Attempts not counted by job, because the table of jobs was full.
    pub jobs_overflowed: u64,
    /// Connections accepted.
    pub connections: u64,
    /// Requests in flight.
    pub in_flight: u64,
    /// The peak of requests in flight.
    pub in_flight_peak: u64,
    /// The last hour by second, without the seconds that had no requests.
    pub history: VecDeque<Second>,
}

impl Stats {
    /// The number of refused requests.
    pub fn refused_total(&self) -> u64 {
        self.refused.values().sum()
    }

    /// The number of responses with this status.
    #[cfg(any(test, feature = "internals"))]
    pub fn status(&self, status: u16) -> u64 {
        self.statuses.get(&status).copied().unwrap_or_default()
    }

    /// The number of jobs, and of their attempts.
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
    /// Seconds since the start.
    pub second: u64,
    /// Requests that arrived.
    pub requests: u64,
    /// Requests that the limiter admitted.
    pub admitted: u64,
    /// Requests that the limiter refused.
    pub refused: u64,
    /// Requests with a simulated fault.
    pub failed: u64,
}

const HISTORY: usize = 3_600;
/// The maximum number of jobs in the table: 10 MB at about 100 bytes each.
const MAX_JOBS: usize = 100_000;
/// The maximum length of a job's name, in bytes.
const MAX_JOB_NAME: usize = 256;

/// Updates the counters.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    stats: Stats,
    attempts: HashMap<Box<str>, u32>,
}

impl Recorder {
    /// Counts a received request. Returns the number of the attempt within its job, from 1.
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

    /// Resets all counters except the requests in flight.
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
