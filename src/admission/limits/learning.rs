//! What one limit learns from answers and refusals: its level, its depth, and what others use.

use std::time::Duration;

use crate::admission::moment::{Moment, duration};

use super::asking::Left;
use super::at_once::{Seen, ToldAtOnce};
use super::depth::first_burst;
use super::ends::{BEYOND_CELLS, BEYOND_MINUTE};
use super::foreign::Use;
use super::limit::{Closed, EDGE, Limit, MOST_LEVEL, SMALL, Snapshot, WINDOW_BURST};
use super::own::{Marks, Own};
use super::refusal::{Numbers, Times};
use super::shape::{MINUTE, Rule};
use super::sliding;
use super::{FORETOLD, LimitReport, Source};

impl Limit {
    /// Sets the level from the headers of an answer to an attempt of `cells`. `marks` stood just
    /// after it was sent.
    pub(crate) fn told(
        &mut self,
        report: &LimitReport,
        cells: u64,
        own: &Own<'_>,
        marks: Marks,
        times: &Times,
        now: Moment,
    ) {
        let mark = own.mark(marks);
        self.source = Source::Learned;
        let at = times.admitted();
        let remaining = report.remaining.min(report.limit) as f64;
        // Of what was taken at the same time the fullest was the last.
        let is_newer = |last: Snapshot| last.at < at || last.at == at && remaining <= last.remaining;
        let newest = self.last.is_none_or(is_newer);
        // An answer that is older than the last one may tell of a limit that is no more.
        if newest {
            self.set_limit(report.limit as f64, now);
        }
        if self.weigh_at_once(report, own, marks, at) {
            self.measure_times(times);
            return;
        }
        self.shape.observe(report.limit, report.remaining.min(report.limit), report.reset, at);
        if let Some(reset) = report.reset.filter(|reset| self.shape.weighs_end(*reset)) {
            self.weigh_end(report, reset, cells, own, mark, at);
        }
        let short = self.shape.bucket().or_else(|| self.shape.short());
        if self.shape.seeks_window() {
            self.shape.took_too_much(report.limit as f64, own, self.feedback, now);
        }
        // What a reset was taken for before it was seen to be a counter's is of no account.
        let is_seen = self.shape.is_counter() && !self.window_is_told();
        let known = if is_seen { MINUTE } else { self.window };
        let window = short.unwrap_or_else(|| known.max(self.shape.at_least()).min(self.shape.at_most()));
        if window.total_cmp(&self.window).is_ne() {
            self.window = window;
            self.depth.restart(self.rate() * self.part, now);
            (self.tail, self.tail_due) = (f64::INFINITY, Moment::START);
        }
        self.asking.heard(mark, self.at_once.tries() < 1.0);
        self.measure_times(times);
        if !newest {
            self.reshape(now);
            return;
        }
        if self.closed.is_some_and(|closed| closed.at <= at) {
            self.closed = None;
        }
        if let Some(reset) = report.reset
            && own.is_of_requests()
            && self.shape.bucket().is_none()
        {
            let (limit, sent, on_its_way) = (self.stated, own.until(mark), self.on_its_way(own, at));
            self.shape.weigh_left(sliding::Report { at, reset, limit, remaining, sent, on_its_way });
        }
        let snapshot = Snapshot { at, remaining, sent: own.until(mark) };
        if self.silent_since.is_some_and(|before| self.is_freed(&snapshot, &before, own, now)) {
            self.silent_since = None;
            self.asking.may_ask_again();
        }
        self.last = Some(snapshot);
        self.told_depth = self.told_depth.max(remaining + self.bounded(cells) as f64).min(self.stated);
        let left = match report.remaining {
            0 => Left::Nothing,
            _ if (remaining * 2.0 > self.stated || self.shape.is_short()) && !self.fits_a_minute(report) => {
                Left::Most
            }
            _ => Left::Some,
        };
        let unknown =
            (!self.shape.is_known() && !self.window_is_told()).then_some((report.reset, left, remaining));
        self.asking.told(unknown, self.shape.longest_reset(), times, now);
        self.watch_foreign(self.stated - remaining, own, at);
        self.reshape(now);
        self.set_level(self.capacity() - remaining, own.since_moment(at, mark), at, now);
        // Others are told of the same, and don't wait for us.
        let others = match self.shape.rule() {
            Rule::Fixed | Rule::Log if self.stated >= SMALL => remaining * self.foreign.ratio().min(1.0),
            Rule::Unknown | Rule::Fixed | Rule::Log | Rule::Bucket | Rule::Shallow => 0.0,
        };
        self.others = super::ceil(others);
        if let (Rule::Fixed, Some(reset)) = (self.shape.rule(), report.reset) {
            // Nothing drains before the window ends.
            let room = remaining - others - own.since_moment(at, mark);
            let until = at.plus(reset.min(duration(self.window)));
            self.closed = Some(Closed { at, until, room });
            self.ends = Some(until);
        }
    }

    /// Whether the limit is on attempts in flight, as this snapshot and those before it show.
    fn weigh_at_once(&mut self, report: &LimitReport, own: &Own<'_>, marks: Marks, at: Moment) -> bool {
        if !self.shape.seeks_window() || !own.is_of_requests() {
            self.at_once = ToldAtOnce::default();
            return false;
        }
        let used = report.limit.saturating_sub(report.remaining) as f64;
        let (sent, reset) = (own.until(own.mark(marks)), report.reset);
        self.at_once.weigh(Seen { at, sent, used, reset }, marks.in_flight, report.limit as f64);
        self.at_once.is_believed()
    }

    /// Smooths the times of an answer.
    pub(super) fn measure_times(&mut self, times: &Times) {
        let trip = times.head.seconds_since(times.sent);
        // Of answers to requests that were sent together the quick ones come first: they are no
        // sign of quicker times.
        let weight = if trip > self.feedback { 0.1 } else { 0.01 };
        self.feedback += (trip - self.feedback) * if self.feedback > 0.0 { weight } else { 1.0 };
        let outward = times.admitted().seconds_since(times.sent);
        self.outward = if self.outward > 0.0 { self.outward * 0.95 + outward * 0.05 } else { outward };
    }

    /// Sets the level from a refusal's numbers; the refused attempt's cost is no longer in `own`.
    pub(crate) fn refused(
        &mut self,
        numbers: &Numbers,
        own: &Own<'_>,
        mark: f64,
        times: &Times,
        now: Moment,
    ) {
        self.set_limit(numbers.limit, now);
        let at = times.refused();
        self.depth.refused(self.rate() * self.part, times.sent, now);
        self.refused_asking(times.sent, numbers.wait, now);
        // A bucket lets it pass when the excess has drained. A longer wait is a window's: nothing
        // drains before its end.
        let excess = (numbers.used + numbers.requested - numbers.limit).max(0.0);
        let drained_in = excess / self.rate();
        let windowed = numbers.wait.is_some_and(|wait| wait.as_secs_f64() > drained_in * 1.5 + 0.25)
            && !self.drains_as_told();
        self.drains = !windowed && (self.drains || own.exceeded(self.stated, duration(self.window), now));
        if self.last.is_none_or(|last| last.at <= at) {
            // What a bucket that is shallower than its headers say calls used is no count of a
            // minute's use.
            if self.proven() {
                let now = self.use_at(at, numbers.used, own);
                self.foreign.by_drain(&now);
            }
            let beyond = self.stated - self.capacity();
            // A window that holds more than it takes lets the next pass when it says so.
            let most = if windowed { self.capacity() } else { f64::INFINITY };
            let used = (numbers.used - beyond).clamp(0.0, most);
            self.set_level(used, own.since_moment(at, mark), at, now);
        }
        if let Some(wait) = numbers.wait.filter(|_| windowed) {
            let until = at.plus(wait.min(duration(self.window))).plus(EDGE);
            self.closed = Some(Closed { at, until, room: numbers.limit - numbers.used });
        }
        self.reshape(now);
    }

    /// A refusal without numbers, of an attempt that was sent then beside `in_flight` others.
    /// Returns whether that attempt had asked before its time.
    pub(crate) fn refused_blindly(
        &mut self,
        in_flight: u32,
        sent: Moment,
        hint: Option<Duration>,
        now: Moment,
    ) -> bool {
        self.at_once.refused(in_flight, self.stated);
        self.depth.refused(self.rate() * self.part, sent, now);
        let asked = self.refused_asking(sent, hint, now);
        self.reshape(now);
        asked
    }

    /// An attempt that was sent then was refused: whether it had asked.
    fn refused_asking(&mut self, sent: Moment, hint: Option<Duration>, now: Moment) -> bool {
        let asked = self.asking.refused(sent, hint, now);
        if asked && self.asking.is_silent(now) {
            self.silent_since = self.last;
        }
        asked
    }

    /// Whether more became free between two snapshots than a minute's limit explains.
    fn is_freed(&self, now: &Snapshot, before: &Snapshot, own: &Own<'_>, at: Moment) -> bool {
        let freed = now.sent - before.sent + now.remaining - before.remaining;
        let of_a_minute = self.stated * now.at.seconds_since(before.at) / MINUTE;
        // A log counts all that was sent within its window.
        let logged = own.log.trailing(duration(MINUTE * 0.9), at) * own.ratio;
        let contradicts_a_log = self.stated - now.remaining + 1.0 < logged;
        freed > of_a_minute * BEYOND_MINUTE + BEYOND_CELLS && contradicts_a_log
    }

    /// Whether the level was so high that a refusal is no surprise.
    pub(crate) fn expected_refusal(&self, cells: u64, now: Moment) -> bool {
        self.part_used(cells, now) > FORETOLD
    }

    /// The part of the limit that is used with `cells` more.
    pub(crate) fn part_used(&self, cells: u64, now: Moment) -> f64 {
        (self.level.used(now) + cells as f64) / self.capacity()
    }

    /// A refusal that nothing foretold: the limiter is shallower than it seemed.
    pub(crate) fn surprised(&mut self, now: Moment) {
        self.depth.surprised(self.rate() * self.part, self.drains_as_told(), now);
        self.reshape(now);
    }

    /// The upstream took `cells` that were sent at `sent`; `paced` says that the queue was waiting
    /// then.
    pub(crate) fn accepted(&mut self, cells: u64, paced: bool, sent: Moment, now: Moment) {
        self.depth.taken(sent);
        if paced && self.last.is_some() {
            self.depth.accepted(cells as f64, self.deepest_burst(), now);
            self.reshape(now);
        }
    }

    /// The largest burst that the limiter can take from here by its shape and its headers.
    pub(super) fn deepest_burst(&self) -> f64 {
        let by_shape = match self.shape.rule() {
            Rule::Bucket => self.stated,
            Rule::Shallow | Rule::Unknown | Rule::Fixed | Rule::Log if self.stated < SMALL => {
                first_burst(self.rate())
            }
            Rule::Shallow => self.told_depth - 2.0 * self.rate() * self.outward,
            Rule::Unknown | Rule::Fixed | Rule::Log => self.told_depth * WINDOW_BURST,
        };
        // What is left says how much may be added to the burst, and takes nothing of it.
        let left = match self.shape.rule() {
            Rule::Shallow => f64::INFINITY,
            Rule::Unknown | Rule::Fixed | Rule::Log if self.stated < SMALL => f64::INFINITY,
            Rule::Bucket | Rule::Unknown | Rule::Fixed | Rule::Log => {
                self.last.map_or(0.0, |last| last.remaining) * self.part
            }
        };
        (by_shape.max(1.0) * self.part).min(left.max(self.depth.burst()))
    }

    /// Our own running total as the upstream knew it at a moment: what was on its way then did not
    /// count yet.
    pub(super) fn arrived(&self, own: &Own<'_>, at: Moment) -> f64 {
        own.log.before(at.minus_seconds(self.outward)) * own.ratio
    }

    /// The cells sent so shortly before a moment that they may not have arrived by then.
    fn on_its_way(&self, own: &Own<'_>, at: Moment) -> f64 {
        let sent = own.log.before(at) - own.log.before(at.minus_seconds(self.outward * 2.0));
        sent.max(0.0) * own.ratio
    }

    pub(super) fn use_at(&self, at: Moment, used: f64, own: &Own<'_>) -> Use {
        Use {
            at,
            used,
            own: self.arrived(own, at),
            // Each was equally likely to arrive sooner or later: a sixth of their number is the
            // variance.
            doubt: (self.on_its_way(own, at) / 6.0 * own.ratio).sqrt() * self.largest.sqrt(),
            limit: self.stated,
            rate: self.rate(),
        }
    }

    pub(super) fn watch_foreign(&mut self, used: f64, own: &Own<'_>, at: Moment) {
        match self.shape.rule() {
            // A shallow bucket, or one of a short window, may be empty between any two snapshots:
            // nothing can be told.
            Rule::Unknown | Rule::Shallow => {}
            Rule::Bucket if self.window < MINUTE => {}
            Rule::Bucket | Rule::Fixed if !self.foreign.is_due(at) => {}
            Rule::Bucket => self.foreign.by_drain(&self.use_at(at, used, own)),
            Rule::Fixed => self.foreign.by_count(&self.use_at(at, used, own)),
            Rule::Log => {
                let before = self.arrived(own, at.minus_seconds(self.window));
                self.foreign.by_level(used, self.arrived(own, at) - before, self.stated);
            }
        }
    }

    pub(super) fn set_level(&mut self, used: f64, since: f64, at: Moment, now: Moment) {
        let drained = (used - self.level.rate() * now.seconds_since(at)).max(0.0);
        self.level.set_used((drained + since).min(self.stated * MOST_LEVEL), now);
    }
}
