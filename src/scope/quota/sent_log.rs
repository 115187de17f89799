//! How much had been sent upstream by a given moment: a cumulative log in time bins of bounded number.

use std::collections::VecDeque;
use std::time::Duration;

use crate::scope::moment::Moment;

/// The finest bin.
const BIN: Duration = Duration::from_millis(10);
/// Bins kept; past it, neighbors are joined where they are short for their age.
const MOST: usize = 768;
/// Up to this age a bin is finer than a hundredth of it; older ones than an eighth.
const FINE: Duration = Duration::from_secs(90);
/// What a moment may be asked for: the longest time to a response head that still tells something.
const REACH: Duration = Duration::from_mins(15);

/// The running total of what was sent, by time.
#[derive(Debug, Default)]
pub(crate) struct SentLog {
    total: f64,
    /// (start of the bin, total before it), oldest first.
    bins: VecDeque<(Moment, f64)>,
}

impl SentLog {
    /// Everything ever sent.
    pub(crate) fn total(&self) -> f64 {
        self.total
    }

    /// Adds what is sent now.
    pub(crate) fn add(&mut self, cost: f64, now: Moment) {
        if self.bins.back().is_none_or(|&(start, _)| now.since(start) >= BIN) {
            if self.bins.len() >= MOST {
                self.compact(now);
            }
            self.bins.push_back((now, self.total));
        }
        self.total += cost;
    }

    /// What had been sent before `moment`, short by at most one bin: what is sent after it is never understated.
    pub(crate) fn before(&self, moment: Moment) -> f64 {
        let after = self.bins.partition_point(|&(start, _)| start <= moment);
        match after.checked_sub(1).and_then(|index| self.bins.get(index)) {
            // The newest bin is over: a later cost would have begun another.
            Some(&(start, _)) if after == self.bins.len() && moment.since(start) >= BIN => self.total,
            Some(&(_, before)) => before,
            None => self.bins.front().map_or(self.total, |&(_, before)| before),
        }
    }

    /// What was sent in the span before `now`.
    pub(crate) fn trailing(&self, span: Duration, now: Moment) -> f64 {
        self.total - self.before(now.minus(span))
    }

    /// When what was sent in the span before has fallen to `most`.
    pub(crate) fn trailing_falls_to(&self, most: f64, span: Duration) -> Moment {
        let needed = self.total - most.max(0.0);
        let index = self.bins.partition_point(|&(_, before)| before < needed);
        match self.bins.get(index).or(self.bins.back()) {
            Some(&(start, _)) if index < self.bins.len() => start.plus(span),
            // Only when the newest bin is gone too.
            Some(&(start, _)) => start.plus(span).plus(BIN),
            None => Moment::START,
        }
    }

    /// Takes back what was sent at `sent` and refused.
    pub(crate) fn retract(&mut self, cost: f64, sent: Moment) {
        self.total = (self.total - cost).max(0.0);
        for (_, before) in self.bins.iter_mut().rev().take_while(|(start, _)| *start > sent) {
            *before = (*before - cost).max(0.0);
        }
    }

    /// Joins bins that are finer than their age asks for, and forgets what nobody can ask for any more.
    fn compact(&mut self, now: Moment) {
        let mut kept: VecDeque<(Moment, f64)> = VecDeque::with_capacity(MOST);
        for &(start, before) in &self.bins {
            let age = now.since(start);
            let width = if age <= FINE { age / 100 } else { age / 8 };
            let fine = kept.back().is_some_and(|&(last, _)| start.since(last) < width);
            if age < REACH && !fine {
                kept.push_back((start, before));
            }
        }
        if kept.len() >= MOST {
            let mut index = 0;
            kept.retain(|_| {
                index += 1;
                index % 2 == 1
            });
        }
        self.bins = kept;
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "whole numbers, kept exactly")]
mod tests {
    use super::*;

    #[test]
    fn tells_what_was_sent_before_a_moment_and_stays_bounded() {
        let mut log = SentLog::default();
        let at = |seconds: f64| Moment::START.plus_seconds(seconds);
        for step in 0..200_000_u32 {
            log.add(1.0, at(f64::from(step) * 0.01));
            assert!(log.bins.len() <= MOST);
        }
        assert_eq!(log.total(), 200_000.0);
        let now = 2000.0;
        for (age, coarse) in [(0.1, 1.02), (1.0, 1.02), (10.0, 1.02), (60.0, 1.02), (300.0, 1.2)] {
            let sent_after = log.total() - log.before(at(now - age));
            let truth = age * 100.0;
            assert!(sent_after >= truth - 1.0, "understated: {sent_after} of {truth}");
            assert!(sent_after <= truth * coarse + 3.0, "overstated: {sent_after} of {truth}");
        }
        assert_eq!(log.before(at(3000.0)), 200_000.0);
        assert!(log.before(Moment::START) < 120_000.0, "the distant past is forgotten");
    }

    #[test]
    fn what_is_taken_back_was_never_sent() {
        let (mut log, mut without) = (SentLog::default(), SentLog::default());
        let at = |tenths: u32| Moment::START.plus_seconds(f64::from(tenths) * 0.1);
        for tenth in 0..600 {
            log.add(1.0, at(tenth));
            without.add(if (300..400).contains(&tenth) { 0.0 } else { 1.0 }, at(tenth));
        }
        for tenth in 300..400 {
            log.retract(1.0, at(tenth));
        }
        assert_eq!(log.total(), 500.0);
        for tenth in 0..700 {
            assert_eq!(log.before(at(tenth)), without.before(at(tenth)), "{tenth}");
        }
        log.retract(1e9, at(0));
        assert_eq!(log.total(), 0.0);
    }
}
