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
//!
//! A limiter takes its limit, however much more comes. So there is no trial while less is sent than
//! half of what was answered well before, and one that comes to send less is in vain.
//! A run of failures after a few single ones begins no trial: that is an outage, which the breaker
//! ends sooner.

use std::time::Duration;

use crate::admission::moment::Moment;

use super::USUAL_WINDOW;
use super::measured::LONG;
use super::own::OwnUse;
use super::rate::Rate;

/// Failures and good answers among the last 32 outcomes that are worth a trial. Where one attempt
/// in twenty fails by chance, eight of 32 do in one look of 6,000; to repeat what fails less often
/// costs less than a trial.
const ENOUGH: (u32, u32) = (8, 4);
/// Failures before the present run that tell it from an outage, in one run or among the last 32.
const SEVERAL: u32 = ENOUGH.0 / 2;
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
/// The least part of what was answered well before at which failures may be for the load, and the
/// least rate, in requests a second: at less, a verdict takes minutes.
const LEAST: (f64, f64) = (0.5, 0.5);
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
    /// The last failure, and whether something that was sent after it was answered well.
    failure: Moment,
    healed: bool,
    /// Failures in a row: none that was sent after one of them was answered well.
    run: u32,
    /// Several failed before that, within a minute: one run of failures alone is an outage.
    again_and_again: bool,
    trial: Option<Trial>,
    not_before: Moment,
    pause: Duration,
}

#[derive(Debug)]
struct Trial {
    /// The part of the attempts that failed before it.
    part: f64,
    /// The rate below which it is in vain, in requests a second.
    least: f64,
    /// Attempts that were sent at the rate that was found since the last judgment, and those of
    /// them that failed, at first without those of the search.
    sent: f64,
    failed: f64,
    /// A judgment said that what was found holds.
    holds: bool,
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
            run: 0,
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

    /// Whether the rate that failures lead is only tried: no judgment has said that it holds.
    pub(super) fn is_tried(&self) -> bool {
        self.trial.as_ref().is_some_and(|trial| !trial.holds)
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
        own: &OwnUse,
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
            let least = least_load(own, now);
            if own.requests().trailing(RECENT, now) < least * RECENT.as_secs_f64() {
                return;
            }
            let part = f64::from(self.failed.count_ones()) / f64::from(self.seen);
            let before = rate.clone();
            self.trial = Some(Trial { part, least, sent: 0.0, failed: -SEARCH, holds: false, before });
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
        let is_slow = since.is_some() && rate.as_ref().is_some_and(|rate| rate.pace < trial.least);
        if since.is_some_and(|since| sent >= since) {
            trial.sent += 1.0;
            trial.failed += f64::from(u8::from(has_failed));
        }
        if is_slow || trial.failed > JUDGED.1 {
            self.gives_up(rate, now);
        } else if trial.sent * trial.part >= JUDGED.0 {
            (trial.sent, trial.failed, trial.holds) = (0.0, 0.0, true);
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
            let soon = !now.is_after(self.failure, USUAL_WINDOW);
            let several = self.healed && self.run.max(self.failed.count_ones()) >= SEVERAL;
            self.again_and_again = soon && (self.again_and_again || several);
            self.run = if self.healed { 1 } else { self.run.saturating_add(1) };
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

/// The load below which failures are not for the load, in requests a second.
fn least_load(own: &OwnUse, now: Moment) -> f64 {
    // Two windows of the longest kind that is tried.
    let before = LONG * 2;
    let span = now.since(own.taken().begin()).clamp(LONG, before);
    (own.taken().trailing(before, now) / span.as_secs_f64() * LEAST.0).max(LEAST.1)
}

#[cfg(test)]
mod tests {
    use super::super::own::Cost;
    use super::super::{Charge, Unit};
    use super::*;

    /// What an upstream is sent, and how it answers in ten milliseconds.
    struct Sending {
        shedding: Shedding,
        own: OwnUse,
        rate: Option<Box<Rate>>,
        now: Moment,
    }

    impl Sending {
        fn new() -> Self {
            Self {
                shedding: Shedding::default(),
                own: OwnUse::new(),
                rate: None,
                now: Moment::START.plus_seconds(1.0),
            }
        }

        fn send(&mut self, has_failed: bool, pause: f64) {
            self.own.send(Cost { requests: 1, ..Cost::default() }, self.now);
            let (sent, now) = (self.now, self.now.plus_seconds(0.01));
            self.shedding.answered(has_failed, sent, &mut self.rate, &self.own, now);
            if self.shedding.leads() {
                self.rate.get_or_insert_with(|| Box::new(Rate::beside(Unit::Requests, now)));
            }
            if !has_failed {
                self.own.accepted(Charge { requests: 1, tokens: 0 }, sent, now);
            }
            self.now = now.plus_seconds(pause);
        }

        /// Of a hundred requests a second, as a limiter of that rate would take them, a third fail.
        fn meets_a_limit(&mut self) {
            for turn in 0..64 {
                self.send(turn % 3 == 0, 0.0);
            }
        }
    }

    #[test]
    fn failures_at_a_small_part_of_the_load_that_was_taken_begin_no_trial() {
        let mut quiet = Sending::new();
        (0..1500).for_each(|_| quiet.send(false, 0.0));
        for turn in 0..40 {
            quiet.send(turn % 3 == 0, 0.4);
            assert!(!quiet.shedding.leads(), "{turn}");
        }
        let mut busy = Sending::new();
        (0..1500).for_each(|_| busy.send(false, 0.0));
        busy.meets_a_limit();
        assert!(busy.shedding.leads());
    }

    #[test]
    fn a_run_of_failures_alone_begins_no_trial() {
        let mut outage = Sending::new();
        (0..1500).for_each(|_| outage.send(false, 0.0));
        for turn in 0..12 {
            outage.send(turn % 6 == 0, 0.0);
        }
        for turn in 0..40 {
            outage.send(true, 0.0);
            assert!(!outage.shedding.leads(), "{turn}: nothing was answered well between them");
        }
        for _ in 0..4 {
            outage.send(false, 0.0);
            outage.send(true, 0.0);
        }
        assert!(outage.shedding.leads(), "some are answered well, again and again");
    }

    #[test]
    fn a_trial_that_sends_less_than_half_of_what_was_taken_is_in_vain() {
        for (rate, holds) in [(60.0, true), (20.0, false)] {
            let mut tried = Sending::new();
            (0..3000).for_each(|_| tried.send(false, 0.0));
            tried.meets_a_limit();
            let mut found = Rate::beside(Unit::Requests, tried.now);
            found.pace = rate;
            found.hold((1, 0.0), tried.now);
            tried.rate = Some(Box::new(found));
            tried.send(false, 0.0);
            assert_eq!(tried.shedding.leads(), holds, "{rate}");
            assert_eq!(tried.shedding.is_tried(), holds, "nothing was judged yet");
            assert_eq!(tried.rate.is_some(), holds, "what was before the trial holds again");
        }
    }
}
