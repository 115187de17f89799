//! The recording of one scope from an access log: its requests in the order of arrival, and its
//! limits.

use crate::caller::Lane;
use crate::classify::ErrorClass;
use crate::openai::Endpoint;
use crate::retry::{Safety, Verdict, verdict};

/// Consecutive failed attempts that count as an outage: more than random faults cause.
const OUTAGE: usize = 5;

/// The requests and limits of a log.
#[derive(Debug, Default)]
pub(super) struct Recording {
    /// Sorted by arrival.
    pub(super) requests: Vec<Recorded>,
    /// The failed attempts of all requests; each request has a range of them.
    pub(super) failures: Vec<Failure>,
    pub(super) callers: Vec<String>,
    pub(super) scopes: Vec<String>,
    /// Sorted by time.
    pub(super) limits: Vec<LimitsAt>,
    pub(super) lines: Lines,
}

/// The number of lines of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(super) struct Lines {
    pub(super) read: u64,
    /// Requests.
    pub(super) requests: u64,
    /// Requests that never entered the queue: unknown callers, bodies too large and the like.
    pub(super) turned_away: u64,
    /// Other lines of Weir's log.
    pub(super) others: u64,
    /// Lines that are truncated, or from another program.
    pub(super) foreign: u64,
    /// Requests that ended before the one on the previous line.
    pub(super) out_of_order: u64,
    /// Requests beyond the bound.
    pub(super) left_out: u64,
    /// Whether the compressed file is truncated.
    pub(super) cut: bool,
}

/// One request of the log. Absolute times are in nanoseconds; the others are seconds since its
/// arrival.
#[derive(Clone, Copy, Debug)]
pub(super) struct Recorded {
    pub(super) arrived: u64,
    /// The time from its arrival to its deadline.
    pub(super) patience: u64,
    pub(super) tokens: u32,
    /// Input tokens by the response's usage; 0 if that is unknown.
    pub(super) input: u32,
    pub(super) bytes: u32,
    pub(super) weight: u32,
    pub(super) caller: u16,
    pub(super) scope: u16,
    pub(super) lane: Lane,
    pub(super) endpoint: Endpoint,
    /// From its last attempt to the response's head; absent if no attempt succeeded.
    pub(super) head: Option<f32>,
    /// From the head to the end of the response.
    pub(super) body: f32,
    /// When its caller left while it waited.
    pub(super) left: Option<f32>,
    /// Its failed attempts: the index of the first, and the number.
    pub(super) failures: (u32, u8),
    pub(super) course: Course,
}

/// The course of a request: as recorded, or in a replay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Course {
    /// Seconds in the queue, over all attempts.
    pub(super) waited: f32,
    /// Seconds from its arrival to its last attempt.
    pub(super) sent: Option<f32>,
    /// Attempts refused by a rate limit.
    pub(super) rate_limits: u16,
    pub(super) end: End,
}

/// The end of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// With a response.
    Answered,
    /// With an error from the upstream.
    Failed,
    /// With the upstream's error that it is larger than the limit.
    TooLarge,
    /// Refused by Weir while it waited.
    Refused,
    /// Its caller left while it waited.
    Left,
}

/// A failed attempt, except rate limits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failure {
    pub(super) started: u64,
    pub(super) class: ErrorClass,
    /// Seconds to its head, or to its end without one.
    pub(super) head: f32,
}

impl Failure {
    /// Whether the upstream caused it, not the request.
    fn is_of_the_upstream(&self) -> bool {
        matches!(verdict(self.class, Safety::Repeatable, false, false), Verdict::Backoff(_))
    }
}

/// A log line with the limits of a scope.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct LimitsAt {
    pub(super) at: u64,
    pub(super) scope: u16,
    /// In the order of [`crate::simulate::limiter::Dimension::ALL`].
    pub(super) limits: [Option<u64>; 4],
    /// Whether the upstream reported them, in headers or refusals.
    pub(super) learned: bool,
    pub(super) in_flight: Option<u32>,
    /// The fraction of them that the Weir of this log may use.
    pub(super) share: f64,
    /// Tokens charged by the upstream per estimated token.
    pub(super) charge_ratio: f64,
    /// The fraction of successful requests in the log.
    pub(super) sample: f64,
}

/// A span in which every attempt failed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Outage {
    pub(super) from: u64,
    pub(super) until: u64,
    /// The class of the first failure.
    pub(super) class: ErrorClass,
    /// Seconds to the head of a failing attempt.
    pub(super) head: f32,
}

impl Recording {
    /// The scope with the longest total wait, or without waits the one with the most requests.
    pub(super) fn busiest_scope(&self) -> Option<u16> {
        let mut load = vec![(0.0_f64, 0_u64); self.scopes.len()];
        for request in &self.requests {
            let (waited, count) = &mut load[usize::from(request.scope)];
            *waited += f64::from(request.course.waited);
            *count += 1;
        }
        let most = |one: &(f64, u64), other: &(f64, u64)| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1));
        let busiest = (0_u16..).zip(&load).filter(|(_, (_, count))| *count > 0);
        busiest.max_by(|(_, one), (_, other)| most(one, other)).map(|(scope, _)| scope)
    }

    /// Keeps only one scope, and removes its outages from the failures.
    pub(super) fn keep(&mut self, scope: u16) -> Vec<Outage> {
        self.requests.retain(|request| request.scope == scope);
        self.limits.retain(|limits| limits.scope == scope);
        let outages = self.outages();
        let is_within = |failure: &Failure| {
            outages.iter().any(|outage| (outage.from..outage.until).contains(&failure.started))
        };
        let mut kept = Vec::new();
        for request in &mut self.requests {
            let (first, count) = request.failures;
            let own = self.failures.iter().skip(first as usize).take(usize::from(count));
            let before = kept.len();
            kept.extend(own.filter(|failure| !is_within(failure)));
            request.failures = (
                u32::try_from(before).unwrap_or(u32::MAX),
                (kept.len() - before).try_into().unwrap_or(u8::MAX),
            );
        }
        self.failures = kept;
        outages
    }

    /// The failed attempts of a request.
    pub(super) fn failures_of(&self, request: &Recorded) -> &[Failure] {
        let (first, count) = request.failures;
        let first = (first as usize).min(self.failures.len());
        &self.failures[first..(first + usize::from(count)).min(self.failures.len())]
    }

    /// Seconds from the first arrival to the last.
    pub(super) fn seconds(&self) -> f64 {
        match (self.requests.first(), self.requests.last()) {
            (Some(first), Some(last)) => (last.arrived - first.arrived) as f64 * 1e-9,
            (None, _) | (_, None) => 0.0,
        }
    }

    /// The usual time until the head of a successful response.
    pub(super) fn typical_head(&self) -> f32 {
        let mut heads: Vec<f32> = self.requests.iter().filter_map(|request| request.head).collect();
        let middle = heads.len() / 2;
        if heads.is_empty() { 0.5 } else { *heads.select_nth_unstable_by(middle, f32::total_cmp).1 }
    }

    /// The spans with at least [`OUTAGE`] consecutive failed attempts, by their begin. The end of
    /// an outage is assumed in the middle between its last failure and the next success.
    fn outages(&self) -> Vec<Outage> {
        let mut attempts: Vec<(u64, Option<&Failure>)> = Vec::new();
        for request in &self.requests {
            attempts.extend(self.failures_of(request).iter().map(|failure| (failure.started, Some(failure))));
            if let (Some(sent), End::Answered) = (request.course.sent, request.course.end) {
                attempts.push((request.arrived + nanos(f64::from(sent) * 1e3), None));
            }
        }
        attempts.sort_by_key(|(started, _)| *started);
        let mut found = Vec::new();
        let is_failing = |failure: Option<&Failure>| failure.is_some_and(Failure::is_of_the_upstream);
        let mut at = 0;
        for run in attempts.chunk_by(|one, two| is_failing(one.1) == is_failing(two.1)) {
            at += run.len();
            if let (Some((from, Some(first))), Some((last, _))) = (run.first(), run.last())
                && run.len() >= OUTAGE
                && first.is_of_the_upstream()
            {
                let until = attempts.get(at).map_or(last + 1, |(next, _)| last + (next - last) / 2);
                let mut heads: Vec<f32> =
                    run.iter().filter_map(|(_, failure)| Some(failure.as_ref()?.head)).collect();
                heads.sort_unstable_by(f32::total_cmp);
                let head = heads[heads.len() / 2];
                found.push(Outage { from: *from, until: until.max(last + 1), class: first.class, head });
            }
        }
        found
    }
}

/// Milliseconds as whole nanoseconds; invalid values are 0.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float's cast saturates")]
pub(super) fn nanos(milliseconds: f64) -> u64 {
    (milliseconds * 1e6) as u64
}
