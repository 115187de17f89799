//! The length of a window shorter than a minute, found from when its resets end.
//!
//! Any limiter may reset soon, and mostly does so because little is used of it. A window is found
//! where the resets say the same for long: those of a counter end together and then a window later,
//! and that of a log ends when the oldest of what it counts is as old as the window.

use std::time::Duration;

use crate::admission::moment::Moment;

use super::LimitReport;
use super::limit::Limit;
use super::own::Own;
use super::shape::{MINUTE, TOLERANCE};

/// A longer window is taken for a minute, in seconds.
pub(super) const LONGEST: f64 = MINUTE * (1.0 - TOLERANCE);
/// Resets that end within this part of the longest one end together.
pub(super) const TOGETHER: f64 = 0.25;
/// The next window ends after at least and at most this many of the longest reset.
const NEXT: (f64, f64) = (0.9, 1.15);
/// Ends that show a window: what was used was free again, the resets had become shorter as time
/// passed, and one more for each that follows another.
const PROOF: u32 = 3;
/// The used cells count as free again when the use falls to this part of the last report's.
const HALF: f64 = 0.5;
/// What was freed is more than a bucket of a minute would have freed by this factor,
pub(super) const BEYOND_MINUTE: f64 = 1.2;
/// and by this number of cells.
pub(super) const BEYOND_CELLS: f64 = 2.0;
/// A reset that ends together with one that came this part of it before has become shorter.
const SHORTER: f64 = 0.05;
/// Windows are mostly of these lengths, in seconds.
const USUAL: [f64; 12] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 10.0, 12.0, 15.0, 20.0, 30.0, 45.0];
/// Ages that differ by less than this part are the same.
const SAME_AGE: f64 = 0.1;
/// A log is found where this many ages agree,
const AGES: u32 = 8;
/// while the ends of its resets moved on by this part of the age, each by less than half of it,
const MOVED: (f64, f64) = (0.1, 0.5);
/// and the resets differed by this part of it.
const SPREAD: f64 = 0.3;

/// What a snapshot says, in cells and in seconds from the start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    pub(super) at: f64,
    pub(super) used: f64,
    pub(super) limit: f64,
    /// Seconds until it is said to be free.
    pub(super) reset: f64,
    /// The longest reset so far: no window is shorter.
    pub(super) longest: f64,
    /// All of our own by then.
    pub(super) own: f64,
    /// How long ago the oldest of our own was sent that is among what is used.
    pub(super) age: f64,
}

impl Told {
    /// Whether a bucket of a minute has such a reset; `used` is rounded up.
    fn is_of_minute(&self) -> bool {
        let each = MINUTE / self.limit;
        ((self.used - 1.0) * each * 0.95..=self.used * each * 1.05).contains(&self.reset)
    }
}

/// What the ends of the resets say of the window.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ends {
    turns: Option<Turns>,
    ages: Option<Ages>,
    /// In seconds.
    found: Option<f64>,
    /// Longer resets in a row that contradict it.
    against: u32,
}

/// Resets that end together, again and again.
#[derive(Clone, Copy, Debug)]
struct Turns {
    began: Told,
    last: Told,
    /// When those of the present window end, and when the first of them came.
    end: f64,
    first: f64,
    shortened: bool,
    longest: f64,
    window: f64,
    points: u32,
}

/// Ages at which what is used is free again.
#[derive(Clone, Copy, Debug)]
struct Ages {
    first: f64,
    longest: f64,
    ends: (f64, f64),
    resets: (f64, f64),
    seen: u32,
}

/// A usual length of windows between these, in seconds.
pub(super) fn usual(least: f64, most: f64) -> Option<f64> {
    USUAL.into_iter().find(|window| (least..=most).contains(window))
}

impl Ends {
    /// The window, in seconds.
    pub(super) fn window(&self) -> Option<f64> {
        self.found
    }

    /// The window for which anything speaks, in seconds; infinite without one.
    pub(super) fn likely(&self) -> f64 {
        let of_turns = self.turns.map(|turns| turns.window);
        self.found.or(of_turns).unwrap_or(f64::INFINITY)
    }

    /// Whether a reset can change anything; `longest` is the longest so far, in seconds.
    pub(super) fn weighs(&self, longest: f64) -> bool {
        longest <= LONGEST || self.turns.is_some() || self.found.is_some()
    }

    /// Weighs one snapshot. `own_since` says how much of our own was sent after a moment, by then.
    pub(super) fn observe(&mut self, told: Told, own_since: impl Fn(Moment) -> f64) {
        if let Some(window) = self.found {
            // Two in a row: one odd reset is no longer window.
            self.against = if told.reset > window * NEXT.1 { self.against + 1 } else { 0 };
            if self.against >= 2 {
                *self = Self::default();
            }
            return;
        }
        if told.reset.max(told.longest) > LONGEST {
            *self = Self::default();
            return;
        }
        self.turns = Some(match self.turns {
            Some(turns) => turns.observe(told, own_since),
            None => Turns::new(told),
        });
        self.ages = Some(match self.ages {
            Some(ages) => ages.observe(told),
            None => Ages::new(told),
        });
        let of_turns = self.turns.and_then(|turns| turns.window());
        self.found = of_turns.or_else(|| self.ages.and_then(|ages| ages.window()));
    }
}

impl Turns {
    fn new(told: Told) -> Self {
        Self {
            began: told,
            last: told,
            end: told.at + told.reset,
            first: told.at,
            shortened: false,
            longest: told.longest.max(told.reset),
            window: f64::INFINITY,
            points: 0,
        }
    }

    fn observe(self, told: Told, own_since: impl Fn(Moment) -> f64) -> Self {
        // It tells of what was before.
        if told.at < self.last.at {
            return self;
        }
        let longest = self.longest.max(told.reset);
        let moved = told.at + told.reset - self.end;
        if moved.abs() <= longest * TOGETHER {
            let passed = told.at - self.first;
            let shortened = self.shortened || passed >= longest * SHORTER && moved.abs() <= passed * 0.2;
            return Self { last: told, longest, shortened, ..self };
        }
        // At its end a sliding counter of few cells frees a part of them.
        let freed = told.used <= own_since(Moment::START.plus_seconds(self.end)) + 0.5
            || told.used <= (self.last.used * HALF).min(self.last.used - BEYOND_CELLS);
        let points = u32::from(freed) + u32::from(self.shortened);
        if moved < longest * NEXT.0 || points == 0 {
            return Self::new(told);
        }
        let next = Self { last: told, end: told.at + told.reset, first: told.at, shortened: false, ..self };
        // Of windows that nothing was sent in nothing is known.
        if moved > longest * NEXT.1 {
            return Self { longest, ..next };
        }
        Self { longest, window: self.window.min(moved), points: self.points + points + 1, ..next }
    }

    fn window(&self) -> Option<f64> {
        let (began, last) = (&self.began, &self.last);
        let freed = last.own - began.own - (last.used - began.used);
        let of_a_minute = last.limit * (last.at - began.at) / MINUTE;
        let proven = self.points >= PROOF && freed > of_a_minute * BEYOND_MINUTE + BEYOND_CELLS;
        let window = usual(self.longest, self.window).unwrap_or(self.window);
        Some(window).filter(|window| proven && *window <= LONGEST)
    }
}

impl Ages {
    fn new(told: Told) -> Self {
        let end = told.at + told.reset;
        let age = told.age + told.reset;
        Self { first: age, longest: age, ends: (end, end), resets: (told.reset, told.reset), seen: 1 }
    }

    fn observe(self, told: Told) -> Self {
        let (age, end) = (told.age + told.reset, told.at + told.reset);
        let moved = end - self.ends.1;
        let agrees = (age / self.first - 1.0).abs() <= SAME_AGE
            && (-SAME_AGE * self.first..=MOVED.1 * self.first).contains(&moved);
        if !agrees {
            return Self::new(told);
        }
        Self {
            first: self.first,
            longest: self.longest.max(age),
            ends: (self.ends.0, self.ends.1.max(end)),
            resets: (self.resets.0.min(told.reset), self.resets.1.max(told.reset)),
            // A bucket of a minute would say the same.
            seen: self.seen.saturating_add(u32::from(!told.is_of_minute())),
        }
    }

    fn window(&self) -> Option<f64> {
        let proven = self.seen >= AGES
            && self.ends.1 - self.ends.0 >= self.first * MOVED.0
            && self.resets.1 - self.resets.0 >= self.first * SPREAD;
        Some(self.longest).filter(|age| proven && *age <= LONGEST)
    }
}

impl Limit {
    /// Whether a bucket of a minute would have such a reset.
    pub(super) fn fits_a_minute(&self, report: &LimitReport) -> bool {
        let used = self.stated - report.remaining as f64;
        let fits =
            |reset: Duration| (0.5..=1.1).contains(&(reset.as_secs_f64() * self.stated / used / MINUTE));
        report.reset.is_some_and(fits)
    }

    /// Looks for the window by when the resets end.
    pub(super) fn weigh_end(
        &mut self,
        report: &LimitReport,
        reset: Duration,
        cells: u64,
        own: &Own<'_>,
        mark: f64,
        at: Moment,
    ) {
        let used = report.limit.saturating_sub(report.remaining) as f64;
        let oldest = own.sent_last(used - self.bounded(cells) as f64 / 2.0, mark);
        let all = own.until(mark);
        let told = Told {
            at: at.seconds_since(Moment::START),
            used,
            limit: report.limit as f64,
            reset: reset.as_secs_f64(),
            longest: self.shape.longest_reset(),
            own: all,
            age: at.seconds_since(oldest),
        };
        // What was on its way when a window ended counts in the next one.
        let way = self.outward * 2.0;
        self.shape.weigh_end(told, |end| all - own.log.before(end.minus_seconds(way)) * own.ratio);
    }
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small whole numbers")]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// A limiter that is asked at some moments: what its headers then say.
    #[derive(Clone, Copy, Debug)]
    enum Counts {
        /// In windows of the clock, the first of which is over to this part.
        Clock(f64),
        /// In windows that begin with their first request.
        First,
        /// As a sliding counter: the window before counts by the part of the present one that is
        /// left.
        Sliding(f64),
        /// In a log.
        Log,
        /// In a log, and says that a second is left.
        Lie,
        /// In a bucket.
        Bucket,
    }

    /// The window that is found of a limiter which is asked about every `pace` seconds, after ten
    /// at once, and once more whenever it says that all is free; and when it is found.
    fn find(
        counts: Counts,
        limit: f64,
        window: f64,
        pace: f64,
        rng: &mut fastrand::Rng,
    ) -> Option<(f64, f64)> {
        let (mut ends, mut taken) = (Ends::default(), VecDeque::<f64>::new());
        let (mut own, mut all, mut began, mut level, mut last) = (0.0, VecDeque::<f64>::new(), 0.0, 0.0, 0.0);
        let (mut now, mut next, mut free) = (0.0_f64, 0.0, f64::INFINITY);
        let (mut longest, mut before, mut weighed) = (0.0_f64, 0.0, 0.0);
        if let Counts::Clock(part) | Counts::Sliding(part) = counts {
            began = -part * window;
        }
        while now < 300.0 {
            let burst = own < 10.0_f64.min(limit);
            let over = now >= began + window;
            match counts {
                Counts::Sliding(_) if over => {
                    weighed = if now < began + window * 2.0 { taken.len() as f64 } else { 0.0 };
                    began += ((now - began) / window).floor() * window;
                    taken.clear();
                }
                Counts::Clock(_) if over => {
                    began += ((now - began) / window).floor() * window;
                    taken.clear();
                }
                Counts::First if over => {
                    began = now;
                    taken.clear();
                }
                Counts::Log | Counts::Lie => {
                    while taken.front().is_some_and(|then| now - then >= window) {
                        taken.pop_front();
                    }
                }
                Counts::Clock(_) | Counts::Sliding(_) | Counts::First | Counts::Bucket => {}
            }
            level = (level - (now - last) * limit / window).max(0.0) + 1.0;
            last = now;
            let counted = weighed * (began + window - now) / window;
            if taken.len() as f64 + counted + 1.0 <= limit {
                taken.push_back(now);
                all.push_back(now);
                own += 1.0;
                let (used, reset) = match counts {
                    Counts::Sliding(_) => ((taken.len() as f64 + counted).ceil(), began + window - now),
                    Counts::Clock(_) | Counts::First => (taken.len() as f64, began + window - now),
                    Counts::Log => (taken.len() as f64, taken[0] + window - now),
                    Counts::Lie => (taken.len() as f64, 1.0),
                    Counts::Bucket => (level.ceil(), level * window / limit),
                };
                let age = now - all[all.len() - (used as usize).clamp(1, all.len())];
                longest = longest.max(reset.min(before));
                before = reset;
                let told = Told { at: now + 1000.0, used, limit, reset, longest, own, age };
                let since = |moment: Moment| {
                    let moment = moment.seconds_since(Moment::START) - 1000.0;
                    all.iter().filter(|at| **at >= moment).count() as f64
                };
                ends.observe(told, since);
                if let Some(found) = ends.window() {
                    return Some((found, now));
                }
                free = now + reset + 0.03;
            }
            if !burst {
                next = if now >= next { now + pace * (0.5 + rng.f64()) } else { next };
                now = next.min(if free > now { free } else { f64::INFINITY });
            }
        }
        None
    }

    #[test]
    fn windows_shorter_than_a_minute_are_found_soon() {
        for (counts, limit, window) in [
            (Counts::Clock(0.0), 10.0, 1.0),
            (Counts::Clock(0.37), 50.0, 10.0),
            (Counts::Clock(0.9), 100.0, 20.0),
            (Counts::First, 10.0, 1.0),
            (Counts::First, 50.0, 10.0),
            (Counts::First, 20.0, 2.0),
            (Counts::Log, 10.0, 1.0),
            (Counts::Log, 50.0, 10.0),
            (Counts::Log, 100.0, 20.0),
        ] {
            let mut rng = fastrand::Rng::with_seed(1);
            let (found, after) = find(counts, limit, window, 60.0 / limit, &mut rng).unwrap();
            assert!((found / window - 1.0).abs() < 0.05, "{counts:?} {limit} {window}: {found}");
            assert!(after < window * 2.1, "{counts:?} {limit} {window}: after {after} s");
        }
    }

    #[test]
    fn a_minute_is_no_shorter_window() {
        let mut rng = fastrand::Rng::with_seed(1);
        for limit in [3.0, 10.0, 60.0, 100.0] {
            for pace in
                [0.5, 0.75, 0.9, 1.0, 1.1, 1.5, 3.0, 10.0].repeat(5).iter().map(|part| part * 60.0 / limit)
            {
                for counts in [
                    Counts::Clock(0.0),
                    Counts::Clock(0.7),
                    Counts::Clock(0.98),
                    Counts::Sliding(0.7),
                    Counts::First,
                    Counts::Log,
                    Counts::Lie,
                    Counts::Bucket,
                ] {
                    assert_eq!(find(counts, limit, 60.0, pace, &mut rng), None, "{counts:?} {limit} {pace}");
                }
            }
        }
    }
}
