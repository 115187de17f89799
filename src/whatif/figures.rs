//! The results for a recording's requests: as recorded, or in a replay.

use serde::Serialize;

use super::plan::SHORT;
use super::recording::{Course, End, Outage, Recording};

/// The number of time spans in the chart of waiting requests.
pub(super) const BINS: usize = 240;

/// One column of the table.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    /// Requests of all callers.
    pub all: Group,
    /// By caller; those with the longest waits in the recording first.
    pub callers: Vec<(String, Group)>,
    /// The fraction of the limit of requests per minute used in the busiest minute; absent without
    /// a known limit.
    pub requests_used: Option<f64>,
    /// The same for tokens.
    pub tokens_used: Option<f64>,
    /// Requests waiting at once, in equal spans of the recording's time.
    #[serde(skip)]
    pub waiting: Vec<u32>,
}

/// The results of one caller, or of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Group {
    /// Requests.
    pub requests: u64,
    /// Requests with a response from the upstream.
    pub answered: u64,
    /// Requests that ended in an error from the upstream.
    pub failed: u64,
    /// Requests larger than the limit.
    pub too_large: u64,
    /// Requests that Weir refused.
    pub refused: u64,
    /// Requests whose caller left while they waited.
    pub left: u64,
    /// Attempts refused by a rate limit.
    pub rate_limits: u64,
    /// Requests with a noticeable wait.
    pub waited: u64,
    /// The median wait in seconds.
    pub wait_p50: f64,
    /// The 99th percentile of the wait in seconds.
    pub wait_p99: f64,
    /// The mean wait in seconds.
    pub wait_mean: f64,
}

impl Figures {
    pub(super) fn new(recording: &Recording, courses: &[Course], limits: [Option<u64>; 4]) -> Self {
        let order = order(recording);
        let mut of_caller = vec![Vec::new(); recording.callers.len()];
        for (request, course) in recording.requests.iter().zip(courses) {
            of_caller[usize::from(request.caller)].push(*course);
        }
        let used = |limit: Option<u64>, cost: &dyn Fn(u32) -> u64| {
            let busiest = busiest_minute(recording, courses, cost) as f64;
            limit.map(|limit| busiest / limit.max(1) as f64)
        };
        Self {
            all: Group::of(courses),
            callers: order
                .into_iter()
                .map(|caller| (recording.callers[caller].clone(), Group::of(&of_caller[caller])))
                .collect(),
            requests_used: used(limits[0], &|_| 1),
            tokens_used: used(limits[2], &u64::from),
            waiting: waiting(recording, courses),
        }
    }
}

impl Group {
    fn of(courses: &[Course]) -> Self {
        let count = |end: End| courses.iter().filter(|course| course.end == end).count() as u64;
        let mut waits: Vec<f32> = courses.iter().map(|course| course.waited).collect();
        waits.sort_unstable_by(f32::total_cmp);
        let percentile = |percent: usize| {
            let rank = (waits.len() * percent).div_ceil(100).max(1);
            waits.get(rank - 1).map_or(0.0, |wait| f64::from(*wait))
        };
        let sum: f64 = waits.iter().map(|wait| f64::from(*wait)).sum();
        Self {
            requests: courses.len() as u64,
            answered: count(End::Answered),
            failed: count(End::Failed),
            too_large: count(End::TooLarge),
            refused: count(End::Refused),
            left: count(End::Left),
            rate_limits: courses.iter().map(|course| u64::from(course.rate_limits)).sum(),
            waited: waits.iter().filter(|wait| **wait > SHORT).count() as u64,
            wait_p50: percentile(50),
            wait_p99: percentile(99),
            wait_mean: sum / (waits.len().max(1)) as f64,
        }
    }

    /// Requests without a response.
    pub(super) fn unserved(&self) -> u64 {
        self.failed + self.too_large + self.refused + self.left
    }
}

/// The callers with requests, by their wait in the recording.
fn order(recording: &Recording) -> Vec<usize> {
    let mut waited = vec![None::<f64>; recording.callers.len()];
    for request in &recording.requests {
        *waited[usize::from(request.caller)].get_or_insert(0.0) += f64::from(request.course.waited);
    }
    let mut order: Vec<usize> = (0..waited.len()).filter(|caller| waited[*caller].is_some()).collect();
    order.sort_by(|one, other| waited[*other].unwrap_or(0.0).total_cmp(&waited[*one].unwrap_or(0.0)));
    order
}

/// The most that was sent in one whole minute since the first request.
fn busiest_minute(recording: &Recording, courses: &[Course], cost: &dyn Fn(u32) -> u64) -> u64 {
    let begin = recording.requests.first().map_or(0, |request| request.arrived);
    let mut minutes = std::collections::HashMap::<u64, u64>::new();
    for (request, course) in recording.requests.iter().zip(courses) {
        if let (Some(sent), End::Answered) = (course.sent, course.end) {
            let at = (request.arrived - begin) as f64 * 1e-9 + f64::from(sent);
            *minutes.entry(super::recording::nanos(at / 60.0 * 1e-6)).or_default() += cost(request.tokens);
        }
    }
    minutes.into_values().max().unwrap_or(0)
}

/// Requests waiting at once, in each of [`BINS`] spans of the recording's time.
fn waiting(recording: &Recording, courses: &[Course]) -> Vec<u32> {
    let begin = recording.requests.first().map_or(0, |request| request.arrived);
    let width = span(recording) / BINS as f64;
    let bin = |seconds: f64| {
        usize::try_from(super::recording::nanos(seconds / width * 1e-6)).unwrap_or(BINS).min(BINS)
    };
    let mut changes = vec![0_i64; BINS + 1];
    for (request, course) in
        recording.requests.iter().zip(courses).filter(|(_, course)| course.waited > SHORT)
    {
        let arrived = (request.arrived - begin) as f64 * 1e-9;
        changes[bin(arrived)] += 1;
        changes[bin(arrived + f64::from(course.waited))] -= 1;
    }
    let mut now = 0;
    let totals = changes.iter().take(BINS).map(|change| {
        now += change;
        u32::try_from(now).unwrap_or(0)
    });
    totals.collect()
}

/// Seconds that the chart covers: until the last request was sent, as recorded.
pub(super) fn span(recording: &Recording) -> f64 {
    let begin = recording.requests.first().map_or(0, |request| request.arrived);
    let ends = recording
        .requests
        .iter()
        .map(|request| (request.arrived - begin) as f64 * 1e-9 + f64::from(request.course.waited));
    ends.fold(recording.seconds(), f64::max).max(1e-3)
}

/// The outages in seconds since the first request.
pub(super) fn outages(recording: &Recording, outages: &[Outage]) -> Vec<(f64, f64)> {
    let begin = recording.requests.first().map_or(0, |request| request.arrived);
    let since = |at: u64| at.saturating_sub(begin) as f64 * 1e-9;
    outages.iter().map(|outage| (since(outage.from), since(outage.until))).collect()
}
