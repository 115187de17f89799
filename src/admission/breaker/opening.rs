//! What opens a closed breaker: failures in a row, in a wave or at a rate, and silence.

use std::time::Duration;

use crate::admission::moment::{Moment, duration};
use crate::admission::settings::BreakerSettings;
use crate::retry::Health;

use super::recovery::backoff;
use super::{Breaker, Run, State};

/// A run of failures must be less likely by chance than this to block.
const CHANCE: f64 = 1e-6;
/// The failure rate that blocks, and the least attempts that it is measured over.
const BLOCKING_RATE: (f64, u32) = (0.97, 60);
/// A wave of failures must be at least this part of what began since.
const WAVE: f64 = 0.8;
/// Attempts that must be without a head before their silence counts as a stall.
const STALLED: u32 = 3;
/// The part of the attempts in flight that must be without a head for it: an upstream whose other
/// answers go on is no stall.
const STALLED_PART: f64 = 0.5;

impl Breaker {
    /// Opens it where nothing was answered for too long.
    pub(super) fn watch_stall(&mut self, settings: &BreakerSettings, in_flight: u32, now: Moment) {
        // No silence is a stall before that, whatever heads take.
        let silent = now.is_after(self.quiet_since, settings.stall);
        if silent && self.stall_at(settings, in_flight).is_some_and(|at| now >= at) {
            self.news_from = Moment::START;
            self.begin_outage(self.quiet_since, now.plus(settings.probe_first), now);
        }
    }

    /// When a stall would be noticed, if nothing comes before.
    pub(crate) fn stall_at(&self, settings: &BreakerSettings, in_flight: u32) -> Option<Moment> {
        let watches = matches!(self.state, State::Closed | State::HalfOpen { .. });
        let most_are_silent =
            self.headless >= STALLED && f64::from(self.headless) >= f64::from(in_flight) * STALLED_PART;
        (settings.enabled && watches && most_are_silent)
            .then(|| self.quiet_since.plus(self.patience(settings)))
    }

    fn patience(&self, settings: &BreakerSettings) -> Duration {
        // Where heads normally take a while, silence means less; where nothing was ever answered,
        // even less.
        match self.typical_head {
            Some(typical) => settings.stall.max(duration(typical * 4.0)),
            None => settings.stall * 4,
        }
    }

    /// Counts the end of an attempt while it is closed, and opens it where failures are no
    /// accident.
    pub(super) fn count(
        &mut self,
        health: Health,
        began: Moment,
        settings: &BreakerSettings,
        rng: &mut fastrand::Rng,
        now: Moment,
    ) {
        if health == Health::Alive {
            self.run = Run::default();
            if began >= self.wave.seen {
                self.wave = Run::default();
            }
            return;
        }
        for run in [&mut self.run, &mut self.wave] {
            if run.failures == 0 && run.seen == Moment::START {
                *run = Run { failures: 0, began, seen: now, starts: 0 };
            }
        }
        self.run.failures += 1;
        if began >= self.wave.seen {
            self.wave.failures += 1;
        }
        let in_a_row = self.run.failures >= self.needed(self.run.failures, settings, now);
        let in_a_wave = self.wave.failures >= self.needed(self.wave.failures, settings, now)
            && f64::from(self.wave.failures) >= f64::from(self.wave.starts) * WAVE;
        let (alive, failing) = self.window.counts(now);
        let total = alive + failing;
        let rate = total >= BLOCKING_RATE.1 && f64::from(failing) >= f64::from(total) * BLOCKING_RATE.0;
        if in_a_row || in_a_wave || rate {
            let since = self.wave.began.max(self.changed);
            let next_probe = now.plus(backoff(0, now.since(since), settings, rng));
            self.news_from = self.wave.seen;
            self.begin_outage(since, next_probe, now);
        }
    }

    /// Failures in a row that are no accident, given how many failed before this run of them.
    fn needed(&self, run: u32, settings: &BreakerSettings, now: Moment) -> u32 {
        let (alive, failing) = self.window.counts(now);
        let (before, of) = (failing.saturating_sub(run), (alive + failing).saturating_sub(run));
        let likely = if of >= 5 { f64::from(before) / f64::from(of) } else { 0.0 };
        let least = settings.consecutive.max(1);
        if likely <= 0.0 {
            return least;
        }
        let needed = (CHANCE.ln() / likely.min(0.97).ln()).ceil();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and 454")]
        least.max(needed as u32)
    }
}
