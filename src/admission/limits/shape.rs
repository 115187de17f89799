//! What the headers give away about the limiter: how long its window is, and by which rule it
//! counts.

use std::collections::VecDeque;
use std::time::Duration;

use crate::admission::moment::{Moment, duration};

use super::LEAST_SPAN;
use super::ends::{self, Ends, Told, usual};
use super::own::Own;
use super::sliding::{self, Sliding};

/// A bucket of a shorter window is too shallow for what random delays make of any pace.
pub(super) const MINUTE: f64 = 60.0;
/// A limit of a longer window is not shaped: a day's worth may be used in an hour.
pub(super) const HOUR: f64 = 3600.0;
const DAY: f64 = 86_400.0;
const MONTH: f64 = 30.0 * DAY;
/// The windows that limits are stated for, in seconds.
const WINDOWS: [f64; 4] = [MINUTE, HOUR, DAY, MONTH];
/// Shorter ones that limits are counted by most often.
const SHORT_WINDOWS: [f64; 2] = [1.0, 10.0];
/// How far a derived window may be from a stated one. Headers are whole units and milliseconds.
pub(super) const TOLERANCE: f64 = 0.1;
/// A shorter reset is mostly rounding.
pub(super) const SHORTEST_RESET: Duration = Duration::from_millis(10);
/// Snapshots that must agree before the shape is believed.
const ENOUGH: usize = 3;
/// Snapshots remembered.
const MEMORY: usize = 8;
/// How much the used amounts of agreeing snapshots must differ: a fixed window's derived value
/// changes by more than this when its used amount does, so it cannot agree with itself by chance.
const SPREAD: f64 = 1.5;
/// With fewer used, a window of any length is mostly rounding.
const LEAST_USED: f64 = 3.0;
/// What milliseconds and delays are off by, as a part of a window.
const ROUNDED: f64 = 0.02;
/// What shows that a window is shorter: more than this number of limits,
const TWICE: f64 = 2.1;
/// taken in one of these spans, in seconds.
const SPANS: [f64; 7] = [1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 55.0];
/// Snapshots for telling windows apart are at least so far apart, so that time shows between them.
const APART: Duration = Duration::from_millis(500);

/// The rule by which a limiter counts, as far as its headers prove it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum Rule {
    /// Not proven.
    #[default]
    Unknown,
    /// A bucket as deep as its window.
    Bucket,
    /// A bucket much shallower than that.
    Shallow,
    /// A counter that starts again with each window.
    Fixed,
    /// A log of the last window.
    Log,
}

/// Evidence from snapshots of one dimension. The fields lie as they are written, as those of the
/// scope.
#[derive(Clone, Debug, Default)]
#[repr(C)]
pub(crate) struct Shape {
    /// The window that the upstream names, in seconds: no other is looked for.
    told: Option<f64>,
    bucket: Option<f64>,
    /// The longest that two snapshots in a row bear out.
    longest_reset: f64,
    last_reset: f64,
    /// When the newest of those that lie apart was.
    last_apart: Option<Moment>,
    against: u32,
    rule: Rule,
    /// (used, derived window in seconds), newest last, while no bucket is proven.
    seen: VecDeque<(f64, f64)>,
    /// Snapshots some time apart, newest last.
    apart: VecDeque<Apart>,
    /// What speaks for a window shorter than any that limits are stated for, while no bucket is
    /// proven.
    ends: Ends,
    sliding: Sliding,
    /// A window that is longer would have taken less than the upstream took, in seconds; and the
    /// limit for which that holds. 0 before.
    most: (f64, f64),
}

#[derive(Clone, Copy, Debug)]
struct Apart {
    at: Moment,
    used: f64,
    remaining: f64,
    limit: f64,
    reset: f64,
}

impl Shape {
    /// Weighs one snapshot, which describes the moment `at`.
    pub(crate) fn observe(&mut self, limit: u64, remaining: u64, reset: Option<Duration>, at: Moment) {
        let used = limit.saturating_sub(remaining) as f64;
        let Some(reset) = reset.filter(|reset| *reset >= SHORTEST_RESET && used > 0.0) else { return };
        let reset = reset.as_secs_f64();
        if reset > MONTH * (1.0 + TOLERANCE) {
            return;
        }
        // One odd reset does not make a day of a minute.
        self.longest_reset = self.longest_reset.max(reset.min(self.last_reset));
        self.last_reset = reset;
        self.weigh_bucket(used, reset * limit as f64 / used);
        if self.last_apart.is_none_or(|last| at.since(last) >= APART) {
            self.last_apart = Some(at);
            if self.apart.len() == MEMORY {
                self.apart.pop_front();
            }
            let (limit, remaining) = (limit as f64, remaining as f64);
            self.apart.push_back(Apart { at, used, remaining, limit, reset });
            self.rule = self.told_apart().unwrap_or(self.rule);
        }
    }

    /// The upstream names its window, in seconds.
    pub(crate) fn tell_window(&mut self, window: f64) {
        *self = Self { told: Some(window), ..Self::default() };
    }

    /// The window that it names.
    pub(crate) fn told_window(&self) -> Option<f64> {
        self.told
    }

    /// The window of a true bucket, in seconds, once the snapshots prove that it is one.
    pub(crate) fn bucket(&self) -> Option<f64> {
        self.bucket
    }

    /// Whether the end of such a reset may tell of the window.
    pub(super) fn weighs_end(&self, reset: Duration) -> bool {
        let longest = reset.as_secs_f64().max(self.longest_reset);
        self.seeks_window() && reset >= SHORTEST_RESET && self.ends.weighs(longest)
    }

    /// Weighs the end of a snapshot's reset, while the window is not known.
    pub(super) fn weigh_end(&mut self, told: Told, own_since: impl Fn(Moment) -> f64) {
        self.ends.observe(told, own_since);
    }

    /// Any limiter takes two limits at once at most, and then one in each window: of a longer
    /// window it would have taken less.
    pub(super) fn took_too_much(&mut self, limit: f64, own: &Own<'_>, trip: f64, now: Moment) {
        if self.most.1.total_cmp(&limit).is_ne() {
            self.most = (f64::INFINITY, limit);
        }
        for span in SPANS.into_iter().rev() {
            let taken = own.taken_requests(duration(span), now) / limit;
            // A shorter span holds no more.
            if taken <= TWICE + 1.0 / limit {
                break;
            }
            self.most.0 = self.most.0.min((span + trip * 2.0) / (taken - 1.0));
        }
    }

    /// The longest window that what was taken allows, in seconds.
    pub(super) fn at_most(&self) -> f64 {
        if self.most.1 > 0.0 { self.most.0 } else { f64::INFINITY }
    }

    /// Whether no window of a minute took what was taken.
    pub(super) fn is_short(&self) -> bool {
        self.at_most() < ends::LONGEST
    }

    /// Whether the window is looked for.
    pub(super) fn seeks_window(&self) -> bool {
        self.bucket.is_none() && self.told.is_none()
    }

    /// A window shorter than any that limits are stated for, in seconds, once the snapshots prove
    /// it.
    pub(crate) fn short(&self) -> Option<f64> {
        self.ends.window()
    }

    /// Whether they prove a bucket, or a short window.
    pub(crate) fn is_known(&self) -> bool {
        self.bucket.is_some() || self.short().is_some()
    }

    /// The longest reset that two snapshots in a row bear out, in seconds.
    pub(crate) fn longest_reset(&self) -> f64 {
        self.longest_reset
    }

    /// The part of an assumed window that the resets bear out, or that of a second where there is
    /// none; 1 where the window is known.
    pub(super) fn assumed_part(&self, window: f64) -> f64 {
        if self.is_known() || self.told.is_some() {
            return 1.0;
        }
        let longest = self.longest_reset.max(self.last_reset);
        ((if longest > 0.0 { longest } else { 1.0 }) / window).min(1.0)
    }

    /// The rule that the snapshots prove.
    pub(crate) fn rule(&self) -> Rule {
        // A sliding counter never takes more in a window than a log, and frees cells as a log does.
        let found = if self.rule == Rule::Fixed && self.slides() { Rule::Log } else { self.rule };
        if self.bucket.is_some() { Rule::Bucket } else { found }
    }

    /// Whether it is a sliding counter: cells become free within its window.
    pub(super) fn slides(&self) -> bool {
        self.bucket.is_none() && self.sliding.slides()
    }

    /// Weighs the report of a limit of requests, which are counted exactly, while no bucket is
    /// proven.
    pub(super) fn weigh_left(&mut self, report: sliding::Report) {
        self.sliding.observe(report, self.longest_reset);
    }

    /// The shortest stated window that the resets allow, in seconds: no reset is longer than its
    /// window. Or the one that is told. The longest reset of a counter is its window, as soon as
    /// one has begun.
    pub(crate) fn at_least(&self) -> f64 {
        let longest = self.longest_reset;
        let allowed = |window: &f64| longest <= window * (1.0 + TOLERANCE);
        let stated = || WINDOWS.into_iter().find(allowed).unwrap_or(MONTH);
        let is_odd = self.is_counter() && longest > MINUTE * (1.0 + TOLERANCE) && longest <= HOUR;
        self.told.or(is_odd.then_some(longest)).unwrap_or_else(stated)
    }

    /// Whether it is proven to count anew from time to time.
    pub(super) fn is_counter(&self) -> bool {
        self.bucket.is_none() && self.rule == Rule::Fixed
    }

    fn weigh_bucket(&mut self, used: f64, derived: f64) {
        match self.bucket {
            Some(window) if near(derived, window, 1.0 / used) => self.against = 0,
            Some(_) => {
                self.against += 1;
                if self.against >= 3 {
                    self.bucket = None;
                    self.against = 0;
                }
            }
            None => {
                if self.seen.len() == MEMORY {
                    self.seen.pop_front();
                }
                self.seen.push_back((used, derived));
                self.bucket = self.agreed();
                if self.bucket.is_some() {
                    self.seen.clear();
                }
            }
        }
    }

    fn agreed(&self) -> Option<f64> {
        // `remaining` is rounded to a whole unit: with few used, the true value lies between
        // used − 1 and used.
        let agree = |window: &f64, enough: usize, rounding: f64| {
            let is_near = |&&(used, derived): &&(f64, f64)| near(derived, *window, rounding / used);
            let agreeing = || self.seen.iter().filter(is_near);
            let least = agreeing().map(|seen| seen.0).fold(f64::INFINITY, f64::min);
            let most = agreeing().map(|seen| seen.0).fold(0.0, f64::max);
            let count = agreeing().count();
            count >= enough && count * 4 >= self.seen.len() * 3 && most >= least * SPREAD
        };
        if let Some(told) = self.told {
            return Some(told).filter(|told| agree(told, ENOUGH, 1.0));
        }
        // Of little used nearly any reset suits a bucket of some length, and so do those of a
        // window that is shorter.
        let rival = self.ends.likely();
        let stated = stated_windows().filter(|window| rival >= *window);
        let stated = stated.into_iter().find(|window| agree(window, ENOUGH, 1.0));
        // Of any other the fullest says most, and one more has to agree: it may be chance.
        let other = || {
            let fullest = self.seen.iter().max_by(|one, other| one.0.total_cmp(&other.0));
            let &(used, derived) = fullest.filter(|(used, _)| *used >= LEAST_USED)?;
            Some(window_of(used, derived)).filter(|window| agree(window, ENOUGH + 1, 1.0))
        };
        stated.or_else(other)
    }

    fn told_apart(&self) -> Option<Rule> {
        let (first, last) = (self.apart.front()?, self.apart.back()?);
        if self.apart.len() < ENOUGH || last.at.seconds_since(first.at) < LEAST_SPAN {
            return None;
        }
        let window = self.at_least();
        let spread = |value: &dyn Fn(&Apart) -> f64| {
            let values = || self.apart.iter().map(value);
            (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max))
        };
        let (earliest_end, latest_end) = spread(&|seen| seen.at.seconds_since(Moment::START) + seen.reset);
        let (shortest, longest) = spread(&|seen| seen.reset);
        let (least_depth, most_depth) = spread(&|seen| seen.remaining + seen.reset * seen.limit / window);
        if latest_end - earliest_end < 0.5 {
            Some(Rule::Fixed)
        } else if shortest >= window * 0.9 && self.apart.iter().any(|seen| seen.used < seen.limit * 0.9) {
            Some(Rule::Log)
        } else if longest < window * 0.25
            && most_depth - least_depth <= most_depth * 0.1 + 1.5
            && most_depth < last.limit * 0.5
        {
            Some(Rule::Shallow)
        } else {
            None
        }
    }
}

/// The windows that most limits are counted by, in seconds.
fn stated_windows() -> impl Iterator<Item = f64> {
    SHORT_WINDOWS.into_iter().chain(WINDOWS)
}

/// The window of a bucket from what is used of it, in whole cells, and from what is derived.
fn window_of(used: f64, derived: f64) -> f64 {
    let usual = usual(derived * (1.0 - ROUNDED), derived * (1.0 + ROUNDED + 1.0 / used));
    usual.unwrap_or(derived * (1.0 + 0.5 / used))
}

/// Whether a derived window is near a stated one, on a log scale; `rounding` loosens it downward,
/// for a derived value can only be too small by rounding.
fn near(derived: f64, window: f64, rounding: f64) -> bool {
    let low = window * (1.0 - TOLERANCE - rounding.min(0.5));
    (low..=window * (1.0 + TOLERANCE)).contains(&derived)
}

#[cfg(test)]
#[expect(
    clippy::float_cmp,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "whole numbers, kept exactly"
)]
mod tests {
    use super::*;

    fn feed(shape: &mut Shape, limit: u64, used: u64, reset: f64, at: f64) {
        let at = Moment::START.plus_seconds(at);
        shape.observe(limit, limit - used, Some(Duration::from_secs_f64(reset)), at);
    }

    #[test]
    fn three_agreeing_snapshots_prove_a_bucket() {
        for window in WINDOWS {
            let mut shape = Shape::default();
            for used in [10_u64, 20, 30] {
                assert_eq!(shape.bucket(), None);
                feed(&mut shape, 10_000, used, used as f64 * window / 10_000.0, 0.0);
            }
            assert_eq!(shape.bucket(), Some(window));
        }
    }

    #[test]
    fn a_fixed_window_is_never_taken_for_a_bucket() {
        for rate in [5.0, 8.0, 9.8, 10.0, 10.2] {
            let mut shape = Shape::default();
            for step in 1..5400_u32 {
                let into = f64::from(step % 600) / 10.0;
                let used = ((rate * into) as u64).clamp(1, 600);
                feed(&mut shape, 600, used, 60.0 - into, f64::from(step) / 10.0);
                assert_eq!(shape.bucket(), None, "rate {rate}, step {step}");
                assert!(matches!(shape.rule(), Rule::Unknown | Rule::Fixed), "{:?}", shape.rule());
            }
            assert_eq!(shape.rule(), Rule::Fixed);
            assert_eq!(shape.at_least(), MINUTE);
        }
    }

    #[test]
    fn a_bucket_of_any_window_is_proven() {
        for (window, limit, exact) in
            [(1.0, 10_u64, true), (0.5, 5, true), (20.0, 60, true), (7.3, 50, false)]
        {
            let mut shape = Shape::default();
            for used in (1..=limit).cycle().take(20) {
                let level = used as f64 - 0.4;
                feed(&mut shape, limit, used, level * window / limit as f64, 0.0);
            }
            let found = shape.bucket().unwrap();
            assert!(
                if exact && window >= 1.0 { found == window } else { near(found, window, 0.0) },
                "{found}"
            );
        }
    }

    #[test]
    fn a_log_and_a_shallow_bucket_are_told_apart() {
        let mut log = Shape::default();
        let mut shallow = Shape::default();
        for step in 1..300_u32 {
            let at = f64::from(step) / 10.0;
            feed(&mut log, 600, u64::from(step), 59.9, at);
            let level = f64::from(step % 7) + 1.0;
            feed(&mut shallow, 600, 590 + level as u64, level / 10.0, at);
        }
        assert_eq!(log.rule(), Rule::Log);
        assert_eq!(shallow.rule(), Rule::Shallow);
    }

    #[test]
    fn a_reset_longer_than_a_minute_excludes_the_minute() {
        let mut shape = Shape::default();
        feed(&mut shape, 100, 2, 864.0, 0.0);
        assert_eq!(shape.at_least(), MINUTE, "one alone proves nothing");
        feed(&mut shape, 100, 3, 900.0, 0.0);
        assert_eq!(shape.at_least(), HOUR);
        feed(&mut shape, 100, 50, 43_200.0, 1.0);
        feed(&mut shape, 100, 51, 44_000.0, 1.0);
        assert_eq!(shape.at_least(), DAY);
    }

    #[test]
    fn contradictions_withdraw_the_belief() {
        let mut shape = Shape::default();
        for used in [10_u64, 20, 30] {
            feed(&mut shape, 600, used, used as f64 / 10.0, 0.0);
        }
        assert_eq!(shape.bucket(), Some(MINUTE));
        for used in [40_u64, 50, 60] {
            feed(&mut shape, 600, used, 55.0, 0.1);
        }
        assert_eq!(shape.bucket(), None);
    }
}
