//! Whether what is used becomes free before the window ends: a sliding counter, which counts a part
//! of the window before, tells of the ends of its windows as a fixed window does.

use std::time::Duration;

use crate::admission::moment::Moment;

/// Resets that end within this part of the longest one end together. Those of a log move on as time
/// passes,
const TOGETHER: f64 = 0.25;
/// so that what becomes free counts only after this part of it.
const PASSED: f64 = 0.3;
/// What became free is more than this part of the limit.
const FREED: f64 = 0.02;
/// What whole numbers and random delays add to it, in cells.
const ROUNDED: f64 = 2.0;
/// A fixed window frees at its end what a sliding counter frees only in this many windows.
const AT_ONCE: f64 = 2.0;

/// What one answer says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Left {
    pub(super) at: Moment,
    pub(super) reset: Duration,
    pub(super) limit: f64,
    pub(super) remaining: f64,
    /// All of our own that was sent by then, in cells.
    pub(super) sent: f64,
    /// What of it may not have arrived by then.
    pub(super) on_its_way: f64,
}

/// The answers of the present window.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sliding {
    present: Option<Present>,
    slides: bool,
}

#[derive(Clone, Copy, Debug)]
struct Present {
    first: Left,
    /// The one after which least was left for all that is sent in the window.
    least: Left,
    last: Left,
    longest: Duration,
}

impl Left {
    /// What the window takes in all, were nothing freed in it.
    fn takes(&self) -> f64 {
        self.remaining + self.sent
    }

    fn end(&self) -> f64 {
        self.at.plus(self.reset).seconds_since(Moment::START)
    }
}

impl Sliding {
    /// Whether what is used was seen to become free within a window.
    pub(super) fn slides(&self) -> bool {
        self.slides
    }

    /// Weighs one answer.
    pub(super) fn observe(&mut self, left: Left) {
        let Some(present) = &mut self.present else {
            self.present = Some(Present { first: left, least: left, last: left, longest: left.reset });
            return;
        };
        // Those of several regions tell of limits of their own.
        if left.at < present.last.at || left.limit.total_cmp(&present.last.limit).is_ne() {
            return;
        }
        let longest = present.longest.max(left.reset).as_secs_f64();
        let moved = left.end() - present.first.end();
        let passed = |since: Left| left.at.since(since.at).as_secs_f64();
        if moved.abs() <= longest * TOGETHER && left.at <= present.first.at.plus(present.first.reset) {
            let freed = left.takes() - present.least.takes();
            self.slides |= passed(present.first) >= longest * PASSED
                && freed > left.limit * FREED + left.on_its_way + ROUNDED;
        } else {
            // What a fixed window frees when it ends is no part of what was there a moment before.
            let freed = left.takes() - present.last.takes();
            let slid = left.limit * AT_ONCE * passed(present.last) / longest;
            if freed > slid + left.on_its_way + ROUNDED {
                self.slides = false;
            }
            (present.first, present.least) = (left, left);
        }
        present.last = left;
        present.longest = present.longest.max(left.reset);
        if left.takes() < present.least.takes() {
            present.least = left;
        }
    }
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small whole numbers")]
mod tests {
    use super::*;

    /// What a limiter of 10 in each window of 10 s counts `at` seconds after its start, given when
    /// requests were taken.
    type Used = fn(at: f64, taken: &[f64]) -> f64;

    const WINDOW: f64 = 10.0;

    fn within(taken: &[f64], from: f64, until: f64) -> f64 {
        taken.iter().filter(|then| (from..until).contains(*then)).count() as f64
    }

    fn begin(at: f64) -> f64 {
        (at / WINDOW).floor() * WINDOW
    }

    fn fixed(at: f64, taken: &[f64]) -> f64 {
        within(taken, begin(at), f64::INFINITY)
    }

    fn sliding(at: f64, taken: &[f64]) -> f64 {
        let begin = begin(at);
        within(taken, begin, f64::INFINITY)
            + within(taken, begin - WINDOW, begin) * (begin + WINDOW - at) / WINDOW
    }

    /// Asks a limiter of 50 every `every` seconds where it takes one more, and says whether it is
    /// taken for a sliding counter. `log` has resets that end when the oldest is free.
    fn slides(used: Used, log: bool, every: f64) -> bool {
        let (mut seen, mut taken, mut at) = (Sliding::default(), Vec::new(), 0.05);
        while at < 100.0 {
            if used(at, &taken) + 1.0 <= 50.0 {
                taken.push(at);
                let oldest = taken.iter().copied().find(|then| at - then < WINDOW).unwrap_or(at);
                let end = if log { oldest + WINDOW } else { begin(at) + WINDOW };
                seen.observe(Left {
                    at: Moment::START.plus_seconds(at),
                    reset: Duration::from_secs_f64(end - at),
                    limit: 50.0,
                    remaining: f64::from((50.0 - used(at, &taken)) as u32),
                    sent: taken.len() as f64,
                    on_its_way: 0.0,
                });
            }
            at += every;
        }
        seen.slides()
    }

    #[test]
    fn a_sliding_counter_is_told_from_a_window_and_a_log() {
        let log: Used = |at, taken| within(taken, at - WINDOW, f64::INFINITY);
        for every in [0.1, 0.15, 0.2, 0.3, 0.7, 1.0] {
            assert!(slides(sliding, false, every), "sliding, every {every} s");
            assert!(!slides(fixed, false, every), "fixed, every {every} s");
            assert!(!slides(log, true, every), "log, every {every} s");
        }
    }

    #[test]
    fn a_window_that_frees_all_at_once_is_none_after_all() {
        let left = |at: f64, reset: f64, remaining: f64, sent: f64| Left {
            at: Moment::START.plus_seconds(at),
            reset: Duration::from_secs_f64(reset),
            limit: 100.0,
            remaining,
            sent,
            on_its_way: 0.0,
        };
        let mut seen = Sliding::default();
        seen.observe(left(1.0, 9.0, 90.0, 10.0));
        // Something gave five back.
        seen.observe(left(9.0, 1.0, 45.0, 60.0));
        assert!(seen.slides());
        seen.observe(left(10.1, 9.9, 99.0, 61.0));
        assert!(!seen.slides());
    }
}
