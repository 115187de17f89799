//! Whether an upstream's failures come with the load: some limiters answer what is too much with a
//! plain 503 or 500.
//!
//! Nothing in such an answer tells it from a failure of another cause, so it is tried out. Where a
//! part of the attempts fails, again and again, while others are answered, the rate is led by the
//! failures as by bare 429s. A limiter refuses soon: a failure that took as long as an answer is
//! none of it. If at most a quarter as many fail then, they were for the load, and
//! what was found holds. If not, the rate is again what it was before the trial: a trial in vain
//! costs seven pauses for a probe, and comes once in five minutes at most, then half as often each
//! time.

use std::time::Duration;

use crate::admission::moment::Moment;

use super::rate::Rate;

/// Failures and good answers among the last 32 outcomes that are worth a trial. Where one attempt
/// in twenty fails by chance, eight of 32 do in one look of 6,000; to repeat what fails less often
/// costs less than a trial.
const ENOUGH: (u32, u32) = (8, 4);
/// A trial is judged when this number of failures would be expected at the part before it, and is
/// in vain when more than a quarter of them came: failures by chance are so few in one of 70.
const JUDGED: (f64, f64) = (8.0, 2.0);
/// Times that the search for a limit meets it at first, which say nothing.
const SEARCH: f64 = 4.0;
/// A refusal takes at most this part of the time of a good answer,
const SOON: f64 = 0.5;
/// or no more than this, in seconds: where answers are so quick, a refusal is as well.
const AT_ONCE: f64 = 0.02;
/// The weight of one answer in their mean time.
const WEIGHT: f64 = 0.1;
/// What is older says nothing of the present state: the breaker's own span.
const RECENT: Duration = Duration::from_secs(10);
/// Where nothing was answered well for this time, the upstream is down, and the breaker's business.
/// A limiter that is shut for longer counts by the minute: that is told by a 429 at least.
const DOWN: Duration = Duration::from_secs(15);
/// Failures farther apart than this are no series of them.
const SERIES: Duration = Duration::from_mins(1);
/// The time between two trials, at least and at most: each that was in vain doubles it. The ten
/// seconds of waiting that one costs are a thirtieth of the first.
const AGAIN: (Duration, Duration) = (Duration::from_mins(5), Duration::from_hours(1));

/// What is known of an upstream's failures.
#[derive(Debug)]
pub(super) struct Shedding {
    /// Smoothed seconds to good answers.
    trip: f64,
    /// Of the last outcomes, newest in the lowest bit: those that were failures.
    failed: u32,
    /// How many outcomes that are.
    seen: u32,
    last: Moment,
    /// The last failure, whether something that was sent after it was answered well, and whether
    /// that happened before, within a minute: one time of failing alone is an outage.
    failure: Moment,
    healed: bool,
    again_and_again: bool,
    trial: Option<Trial>,
    not_before: Moment,
    pause: Duration,
}

#[derive(Debug)]
struct Trial {
    /// The part of the attempts that failed before it.
    part: f64,
    /// Attempts that were sent at the rate that was found since the last judgment, and those of
    /// them that failed, at first without those of the search.
    sent: f64,
    failed: f64,
    /// The last good answer.
    good: Moment,
    /// The rate as it was before.
    before: Option<Box<Rate>>,
}

impl Default for Shedding {
    fn default() -> Self {
        Self {
            trip: 0.0,
            failed: 0,
            seen: 0,
            last: Moment::START,
            failure: Moment::START,
            healed: false,
            again_and_again: false,
            trial: None,
            not_before: Moment::START,
            pause: AGAIN.0,
        }
    }
}

impl Shedding {
    /// Whether the rate is led by failures.
    pub(super) fn leads(&self) -> bool {
        self.trial.is_some()
    }

    /// A 429 told of a limit: the rate is led by those.
    pub(super) fn is_of_429s(&mut self) {
        self.trial = None;
    }

    /// An attempt that was sent at `sent` was answered: well, or with a failure. `rate` becomes
    /// what it was before a trial that was in vain.
    pub(super) fn answered(
        &mut self,
        has_failed: bool,
        sent: Moment,
        rate: &mut Option<Box<Rate>>,
        now: Moment,
    ) {
        let took = now.seconds_since(sent);
        if !has_failed {
            self.trip += (took - self.trip) * WEIGHT;
            // Mostly nothing fails.
            if self.seen == 0 && self.trial.is_none() {
                self.last = now;
                return;
            }
        } else if took > (self.trip * SOON).max(AT_ONCE) {
            (self.failed, self.seen, self.again_and_again) = (0, 0, false);
            return self.gives_up(rate, now);
        }
        if rate.is_none() {
            self.trial = None;
        }
        if self.trial.is_some() {
            return self.judge(has_failed, sent, rate, now);
        }
        self.note(has_failed, sent, now);
        let may_begin = has_failed && now >= self.not_before && self.is_worth_a_trial();
        if may_begin && rate.as_ref().is_none_or(|rate| !rate.searches()) {
            let part = f64::from(self.failed.count_ones()) / f64::from(self.seen);
            self.trial = Some(Trial { part, sent: 0.0, failed: -SEARCH, good: now, before: rate.clone() });
            (self.failed, self.seen) = (0, 0);
        }
    }

    /// The failures have another cause: the rate is what it was before.
    pub(super) fn gives_up(&mut self, rate: &mut Option<Box<Rate>>, now: Moment) {
        if let Some(trial) = self.trial.take() {
            *rate = trial.before;
            self.not_before = now.plus(self.pause);
            self.pause = (self.pause * 2).min(AGAIN.1);
        }
    }

    fn judge(&mut self, has_failed: bool, sent: Moment, rate: &mut Option<Box<Rate>>, now: Moment) {
        let Some(trial) = &mut self.trial else { return };
        let since = rate.as_ref().and_then(|rate| rate.steady_since());
        if since.is_some_and(|since| sent >= since) {
            trial.sent += 1.0;
            trial.failed += f64::from(u8::from(has_failed));
        }
        let is_down = has_failed && now.is_after(trial.good, DOWN);
        if !has_failed {
            trial.good = now;
        }
        if is_down || trial.failed > JUDGED.1 {
            self.gives_up(rate, now);
        } else if trial.sent * trial.part >= JUDGED.0 {
            (trial.sent, trial.failed) = (0.0, 0.0);
        }
    }

    fn note(&mut self, has_failed: bool, sent: Moment, now: Moment) {
        if now.is_after(self.last, RECENT) {
            (self.failed, self.seen) = (0, 0);
        } else if self.seen == 0 {
            // All that were answered lately were answered well.
            self.seen = u32::BITS - 1;
        }
        self.last = now;
        if has_failed {
            let soon = !now.is_after(self.failure, SERIES);
            self.again_and_again = soon && (self.again_and_again || self.healed);
            (self.failure, self.healed) = (now, false);
        } else {
            self.healed |= sent >= self.failure;
        }
        self.failed = self.failed << 1 | u32::from(has_failed);
        self.seen = if self.failed == 0 { 0 } else { (self.seen + 1).min(u32::BITS) };
    }

    fn is_worth_a_trial(&self) -> bool {
        let failed = self.failed.count_ones();
        failed >= ENOUGH.0 && self.seen - failed >= ENOUGH.1 && self.again_and_again
    }
}
