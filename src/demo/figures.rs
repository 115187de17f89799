//! The results of a run.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::simulate::Stats;

use super::load::{Ended, Tally};
use super::workload::{CALLERS, Job};

/// The results of one run. Jobs larger than the limit are counted separately everywhere.
#[derive(Clone, Debug, PartialEq)]
pub struct Figures {
    /// Jobs within the limit.
    pub jobs: usize,
    /// Jobs that succeeded.
    pub finished: usize,
    /// Jobs that failed: the SDK gave up.
    pub lost: usize,
    /// Rate-limit refusals by the API.
    pub refused: u64,
    /// Refusals after the first second.
    pub refused_later: u64,
    /// Requests that reached the API.
    pub attempts: u64,
    /// From the start to the end of the last job, or to the stop if some had not ended.
    pub wall: Duration,
    /// The API's responses by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Errors that the services' SDKs received, including those that a retry overcame.
    pub errors: BTreeMap<&'static str, u64>,
    /// The waiting times of each service's jobs, in the order of [`CALLERS`].
    pub callers: Vec<Waits>,
    /// Jobs larger than the limit.
    pub too_large: TooLarge,
    /// When each successful job ended, from the start, in order.
    pub ends: Vec<Duration>,
    /// Rate-limit refusals by the API in each second.
    pub refused_by_second: Vec<(u64, u64)>,
}

/// The waiting times of one service's jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waits {
    /// The median time from request to response, of successful jobs.
    pub p50: Option<Duration>,
    /// The 99th percentile.
    pub p99: Option<Duration>,
    /// Jobs that failed.
    pub lost: usize,
}

/// The results of jobs larger than the limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TooLarge {
    /// Jobs that received the error for it.
    pub told: usize,
    /// Their requests that reached the API.
    pub attempts: u64,
    /// The longest time until one received the error.
    pub slowest: Duration,
}

impl Figures {
    pub(super) fn new(jobs: &[Job], tally: &Tally, stats: &Stats, most: Duration) -> Self {
        let too_large_attempts = refused_as_too_large(stats);
        let passing =
            |(number, ended): (&usize, &Ended)| (!jobs[*number].is_too_large()).then_some((*number, *ended));
        let ended: Vec<(usize, Ended)> = tally.ended.iter().filter_map(passing).collect();
        let count = jobs.iter().filter(|job| !job.is_too_large()).count();
        let finished = ended.iter().filter(|(_, ended)| ended.error.is_none()).count();
        let last = ended.iter().map(|(number, ended)| jobs[*number].arrival + ended.took).max();
        let too_large = TooLarge {
            told: too_large(jobs, tally).filter(|ended| ended.error == Some(EXCEEDS)).count(),
            attempts: too_large_attempts,
            slowest: too_large(jobs, tally).map(|ended| ended.took).max().unwrap_or_default(),
        };
        // Jobs larger than the limit arrive after the first second.
        let later = stats
            .history
            .iter()
            .filter(|second| second.second >= 1)
            .map(|second| second.refused)
            .sum::<u64>();
        let mut ends: Vec<Duration> = (ended.iter())
            .filter(|(_, ended)| ended.error.is_none())
            .map(|(number, ended)| jobs[*number].arrival + ended.took)
            .collect();
        ends.sort_unstable();
        let mut errors = tally.errors.clone();
        errors.remove(EXCEEDS);
        Self {
            jobs: count,
            finished,
            lost: ended.len() - finished,
            refused: refused(stats),
            refused_later: later.saturating_sub(too_large_attempts),
            attempts: stats.requests - too_large_attempts,
            wall: if ended.len() == count { last.unwrap_or_default() } else { most },
            statuses: statuses(stats, too_large_attempts),
            errors,
            callers: (0..CALLERS.len()).map(|caller| Waits::of(caller, jobs, &ended)).collect(),
            too_large,
            ends,
            refused_by_second: stats.history.iter().map(|second| (second.second, second.refused)).collect(),
        }
    }

    /// Requests to the API per job.
    pub fn attempts_per_job(&self) -> f64 {
        self.attempts as f64 / self.jobs.max(1) as f64
    }

    /// Whether all jobs succeeded, and the API refused nothing after the first second.
    pub fn keeps_the_promise(&self) -> bool {
        self.finished == self.jobs && self.refused_later == 0
    }
}

/// Rate-limit refusals by the API, except requests larger than the limit.
pub(super) fn refused(stats: &Stats) -> u64 {
    stats.refused_total() - refused_as_too_large(stats)
}

fn refused_as_too_large(stats: &Stats) -> u64 {
    stats.refused.get("too_large").copied().unwrap_or_default()
}

/// The class of a request that is larger than the limit.
const EXCEEDS: &str = "request_exceeds_limit";

fn too_large<'a>(jobs: &'a [Job], tally: &'a Tally) -> impl Iterator<Item = &'a Ended> {
    tally.ended.iter().filter(|(number, _)| jobs[**number].is_too_large()).map(|(_, ended)| ended)
}

fn statuses(stats: &Stats, too_large: u64) -> BTreeMap<u16, u64> {
    let mut statuses = stats.statuses.clone();
    if let Some(refused) = statuses.get_mut(&429) {
        *refused = refused.saturating_sub(too_large);
    }
    statuses
}

impl Waits {
    fn of(caller: usize, jobs: &[Job], ended: &[(usize, Ended)]) -> Self {
        let own = || ended.iter().filter(|(number, _)| jobs[*number].caller == caller);
        let mut took: Vec<Duration> =
            own().filter(|(_, ended)| ended.error.is_none()).map(|(_, ended)| ended.took).collect();
        took.sort_unstable();
        let lost = own().count() - took.len();
        Self { p50: percentile(&took, 50), p99: percentile(&took, 99), lost }
    }
}

/// The nearest-rank percentile of values in ascending order.
fn percentile(sorted: &[Duration], percent: usize) -> Option<Duration> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

/// The same work with and without Weir.
#[derive(Clone, Debug, PartialEq)]
pub struct Ways {
    /// The least duration that limits and outage allow.
    pub ideal: Duration,
    /// With the SDK alone.
    pub direct: Figures,
    /// With Weir.
    pub through_weir: Figures,
}

impl Ways {
    /// Whether Weir kept its promise, in a few lines.
    pub(super) fn verdict(&self) -> String {
        let weir = &self.through_weir;
        if weir.keeps_the_promise() {
            return format!(
                "Through Weir every job finished, and after the first second the API refused none\n\
                 for its limits. Direct, {} jobs were lost, and it refused {}.",
                self.direct.jobs - self.direct.finished,
                self.direct.refused_later
            );
        }
        format!(
            "Weir did not keep its promise here: {} of {} jobs finished,\n\
             {} 429s after the first second.\n\
             Please report it with the seed and what else this machine was doing.",
            weir.finished, weir.jobs, weir.refused_later
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::Second;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let seconds: Vec<Duration> = (1..=100).map(Duration::from_secs).collect();
        assert_eq!(percentile(&seconds, 50), Some(Duration::from_secs(50)));
        assert_eq!(percentile(&seconds, 99), Some(Duration::from_secs(99)));
        assert_eq!(percentile(&seconds[..1], 99), Some(Duration::from_secs(1)));
        assert_eq!(percentile(&[], 50), None);
    }

    #[test]
    fn jobs_too_large_are_counted_apart() {
        let job = |tokens| Job { caller: 0, arrival: Duration::from_secs(2), tokens, streams: false };
        let jobs = [job(100), job(100), job(10_000_000)];
        let ended = |error, seconds| Ended { took: Duration::from_secs(seconds), error, attempts: 1 };
        let mut tally = Tally { arrived: 3, ..Tally::default() };
        tally.ended =
            [(0, ended(None, 1)), (1, ended(Some("overloaded"), 4)), (2, ended(Some(EXCEEDS), 9))].into();
        tally.errors = [("overloaded", 3), (EXCEEDS, 2)].into();
        let mut stats = Stats { requests: 12, ..Stats::default() };
        stats.refused = [("rpm", 5), ("too_large", 2)].into();
        stats.statuses = [(200, 1), (429, 7), (503, 3)].into();
        let second = |second, refused| Second { second, refused, ..Second::default() };
        stats.history = [second(0, 4), second(2, 3)].into();

        let figures = Figures::new(&jobs, &tally, &stats, Duration::from_secs(30));
        assert_eq!((figures.jobs, figures.finished, figures.lost), (2, 1, 1));
        assert_eq!((figures.refused, figures.refused_later, figures.attempts), (5, 1, 10));
        assert_eq!((figures.wall, figures.statuses[&429]), (Duration::from_secs(6), 5));
        assert_eq!(figures.errors, [("overloaded", 3)].into());
        assert_eq!(figures.too_large, TooLarge { told: 1, attempts: 2, slowest: Duration::from_secs(9) });
        assert_eq!(
            figures.callers[0],
            Waits { p50: Some(Duration::from_secs(1)), p99: Some(Duration::from_secs(1)), lost: 1 }
        );
        assert!(!figures.keeps_the_promise());

        tally.ended.remove(&1);
        let stopped = Figures::new(&jobs, &tally, &stats, Duration::from_secs(30));
        assert_eq!((stopped.lost, stopped.wall), (0, Duration::from_secs(30)));
    }
}
