//! The pace of a scope of which no limit is known: it starts gently and follows refusals alone.
//!
//! Until the first refusal it grows: twofold each second at first, then carefully, for it is now known that no header will
//! tell. A refusal stops everything; single probes ask, with growing pauses, whether the limiter lets through again. Then the
//! pace restarts from what was accepted in the last minute, which is the limit itself if the limiter counts by the minute. When
//! refusals some time apart agree on the rate between them, the search is over and the pace stays just below it.

use std::time::Duration;

use crate::scope::moment::{Moment, duration};

use super::bucket::Bucket;
use super::sent_log::SentLog;
use super::{Charge, Unit};

/// The first rate, in requests a second, and the first bound on requests in flight.
const FIRST_RATE: f64 = 10.0;
const FIRST_IN_FLIGHT: f64 = 10.0;
/// Both grow with each such span without a refusal,
const STEP: Duration = Duration::from_secs(1);
/// by this factor at first,
const FIRST_GROWTH: f64 = 2.0;
/// and by this one after so many answers without a header.
const LATER_GROWTH: (f64, u32) = (1.1, 16);
/// From this rate on the scope counts as unlimited.
const UNLIMITED: f64 = 100_000.0;
/// After a refusal the pace restarts from this part of what was accepted.
const DECREASE: f64 = 0.95;
/// Where the limiter lets through again at once, it refills by the second: the pace grows by this factor a second, up to half
/// of what was accepted before.
const RECOVERY: f64 = 1.25;
/// Else it grows by this part of itself in each span.
const INCREASE: (f64, Duration) = (0.02, Duration::from_secs(5));
/// Refusals at least so far apart say what rate lies between them.
const BASELINE: Duration = Duration::from_secs(25);
/// The pace below a rate that refusals agree on.
const BELOW: f64 = 0.975;
/// A settled pace is not raised again for so long: each time costs a few refusals.
const SETTLED: Duration = Duration::from_mins(30);
/// Never slower than a request in half a minute.
const SLOWEST: f64 = 1.0 / 30.0;
const WINDOW: Duration = Duration::from_mins(1);

/// The pace without any knowledge of limits.
#[derive(Debug)]
pub(crate) struct Ramp {
    unit: Unit,
    pacer: Bucket,
    rate: f64,
    in_flight: f64,
    phase: Phase,
    /// The last change of the rate.
    changed: Moment,
    /// Whether the rate, and the bound on requests in flight, held anything back since then.
    binding: (bool, bool),
    answers: u32,
    accepted: [SentLog; 2],
    began: Option<Moment>,
    /// When the last refusal's episode began, and what had been accepted by then.
    episode: Option<(Moment, f64)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// No refusal yet.
    Growing,
    /// Refused: one probe at a time, the next at a moment, after so many that were refused too.
    Probing { next: Moment, out: bool, refused: u32 },
    /// Going again; up to this rate fast, then carefully.
    Searching { fast_until: f64 },
    /// The rate is known.
    Settled { until: Moment },
}

impl Ramp {
    pub(crate) fn new(now: Moment) -> Self {
        Self {
            unit: Unit::Requests,
            pacer: Bucket::new(FIRST_RATE, FIRST_RATE),
            rate: FIRST_RATE,
            in_flight: FIRST_IN_FLIGHT,
            phase: Phase::Growing,
            changed: now,
            binding: (false, false),
            answers: 0,
            accepted: [SentLog::default(), SentLog::default()],
            began: None,
            episode: None,
        }
    }

    /// How long until `charge` may go; `None` where one in flight must end first.
    pub(crate) fn wait(&self, charge: Charge, in_flight: u32, now: Moment) -> Option<Duration> {
        match self.phase {
            Phase::Growing if self.rate >= UNLIMITED => Some(Duration::ZERO),
            Phase::Growing if f64::from(in_flight) >= self.in_flight => None,
            Phase::Probing { out: true, .. } => None,
            Phase::Probing { next, .. } => Some(next.since(now)),
            Phase::Growing | Phase::Searching { .. } | Phase::Settled { .. } => {
                Some(self.pacer.wait(self.cells(charge), now))
            }
        }
    }

    pub(crate) fn take(&mut self, charge: Charge, in_flight: u32, now: Moment) {
        self.began.get_or_insert(now);
        if let Phase::Probing { out, .. } = &mut self.phase {
            *out = true;
        }
        self.pacer.take(self.cells(charge), now);
        // Half of what is allowed is in use: it is what holds, or soon will.
        self.binding.0 |= self.pacer.used(now) > self.pacer.burst() * 0.5;
        self.binding.1 |= f64::from(in_flight) > self.in_flight * 0.5;
    }

    pub(crate) fn give_back(&mut self, charge: Charge, now: Moment) {
        if let Phase::Probing { out, .. } = &mut self.phase {
            *out = false;
        }
        self.pacer.credit(self.cells(charge) as f64, now);
    }

    /// An attempt that was sent at `sent` was answered without a refusal.
    pub(crate) fn accepted(&mut self, charge: Charge, sent: Moment, now: Moment) {
        self.answers = self.answers.saturating_add(1);
        self.accepted[0].add(charge.requests as f64, now);
        self.accepted[1].add(charge.tokens as f64, now);
        if let Phase::Probing { refused, .. } = self.phase {
            // What was sent before the refusal proves nothing.
            if self.episode.is_none_or(|(at, _)| sent >= at) {
                let fast_until = if refused == 0 { self.rate_before(now) * 0.5 } else { 0.0 };
                self.phase = Phase::Searching { fast_until };
                self.changed = now;
                self.reshape(now);
            }
        } else {
            self.grow(now);
        }
    }

    /// An attempt that was sent at `sent` was refused without numbers.
    pub(crate) fn refused(&mut self, unit: Unit, sent: Moment, rng: &mut fastrand::Rng, now: Moment) {
        match self.phase {
            Phase::Probing { refused, .. } if self.episode.is_some_and(|(at, _)| sent >= at) => {
                let next = now.plus(pause(refused + 1, rng));
                self.phase = Phase::Probing { next, out: false, refused: refused + 1 };
                return;
            }
            Phase::Probing { .. } => return,
            Phase::Growing | Phase::Searching { .. } | Phase::Settled { .. } => {}
        }
        // What was sent before the last episode ended is old news.
        if sent < self.changed && self.episode.is_some() {
            return;
        }
        if unit != self.unit {
            self.unit = unit;
            self.episode = None;
        }
        let total = self.log().total();
        let last_minute = total - self.log().before(now.minus(WINDOW));
        let by_minute = last_minute / WINDOW.as_secs_f64();
        let between = self.episode.and_then(|(at, then)| {
            (now.since(at) >= BASELINE).then(|| (total - then) / now.seconds_since(at))
        });
        self.rate = match between {
            Some(between) => {
                let whole_minute = self.began.is_some_and(|began| now.since(began) >= WINDOW);
                let rate = if whole_minute { between.min(by_minute) } else { between };
                rate * BELOW
            }
            None => self.rate.min(by_minute.max(self.rate * 0.1)) * DECREASE,
        }
        .max(SLOWEST);
        let next = now.plus(pause(0, rng));
        self.episode = Some((now, total));
        self.phase = match between {
            Some(_) => Phase::Settled { until: now.plus(SETTLED) },
            None => Phase::Probing { next, out: false, refused: 0 },
        };
        self.changed = now;
        self.reshape(now);
    }

    /// Requests a second at the present pace, where one holds.
    pub(crate) fn rate(&self) -> Option<f64> {
        (self.rate < UNLIMITED && self.unit == Unit::Requests).then_some(self.rate)
    }

    /// Seconds until `ahead` and then `charge` have passed.
    pub(crate) fn predict(&self, ahead: Charge, charge: Charge, now: Moment) -> f64 {
        if self.rate >= UNLIMITED || matches!(self.phase, Phase::Growing) {
            return 0.0;
        }
        let (ahead, cells) = (self.cells(ahead) as f64, self.cells(charge) as f64);
        (self.pacer.used(now) + ahead + cells - self.pacer.burst()) / self.rate
    }

    fn cells(&self, charge: Charge) -> u64 {
        match self.unit {
            Unit::Requests => charge.requests,
            Unit::Tokens => charge.tokens,
        }
    }

    fn log(&self) -> &SentLog {
        match self.unit {
            Unit::Requests => &self.accepted[0],
            Unit::Tokens => &self.accepted[1],
        }
    }

    /// What was accepted a second, from the beginning to the last refusal.
    fn rate_before(&self, now: Moment) -> f64 {
        let (until, total) = self.episode.unwrap_or((now, self.log().total()));
        let since = self.began.unwrap_or(until).max(until.minus(WINDOW));
        (total - self.log().before(since)) / until.seconds_since(since).max(1.0)
    }

    fn grow(&mut self, now: Moment) {
        let (factor, span) = match self.phase {
            Phase::Growing if self.rate >= UNLIMITED => return,
            Phase::Growing if self.answers <= LATER_GROWTH.1 => (FIRST_GROWTH, STEP),
            Phase::Growing => (LATER_GROWTH.0, STEP),
            Phase::Searching { fast_until } if self.rate < fast_until => (RECOVERY, STEP),
            Phase::Searching { .. } => (1.0 + INCREASE.0, INCREASE.1),
            Phase::Settled { until } if now >= until => {
                self.phase = Phase::Searching { fast_until: 0.0 };
                return;
            }
            Phase::Probing { .. } | Phase::Settled { .. } => return,
        };
        if self.binding != (false, false) && now.since(self.changed) >= span {
            if self.binding.0 {
                self.rate *= factor;
            }
            if self.binding.1 {
                self.in_flight *= factor;
            }
            self.changed = now;
            self.binding = (false, false);
            self.reshape(now);
        }
    }

    fn reshape(&mut self, now: Moment) {
        let burst = match self.phase {
            Phase::Growing => self.rate,
            Phase::Probing { .. } | Phase::Searching { .. } | Phase::Settled { .. } => {
                (self.rate * 0.5).max(1.0)
            }
        };
        self.pacer.reshape(self.rate, burst, now);
    }
}

/// A pause after a refusal that named no time: growing, with jitter.
pub(crate) fn pause(count: u32, rng: &mut fastrand::Rng) -> Duration {
    let base = 0.5 * f64::from(2_u32.saturating_pow(count.min(5)));
    duration(base * (0.75 + 0.5 * rng.f64()))
}
