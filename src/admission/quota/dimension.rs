//! One limit of one scope: the mirror of the upstream's level, and the pacer before it.

use std::time::Duration;

use crate::admission::moment::{Moment, duration};

use super::asking::Asking;
use super::bucket::Bucket;
use super::foreign::{Foreign, Use};
use super::own::Own;
use super::pace::Pace;
use super::refusal::{Numbers, Times};
use super::shape::{Rule, Shape};
use super::{FORETOLD, LimitReport, Source};

/// A limit for a longer window is not paced: a day's worth may be used in an hour.
const LONGEST_PACED: f64 = 3600.0;
/// A bucket of a shorter window is too shallow for what random delays make of any pace.
const SHORTEST_PROVEN: f64 = 60.0;
/// How much longer a window is kept free for what came late, at most, as a part of it: less than what the pace leaves.
const LATE: f64 = 0.01;
/// The pacer's burst in a short window that is no bucket, as a part of its limit.
const SHORT_BURST: f64 = 0.02;
/// Kept free of a proven bucket, as a part of it: at least, at most. It costs no throughput, and takes what others add before
/// the headers show it.
const SLACK: (f64, f64) = (0.01, 0.10);
/// What so many times from send to head give, at the limit's rate.
const FEEDBACK_KEPT: f64 = 2.0;
/// The level is never believed to be more than so many limits.
const MOST_LEVEL: f64 = 2.0;
/// Added to a named wait: a request that arrives a moment before a window's end would be refused again.
pub(super) const EDGE: Duration = Duration::from_millis(30);

/// One limit. The fields lie as they are written, as those of the scope.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Dimension {
    /// As stated, in cells a window.
    pub(crate) limit: f64,
    /// In seconds.
    pub(crate) window: f64,
    share: f64,
    /// The part of that which is this replica's.
    part: f64,
    mirror: Bucket,
    pacer: Bucket,
    held: Option<Held>,
    asking: Asking,
    pace: Pace,
    /// The largest cost of late, in cells.
    largest: f64,
    /// Smoothed time from send to head, in seconds.
    feedback: f64,
    /// Smoothed time from send to admission upstream, in seconds.
    outward: f64,
    last: Option<Snapshot>,
    pub(crate) source: Source,
    /// It let more through in a window than the limit, and refills as it goes: some bucket.
    drains: bool,
    pub(crate) foreign: Foreign,
    shape: Shape,
}

/// Ten cache lines: with hundreds of busy scopes each is a way to memory.
const _: () = assert!(size_of::<Dimension>() <= 10 * 64);

#[derive(Clone, Copy, Debug)]
struct Snapshot {
    at: Moment,
    remaining: f64,
}

/// What a refusal of a limiter that counts by windows leaves: no more than this room, until a moment.
#[derive(Clone, Copy, Debug)]
struct Held {
    /// When it was said. A later answer that was let through knows better.
    at: Moment,
    until: Moment,
    room: f64,
}

impl Dimension {
    pub(crate) fn new(limit: f64, window: f64, source: Source, share: f64, now: Moment) -> Self {
        let limit = limit.max(1.0);
        let mut dimension = Self {
            limit,
            window,
            source,
            foreign: Foreign::default(),
            share,
            part: 1.0,
            mirror: Bucket::new(1.0, 1.0),
            pacer: Bucket::new(1.0, 1.0),
            shape: Shape::default(),
            pace: Pace::new(limit / window, now),
            last: None,
            feedback: 0.0,
            outward: 0.0,
            largest: 1.0,
            held: None,
            drains: false,
            asking: Asking::default(),
        };
        dimension.reshape(now);
        dimension
    }

    /// How long until `cells` may go.
    pub(crate) fn wait(&self, cells: u64, own: &Own<'_>, now: Moment) -> Duration {
        let mut wait = self.mirror.wait(cells, now);
        if let Some(held) = &self.held
            && cells as f64 > held.room
        {
            wait = wait.max(held.until.since(now));
        }
        if self.is_paced() {
            wait = wait.max(self.pacer.wait(cells, now));
            if !self.proven() && !self.drains {
                wait = wait.max(self.trailing_wait(cells as f64, own, now));
            }
        }
        self.asking.wait(wait, own, now)
    }

    /// Takes `cells`.
    pub(crate) fn take(&mut self, cells: u64, now: Moment) {
        self.asking.took(now);
        let cells = self.bounded(cells);
        self.mirror.take(cells, now);
        self.pacer.take(cells, now);
        self.largest = (self.largest * 0.99).max(cells as f64).max(1.0);
        match &mut self.held {
            Some(held) if held.until > now => held.room -= cells as f64,
            held => *held = None,
        }
        if self.pace.recover(now) {
            self.reshape(now);
        }
    }

    /// Gives back what was taken and not sent.
    pub(crate) fn give_back(&mut self, cells: u64, now: Moment) {
        let cells = self.bounded(cells);
        self.mirror.credit(cells as f64, now);
        self.pacer.credit(cells as f64, now);
    }

    /// The upstream refused an attempt of `cells`: what they put the pacer in debt for was never served.
    pub(crate) fn forgive(&mut self, cells: u64, now: Moment) {
        // Where headers and refusals contradict each other the numbers do not say who may pass: the next keeps its distance.
        if self.shape.bucket().is_some() && !self.pace.trusts() {
            return;
        }
        // Within a burst nothing comes back: refusals do not speed up the attempts on who refuses often.
        let debt = self.pacer.used(now) - self.pacer.burst();
        self.pacer.credit(debt.min(self.bounded(cells) as f64), now);
    }

    /// Sets the level from the headers of an answer. `mark` is the running total just after its attempt was sent.
    pub(crate) fn told(
        &mut self,
        report: &LimitReport,
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
        let short = self.shape.bucket().or_else(|| self.shape.short());
        let window = short.unwrap_or_else(|| self.window.max(self.shape.at_least()));
        if window.total_cmp(&self.window).is_ne() {
            self.window = window;
            self.pace.restart(self.rate(), now);
        }
        self.asking.heard(mark);
        let trip = times.head.seconds_since(times.sent);
        // Of answers to requests that were sent together the quick ones come first: they are no sign of quicker times.
        let weight = if trip > self.feedback { 0.1 } else { 0.01 };
        self.feedback += (trip - self.feedback) * if self.feedback > 0.0 { weight } else { 1.0 };
        let outward = at.seconds_since(times.sent);
        self.outward = if self.outward > 0.0 { self.outward * 0.95 + outward * 0.05 } else { outward };
        if !newest {
            self.reshape(now);
            return;
        }
        if self.held.is_some_and(|held| held.at <= at) {
            self.held = None;
        }
        let remaining = report.remaining.min(report.limit) as f64;
        let used = self.limit - remaining;
        self.last = Some(Snapshot { at, remaining });
        let reset = report.reset.filter(|_| !self.shape.is_known());
        self.asking.told(reset, self.shape.longest_reset(), times, now);
        self.watch_foreign(used, own, at);
        self.reshape(now);
        // Counted from the send, the level is overstated by what was on the way before it; a bucket loses no throughput by
        // that, and another shape would.
        let since = if self.shape.bucket().is_some() { mark } else { own.sent_by(at, mark) };
        self.set_level(used, own.since(since), at, now);
        if let (Rule::Fixed, Some(reset)) = (self.shape.rule(), report.reset) {
            // Nothing drains before the window ends.
            let room = remaining - own.since(own.sent_by(at, mark));
            self.held = Some(Held { at, until: at.plus(reset.min(duration(self.window))), room });
        }
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
        self.pace.refused(times.sent, now);
        self.asking.refused(times.sent, now);
        // A bucket lets it pass when the excess has drained. A longer wait is a window's: nothing drains before its end.
        let excess = (numbers.used + numbers.requested - numbers.limit).max(0.0);
        let drained_in = excess / self.rate();
        let windowed = numbers.wait.is_some_and(|wait| wait.as_secs_f64() > drained_in * 1.5 + 0.25);
        self.drains = !windowed && (self.drains || own.exceeded(self.limit, duration(self.window), now));
        if self.last.is_none_or(|last| last.at <= at) {
            // What a bucket that is shallower than its headers say calls used is no count of a minute's use.
            if self.proven() {
                let now = self.use_at(at, numbers.used, own);
                self.foreign.by_drain(&now);
            }
            self.set_level(numbers.used, own.since(own.sent_by(at, mark)), at, now);
        }
        if let Some(wait) = numbers.wait.filter(|_| windowed) {
            let until = at.plus(wait.min(duration(self.window))).plus(EDGE);
            self.held = Some(Held { at, until, room: numbers.limit - numbers.used });
        }
        self.reshape(now);
    }

    /// A refusal without numbers, of an attempt that was sent then.
    pub(crate) fn refused_blindly(&mut self, sent: Moment, now: Moment) {
        self.pace.refused(sent, now);
        self.asking.refused(sent, now);
        self.reshape(now);
    }

    /// Whether the mirror left no room for a refusal to be a surprise.
    pub(crate) fn foretold(&self, cells: u64, now: Moment) -> bool {
        self.part_used(cells, now) > FORETOLD
    }

    /// The part of the limit that is used with `cells` more.
    pub(crate) fn part_used(&self, cells: u64, now: Moment) -> f64 {
        (self.mirror.used(now) + cells as f64) / self.limit
    }

    /// A refusal that nothing foretold.
    pub(crate) fn surprised(&mut self, now: Moment) {
        self.pace.surprised(self.rate(), now);
        self.reshape(now);
    }

    /// The upstream took `cells` that were sent at `sent`; `paced` says that the queue was waiting then.
    pub(crate) fn accepted(&mut self, cells: u64, paced: bool, sent: Moment, now: Moment) {
        self.pace.taken(sent);
        if paced && self.shape.bucket().is_some() {
            let remaining = self.last.map_or(0.0, |last| last.remaining);
            self.pace.accepted(cells as f64, remaining, self.limit, now);
            self.reshape(now);
        }
    }

    /// Changes share or stated limit by configuration.
    pub(crate) fn configure(&mut self, limit: Option<f64>, share: f64, now: Moment) {
        self.share = share;
        if let Some(limit) = limit {
            self.set_limit(limit, now);
        }
        self.reshape(now);
    }

    /// The same limit with a replica's part of it.
    pub(crate) fn with_part(mut self, part: f64, now: Moment) -> Self {
        self.set_part(part, now);
        self
    }

    /// Changes the part of the limit that is this replica's.
    pub(crate) fn set_part(&mut self, part: f64, now: Moment) {
        self.part = part;
        self.reshape(now);
    }

    /// Cells a second that the limit gives all replicas together; nothing where it isn't paced.
    pub(crate) fn shared_rate(&self) -> Option<f64> {
        self.is_paced().then(|| self.rate() * self.share)
    }

    /// Cells a second that the limit gives.
    pub(crate) fn rate(&self) -> f64 {
        self.limit / self.window
    }

    /// Cells a second that Weir goes at when it always has work.
    pub(crate) fn pace(&self) -> f64 {
        if self.is_paced() { self.pacer.rate().min(self.mirror.rate()) } else { self.mirror.rate() }
    }

    /// The rule that the limiter is known to count by.
    pub(crate) fn rule(&self) -> Rule {
        self.shape.rule()
    }

    /// What is used of the limit now, as far as is known.
    pub(crate) fn level(&self, now: Moment) -> f64 {
        self.mirror.used(now)
    }

    /// The pacer's burst in cells.
    pub(crate) fn pacer_burst(&self) -> f64 {
        self.pacer.burst()
    }

    /// Seconds until the work ahead and `cells` have passed, were nothing else to come.
    pub(crate) fn predict(&self, ahead: f64, cells: f64, now: Moment) -> f64 {
        let bucket_wait = |bucket: &Bucket| {
            let room = bucket.burst().max(1.0);
            (bucket.used(now) + ahead + cells.min(room) - room) / bucket.rate()
        };
        let mut wait = bucket_wait(&self.mirror);
        if self.is_paced() {
            wait = wait.max(bucket_wait(&self.pacer));
        }
        if let Some(held) = self.held.filter(|held| ahead + cells > held.room) {
            wait = wait.max(held.until.seconds_since(now) + (ahead + cells - held.room) / self.pace());
        }
        wait
    }

    /// A window and a log hold no more than the limit of our own of the last window, whatever the level seems to be.
    fn trailing_wait(&self, cells: f64, own: &Own<'_>, now: Moment) -> Duration {
        let foreign = if self.shape.rule() == Rule::Log { self.foreign.certain() } else { 0.0 };
        let room = self.limit * (1.0 - foreign) - own.unsent * own.ratio - cells.min(self.limit * 0.9);
        let room = room.max(0.0) / own.ratio;
        // What was long on its way came later than it went, and what goes now may be quicker.
        let span = self.window + (self.outward * 2.0).min(self.window * LATE);
        if own.log.is_at_most(room, now.minus_seconds(span)) {
            return Duration::ZERO;
        }
        own.log.trailing_falls_to(room, duration(span)).since(now)
    }

    /// Our own running total as the upstream knew it at a moment: what was on its way then did not count yet.
    fn arrived(&self, own: &Own<'_>, at: Moment) -> f64 {
        own.log.before(at.minus_seconds(self.outward)) * own.ratio
    }

    fn use_at(&self, at: Moment, used: f64, own: &Own<'_>) -> Use {
        let on_its_way = own.log.before(at) - own.log.before(at.minus_seconds(self.outward * 2.0));
        Use {
            at,
            used,
            own: self.arrived(own, at),
            // Each was equally likely to arrive sooner or later: a sixth of their number is the variance.
            doubt: (on_its_way.max(0.0) / 6.0).sqrt() * own.ratio * self.largest.sqrt(),
            limit: self.limit,
            rate: self.rate(),
        }
    }

    fn watch_foreign(&mut self, used: f64, own: &Own<'_>, at: Moment) {
        match self.shape.rule() {
            // A shallow bucket, or one of a short window, may be empty between any two snapshots: nothing can be told.
            Rule::Unknown | Rule::Shallow => {}
            Rule::Bucket if self.window < SHORTEST_PROVEN => {}
            Rule::Bucket | Rule::Fixed if !self.foreign.is_due(at) => {}
            Rule::Bucket => self.foreign.by_drain(&self.use_at(at, used, own)),
            Rule::Fixed => self.foreign.by_count(&self.use_at(at, used, own)),
            Rule::Log => {
                let before = self.arrived(own, at.minus_seconds(self.window));
                self.foreign.by_level(used, self.arrived(own, at) - before, self.limit);
            }
        }
    }

    fn set_level(&mut self, used: f64, since: f64, at: Moment, now: Moment) {
        let drained = (used - self.mirror.rate() * now.seconds_since(at)).max(0.0);
        self.mirror.set_used((drained + since).min(self.limit * MOST_LEVEL), now);
    }

    fn set_limit(&mut self, limit: f64, now: Moment) {
        if limit < 1.0 || limit.total_cmp(&self.limit).is_eq() {
            return;
        }
        self.pace.scale(limit / self.limit);
        self.limit = limit;
        self.foreign = Foreign::default();
        self.reshape(now);
    }

    /// No cost is above the limit: what is cannot be admitted, and the upstream will say so.
    fn bounded(&self, cells: u64) -> u64 {
        if cells as f64 <= self.limit {
            return cells;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a float's cast saturates"
        )]
        cells.min(self.limit as u64)
    }

    /// Whether the arithmetic of the limit is known for sure.
    pub(crate) fn proven(&self) -> bool {
        self.shape.bucket().is_some() && self.window >= SHORTEST_PROVEN && self.pace.trusts()
    }

    fn is_paced(&self) -> bool {
        self.window <= LONGEST_PACED || self.share < 1.0
    }

    fn reshape(&mut self, now: Moment) {
        let (rate, proven) = (self.rate(), self.proven());
        // In a fixed window the level itself says what is left, until the window's end.
        let foreign = if self.shape.rule() == Rule::Fixed { 0.0 } else { self.foreign.certain() };
        let (mut pace, mut burst) = self.pace.parameters(rate, proven, self.share * self.part, foreign);
        if self.window < SHORTEST_PROVEN && self.shape.bucket().is_none() {
            // Of a short window a burst is much, and so is what random delays push into it.
            pace *= self.window / (self.window + self.outward.min(self.window));
            burst = burst.min((self.limit * SHORT_BURST).max(1.0));
        }
        self.pacer.reshape(pace, burst, now);
        let depth = if proven {
            let slack =
                (rate * self.feedback * FEEDBACK_KEPT).clamp(self.limit * SLACK.0, self.limit * SLACK.1);
            (self.limit - slack.max(self.largest.min(self.limit * 0.02))).max(1.0)
        } else {
            self.limit
        };
        let drain = match self.shape.rule() {
            Rule::Bucket | Rule::Shallow => rate * (1.0 - foreign).max(0.05),
            Rule::Unknown | Rule::Fixed | Rule::Log => rate,
        };
        self.mirror.reshape(drain, depth, now);
    }
}
