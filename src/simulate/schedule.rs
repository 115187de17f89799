//! Scheduled events: outages, changes of limits, and use by other consumers.

use std::time::Duration;

use crate::clock::Instant;

use super::fault::Fault;
use super::limiter::{Dimension, Joint};
use super::notation::{Problem, count, duration, fraction};

/// An interval in which the whole API fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    /// The time since the start of the simulator.
    pub start: Duration,
    /// The duration.
    pub length: Duration,
    /// The kind of failure.
    pub kind: OutageKind,
}

/// The kind of failure in an outage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutageKind {
    /// Connections are refused; existing ones are reset.
    Refused,
    /// Every request has this fault, before any limit is charged. A fault of the body becomes the
    /// similar fault before the head: a stall or a reset.
    Fault(Fault),
}

impl Outage {
    /// Parses `10s+5s:503`: start, duration, and a status, an error, a fault or `refused`.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let read = || {
            let (span, kind) = text.split_once(':')?;
            let (start, length) = span.split_once('+')?;
            Some((start, length, kind))
        };
        let (start, length, kind) =
            read().ok_or_else(|| Problem::new(format!("`{text}` is no outage: write 10s+5s:503")))?;
        let kind = match kind {
            "refused" => OutageKind::Refused,
            fault => OutageKind::Fault(Fault::parse(fault)?),
        };
        Ok(Self { start: duration(start)?, length: duration(length)?, kind })
    }

    /// Whether the outage covers this time since the start.
    pub fn covers(&self, since_start: Duration) -> bool {
        since_start.checked_sub(self.start).is_some_and(|into| into < self.length)
    }
}

/// A scheduled change of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitChange {
    /// The time since the start of the simulator.
    pub at: Duration,
    /// The limit that changes.
    pub dimension: Dimension,
    /// The new limit.
    pub limit: u64,
}

impl LimitChange {
    /// Parses `30s:rpm=60`.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let read = || {
            let (at, change) = text.split_once(':')?;
            let (name, limit) = change.split_once('=')?;
            let dimension = Dimension::ALL.into_iter().find(|dimension| dimension.as_str() == name)?;
            Some((at, dimension, limit))
        };
        let (at, dimension, limit) = read()
            .ok_or_else(|| Problem::new(format!("`{text}` is no change of a limit: write 30s:rpm=60")))?;
        Ok(Self { at: duration(at)?, dimension, limit: count(limit)? })
    }
}

/// Other consumers of the same limits: the fraction of the rate that they use, changing over time.
#[derive(Clone, Debug, PartialEq)]
pub struct ForeignUse {
    /// The fractions, 0 to 1, used in turn and repeated. Empty if there are no other consumers.
    pub shares: Vec<f64>,
    /// The duration of each fraction.
    pub every: Duration,
}

impl Default for ForeignUse {
    fn default() -> Self {
        Self { shares: Vec::new(), every: Duration::from_secs(30) }
    }
}

impl ForeignUse {
    /// Parses `0.4`, or `0,0.8,0.3/30s`: each fraction for 30 s in turn.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let (shares, every) = text.split_once('/').map_or((text, "30s"), |(shares, every)| (shares, every));
        let every = duration(every)?;
        if every.is_zero() {
            return Err(Problem::new(format!("`{text}` changes all the time")));
        }
        Ok(Self { shares: shares.split(',').map(fraction).collect::<Result<_, _>>()?, every })
    }

    /// The fraction at this time since the start.
    pub fn share(&self, since_start: Duration) -> f64 {
        if self.shares.is_empty() {
            return 0.0;
        }
        let turn = since_start.as_nanos() / self.every.as_nanos().max(1);
        usize::try_from(turn % self.shares.len() as u128)
            .ok()
            .and_then(|turn| self.shares.get(turn))
            .copied()
            .unwrap_or_default()
    }
}

/// Charges the use of other consumers to the limits over time. If the limit is exhausted, the
/// others come first: they get the scheduled fraction, independent of the own load.
#[derive(Clone, Debug)]
pub struct ForeignConsumer {
    start: Instant,
    taken_until: Instant,
    /// The amounts due to them but not charged yet, by dimension: fractions, and amounts for which
    /// nothing was left.
    due: [f64; 4],
}

/// The interval of charging.
const STEP: Duration = Duration::from_millis(50);

impl ForeignConsumer {
    /// Starts at `now`; `start` is when the schedule of fractions began.
    pub fn new(start: Instant, now: Instant) -> Self {
        Self { start, taken_until: now, due: [0.0; 4] }
    }

    /// Charges the use of other consumers since the last call.
    ///
    /// Charges at most the last two minutes: earlier use has drained.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "whole, and from 0 to the limit"
    )]
    pub fn catch_up(&mut self, schedule: &ForeignUse, limits: &mut Joint, now: Instant) {
        const LONGEST: Duration = Duration::from_mins(2);
        if schedule.shares.iter().all(|share| *share <= 0.0) {
            self.taken_until = now;
            return;
        }
        if now.saturating_duration_since(self.taken_until) > LONGEST {
            self.taken_until = now - LONGEST;
        }
        while self.taken_until < now {
            let step = STEP.min(now - self.taken_until);
            self.taken_until += step;
            let share = schedule.share(self.taken_until.saturating_duration_since(self.start));
            for dimension in Dimension::ALL {
                let Some(limiter) = limits.limiter(dimension) else { continue };
                let rate = limiter.limit() as f64 / dimension.window().as_secs_f64();
                let due = &mut self.due[dimension.index()];
                // An amount that was not available is charged later, up to the amount of a window.
                *due = (*due + share * rate * step.as_secs_f64()).min(limiter.limit() as f64);
                if *due >= 1.0 {
                    *due -= limiter.force(due.floor() as u64, self.taken_until) as f64;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::limiter::{Depth, Price, Shape};
    use super::*;

    #[test]
    fn schedules_are_read() {
        let outage = Outage::parse("10s+5s:refused").unwrap();
        assert_eq!(outage.kind, OutageKind::Refused);
        assert!(!outage.covers(Duration::from_millis(9_999)));
        assert!(outage.covers(Duration::from_secs(10)));
        assert!(!outage.covers(Duration::from_secs(15)));
        assert!(Outage::parse("10s:503").is_err() && Outage::parse("1s+1s:nothing").is_err());
        let change = LimitChange::parse("30s:tpm=30k").unwrap();
        assert_eq!((change.dimension, change.limit), (Dimension::TokensPerMinute, 30_000));
        assert!(LimitChange::parse("30s:xpm=1").is_err());
        let foreign = ForeignUse::parse("0,0.8/10s").unwrap();
        let shares = [0, 10, 19, 20].map(|second| foreign.share(Duration::from_secs(second)));
        assert_eq!(shares.map(|share| format!("{share:.1}")), ["0.0", "0.8", "0.8", "0.0"]);
        assert!(ForeignUse::parse("0.5/0s").is_err() && ForeignUse::parse("1.5").is_err());
    }

    #[test]
    fn a_foreign_share_takes_that_share_of_the_rate() {
        for shape in [Shape::Bucket(Depth::Window), Shape::FixedWindow, Shape::SlidingLog] {
            let start = Instant::now();
            let mut limits = Joint::new().with(Dimension::RequestsPerMinute, 600, shape);
            let mut foreign = ForeignConsumer::new(start, start);
            let schedule = ForeignUse::parse("0.4").unwrap();
            let mut admitted = 0_u32;
            for tick in 0..60_000_u64 {
                let now = start + Duration::from_millis(tick * 10);
                foreign.catch_up(&schedule, &mut limits, now);
                if limits.try_take(Price { requests: 1, tokens: 0 }, now).is_ok() {
                    admitted += 1;
                }
            }
            // Ten minutes at 60 % of 600, plus at most the full bucket at the start.
            assert!((3_500..=4_300).contains(&admitted), "{shape:?}: {admitted}");
        }
    }
}
