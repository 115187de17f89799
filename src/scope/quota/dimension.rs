//! One limit of one scope: the mirror of the upstream's level, the pacer before it, and what is known of both.

use std::time::Duration;

use crate::scope::moment::Moment;

use super::bucket::Bucket;
use super::foreign::Foreign;
use super::sent_log::SentLog;
use super::shape::Shape;
use super::{LimitReport, Source};

/// The pace of a limit whose shape is not proven, as a part of it. A fixed window and a sliding log hold a window's worth
/// and no more, so what the burst and random delays add must fit into the rest.
const ANY_SHAPE_PACE: f64 = 0.975;
/// The pacer's first burst, in seconds of the rate. A bucket a second deep must hold it together with what random delays
/// push into the same second.
const FIRST_BURST: f64 = 0.5;
/// Timers fire up to this much late; a burst below it would lose what they miss, in seconds of the rate.
const TIMER_SLACK: f64 = 0.005;
/// How long after a burst was halved it may grow again.
const REGROW_AFTER: Duration = Duration::from_mins(20);
/// A limit for a longer window is not paced: a day's worth may be used in an hour.
const LONGEST_PACED: f64 = 3600.0;
/// Kept free of a proven bucket, as a part of it: at least, at most.
const SLACK: (f64, f64) = (0.01, 0.10);

/// What an attempt remembers of a dimension from the moment it was sent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mark {
    /// The running total just after it was sent, itself included.
    pub(crate) total: f64,
}

/// One limit.
#[derive(Debug)]
pub(crate) struct Dimension {
    /// As stated, in cells a window.
    pub(crate) limit: f64,
    /// In seconds.
    pub(crate) window: f64,
    pub(crate) source: Source,
    share: f64,
    mirror: Bucket,
    pacer: Bucket,
    shape: Shape,
    /// The pacer's burst in cells, where the bucket is proven; it starts small and grows.
    burst: f64,
    /// The burst may not grow until then.
    no_growth_before: Moment,
    /// The headers' story and the refusals contradict each other: the limiter is not as deep as it says.
    distrusted: bool,
    /// Granted, not yet sent.
    unsent: f64,
    sent: SentLog,
    last: Option<Snapshot>,
    pub(crate) foreign: Foreign,
    /// Smoothed time from send to head, in seconds.
    feedback: f64,
    /// The largest cost seen of late, in cells.
    largest: f64,
    /// The mean cost of late, in cells.
    mean: f64,
    /// A refusal said that nothing above this room passes until then.
    held: Option<Held>,
}

/// What a refusal of a limiter that counts by windows leaves: no more than this room, until a moment.
#[derive(Clone, Copy, Debug)]
struct Held {
    until: Moment,
    room: f64,
}

#[derive(Clone, Copy, Debug)]
struct Snapshot {
    at: Moment,
    /// `remaining` as told.
    remaining: f64,
}

/// When an attempt was sent and answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) sent: Moment,
    pub(crate) head: Moment,
    pub(crate) processing: Option<Duration>,
}

impl Times {
    /// When the upstream admitted it: the head's time less the processing, never before the send. Without a processing time
    /// the send is the best guess, and a safe one.
    pub(crate) fn admitted(&self) -> Moment {
        match self.processing {
            Some(processing) => self.head.minus(processing).max(self.sent),
            None => self.sent,
        }
    }
}

impl Dimension {
    pub(crate) fn new(limit: f64, window: f64, source: Source, share: f64, now: Moment) -> Self {
        let mut dimension = Self {
            limit: limit.max(1.0),
            window,
            source,
            share,
            mirror: Bucket::new(1.0, 1.0),
            pacer: Bucket::new(1.0, 1.0),
            shape: Shape::default(),
            burst: 0.0,
            no_growth_before: Moment::START,
            distrusted: false,
            unsent: 0.0,
            sent: SentLog::default(),
            last: None,
            foreign: Foreign::default(),
            feedback: 0.0,
            largest: 1.0,
            mean: 0.0,
            held: None,
        };
        dimension.burst = dimension.first_burst();
        dimension.reshape(now);
        dimension
    }

    /// How long until `cells` may go.
    pub(crate) fn wait(&self, cells: u64, now: Moment) -> Duration {
        let mut mirror = self.mirror.wait(cells, now);
        if let Some(held) = self.held.filter(|held| cells as f64 > held.room) {
            mirror = mirror.max(held.until.since(now));
        }
        if self.is_paced() { mirror.max(self.pacer.wait(cells, now)) } else { mirror }
    }

    /// Takes `cells`. They count as unsent until [`Dimension::sent`].
    pub(crate) fn take(&mut self, cells: u64, now: Moment) {
        self.mirror.take(cells, now);
        self.pacer.take(cells, now);
        self.unsent += cells as f64;
        match &mut self.held {
            Some(held) if held.until > now => held.room -= cells as f64,
            held => *held = None,
        }
    }

    /// Gives back what was taken and not sent.
    pub(crate) fn give_back(&mut self, cells: u64, now: Moment) {
        self.unsent = (self.unsent - cells as f64).max(0.0);
        self.mirror.credit(cells as f64, now);
        self.pacer.credit(cells as f64, now);
    }

    /// Notes that what was taken goes upstream now.
    pub(crate) fn sent(&mut self, cells: u64, now: Moment) -> Mark {
        let cells = cells as f64;
        self.unsent = (self.unsent - cells).max(0.0);
        self.largest = (self.largest * 0.99).max(cells).max(1.0);
        self.mean = if self.mean > 0.0 { self.mean * 0.99 + cells * 0.01 } else { cells };
        self.sent.add(cells, now);
        Mark { total: self.sent.total() }
    }

    /// Sets the level from the headers of an answer.
    pub(crate) fn told(&mut self, report: &LimitReport, mark: Mark, times: &Times, now: Moment) {
        self.set_limit(report.limit as f64, now);
        self.source = Source::Learned;
        self.shape.observe(report.limit, report.remaining.min(report.limit), report.reset);
        let window = self.shape.bucket().unwrap_or(self.window.max(self.shape.at_least()));
        if window.total_cmp(&self.window).is_ne() {
            self.window = window;
            self.burst = self.first_burst();
        }
        let trip = times.head.seconds_since(times.sent);
        self.feedback = if self.feedback > 0.0 { self.feedback * 0.9 + trip * 0.1 } else { trip };
        let at = times.admitted();
        if self.last.is_some_and(|last| last.at > at) {
            self.reshape(now);
            return;
        }
        let remaining = report.remaining.min(report.limit) as f64;
        let used = self.limit - remaining;
        self.foreign.observe(at, used, mark.total, self.rate(), self.limit);
        let since = if self.shape.bucket().is_some() {
            // Overstated by what was on the way before it arrived; a bucket loses no throughput by that.
            self.sent.total() - mark.total
        } else {
            self.sent.total() - self.sent.before(at).max(mark.total)
        };
        self.last = Some(Snapshot { at, remaining });
        self.reshape(now);
        let drained = (used - self.mirror.rate() * now.seconds_since(at)).max(0.0);
        self.mirror.set_used(drained + since + self.unsent, now);
    }

    /// Sets the level from a refusal's numbers.
    #[expect(clippy::too_many_arguments, reason = "the refusal's numbers and the attempt's")]
    pub(crate) fn refused(
        &mut self,
        limit: f64,
        used: f64,
        cells: u64,
        wait: Option<Duration>,
        mark: Mark,
        times: &Times,
        now: Moment,
    ) {
        self.set_limit(limit, now);
        let at = times.admitted();
        if self.last.is_some_and(|last| last.at > at) {
            return;
        }
        let drained = (used - self.mirror.rate() * now.seconds_since(at)).max(0.0);
        let since = self.sent.total() - self.sent.before(at).max(mark.total);
        self.mirror.set_used(drained + since + self.unsent, now);
        // A bucket lets it pass when the excess has drained. A longer wait is a window's: nothing drains before its end.
        let excess = (used + cells as f64 - limit).max(0.0);
        if let Some(wait) = wait.filter(|wait| wait.as_secs_f64() > excess / self.rate() * 1.5 + 0.25) {
            self.held = Some(Held { until: at.plus(wait), room: limit - used });
        }
    }

    /// Whether the last snapshot left room for a refusal to be a surprise.
    pub(crate) fn foretold(&self, cells: u64, now: Moment) -> bool {
        self.mirror.used(now) + cells as f64 > self.limit * 0.9
    }

    /// A refusal that nothing foretold: the limiter is shallower than it seems.
    pub(crate) fn surprised(&mut self, now: Moment) {
        self.distrusted = true;
        self.burst = (self.burst.min(self.pacer.burst()) / 2.0).max(1.0);
        self.no_growth_before = now.plus(REGROW_AFTER);
        self.reshape(now);
    }

    /// The upstream took `cells` while the pacer was what held the queue.
    pub(crate) fn accepted(&mut self, cells: u64, now: Moment) {
        if now < self.no_growth_before {
            return;
        }
        self.distrusted = false;
        if self.proven() && self.burst < self.limit {
            let room = self.last.map_or(0.0, |last| last.remaining);
            self.burst = (self.burst + cells as f64).min(self.limit).min(room.max(self.burst));
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

    /// Cells a second that the limit gives.
    pub(crate) fn rate(&self) -> f64 {
        self.limit / self.window
    }

    /// Cells a second that Weir goes at when it always has work.
    pub(crate) fn pace(&self) -> f64 {
        if self.is_paced() { self.pacer.rate().min(self.mirror.rate()) } else { self.mirror.rate() }
    }

    /// Cells a second that drain, where the limiter is proven to be a bucket.
    pub(crate) fn proven_drain(&self) -> Option<f64> {
        self.shape.bucket().map(|_| self.rate())
    }

    /// The mean cost of late, in cells.
    pub(crate) fn mean(&self) -> f64 {
        self.mean
    }

    /// What is used of the limit now, as far as is known.
    pub(crate) fn level(&self, now: Moment) -> f64 {
        self.mirror.used(now)
    }

    /// The pacer's burst in cells.
    pub(crate) fn pacer_burst(&self) -> f64 {
        self.pacer.burst()
    }

    /// Until the work ahead and `cells` have passed, were nothing else to come.
    pub(crate) fn predict(&self, ahead: f64, cells: f64, now: Moment) -> f64 {
        let bucket_wait = |bucket: &Bucket| {
            let room = bucket.burst().max(1.0);
            (bucket.used(now) + ahead + cells.min(room) - room) / bucket.rate()
        };
        let mirror = bucket_wait(&self.mirror);
        if self.is_paced() { mirror.max(bucket_wait(&self.pacer)) } else { mirror }
    }

    fn set_limit(&mut self, limit: f64, now: Moment) {
        if limit < 1.0 || limit.total_cmp(&self.limit).is_eq() {
            return;
        }
        self.burst = (self.burst * limit / self.limit).max(1.0);
        self.limit = limit;
        self.foreign = Foreign::default();
        self.reshape(now);
    }

    fn proven(&self) -> bool {
        self.shape.bucket().is_some() && !self.distrusted
    }

    fn is_paced(&self) -> bool {
        self.window <= LONGEST_PACED || self.share < 1.0
    }

    fn first_burst(&self) -> f64 {
        (self.rate() * FIRST_BURST).max(1.0)
    }

    fn reshape(&mut self, now: Moment) {
        let rate = self.rate();
        let (pace, burst) = if self.proven() {
            (rate, self.burst)
        } else {
            (rate * ANY_SHAPE_PACE, self.burst.min(self.first_burst()))
        };
        let burst = burst.max(rate * TIMER_SLACK).max(1.0);
        self.pacer.reshape(pace * self.share, burst, now);
        let depth = if self.proven() {
            let slack = (rate * self.feedback).clamp(self.limit * SLACK.0, self.limit * SLACK.1);
            (self.limit - slack.max(self.largest.min(self.limit * 0.02))).max(1.0)
        } else {
            self.limit
        };
        self.mirror.reshape((rate - self.foreign.rate()).max(rate * 0.05), depth, now);
    }
}
