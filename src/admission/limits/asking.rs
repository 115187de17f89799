//! When a limiter that tells of short resets is asked what it counts by, whatever the pace of a
//! minute allows; and so where most of the limit is left.
//!
//! Of a small limit a minute's pace sees next to nothing: ten a second, taken for ten a minute, are
//! one answer in six seconds. Yet the upstream itself says when all of it is free again. Once that
//! has passed and nothing of ours was sent meanwhile, one attempt goes; its answer is the next
//! snapshot. A true minute's limit takes it as well: its bucket is empty by then, its window has
//! ended, a request in its log is older than the window.

use std::time::Duration;

use crate::admission::moment::Moment;

use super::limit::EDGE;
use super::refusal::Times;
use super::{DISTRUSTED, FIRST_WAIT};

/// A longer reset is none of a short window.
const LONGEST: Duration = Duration::from_secs(11);
/// The pause between two requests that ask, where no reset is told: at first and at most.
const UNTOLD: Duration = Duration::from_secs(2);
/// The factor on [`UNTOLD`]'s pause when all that was taken is free again after it.
const SOONER: f64 = 0.8;
/// The factor on [`UNTOLD`]'s pause when less than that is free. With steps of a half and twice,
/// half of the pauses are too short and half twice too long: 68 % of a log of a second were used.
const LATER: f64 = 1.2;

/// What a snapshot says is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    Nothing,
    Some,
    /// More than half of the limit.
    Most,
}

/// When to ask. The fields lie as they are written, as those of the dimension.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Asking {
    /// When the last snapshot's reset has passed, where that is to be asked about.
    free: Moment,
    /// Our own running total of which the snapshots know.
    mark: f64,
    /// When the attempt was taken that asks, while it isn't answered.
    asked: Moment,
    /// When the first was taken that asked beside another one, since the last refusal.
    beside: Moment,
    alone_until: Moment,
    /// A refusal came although a reset, or the time to wait that another refusal named, had passed.
    misled: bool,
    /// When the last answered request that asked was sent. The answer may be a refusal.
    answered: Moment,
    not_before: Moment,
    /// The pause before the next request that asks, where no reset is told.
    pause: Duration,
    /// The least pause: shorter ones were refused.
    least: Duration,
    /// The cells that were left before the present pause, while there is one.
    paused: Option<f64>,
}

impl Default for Asking {
    fn default() -> Self {
        Self {
            free: Moment::NEVER,
            mark: 0.0,
            asked: Moment::NEVER,
            beside: Moment::NEVER,
            alone_until: Moment::START,
            misled: false,
            answered: Moment::NEVER,
            not_before: Moment::START,
            pause: UNTOLD,
            least: FIRST_WAIT,
            paused: None,
        }
    }
}

impl Asking {
    /// How long until a request may go to ask that would otherwise have to wait for `wait`.
    pub(super) fn wait(&self, wait: Duration, now: Moment) -> Duration {
        self.free.since(now).min(wait)
    }

    /// Whether more than one may ask at once.
    pub(super) fn asks_beside(&self, now: Moment) -> bool {
        now >= self.alone_until
    }

    /// Our own running total of which the snapshots know.
    pub(super) fn mark(&self) -> f64 {
        self.mark
    }

    /// An attempt was taken: if it was time to ask, it asks. Tells whether it does.
    pub(super) fn took(&mut self, now: Moment) -> bool {
        let asks = self.free <= now;
        if asks {
            if self.asked < Moment::NEVER && self.asks_beside(now) {
                self.beside = self.beside.min(now);
            }
            self.asked = now;
        }
        asks
    }

    /// An answer came to what was sent when our running total stood at `mark` then. From now on
    /// only one asks at a time, if `alone`.
    pub(super) fn heard(&mut self, mark: f64, alone: bool) {
        self.mark = self.mark.max(mark);
        if alone {
            self.beside = Moment::NEVER;
        }
    }

    /// Weighs the newest snapshot: its reset, and what is left as a class and in cells, or `None`
    /// where the limiter's rule is known. `longest` is the longest reset so far, in seconds.
    pub(super) fn told(
        &mut self,
        unknown: Option<(Option<Duration>, Left, f64)>,
        longest: f64,
        times: &Times,
        now: Moment,
    ) {
        if times.sent >= self.asked {
            (self.asked, self.answered) = (Moment::NEVER, times.sent);
            if let (Some(before), Some((_, _, left))) = (self.paused.take(), unknown) {
                let factor = if left >= before { SOONER } else { LATER };
                let pause = self.pause.mul_f64(factor);
                self.pause = pause.clamp(self.least, UNTOLD);
            }
        }
        self.paused = None;
        self.free = match unknown {
            _ if longest > LONGEST.as_secs_f64() || now < self.not_before => Moment::NEVER,
            Some((Some(reset), ..)) if reset > LONGEST => Moment::NEVER,
            // What is said to be left is there, until a refusal shows otherwise.
            Some((_, Left::Most, _)) if self.not_before == Moment::START => now,
            Some((Some(reset), ..)) => {
                // Without a processing time it may have been admitted as late as its head came.
                times.refused().plus((reset + EDGE).max(FIRST_WAIT))
            }
            // Where that is wrong, the refusal is the last for long.
            Some((None, Left::Some | Left::Nothing, left)) => {
                self.paused = Some(left);
                now.plus(self.pause)
            }
            Some((None, Left::Most, _)) | None => Moment::NEVER,
        };
    }

    /// Whether nothing asks for long.
    pub(super) fn is_silent(&self, now: Moment) -> bool {
        now < self.not_before
    }

    /// What was refused is free again.
    pub(super) fn may_ask_again(&mut self) {
        self.not_before = Moment::START;
    }

    /// An attempt that was sent then was refused, with a time to wait or without. Tells whether it
    /// had asked.
    pub(super) fn refused(&mut self, sent: Moment, hint: Option<Duration>, now: Moment) -> bool {
        if sent >= self.beside {
            // It may have been too much at once: one at a time goes on.
            (self.asked, self.beside) = (Moment::NEVER, Moment::NEVER);
            self.alone_until = now.plus(DISTRUSTED);
            return true;
        }
        let asked = sent >= self.asked;
        if self.pause < UNTOLD && (asked || sent == self.answered) {
            // It was asked too soon.
            self.least = self.pause.mul_f64(LATER).min(UNTOLD);
            (self.pause, self.paused) = (self.least, None);
            (self.asked, self.free) = (Moment::NEVER, now.plus(UNTOLD));
        } else if let Some(hint) = hint.filter(|hint| asked && *hint <= LONGEST && !self.misled) {
            // Where that is wrong as well, nothing that it says is believed.
            (self.asked, self.free, self.misled) = (Moment::NEVER, now.plus(hint + EDGE), true);
        } else if asked {
            // What headers say beside a refusal is asked about all the same.
            (self.asked, self.free) = (Moment::NEVER, Moment::NEVER);
            (self.not_before, self.misled) = (now.plus(DISTRUSTED), true);
        }
        asked
    }
}

#[cfg(test)]
mod tests {
    use crate::admission::limits::own::{Cost, OwnUse};
    use crate::admission::limits::slot::Unit;

    use super::*;

    const LONG: Duration = Duration::from_mins(1);

    fn at(seconds: f64) -> Moment {
        Moment::START.plus_seconds(seconds)
    }

    fn send(own: &mut OwnUse, now: f64) {
        own.send(Cost { requests: 1, tokens: 1, ..Cost::default() }, at(now));
    }

    fn told(asking: &mut Asking, own: &OwnUse, sent: f64, reset: f64) {
        let (sent, head) = (at(sent), at(sent));
        asking.heard(own.of(Unit::Requests, 1.0).log.total(), true);
        let times = Times { sent, head, processing: None };
        asking.told(Some((Some(Duration::from_secs_f64(reset)), Left::Nothing, 0.0)), reset, &times, head);
    }

    fn wait(asking: &Asking, own: &OwnUse, now: f64) -> Duration {
        let is_alone = own.of(Unit::Requests, 1.0).since(asking.mark()) <= 0.0;
        if is_alone { asking.wait(LONG, at(now)) } else { LONG }
    }

    #[test]
    fn one_asks_when_a_reset_has_passed_and_the_next_when_it_is_answered() {
        let (mut asking, mut own) = (Asking::default(), OwnUse::new());
        assert_eq!(wait(&asking, &own, 100.0), LONG);
        send(&mut own, 1.0);
        told(&mut asking, &own, 1.0, 0.8);
        let first = wait(&asking, &own, 1.0).as_secs_f64();
        assert!((0.83..=0.84).contains(&first), "{first}");
        assert_eq!(wait(&asking, &own, 1.0 + first + 0.001), Duration::ZERO);
        asking.took(at(2.5));
        send(&mut own, 2.5);
        assert_eq!(wait(&asking, &own, 9.0), LONG, "it isn't answered yet");
        told(&mut asking, &own, 2.5, 0.1);
        assert_eq!(wait(&asking, &own, 2.5), FIRST_WAIT, "never more often");
        told(&mut asking, &own, 2.5, 20.0);
        assert_eq!(wait(&asking, &own, 9.0), LONG, "no short window has such a reset");
    }

    /// An attempt that asks at `sent`; no reset is told, and so much is left.
    fn ask_untold(asking: &mut Asking, own: &mut OwnUse, sent: f64, left: f64) {
        asking.took(at(sent));
        send(own, sent);
        asking.heard(own.of(Unit::Requests, 1.0).log.total(), true);
        let times = Times { sent: at(sent), head: at(sent), processing: None };
        asking.told(Some((None, Left::Some, left)), 0.0, &times, at(sent));
    }

    #[test]
    fn where_no_reset_is_told_it_asks_sooner_while_all_is_free_again_and_later_where_not() {
        let (mut asking, mut own) = (Asking::default(), OwnUse::new());
        let mut now = 1.0;
        let mut ask = |asking: &mut Asking, left: f64| {
            now += 5.0;
            ask_untold(asking, &mut own, now, left);
            (now, wait(asking, &own, now))
        };
        let is = |found: Duration, asked: f64| (found.as_secs_f64() - asked).abs() < 1e-6;
        let mut pause = 2.0;
        for _ in 0..12 {
            let found = ask(&mut asking, 5.0).1;
            assert!(is(found, pause), "{found:?}");
            pause = (pause * SOONER).max(FIRST_WAIT.as_secs_f64());
        }
        assert!(is(ask(&mut asking, 5.0).1, 0.25));
        // One is refused: that was too soon.
        let (now, _) = ask(&mut asking, 5.0);
        asking.took(at(now + 0.25));
        asking.refused(at(now + 0.25), None, at(now + 0.25));
        let least = 0.25 * LATER;
        for (left, pause) in [
            (5.0, least),
            (5.0, least),
            (4.0, least * LATER),
            (3.0, least * LATER * LATER),
            (3.0, least * LATER * LATER * SOONER),
        ] {
            let found = ask(&mut asking, left).1;
            assert!(is(found, pause), "{left}: {found:?}");
        }
    }

    #[test]
    fn a_refusal_of_what_asks_silences_it_and_another_does_not() {
        let (mut asking, mut own) = (Asking::default(), OwnUse::new());
        send(&mut own, 1.0);
        told(&mut asking, &own, 1.0, 0.8);
        asking.refused(at(0.9), None, at(1.1));
        assert_eq!(wait(&asking, &own, 3.0), Duration::ZERO);
        asking.took(at(3.0));
        asking.refused(at(3.0), None, at(3.1));
        for seconds in [4.0, 600.0, 1190.0] {
            told(&mut asking, &own, seconds, 0.8);
            assert_eq!(wait(&asking, &own, seconds + 5.0), LONG, "{seconds}");
        }
        told(&mut asking, &own, 1210.0, 0.8);
        assert_eq!(wait(&asking, &own, 1215.0), Duration::ZERO);
    }
}
