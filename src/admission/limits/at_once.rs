//! Whether a bound on attempts in flight is what limits, as refusals or as headers show it.
//!
//! Such a bound refuses only where about as many are in flight as it ever took beside another one;
//! a rate refuses at any number. Where headers tell of it, what they say is used is what is in
//! flight, whatever was sent before.

use std::time::Duration;

use crate::admission::moment::Moment;

use super::ends::BEYOND_MINUTE;
use super::shape::MINUTE;

/// A refusal is weighed against this number of attempts that were taken,
const WEIGHED: u32 = 30;
/// and may be by a bound in flight where at least this many others were in flight,
const LEAST_BOUND: u32 = 4;
/// and no fewer than this part of what was taken beside: what is on its way does not count upstream
/// yet.
const NEAR: f64 = 0.85;
/// Refusals in a row that a bound must explain before it is believed. As many snapshots in a row
/// may contradict one that headers showed.
const BELIEVED: u32 = 2;
/// Snapshots in a row that show a bound in flight: what was used is what was in flight, and
/// something became free since the one before.
const PROOF: u32 = 4;
/// What is used is at least this in such a snapshot: one or two alone are used of any limit.
const LEAST_SHOWN: f64 = 3.0;

/// What speaks for a bound in flight.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AtOnce {
    /// The most others that were in flight beside an attempt that was taken, since the last
    /// refusal.
    most: u32,
    /// The attempts that were taken since then.
    taken: u32,
    /// Refusals in a row that a bound explains.
    explained: u32,
}

impl AtOnce {
    /// An attempt was taken, beside which `in_flight` others were.
    pub(super) fn taken(&mut self, in_flight: u32) {
        self.most = self.most.max(in_flight);
        self.taken = self.taken.saturating_add(1);
    }

    /// Counts anew from here on.
    pub(super) fn restart(&mut self) {
        (self.most, self.taken) = (0, 0);
    }

    /// An attempt was refused, beside which `in_flight` others were: whether a bound is believed to
    /// be what refuses.
    pub(super) fn explains(&mut self, in_flight: u32) -> bool {
        let fits = in_flight >= LEAST_BOUND && f64::from(in_flight) >= f64::from(self.most) * NEAR;
        self.explained = match (self.taken >= WEIGHED, fits) {
            (true, true) => self.explained + 1,
            (true, false) => 0,
            // Too little was taken since the last one to tell: it is no proof, and no reason to go
            // on without a pause.
            (false, _) => self.explained.min(BELIEVED - 1),
        };
        self.explained >= BELIEVED
    }
}

/// What the headers of one limit show for a bound in flight.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ToldAtOnce {
    /// The first snapshot of the present row, and the last one.
    ends: Option<(Seen, Seen)>,
    /// The most that was used in one of them, and was what was in flight.
    shown: f64,
    /// Those of them that a minute's limit does not explain.
    fits: u32,
    /// Contradictions in a row, once it is believed.
    against: u32,
    believed: bool,
}

/// A snapshot: its time, what was sent by then and what is used in cells, and its reset.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) at: Moment,
    pub(super) sent: f64,
    pub(super) used: f64,
    pub(super) reset: Option<Duration>,
}

impl Seen {
    /// The cells that became free since `before`.
    fn freed_since(self, before: Self) -> f64 {
        self.sent - before.sent - (self.used - before.used)
    }

    /// Whether both say the same of when all is free: those of any other limit change with time.
    fn resets_as(self, other: Self) -> bool {
        match (self.reset, other.reset) {
            (Some(one), Some(other)) => one.abs_diff(other) <= one.max(other) / 10,
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        }
    }
}

impl ToldAtOnce {
    /// Weighs a snapshot of a limit, of an attempt beside which `in_flight` others were.
    pub(super) fn weigh(&mut self, seen: Seen, in_flight: u32, limit: f64) {
        let flying = f64::from(in_flight) + 1.0;
        let tolerance = 1.0 + flying * (1.0 - NEAR);
        let (first, last) = self.ends.unwrap_or((seen, seen));
        // What went together comes in any order: less than what is in flight contradicts nothing.
        if seen.used > flying + tolerance || !seen.resets_as(first) {
            return self.contradicted();
        }
        self.against = 0;
        // An older answer tells nothing of what became free.
        if seen.sent < last.sent {
            return;
        }
        self.ends = Some((first, seen));
        if seen.used < flying - tolerance {
            return;
        }
        let freed = seen.freed_since(first);
        let beyond = freed - seen.at.seconds_since(first.at) / MINUTE * limit * BEYOND_MINUTE;
        // What became free could be used at once again. A window's burst shows nothing, and a use
        // of one is common to many limits.
        if seen.used > 1.0 || beyond > limit / 2.0 {
            self.shown = self.shown.max(seen.used.min(freed));
        }
        // At its end a minute's window frees all at once.
        self.fits = self.fits.saturating_add(u32::from(beyond > limit && seen.used >= LEAST_SHOWN));
        self.believed |= self.fits >= PROOF;
    }

    /// An attempt was refused, beside which `in_flight` others were.
    pub(super) fn refused(&mut self, in_flight: u32, limit: f64) {
        if self.believed && f64::from(in_flight) < limit * NEAR {
            self.contradicted();
        }
    }

    fn contradicted(&mut self) {
        self.against += 1;
        if !self.believed || self.against > BELIEVED {
            *self = Self::default();
        }
    }

    /// Attempts in flight up to which it is tried out: twice what was shown.
    pub(super) fn tries(&self) -> f64 {
        self.shown * 2.0
    }

    /// Whether it is proven.
    pub(super) fn is_believed(&self) -> bool {
        self.believed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_refuses_at_its_top_and_a_rate_anywhere() {
        let outcome = |refused_at: [u32; 3]| {
            let mut filter = AtOnce::default();
            refused_at.map(|refused| {
                (0..100).for_each(|step| filter.taken(step % 20));
                let explains = filter.explains(refused);
                filter.restart();
                explains
            })
        };
        assert_eq!(outcome([20, 19, 20]), [false, true, true]);
        assert_eq!(outcome([20, 12, 20]), [false, false, false]);
        assert_eq!(outcome([3, 3, 3]), [false, false, false]);
    }

    #[test]
    fn refusals_one_after_the_other_stop_everything() {
        let mut filter = AtOnce::default();
        for _ in 0..2 {
            (0..100).for_each(|_| filter.taken(20));
            filter.explains(20);
            filter.restart();
        }
        assert!(!filter.explains(20), "nothing was taken in between");
    }

    /// What headers that reset after a second show of a limit of 20, which is asked by as many as
    /// are tried, for `rounds` of half a second; `used` says what is used of it by the seconds, by
    /// what was sent in this round and by all that was sent.
    fn is_shown(rounds: u32, used: impl Fn(f64, f64, f64) -> f64) -> bool {
        let (mut told, mut sent) = (ToldAtOnce::default(), 0.0);
        for round in 0..rounds {
            let seconds = f64::from(round) / 2.0;
            for in_flight in 0..20 {
                if in_flight > 0 && f64::from(in_flight) >= told.tries().min(20.0) {
                    break;
                }
                sent += 1.0;
                let used = used(seconds, f64::from(in_flight) + 1.0, sent);
                let at = Moment::START.plus_seconds(seconds);
                told.weigh(Seen { at, sent, used, reset: Some(Duration::from_secs(1)) }, in_flight, 20.0);
            }
        }
        told.is_believed()
    }

    #[test]
    fn what_is_used_shows_a_bound_in_flight_and_no_window_does() {
        assert!(is_shown(60, |_, in_flight, _| in_flight));
        assert!(!is_shown(60, |_, _, _| 1.0), "headers from a cache");
        assert!(!is_shown(60, |_, _, sent| sent.min(20.0)), "a minute's window");
        let window = std::cell::Cell::new((0.0, 0.0));
        let of_three_seconds = |seconds: f64, _, sent: f64| {
            if seconds >= window.get().0 + 3.0 {
                window.set((seconds, sent - 1.0));
            }
            (sent - window.get().1).min(20.0)
        };
        assert!(!is_shown(60, of_three_seconds), "windows of three seconds");
    }
}
