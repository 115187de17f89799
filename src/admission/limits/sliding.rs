//! Tells a sliding counter from a fixed window. Both report the ends of clock windows; but a
//! sliding counter also counts a part of the window before, which becomes free while the window
//! lasts.

use std::time::Duration;

use crate::admission::moment::Moment;

use super::ends::{BEYOND_CELLS, TOGETHER};

/// The part of a window after which freed cells count as evidence. The resets of a log move on by
/// more than [`TOGETHER`] in this time, so that a log never gets here.
const EVIDENCE_AFTER: f64 = 0.3;
/// The part of the limit that must become free within a window, beyond rounding.
const FREED: f64 = 0.02;
/// Limits per window, the fastest that a sliding counter can free cells. At its end a fixed window
/// frees more.
const FASTEST: f64 = 2.0;

/// The report of one response, in cells.
#[derive(Clone, Copy, Debug)]
pub(super) struct Report {
    /// The moment that the report describes.
    pub(super) at: Moment,
    pub(super) reset: Duration,
    pub(super) limit: f64,
    pub(super) remaining: f64,
    /// All cells that this Weir had sent by then.
    pub(super) sent: f64,
    /// The sent cells that the upstream may not have counted yet.
    pub(super) on_its_way: f64,
}

/// Watches for cells that become free within a window.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sliding {
    window: Option<Window>,
    slides: bool,
}

/// The present window, as its reports describe it.
#[derive(Clone, Copy, Debug)]
struct Window {
    /// The first report's moment, and the end that it gave.
    first: Moment,
    end: Moment,
    limit: f64,
    /// The capacity by the lowest and by the last report: see [`Report::capacity`].
    lowest: f64,
    last: f64,
    last_at: Moment,
}

impl Report {
    /// The cells left plus all cells ever sent. Within a fixed window it is constant, or falls
    /// where others use the limit too; it rises only where cells become free.
    fn capacity(&self) -> f64 {
        self.remaining + self.sent
    }

    fn window(&self) -> Window {
        let capacity = self.capacity();
        Window {
            first: self.at,
            end: self.at.plus(self.reset),
            limit: self.limit,
            lowest: capacity,
            last: capacity,
            last_at: self.at,
        }
    }
}

impl Sliding {
    /// Whether cells were seen to become free within a window.
    pub(super) fn slides(&self) -> bool {
        self.slides
    }

    /// Weighs one report; `longest` is the longest reset so far, in seconds.
    pub(super) fn observe(&mut self, report: Report, longest: f64) {
        let Some(window) = &mut self.window else {
            self.window = Some(report.window());
            return;
        };
        if report.at < window.last_at {
            return;
        }
        let longest = longest.max(report.reset.as_secs_f64());
        let is_over = report.at > window.end;
        if report.limit.total_cmp(&window.limit).is_ne() {
            // Reports of another limit, such as another region's, say nothing of this window. From
            // its end on they are the only ones.
            if is_over {
                self.window = Some(report.window());
            }
            return;
        }
        let slack = report.on_its_way + BEYOND_CELLS;
        let moved = report.at.plus(report.reset).seconds_since(Moment::START)
            - window.end.seconds_since(Moment::START);
        if is_over || moved.abs() > longest * TOGETHER {
            let passed = report.at.since(window.last_at).as_secs_f64();
            if report.capacity() - window.last > report.limit * FASTEST * passed / longest + slack {
                self.slides = false;
            }
            self.window = Some(report.window());
            return;
        }
        let passed = report.at.since(window.first).as_secs_f64();
        let freed = report.capacity() - window.lowest;
        self.slides |= passed >= longest * EVIDENCE_AFTER && freed > report.limit * FREED + slack;
        window.lowest = window.lowest.min(report.capacity());
        (window.last, window.last_at) = (report.capacity(), report.at);
    }
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small whole numbers")]
mod tests {
    use super::*;

    /// The use of a limiter `at` seconds after its start, from the times of the requests that it
    /// took.
    type Used = fn(at: f64, taken: &[f64]) -> f64;

    /// The length of a window, in seconds.
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

    /// Whether a limiter of 50 per window is taken for a sliding counter, when a request is sent
    /// every `every` seconds while it takes one. The resets of a log end when its oldest request
    /// leaves it.
    fn slides(used: Used, log: bool, every: f64) -> bool {
        let (mut seen, mut taken, mut at) = (Sliding::default(), Vec::new(), 0.05);
        while at < 100.0 {
            if used(at, &taken) + 1.0 <= 50.0 {
                taken.push(at);
                let oldest = taken.iter().copied().find(|then| at - then < WINDOW).unwrap_or(at);
                let end = if log { oldest + WINDOW } else { begin(at) + WINDOW };
                seen.observe(
                    Report {
                        at: Moment::START.plus_seconds(at),
                        reset: Duration::from_secs_f64(end - at),
                        limit: 50.0,
                        remaining: f64::from((50.0 - used(at, &taken)) as u32),
                        sent: taken.len() as f64,
                        on_its_way: 0.0,
                    },
                    WINDOW,
                );
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

    fn report(at: f64, limit: f64, remaining: f64, sent: f64) -> Report {
        Report {
            at: Moment::START.plus_seconds(at),
            reset: Duration::from_secs_f64(begin(at) + WINDOW - at),
            limit,
            remaining,
            sent,
            on_its_way: 0.0,
        }
    }

    #[test]
    fn a_window_that_frees_all_at_once_is_no_sliding_counter() {
        let mut seen = Sliding::default();
        seen.observe(report(1.0, 100.0, 90.0, 10.0), WINDOW);
        // Something gave five back.
        seen.observe(report(9.0, 100.0, 45.0, 60.0), WINDOW);
        assert!(seen.slides());
        seen.observe(report(10.1, 100.0, 99.0, 61.0), WINDOW);
        assert!(!seen.slides());
    }

    #[test]
    fn a_limit_that_changes_is_watched_from_the_next_window_on() {
        let mut seen = Sliding::default();
        seen.observe(report(1.0, 100.0, 90.0, 10.0), WINDOW);
        // Of another limit, in the same window.
        seen.observe(report(9.0, 300.0, 250.0, 60.0), WINDOW);
        assert!(!seen.slides());
        for at in [11.0, 19.0] {
            seen.observe(report(at, 300.0, 150.0, at * 10.0), WINDOW);
        }
        assert!(seen.slides());
    }
}
