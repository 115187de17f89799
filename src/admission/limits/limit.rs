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

use super::Source;
use super::asking::Asking;
use super::at_once::ToldAtOnce;
use super::bucket::Bucket;
use super::depth::{Depth, first_burst};
use super::foreign::Foreign;
use super::own::Own;
use super::shape::{HOUR, Rule, Shape};

/// The most that a level is believed to be, in limits.
pub(super) const MOST_LEVEL: f64 = 10.0;
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
    pub(super) at_once: ToldAtOnce,
    /// The last snapshot before a request that asked was refused, while none may ask.
    pub(super) silent_since: Option<Snapshot>,
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
    pub(super) tail_due: Moment,
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
    /// All cells that this Weir had sent by then.
    pub(super) sent: f64,
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
            at_once: ToldAtOnce::default(),
            silent_since: None,
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
        let divided = self.window > HOUR && part < 1.0;
        let rest = (self.capacity() - self.level.used(now)).max(0.0);
        self.rest = if divided { rest * part } else { f64::INFINITY };
    }

    /// The other replicas sent `cells` since this was said last. Where headers tell of a limit they
    /// tell of it too; of a day's limit they mostly don't.
    pub(crate) fn others_sent(&mut self, cells: f64, now: Moment) {
        if self.window > HOUR {
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
        (self.window <= HOUR && !self.at_once.is_believed()).then(|| self.rate())
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
