//! The breaker of one scope: it blocks, probes, and lets go at a rising pace; at partial failure it thins attempts out.

mod health;
mod recovery;
mod state;
mod window;

use std::time::Duration;

use super::moment::{Moment, duration};
use super::settings::BreakerSettings;

pub(crate) use health::{Health, health};
use recovery::{backoff, ceiling, release_rate};
pub use state::BreakerState;
pub(crate) use state::Gate;
use window::{BINS, Window};

/// A run of failures must be less likely by chance than this to block.
const CHANCE: f64 = 1e-6;
/// A failure rate blocks from here on, over at least so many attempts.
const BLOCKING_RATE: (f64, u32) = (0.97, 60);
/// Retries are thinned as if so many attempts a success were welcome: none is denied below a third failing.
const PER_SUCCESS_OF_RETRIES: f64 = 1.5;
/// First attempts are thinned only past three quarters failing: held back, they pile up, where a denied retry does not.
const PER_SUCCESS: f64 = 4.0;
/// The most that thinning holds back.
const THINNEST: f64 = 0.75;
/// From this many times the rate before the outage on, the release is over.
const RELEASED: f64 = 2.0;
/// A wave of failures must be at least this part of what began since.
const WAVE: f64 = 0.8;
/// Attempts that must be without a head before their silence counts as a stall.
const STALLED: u32 = 3;

/// The breaker of one scope. Its fields lie as they are written, as those of the scope.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Breaker {
    /// Outcomes of attempts that began before this say nothing about the present state.
    changed: Moment,
    next_at: Moment,
    quiet_since: Moment,
    typical_head: Option<f64>,
    headless: u32,
    /// Failures since the last success arrived.
    run: Run,
    /// Failures since the last success of an attempt that began after the first of them failed: the successes of what was
    /// on the way when an outage began don't hide it.
    wave: Run,
    state: State,
    window: Window,
    opened: u64,
    /// What the limits allow a second, during a release.
    pace: Option<f64>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed,
    /// `last` is when the newest probe went.
    Open {
        since: Moment,
        next_probe: Moment,
        probes: u32,
        last: Moment,
        before: f64,
    },
    Releasing {
        since: Moment,
        began: Moment,
        before: f64,
        probes: u32,
    },
}

/// Failures without a success between them; none were seen while `seen` is the start of time.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    failures: u32,
    /// When the first failed attempt began.
    began: Moment,
    /// When its failure was seen.
    seen: Moment,
    /// Attempts begun since then.
    starts: u32,
}

impl Breaker {
    pub(crate) fn new(now: Moment) -> Self {
        Self {
            state: State::Closed,
            changed: now,
            run: Run::default(),
            wave: Run::default(),
            window: Window::default(),
            next_at: now,
            pace: None,
            headless: 0,
            quiet_since: now,
            typical_head: None,
            opened: 0,
        }
    }

    /// Whether an attempt may go now. `pace` is what the limits allow a second: a release stays within it, and is over when
    /// nothing waits any more.
    pub(crate) fn gate(
        &mut self,
        settings: &BreakerSettings,
        pace: impl FnOnce() -> Option<f64>,
        waiting: bool,
        now: Moment,
    ) -> Gate {
        if !settings.enabled {
            // It may have been turned off while it blocked.
            self.state = State::Closed;
            return Gate::Pass;
        }
        self.watch_stall(settings, now);
        match self.state {
            State::Closed => {
                if self.next_at > now && self.thinning(PER_SUCCESS, now) > 0.0 {
                    Gate::At(self.next_at)
                } else {
                    Gate::Pass
                }
            }
            State::Open { next_probe, .. } => {
                if next_probe > now {
                    Gate::Blocked(next_probe)
                } else {
                    Gate::Probe
                }
            }
            State::Releasing { began, before, .. } => {
                self.pace = pace();
                if !waiting && release_rate(began, before, now) > before * RELEASED {
                    self.change(State::Closed, now);
                    Gate::Pass
                } else if self.next_at > now {
                    Gate::At(self.next_at)
                } else {
                    Gate::Pass
                }
            }
        }
    }

    /// A request asked for an attempt.
    pub(crate) fn asked(&mut self, now: Moment) {
        self.window.bin(now).asked += 1;
    }

    /// An attempt passed the gate.
    pub(crate) fn passed(&mut self, probe: bool, settings: &BreakerSettings, now: Moment) {
        self.window.bin(now).begun += 1;
        self.wave.starts = self.wave.starts.saturating_add(1);
        match self.state {
            State::Closed => {
                let thinning = self.thinning(PER_SUCCESS, now);
                if thinning > 0.0 {
                    let rate = (self.window.rate_of(|bin| bin.asked, now) * (1.0 - thinning)).max(1.0);
                    self.next_at = self.next_at.max(now).plus_seconds(1.0 / rate);
                }
            }
            State::Open { since, probes, before, .. } if probe => {
                // The next one does not wait for this one's answer: it may never come.
                let typical = duration(self.typical_head.unwrap_or_default() * 2.0);
                let longest = settings.probe_longest.max(settings.probe_first);
                let patience = typical.max(ceiling(probes + 1, now.since(since), settings)).min(longest);
                let next_probe = now.plus(patience);
                self.state = State::Open { since, next_probe, probes: probes + 1, last: now, before };
            }
            State::Open { .. } => {}
            State::Releasing { began, before, .. } => {
                let rate = release_rate(began, before, now).min(self.pace.unwrap_or(f64::INFINITY));
                self.next_at = self.next_at.max(now).plus_seconds(1.0 / rate);
            }
        }
    }

    /// A probe ended without a verdict: given back, or its caller left.
    fn probe_lost(&mut self, now: Moment) {
        if let State::Open { next_probe, .. } = &mut self.state {
            *next_probe = now;
        }
    }

    /// The chance with which a retry is denied: what is failing in part gets fewer of them.
    pub(crate) fn denies_retries(&self, settings: &BreakerSettings, now: Moment) -> f64 {
        if settings.enabled && matches!(self.state, State::Closed) {
            self.thinning(PER_SUCCESS_OF_RETRIES, now)
        } else {
            0.0
        }
    }

    /// The first byte of an attempt goes out.
    pub(crate) fn sent(&mut self, now: Moment) {
        if self.headless == 0 {
            self.quiet_since = now;
        }
        self.headless += 1;
    }

    /// A sent attempt got its head, or ended without one.
    pub(crate) fn no_longer_headless(&mut self, head_after: Option<Duration>, now: Moment) {
        self.headless = self.headless.saturating_sub(1);
        if let Some(after) = head_after {
            self.quiet_since = now;
            let after = after.as_secs_f64();
            self.typical_head = Some(self.typical_head.map_or(after, |typical| typical * 0.9 + after * 0.1));
        }
    }

    /// An attempt ended.
    pub(crate) fn ended(
        &mut self,
        health: Health,
        probe: bool,
        began: Moment,
        settings: &BreakerSettings,
        rng: &mut fastrand::Rng,
        now: Moment,
    ) {
        if !settings.enabled {
            return;
        }
        let stale = began < self.changed;
        match health {
            Health::Unknown => {
                if probe {
                    self.probe_lost(now);
                }
                return;
            }
            // A probe of a stall may end long after the next one was answered.
            Health::Alive | Health::Failing
                if stale && !(probe && matches!(self.state, State::Open { .. })) =>
            {
                return;
            }
            Health::Alive => self.window.bin(now).alive += 1,
            Health::Failing => self.window.failed(now),
        }
        match self.state {
            State::Closed => self.count(health, began, settings, rng, now),
            // An older probe's end says nothing that its silence did not.
            State::Open { last, .. } if probe && health == Health::Failing && began < last => {}
            State::Open { since, probes, last, before, .. } if probe => {
                if health == Health::Alive {
                    self.change(State::Releasing { since, began: now, before, probes }, now);
                } else {
                    let next_probe = now.plus(backoff(probes, now.since(since), settings, rng));
                    self.state = State::Open { since, next_probe, probes, last, before };
                }
            }
            State::Open { .. } => {}
            State::Releasing { since, before, probes, .. } => {
                if health == Health::Alive {
                    self.run = Run::default();
                } else {
                    if self.run.failures == 0 {
                        self.run.began = began;
                    }
                    self.run.failures += 1;
                    let enough = settings.consecutive.max(1);
                    if self.run.failures >= enough {
                        // After as many good answers it had been back, and this is another outage: who waits does so from its
                        // own beginning.
                        let was_back = self.window.counts(now).0 >= enough;
                        let (since, probes) =
                            if was_back { (self.run.began.max(self.changed), 0) } else { (since, probes) };
                        self.open(since, probes, before, settings, rng, now);
                    }
                }
            }
        }
    }

    /// How it stands.
    pub(crate) fn state(&self, now: Moment) -> BreakerState {
        match self.state {
            State::Closed if self.thinning(PER_SUCCESS_OF_RETRIES, now) > 0.0 => BreakerState::Thinning,
            State::Closed => BreakerState::Closed,
            State::Open { .. } => BreakerState::Open,
            State::Releasing { .. } => BreakerState::Releasing,
        }
    }

    /// While it blocks: since when the upstream fails, and when the next probe is.
    pub(crate) fn outage(&self) -> Option<(Moment, Moment)> {
        match self.state {
            State::Open { since, next_probe, .. } => Some((since, next_probe)),
            State::Closed | State::Releasing { .. } => None,
        }
    }

    /// How often it has blocked.
    pub(crate) fn opened(&self) -> u64 {
        self.opened
    }

    /// When a stall would be noticed, if nothing comes before.
    pub(crate) fn stall_at(&self, settings: &BreakerSettings) -> Option<Moment> {
        let closed = matches!(self.state, State::Closed | State::Releasing { .. });
        (settings.enabled && closed && self.headless >= STALLED)
            .then(|| self.quiet_since.plus(self.patience(settings)))
    }

    fn patience(&self, settings: &BreakerSettings) -> Duration {
        // Where heads normally take a while, silence means less; where nothing was ever answered, even less.
        match self.typical_head {
            Some(typical) => settings.stall.max(duration(typical * 4.0)),
            None => settings.stall * 4,
        }
    }

    /// How long heads usually take.
    pub(crate) fn typical_head(&self) -> Option<Duration> {
        self.typical_head.map(duration)
    }

    fn watch_stall(&mut self, settings: &BreakerSettings, now: Moment) {
        // No silence is a stall before that, whatever heads take.
        let silent = now.is_after(self.quiet_since, settings.stall);
        if silent && self.stall_at(settings).is_some_and(|at| now >= at) {
            let before = self.window.rate_of(|bin| bin.begun, now);
            let next_probe = now.plus(settings.probe_first);
            self.opened += 1;
            self.change(
                State::Open { since: self.quiet_since, next_probe, probes: 0, last: now, before },
                now,
            );
        }
    }

    fn count(
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
            let before = self.window.rate_of(|bin| bin.begun, now);
            self.open(self.wave.began.max(self.changed), 0, before, settings, rng, now);
        }
    }

    /// Failures in a row that are no accident, given how many failed before this run of them.
    fn needed(&self, run: u32, settings: &BreakerSettings, now: Moment) -> u32 {
        let likely = [BINS as u64, 3].map(|seconds| {
            let (alive, failing) = self.window.counts_of(seconds, now);
            let (before, of) = (failing.saturating_sub(run), (alive + failing).saturating_sub(run));
            if of >= 5 { f64::from(before) / f64::from(of) } else { 0.0 }
        });
        let likely = likely[0].max(likely[1]);
        let least = settings.consecutive.max(1);
        if likely <= 0.0 {
            return least;
        }
        let needed = (CHANCE.ln() / likely.min(0.97).ln()).ceil();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and 454")]
        least.max(needed as u32)
    }

    fn open(
        &mut self,
        since: Moment,
        probes: u32,
        before: f64,
        settings: &BreakerSettings,
        rng: &mut fastrand::Rng,
        now: Moment,
    ) {
        self.opened += 1;
        let next_probe = now.plus(backoff(probes, now.since(since), settings, rng));
        self.change(State::Open { since, next_probe, probes, last: now, before }, now);
    }

    fn change(&mut self, state: State, now: Moment) {
        self.state = state;
        self.changed = now;
        self.run = Run::default();
        self.wave = Run::default();
        self.next_at = now;
        self.window = Window::default();
    }

    /// The part of the attempts to hold back, by the SRE book's client-side throttling.
    fn thinning(&self, per_success: f64, now: Moment) -> f64 {
        if !self.window.has_failures(now) {
            return 0.0;
        }
        let (alive, failing) = self.window.counts(now);
        let total = f64::from(alive + failing);
        if total < 20.0 {
            return 0.0;
        }
        ((total - per_success * f64::from(alive)) / (total + 1.0)).clamp(0.0, THINNEST)
    }
}
