//! What holds a request at a limit, and for how long: the bounds that follow from the limit's level
//! and shape.

use std::time::Duration;

use crate::admission::moment::{Moment, duration};

use super::bucket::Bucket;
use super::depth::{Depth, LEAST_PACE};
use super::limit::{Limit, SMALL, WINDOW_BURST};
use super::own::Own;
use super::rate::SILENCE;
use super::shape::{HOUR, MINUTE, Rule};

/// The most that the trailing window is lengthened for what came late, as a part of it. The pace
/// leaves more than that free.
const LATE: f64 = 0.01;
/// The shaper's burst in a short window that is no bucket, as a part of its limit.
const SHORT_BURST: f64 = 0.02;
/// The least and the most that is kept free of a proven bucket, as a part of it. It costs no
/// throughput, and takes what others add before the headers show it.
const SLACK: (f64, f64) = (0.01, 0.10);
/// The times from send to head whose use at the limit's rate is kept free.
const FEEDBACK_KEPT: f64 = 2.0;
/// The least pace after a burst, as a part of the limit's rate.
const LEAST_TAIL: f64 = 0.1;
/// The least part of the rate that is kept free: of a shallow bucket, and of what may count by
/// windows.
const LEAST_MARGIN: (f64, f64) = (0.005, 0.0075);
/// What is kept free of a limit that may count by windows, in cells: headers tell whole ones.
const WHOLE_CELLS: f64 = 0.3;
/// A tail is kept to where it is below this part of the rate: the log of sends is not exact.
const TAIL: f64 = 0.9;
/// What is left of a day's limit is divided among replicas about this often.
const DIVIDED_AGAIN: Duration = Duration::from_secs(1);
/// The shortest time for which a pace is computed, in seconds: in less, what is left is no pace.
const LEAST_SPAN: f64 = 0.05;
/// What backlogged callers leave free for a caller that sends less than its share, in seconds of
/// the rate.
const CUSHION: f64 = 0.5;
/// A cushion is kept where the limit is at least this deep, in seconds of the rate: of less it
/// would take a part that counts.
const CUSHIONED_DEPTH: f64 = 20.0;

impl Limit {
    /// How long until `cells` may go beside that number of attempts in flight. A `sparse` request
    /// is one of a caller that sends less than its share: it may use the cushion that others leave
    /// free.
    pub(crate) fn wait(
        &self,
        cells: u64,
        sparse: bool,
        in_flight: u32,
        own: &Own<'_>,
        now: Moment,
    ) -> Duration {
        if let Some(bound) = self.bound_in_flight() {
            return if f64::from(in_flight) < bound { Duration::ZERO } else { SILENCE };
        }
        let cushion = if sparse { 0 } else { self.cushion(self.told_or_stated()) };
        let mut wait = self.level.wait(cells.saturating_add(cushion).saturating_add(self.others), now);
        if cells as f64 > self.rest {
            wait = wait.max(DIVIDED_AGAIN);
        }
        if let Some(closed) = &self.closed
            && cells as f64 > closed.room
        {
            wait = wait.max(closed.until.since(now));
        }
        if self.is_shaped() {
            let held = cells.saturating_add(if sparse { 0 } else { self.cushion(self.shaper.burst()) });
            wait = wait.max(self.shaper.wait(held, now));
            if self.may_count_windows() {
                wait = wait.max(self.trailing_wait(cells as f64, own, now));
            }
        }
        // What was sent since is on its way, and its answer will say more. Beside it goes what is
        // said to be left.
        let since = own.since(self.asking.mark());
        let goes_beside = || {
            self.last.is_some_and(|last| since < last.remaining)
                && self.asking.asks_beside(now)
                && f64::from(in_flight) < self.at_once.tries().min(self.stated)
        };
        if since <= 0.0 || goes_beside() { self.asking.wait(wait, now) } else { wait }
    }

    /// The attempts in flight that the limit allows here, where that is what it counts.
    fn bound_in_flight(&self) -> Option<f64> {
        self.at_once.is_believed().then(|| (self.stated * self.part).floor().max(1.0))
    }

    /// Whether the window is only assumed, and the resets told so far are shorter.
    pub(super) fn assumes(&self) -> bool {
        self.assumed_part() < 1.0
    }

    /// The part of the window that is known to be one: an assumed one may be as short as its
    /// resets, and nobody is sent away for the rest of it.
    fn assumed_part(&self) -> f64 {
        self.last.map_or(1.0, |_| self.shape.assumed_part(self.window))
    }

    /// The pace at which what is left of the window lasts until a burst leaves it; infinite where
    /// none was sent.
    pub(super) fn tail_pace(&self, own: &Own<'_>, now: Moment) -> f64 {
        let changed = self.divided.max(self.lowered);
        if now < changed.plus_seconds(self.window) && changed > Moment::START {
            return f64::INFINITY;
        }
        if !self.bursts_in_windows() || !(MINUTE..=HOUR).contains(&self.window) {
            return f64::INFINITY;
        }
        let rate = self.rate() * self.part;
        let kept_to =
            |pace: f64| if pace < rate * TAIL { pace.max(rate * LEAST_TAIL) } else { f64::INFINITY };
        let all = self.stated * self.part;
        let kept = all * WINDOW_BURST;
        let begin = now.minus_seconds(self.window);
        if own.log.is_at_most(kept / own.ratio, begin) {
            return f64::INFINITY;
        }
        kept_to(own.log.lasting_rate(all / own.ratio, duration(self.window), LEAST_SPAN, now) * own.ratio)
    }

    /// Seconds until the work ahead and `cells` have passed, were nothing else to come. `hope` is
    /// the present part of the limit in the one that this replica will have once it needs it.
    pub(crate) fn predict(&self, ahead: f64, cells: f64, hope: f64, now: Moment) -> f64 {
        if self.at_once.is_believed() {
            return 0.0;
        }
        let bucket_wait = |bucket: &Bucket| {
            let room = bucket.burst().max(1.0);
            (bucket.used(now) + ahead + cells.min(room) - room) / bucket.rate()
        };
        let assumed = self.assumed_part();
        let mut wait = bucket_wait(&self.level) * assumed;
        if self.is_shaped() {
            wait = wait.max(bucket_wait(&self.shaper) * hope * assumed);
        }
        if let Some(closed) = self.closed.filter(|closed| ahead + cells > closed.room) {
            wait = wait.max(closed.until.seconds_since(now) + (ahead + cells - closed.room) / self.pace());
        }
        wait
    }

    /// A window and a log hold no more than the limit of our own of the last window, whatever the
    /// level seems to be.
    pub(super) fn trailing_wait(&self, cells: f64, own: &Own<'_>, now: Moment) -> Duration {
        let foreign = if self.shape.rule() == Rule::Log { self.foreign.certain() } else { 0.0 };
        let room = self.stated * (1.0 - foreign) - own.unsent * own.ratio - cells.min(self.stated * 0.9);
        let room = room.max(0.0) / own.ratio;
        // What was long on its way came later than it went, and what goes now may be quicker.
        let span = self.window + (self.outward * 2.0).min(self.window * LATE);
        // What a higher limit let through may be more than all of this one, for a whole window.
        if own.log.is_at_most(room, now.minus_seconds(span).max(self.lowered)) {
            return Duration::ZERO;
        }
        own.log.trailing_falls_to(room, duration(span)).since(now)
    }

    /// The upstream named the window.
    pub(crate) fn tell_window(&mut self, window: Duration, now: Moment) {
        self.shape.tell_window(window.as_secs_f64());
        if duration(self.window) != window {
            self.window = window.as_secs_f64();
            self.depth.restart(self.rate() * self.part, now);
            self.reshape(now);
        }
    }

    /// Whether the upstream named the window.
    pub(crate) fn window_is_told(&self) -> bool {
        self.shape.told_window().is_some()
    }

    /// Whether the window is known from what the upstream said.
    pub(crate) fn window_is_proven(&self) -> bool {
        self.shape.is_known()
    }

    /// Whether the arithmetic of the limit is known for sure.
    pub(crate) fn proven(&self) -> bool {
        self.proven_bucket() && self.depth.trusts()
    }

    pub(super) fn proven_bucket(&self) -> bool {
        self.shape.bucket().is_some() && self.window >= MINUTE
    }

    /// Whether the headers show that the limiter refills as it goes.
    pub(super) fn drains_as_told(&self) -> bool {
        self.shape.rule() == Rule::Bucket || self.is_shallow()
    }

    /// Whether the headers show a bucket that is shallower than the limit. A log of few requests
    /// looks the same.
    pub(super) fn is_shallow(&self) -> bool {
        self.shape.rule() == Rule::Shallow && self.stated >= SMALL
    }

    /// Whether bursts go to what may be a window or a log, of which the headers tell.
    pub(super) fn bursts_in_windows(&self) -> bool {
        self.last.is_some() && !self.drains_as_told() && !self.drains && self.stated >= SMALL
    }

    /// Whether it may count by windows: then the use of the last one is bounded.
    pub(super) fn may_count_windows(&self) -> bool {
        !(self.proven() || self.drains || self.is_shallow() && self.depth.trusts())
    }

    /// The most cells that can be left, as far as is known.
    pub(super) fn capacity(&self) -> f64 {
        if self.is_shallow() { self.told_depth.clamp(1.0, self.stated) } else { self.stated }
    }

    /// What backlogged callers leave free of a bucket that is so deep, in cells.
    pub(super) fn cushion(&self, depth: f64) -> u64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a float's cast saturates"
        )]
        let cells = (self.rate() * self.part * CUSHION) as u64;
        if depth >= self.rate() * self.part * CUSHIONED_DEPTH { cells } else { 0 }
    }

    /// The most cells that the upstream ever said were left; the stated limit where it said
    /// nothing.
    pub(super) fn told_or_stated(&self) -> f64 {
        if self.told_depth > 0.0 { self.told_depth } else { self.stated }
    }

    pub(super) fn is_shaped(&self) -> bool {
        self.window <= HOUR || self.part < 1.0
    }

    /// The part of the rate that is kept free for what random delays push into a window or a
    /// shallow bucket.
    pub(super) fn margin(&self) -> f64 {
        if self.last.is_none() {
            return Depth::UNTOLD_MARGIN;
        }
        let needed = if self.drains_as_told() {
            (self.outward * self.rate() / self.capacity() / 20.0).max(LEAST_MARGIN.0)
        } else {
            (2.0 * self.outward / self.window).max(LEAST_MARGIN.1).max(WHOLE_CELLS / self.stated)
        };
        // In a short window refusals cost more than what would keep them away.
        let short = self.window < MINUTE && !self.drains_as_told();
        let delays = if short { (self.outward / self.window / 2.0).min(Depth::MOST_MARGIN) } else { 0.0 };
        needed.min(Depth::UNTOLD_MARGIN).max(delays).max(self.depth.margin())
    }

    pub(super) fn reshape(&mut self, now: Moment) {
        let (rate, proven) = (self.rate(), self.proven());
        // In a fixed window the level itself says what is left, until the window's end.
        let foreign = if self.shape.rule() == Rule::Fixed { 0.0 } else { self.foreign.certain() };
        let shallow = self.is_shallow();
        let told = proven || self.bursts_in_windows() || shallow;
        let margin = if proven { 0.0 } else { self.margin() };
        let (mut pace, mut burst) = self.depth.parameters(rate, told, margin, self.part, foreign);
        if !self.drains_as_told() {
            // Where others use most of a log, they are told of the same room, and send their bursts
            // into it, too. The other replicas' parts are no such use.
            let others = (foreign - (1.0 - self.part)).max(0.0) / self.part;
            burst = (burst * (2.0 * (1.0 - others)).clamp(0.0, 1.0)).max(1.0);
        }
        if self.window < MINUTE && self.shape.bucket().is_none() {
            // Of a short window a burst is much, and so is what random delays push into it.
            pace *= self.window / (self.window + self.outward.min(self.window));
            burst = burst.min((self.stated * SHORT_BURST).max(1.0));
        }
        if self.window > HOUR {
            // A part of a day's limit may be used at once, as the whole may.
            (pace, burst) = (rate * self.part, (self.stated * self.part).max(1.0));
        }
        self.shaper.reshape(pace.min(self.tail), burst, now);
        let capacity = self.capacity();
        let depth = if proven || shallow {
            let slack = (rate * self.feedback * FEEDBACK_KEPT).clamp(capacity * SLACK.0, capacity * SLACK.1);
            (capacity - slack.max(self.largest.min(capacity * 0.02))).max(1.0)
        } else if self.shape.slides() {
            // A sliding counter uses fractions of a cell, and headers report whole cells.
            (capacity - 1.0).max(1.0)
        } else {
            capacity
        };
        let drain = match self.shape.rule() {
            Rule::Bucket | Rule::Shallow => rate * (1.0 - foreign).max(LEAST_PACE),
            Rule::Unknown | Rule::Fixed | Rule::Log => rate,
        };
        self.level.reshape(drain, depth, now);
    }
}
