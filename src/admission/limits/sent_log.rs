//! How much had been sent upstream by a given moment: a cumulative log in time bins of bounded
//! number.

use std::cell::Cell;
use std::time::Duration;

use crate::admission::moment::Moment;

use super::own::Marks;
use super::slot::Unit;

/// Bins kept; past it, neighbors are joined where they are short for their age.
const MOST: usize = 768;
/// Up to this age a bin is no longer than a fiftieth of it; older ones than a fifth.
const FINE: Duration = Duration::from_secs(90);
/// What a moment may be asked for: the longest time to a response head that still tells something.
const REACH: Duration = Duration::from_mins(15);

/// The running total of what was sent, by time, in both units.
#[derive(Debug)]
pub(crate) struct SentLog {
    /// The finest bin.
    bin: Duration,
    total: Marks,
    /// Oldest first.
    bins: Vec<Bin>,
    /// A moment, and what had been sent before it: by any later moment it was no less.
    known: Cell<(Moment, Marks)>,
}

/// What was sent from one moment to another. Where little is sent the next one begins long after
/// it.
#[derive(Clone, Copy, Debug)]
struct Bin {
    start: Moment,
    end: Moment,
    /// The total before it.
    before: Marks,
}

/// One unit of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent<'a> {
    log: &'a SentLog,
    unit: Unit,
}

impl SentLog {
    /// An empty log that tells times apart by `bin`.
    pub(crate) fn new(bin: Duration) -> Self {
        Self { bin, total: Marks::default(), bins: Vec::new(), known: Cell::default() }
    }

    /// One unit of it.
    pub(crate) fn of(&self, unit: Unit) -> Sent<'_> {
        Sent { log: self, unit }
    }

    /// Everything ever sent.
    pub(crate) fn total(&self) -> Marks {
        self.total
    }

    /// Adds what is sent now.
    pub(crate) fn add(&mut self, cost: Marks, now: Moment) {
        match self.bins.last_mut() {
            Some(newest) if !now.is_after(newest.start, self.bin) => newest.end = now,
            Some(_) | None => {
                if self.bins.len() >= MOST {
                    self.compact(now);
                }
                self.bins.push(Bin { start: now, end: now, before: self.total });
            }
        }
        self.total.requests += cost.requests;
        self.total.tokens += cost.tokens;
    }

    /// What had been sent before `moment`, short by at most one bin: what is sent after it is never
    /// understated.
    pub(crate) fn before(&self, moment: Moment) -> Marks {
        let after = self.begun_by(moment);
        let Some(begun) = after.checked_sub(1).map(|index| self.bins[index]) else {
            return self.bins.first().map_or(self.total, |first| first.before);
        };
        match self.bins.get(after) {
            Some(next) if moment > begun.end => next.before,
            // The newest bin is over: a later cost would have begun another.
            None if moment.is_after(begun.start, self.bin) => self.total,
            Some(_) | None => begun.before,
        }
    }

    /// How many bins had begun by `moment`. It is looked for from the newest on, in steps that
    /// double: most moments that are asked for were just now.
    fn begun_by(&self, moment: Moment) -> usize {
        let (mut end, mut step) = (self.bins.len(), 1);
        loop {
            let from = end.saturating_sub(step);
            let bins = &self.bins[from..end];
            if from == 0 || bins[0].start <= moment {
                return from + bins.partition_point(|bin| bin.start <= moment);
            }
            (end, step) = (from, step * 2);
        }
    }

    /// Takes back what was sent at `sent` and refused.
    pub(crate) fn retract(&mut self, cost: Marks, sent: Moment) {
        self.known.take();
        self.total = self.total.less(cost);
        for bin in self.bins.iter_mut().rev().take_while(|bin| bin.start > sent) {
            bin.before = bin.before.less(cost);
        }
    }

    /// Joins bins that are finer than their age asks for, and forgets what nobody can ask for any
    /// more.
    fn compact(&mut self, now: Moment) {
        self.known.take();
        let (mut last, mut count) = (None, 0);
        for index in 0..self.bins.len() {
            let bin = self.bins[index];
            let age = now.since(bin.start);
            let most = if age <= FINE { age / 50 } else { age / 5 };
            // By where the next one begins: a bin that ends in a pause would else last through it.
            let joins =
                |last: Moment| self.bins.get(index + 1).is_some_and(|next| !next.start.is_after(last, most));
            if age < REACH && !last.is_some_and(joins) {
                last = Some(bin.start);
                self.bins[count] = bin;
                count += 1;
            } else if let Some(kept) = count.checked_sub(1) {
                self.bins[kept].end = bin.end;
            }
        }
        self.bins.truncate(count);
        if self.bins.len() >= MOST {
            self.bins =
                self.bins.chunks(2).map(|pair| Bin { end: pair[pair.len() - 1].end, ..pair[0] }).collect();
        }
    }
}

impl Sent<'_> {
    /// When the oldest of what is remembered was sent.
    pub(crate) fn begin(self) -> Moment {
        self.log.bins.first().map_or(Moment::START, |first| first.start)
    }

    /// Everything ever sent.
    pub(crate) fn total(self) -> f64 {
        self.log.total.of(self.unit)
    }

    /// [`SentLog::before`].
    pub(crate) fn before(self, moment: Moment) -> f64 {
        self.log.before(moment).of(self.unit)
    }

    /// What was sent in the span before `now`.
    pub(crate) fn trailing(self, span: Duration, now: Moment) -> f64 {
        self.total() - self.before(now.minus(span))
    }

    /// Whether no more than `most` was sent since `begin`. Far below it the last look's answer is
    /// enough: nothing is looked up.
    pub(crate) fn is_at_most(self, most: f64, begin: Moment) -> bool {
        let (known_at, known) = self.log.known.get();
        if begin >= known_at && self.total() - known.of(self.unit) <= most {
            return true;
        }
        let before = self.log.before(begin);
        let since = self.total() - before.of(self.unit);
        // Where all was sent before it, the newest bin counts in full: once there is a newer one it
        // no longer does.
        self.log.known.set(if since > 0.0 { (begin, before) } else { (Moment::START, Marks::default()) });
        since <= most
    }

    /// The highest constant rate, in cells per second, at which no span holds more than `limit`
    /// until all that was sent in the span before `now` has left it. A moment sooner than `least`
    /// seconds from now counts as that.
    pub(crate) fn lasting_rate(self, limit: f64, span: Duration, least: f64, now: Moment) -> f64 {
        let room = limit - self.total();
        let first = self.log.bins.partition_point(|bin| bin.end.plus(span) <= now);
        let until_it_leaves = |bin: &Bin| bin.end.plus(span).seconds_since(now).max(least);
        let left = |bin: &Bin| room + bin.before.of(self.unit);
        self.log.bins[first..]
            .iter()
            .map(|bin| left(bin) / until_it_leaves(bin))
            .fold(f64::INFINITY, f64::min)
            .max(0.0)
    }

    /// When what was sent in the span before has fallen to `most`.
    pub(crate) fn trailing_falls_to(self, most: f64, span: Duration) -> Moment {
        let needed = self.total() - most.max(0.0);
        let bins = &self.log.bins;
        let index = bins.partition_point(|bin| bin.before.of(self.unit) < needed);
        match index.checked_sub(1).map(|last| bins[last]) {
            Some(last) if index < bins.len() => last.end.plus(span).plus(Duration::from_nanos(1)),
            // Only when the newest bin is gone too.
            Some(newest) => newest.start.plus(span).plus(self.log.bin),
            None => Moment::START,
        }
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "whole numbers, kept exactly")]
mod tests {
    use super::*;

    const BIN: Duration = Duration::from_millis(10);

    /// A number of requests, each of seven tokens.
    fn sends(requests: f64) -> Marks {
        Marks { requests, tokens: requests * 7.0, in_flight: 0 }
    }

    /// The requests of a total, which has seven times as many tokens.
    fn requests(total: Marks) -> f64 {
        assert_eq!(total.requests * 7.0, total.tokens);
        total.requests
    }

    #[test]
    fn tells_what_was_sent_before_a_moment_and_stays_bounded() {
        let mut log = SentLog::new(BIN);
        let at = |seconds: f64| Moment::START.plus_seconds(seconds);
        for step in 0..200_000_u32 {
            log.add(sends(1.0), at(f64::from(step) * 0.01));
            assert!(log.bins.len() <= MOST);
        }
        assert_eq!(requests(log.total()), 200_000.0);
        let now = 2000.0;
        for (age, coarse) in [(0.1, 1.02), (1.0, 1.02), (10.0, 1.02), (60.0, 1.02), (300.0, 1.2)] {
            let sent_after = requests(log.total()) - requests(log.before(at(now - age)));
            let truth = age * 100.0;
            assert!(sent_after >= truth - 1.0, "understated: {sent_after} of {truth}");
            assert!(sent_after <= truth * coarse + 3.0, "overstated: {sent_after} of {truth}");
        }
        assert_eq!(requests(log.before(at(3000.0))), 200_000.0);
        assert!(requests(log.before(Moment::START)) < 120_000.0, "the distant past is forgotten");
    }

    #[test]
    fn a_burst_before_a_pause_does_not_last_through_it() {
        let mut log = SentLog::new(BIN);
        let at = |seconds: f64| Moment::START.plus_seconds(seconds);
        for step in 0..2000 {
            log.add(sends(1.0), at(10.0 + f64::from(step) * 0.005));
        }
        for step in 0..4000 {
            let now = 70.0 + f64::from(step) * 0.01;
            log.add(sends(1.0), at(now));
            let trailing = log.of(Unit::Requests).trailing(Duration::from_mins(1), at(now));
            if now > 82.0 {
                assert!(trailing <= f64::from(step + 1) * 1.02 + 3.0, "{trailing} of {} at {now}", step + 1);
            }
        }
    }

    #[test]
    fn what_is_taken_back_was_never_sent() {
        let (mut log, mut without) = (SentLog::new(BIN), SentLog::new(BIN));
        let at = |tenths: u32| Moment::START.plus_seconds(f64::from(tenths) * 0.1);
        for tenth in 0..600 {
            log.add(sends(1.0), at(tenth));
            without.add(sends(if (300..400).contains(&tenth) { 0.0 } else { 1.0 }), at(tenth));
        }
        for tenth in 300..400 {
            log.retract(sends(1.0), at(tenth));
        }
        assert_eq!(requests(log.total()), 500.0);
        for tenth in 0..700 {
            assert_eq!(log.before(at(tenth)), without.before(at(tenth)), "{tenth}");
        }
        log.retract(sends(1e9), at(0));
        assert_eq!(requests(log.total()), 0.0);
    }

    /// [`SentLog::before`] by a plain search.
    fn plainly_before(log: &SentLog, moment: Moment) -> Marks {
        let over = |index: usize, bin: &Bin| match log.bins.get(index + 1) {
            Some(_) => bin.end < moment,
            None => moment.since(bin.start) >= log.bin,
        };
        let mut before = log.bins.first().map_or(log.total, |first| first.before);
        for (index, bin) in log.bins.iter().enumerate() {
            if over(index, bin) {
                before = log.bins.get(index + 1).map_or(log.total, |next| next.before);
            }
        }
        before
    }

    #[test]
    fn what_is_sent_rarely_leaves_a_window_when_it_is_over() {
        let at = |seconds: f64| Moment::START.plus_seconds(seconds);
        let mut log = SentLog::new(BIN);
        for seconds in [1.0, 21.0, 41.0] {
            log.add(sends(1.0), at(seconds));
        }
        for (now, trailing) in [(60.9, 3.0), (61.1, 2.0), (80.9, 2.0), (81.1, 1.0), (101.1, 0.0)] {
            assert_eq!(log.of(Unit::Requests).trailing(Duration::from_mins(1), at(now)), trailing, "{now}");
        }
        let falls = |most: f64| log.of(Unit::Requests).trailing_falls_to(most, Duration::from_mins(1));
        for (most, from) in [(2.0, 61.0), (1.0, 81.0), (0.0, 101.0)] {
            let late = falls(most).seconds_since(at(from));
            assert!((0.0..=0.011).contains(&late), "{most}: {late}");
            let (unit, begin) = (log.of(Unit::Requests), falls(most).minus(Duration::from_mins(1)));
            assert!(unit.is_at_most(most, begin), "{most}");
        }
    }

    #[test]
    fn what_is_remembered_of_the_last_look_never_changes_an_answer() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut log = SentLog::new(BIN);
        let (mut now, mut both) = (Moment::START, [0, 0]);
        for _ in 0..20_000 {
            let pause = if rng.u32(0..500) == 0 { rng.u64(0..90_000_000) } else { rng.u64(0..20_000) };
            now = now.plus(Duration::from_micros(pause));
            log.add(sends(f64::from(rng.u32(1..5))), now);
            if rng.u32(0..100) == 0 {
                log.retract(sends(1.0), now.minus(Duration::from_millis(rng.u64(0..500))));
            }
            let span = Duration::from_secs(*rng.choice(&[1, 5, 60]).unwrap_or(&1));
            let most = f64::from(rng.u32(0..2000));
            let moment = now.minus(Duration::from_millis(rng.u64(0..70_000)));
            assert_eq!(log.before(moment), plainly_before(&log, moment));
            let (unit, most) = *rng
                .choice(&[(Unit::Requests, most), (Unit::Tokens, most * 7.0)])
                .unwrap_or(&(Unit::Tokens, most));
            let trails = log.of(unit).trailing(span, now) <= most;
            assert_eq!(log.of(unit).is_at_most(most, now.minus(span)), trails);
            both[usize::from(trails)] += 1;
        }
        assert!(both[0] > 1000 && both[1] > 1000, "{both:?}");
    }
}
