//! One limit of one scope: what is known of its level, and how fast and in what bursts it is used.
//!
//! Three bounds hold a request, each for what it knows:
//! - the *level*: what the upstream said is left, less what was sent since, plus what drains;
//! - the *shaper*: a bucket of our own whose rate is the limit's and whose depth is what the
//!   upstream was seen to take;
//! - the *trailing use*: a window or a log never holds more than the limit of one window, whatever
//!   the level seems to be.

use std::time::Duration;

use crate::admission::moment::{Moment, duration};

use super::asking::{Asking, Left};
use super::bucket::Bucket;
use super::depth::{Depth, first_burst};
use super::foreign::{Foreign, Use};
use super::own::Own;
use super::refusal::{Numbers, Times};
use super::shape::{Rule, Shape};
use super::{FORETOLD, LimitReport, Source};

/// The longest window of a limit that is shaped, in seconds: a day's worth may be used in an hour.
pub(super) const LONGEST_SHAPED: f64 = 3600.0;
/// The shortest window of a bucket that is proven, in seconds: a shorter one is too shallow for
/// what random delays make of any pace.
pub(super) const SHORTEST_PROVEN: f64 = 60.0;
/// The most that a level is believed to be, in limits.
const MOST_LEVEL: f64 = 10.0;
/// Added to a named wait: a request that arrives a moment before a window's end would be refused
/// again.
pub(super) const EDGE: Duration = Duration::from_millis(30);
/// The part of a window's limit that may go as a burst. In a window nothing comes back before its
/// end: the other half is paced until then, so that others go on at half of the rate at least.
pub(super) const WINDOW_BURST: f64 = 0.5;
/// How long a computed pace of the rest of a window holds, as a part of the window.
const TAIL_KEPT: f64 = 0.005;
/// Limits of fewer cells than this are never used in bursts, unless they are proven to be buckets:
/// half of it is a few requests, and headers tell whole ones.
pub(super) const SMALL: f64 = 100.0;

/// One limit. The fields lie as they are written, as those of the scope.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Limit {
    /// As stated, in cells a window.
    pub(crate) stated: f64,
    /// In seconds.
    pub(crate) window: f64,
    /// The part of the limit that may be used here: the configured share times this replica's part.
    pub(super) part: f64,
    /// Of a day's limit: the cells that may be used here until the replicas divide what is left
    /// again.
    pub(super) rest: f64,
    pub(super) level: Bucket,
    pub(super) shaper: Bucket,
    pub(super) closed: Option<Closed>,
    /// When the present window of a counter ends, as its headers said last.
    pub(super) ends: Option<Moment>,
    pub(super) asking: Asking,
    pub(super) depth: Depth,
    /// The largest cost of late, in cells.
    pub(super) largest: f64,
    /// Smoothed time from send to head, in seconds.
    pub(super) feedback: f64,
    /// Smoothed time from send to admission upstream, in seconds.
    pub(super) outward: f64,
    pub(super) last: Option<Snapshot>,
    /// The most cells that headers said were left, what their request took included; 0 before the
    /// first.
    pub(super) told_depth: f64,
    /// What others will take of what headers say is left, in cells.
    pub(super) others: u64,
    /// The last time that something was taken.
    pub(super) taken: Moment,
    /// The pace that leaves a part of the window for its end, in cells a second; infinite where no
    /// burst was sent.
    pub(super) tail: f64,
    /// When it is computed anew.
    tail_due: Moment,
    /// When the part that may be used here changed last: what was sent before was sent by another.
    pub(super) divided: Moment,
    /// When the limit was lowered last: what was sent before counts in the level alone.
    pub(super) lowered: Moment,
    pub(crate) source: Source,
    /// It let more through in a window than the limit, and refills as it goes: some bucket.
    pub(super) drains: bool,
    pub(crate) foreign: Foreign,
    pub(super) shape: Shape,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Snapshot {
    pub(super) at: Moment,
    pub(super) remaining: f64,
}

/// What a refusal or a header of a limiter that counts by windows leaves: no more than this room,
/// until a moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Closed {
    /// When it was said. A later answer that was let through knows better.
    pub(super) at: Moment,
    pub(super) until: Moment,
    pub(super) room: f64,
}

impl Limit {
    pub(crate) fn new(limit: f64, window: f64, source: Source, part: f64, now: Moment) -> Self {
        let limit = limit.max(1.0);
        let mut new = Self {
            stated: limit,
            window,
            source,
            foreign: Foreign::default(),
            part,
            rest: f64::INFINITY,
            level: Bucket::new(1.0, 1.0),
            shaper: Bucket::new(1.0, 1.0),
            shape: Shape::default(),
            depth: Depth::new(limit / window * part, now),
            last: None,
            told_depth: 0.0,
            others: 0,
            taken: now,
            tail: f64::INFINITY,
            tail_due: Moment::START,
            divided: Moment::START,
            lowered: Moment::START,
            feedback: 0.0,
            outward: 0.0,
            largest: 1.0,
            closed: None,
            ends: None,
            drains: false,
            asking: Asking::default(),
        };
        new.reshape(now);
        new
    }

    /// Takes `cells` for a request that waited for `waited`.
    pub(crate) fn take(&mut self, cells: u64, own: &Own<'_>, waited: Duration, now: Moment) {
        let asks = self.asking.took(now);
        let cells = self.bounded(cells);
        // Only idleness earns a burst. What waited was held by the level or a window: were the
        // shaper to drain meanwhile, each window would begin with a burst and end in a stall.
        let held = now.since(self.taken).min(waited).as_secs_f64() * self.shaper.rate();
        let cushion = self.cushion(self.shaper.burst()) as f64;
        let needed = cells as f64 + cushion + first_burst(self.rate() * self.part);
        let spare = self.shaper.burst() - self.shaper.used(now) - needed;
        self.shaper.debit(held.min(spare), now);
        self.taken = now;
        self.level.take(cells, now);
        self.shaper.take(cells, now);
        if asks {
            // What goes before its time is no debt: it asks whether there is such a pace at all.
            let most = self.shaper.burst() + cells as f64;
            self.shaper.set_used(self.shaper.used(now).min(most), now);
        }
        self.rest -= cells as f64;
        self.largest = (self.largest * 0.99).max(cells as f64).max(1.0);
        match &mut self.closed {
            Some(closed) if closed.until > now => closed.room -= cells as f64,
            closed => *closed = None,
        }
        let tail = if now < self.tail_due {
            self.tail
        } else {
            self.tail_due = now.plus_seconds(self.window * TAIL_KEPT);
            self.tail_pace(own, now)
        };
        let tail_changed = (tail / self.tail - 1.0).abs() > 0.01 || tail.is_finite() != self.tail.is_finite();
        if tail_changed {
            self.tail = tail;
        }
        if self.depth.recover(now) || tail_changed {
            self.reshape(now);
        }
    }

    /// Gives back what was taken and not sent.
    pub(crate) fn give_back(&mut self, cells: u64, now: Moment) {
        let cells = self.bounded(cells) as f64;
        self.level.credit(cells, now);
        self.shaper.credit(cells, now);
        self.rest += cells;
    }

    /// The upstream refused an attempt of `cells`, which took nothing from this limit: by another
    /// limit, or by one that it did not name. The level falls by it. Of the shaper only a debt is
    /// given back, so that refusals don't speed attempts up.
    pub(crate) fn refund(&mut self, cells: u64, now: Moment) {
        self.level.credit(self.bounded(cells) as f64, now);
        self.refund_debt(cells, now);
    }

    /// The upstream refused an attempt of `cells` by this limit, whose level the refusal tells.
    pub(crate) fn refund_debt(&mut self, cells: u64, now: Moment) {
        // Where headers and refusals contradict each other the numbers do not say which request may
        // pass: the next keeps its distance.
        if self.shape.bucket().is_some() && !self.depth.trusts() {
            return;
        }
        let debt = self.shaper.used(now) - self.shaper.burst();
        self.shaper.credit(debt.min(self.bounded(cells) as f64), now);
    }

    /// Sets the level from the headers of an answer to an attempt of `cells`. `mark` is the running
    /// total just after it was sent.
    pub(crate) fn told(
        &mut self,
        report: &LimitReport,
        cells: u64,
        own: &Own<'_>,
        mark: f64,
        times: &Times,
        now: Moment,
    ) {
        self.source = Source::Learned;
        let at = times.admitted();
        let newest = self.last.is_none_or(|last| last.at <= at);
        // An answer that is older than the last one may tell of a limit that is no more.
        if newest {
            self.set_limit(report.limit as f64, now);
        }
        self.shape.observe(report.limit, report.remaining.min(report.limit), report.reset, at);
        if let Some(reset) = report.reset.filter(|reset| self.shape.weighs_end(*reset)) {
            self.weigh_end(report, reset, cells, own, mark, at);
        }
        let short = self.shape.bucket().or_else(|| self.shape.short());
        if self.shape.seeks_window() {
            self.shape.took_too_much(report.limit as f64, own, self.feedback, now);
        }
        let window =
            short.unwrap_or_else(|| self.window.max(self.shape.at_least()).min(self.shape.at_most()));
        if window.total_cmp(&self.window).is_ne() {
            self.window = window;
            self.depth.restart(self.rate() * self.part, now);
            (self.tail, self.tail_due) = (f64::INFINITY, Moment::START);
        }
        self.asking.heard(mark);
        self.measure_times(times);
        if !newest {
            self.reshape(now);
            return;
        }
        if self.closed.is_some_and(|closed| closed.at <= at) {
            self.closed = None;
        }
        let remaining = report.remaining.min(report.limit) as f64;
        self.last = Some(Snapshot { at, remaining });
        self.told_depth = self.told_depth.max(remaining + self.bounded(cells) as f64).min(self.stated);
        let left = match report.remaining {
            0 => Left::Nothing,
            _ if remaining * 2.0 > self.stated && !self.fits_a_minute(report) => Left::Most,
            _ => Left::Some,
        };
        let unknown =
            (!self.shape.is_known() && !self.window_is_told()).then_some((report.reset, left, remaining));
        self.asking.told(unknown, self.shape.longest_reset(), times, now);
        self.watch_foreign(self.stated - remaining, own, at);
        self.reshape(now);
        // Counted from the send, the level is overstated by what was on the way before it; a bucket
        // loses no throughput by that, and another shape would.
        let since = if self.is_deep() { own.since(mark) } else { own.since_moment(at, mark) };
        self.set_level(self.capacity() - remaining, since, at, now);
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

    /// Smooths the times of an answer.
    fn measure_times(&mut self, times: &Times) {
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
        self.asking.refused(times.sent, now);
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

    /// A refusal without numbers, of an attempt that was sent then.
    pub(crate) fn refused_blindly(&mut self, sent: Moment, now: Moment) {
        self.depth.refused(self.rate() * self.part, sent, now);
        self.asking.refused(sent, now);
        self.reshape(now);
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
    fn deepest_burst(&self) -> f64 {
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

    /// Changes the part of the limit that may be used here; `fresh` is the part of what is gained
    /// that nobody used of late.
    pub(crate) fn set_part(&mut self, part: f64, fresh: f64, now: Moment) {
        if part > 0.0 && part.total_cmp(&self.part).is_ne() {
            let factor = part / self.part;
            let (used, burst) = (self.shaper.used(now), self.shaper.burst());
            self.depth.scale(factor);
            self.part = part;
            (self.tail, self.tail_due) = (f64::INFINITY, Moment::START);
            self.divided = now;
            self.reshape(now);
            // What is used of the depth stays the same part of it: a smaller part is no debt. Of
            // what is gained others may have used all.
            let gained = self.shaper.burst() - burst;
            let used = if gained > 0.0 { used + gained * (1.0 - fresh) } else { used * factor.min(1.0) };
            self.shaper.set_used(used, now);
        }
    }

    /// Of what is left of a day's limit this replica may use `part` until it is told so again: all
    /// parts of it are what is left.
    pub(crate) fn divide_rest(&mut self, part: f64, now: Moment) {
        let divided = self.window > LONGEST_SHAPED && part < 1.0;
        let rest = (self.capacity() - self.level.used(now)).max(0.0);
        self.rest = if divided { rest * part } else { f64::INFINITY };
    }

    /// The other replicas sent `cells` since this was said last. Where headers tell of a limit they
    /// tell of it too; of a day's limit they mostly don't.
    pub(crate) fn others_sent(&mut self, cells: f64, now: Moment) {
        if self.window > LONGEST_SHAPED {
            self.level.debit(cells, now);
        }
    }

    /// The part of this replica's part that is not used, as the limiter counts it.
    pub(crate) fn unused(&self, own: &Own<'_>, now: Moment) -> f64 {
        let depth = self.shaper.used(now) / self.shaper.burst();
        let used = if self.may_count_windows() {
            let window = own.log.trailing(duration(self.window), now) * own.ratio;
            depth.max(window / (self.stated * self.part).max(1.0))
        } else {
            depth
        };
        (1.0 - used).clamp(0.0, 1.0)
    }

    /// Cells a second that the limit gives all that share it; nothing where it isn't shaped.
    pub(crate) fn shared_rate(&self) -> Option<f64> {
        (self.window <= LONGEST_SHAPED).then(|| self.rate())
    }

    /// Cells a second that the limit gives.
    pub(crate) fn rate(&self) -> f64 {
        self.stated / self.window
    }

    /// Cells a second that Weir goes at when it always has work.
    pub(crate) fn pace(&self) -> f64 {
        if self.is_shaped() { self.shaper.rate().min(self.level.rate()) } else { self.level.rate() }
    }

    /// The rule that the limiter is known to count by.
    pub(crate) fn rule(&self) -> Rule {
        self.shape.rule()
    }

    /// The shaper's burst in cells.
    pub(crate) fn shaper_burst(&self) -> f64 {
        self.shaper.burst()
    }

    /// Our own running total as the upstream knew it at a moment: what was on its way then did not
    /// count yet.
    fn arrived(&self, own: &Own<'_>, at: Moment) -> f64 {
        own.log.before(at.minus_seconds(self.outward)) * own.ratio
    }

    fn use_at(&self, at: Moment, used: f64, own: &Own<'_>) -> Use {
        let on_its_way = own.log.before(at) - own.log.before(at.minus_seconds(self.outward * 2.0));
        Use {
            at,
            used,
            own: self.arrived(own, at),
            // Each was equally likely to arrive sooner or later: a sixth of their number is the
            // variance.
            doubt: (on_its_way.max(0.0) / 6.0).sqrt() * own.ratio * self.largest.sqrt(),
            limit: self.stated,
            rate: self.rate(),
        }
    }

    fn watch_foreign(&mut self, used: f64, own: &Own<'_>, at: Moment) {
        match self.shape.rule() {
            // A shallow bucket, or one of a short window, may be empty between any two snapshots:
            // nothing can be told.
            Rule::Unknown | Rule::Shallow => {}
            Rule::Bucket if self.window < SHORTEST_PROVEN => {}
            Rule::Bucket | Rule::Fixed if !self.foreign.is_due(at) => {}
            Rule::Bucket => self.foreign.by_drain(&self.use_at(at, used, own)),
            Rule::Fixed => self.foreign.by_count(&self.use_at(at, used, own)),
            Rule::Log => {
                let before = self.arrived(own, at.minus_seconds(self.window));
                self.foreign.by_level(used, self.arrived(own, at) - before, self.stated);
            }
        }
    }

    fn set_level(&mut self, used: f64, since: f64, at: Moment, now: Moment) {
        let drained = (used - self.level.rate() * now.seconds_since(at)).max(0.0);
        self.level.set_used((drained + since).min(self.stated * MOST_LEVEL), now);
    }

    /// Changes the stated limit.
    pub(crate) fn set_limit(&mut self, limit: f64, now: Moment) {
        if limit < 1.0 || limit.total_cmp(&self.stated).is_eq() {
            return;
        }
        let factor = limit / self.stated;
        let used = self.shaper.used(now);
        self.depth.scale(factor);
        self.told_depth *= factor;
        self.stated = limit;
        self.foreign = Foreign::default();
        if factor < 1.0 {
            self.lowered = now;
            (self.tail, self.tail_due) = (f64::INFINITY, Moment::START);
        }
        self.reshape(now);
        // What is used of the depth stays the same part of it: a lower limit is no debt.
        self.shaper.set_used(used * factor.min(1.0), now);
    }

    /// No cost is above the limit: what is cannot be admitted, and the upstream will say so.
    pub(super) fn bounded(&self, cells: u64) -> u64 {
        if cells as f64 <= self.stated {
            return cells;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a float's cast saturates"
        )]
        cells.min(self.stated as u64)
    }
}
