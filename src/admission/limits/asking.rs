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
/// How often it is asked at most where no reset is told.
const UNTOLD: Duration = Duration::from_secs(2);

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
    not_before: Moment,
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
            not_before: Moment::START,
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

    /// The newest snapshot: its reset and what it leaves; nothing where what they mean is known.
    /// And the longest reset so far, in seconds.
    pub(super) fn told(
        &mut self,
        unknown: Option<(Option<Duration>, Left)>,
        longest: f64,
        times: &Times,
        now: Moment,
    ) {
        if times.sent >= self.asked {
            self.asked = Moment::NEVER;
        }
        self.free = match unknown {
            _ if longest > LONGEST.as_secs_f64() || now < self.not_before => Moment::NEVER,
            Some((Some(reset), _)) if reset > LONGEST => Moment::NEVER,
            // What is said to be left is there, until a refusal shows otherwise.
            Some((_, Left::Most)) if self.not_before == Moment::START => now,
            Some((Some(reset), _)) => {
                // Without a processing time it may have been admitted as late as its head came.
                times.refused().plus((reset + EDGE).max(FIRST_WAIT))
            }
            // Where that is wrong, the refusal is the last for long.
            Some((None, Left::Some | Left::Nothing)) => now.plus(UNTOLD),
            Some((None, Left::Most)) | None => Moment::NEVER,
        };
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
        if let Some(hint) = hint.filter(|hint| asked && *hint <= LONGEST && !self.misled) {
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
        asking.told(Some((Some(Duration::from_secs_f64(reset)), Left::Nothing)), reset, &times, head);
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
