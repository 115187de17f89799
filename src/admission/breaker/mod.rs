//! The circuit breaker of one scope. It opens on failures, never on slow but healthy answers and
//! never on backpressure.
//!
//! - **Closed → Open**, on any of: `consecutive` failures in a row (more where the failure rate
//!   before makes such a run likely by chance); as many among the attempts that began after the
//!   first of them was seen, so that late successes of attempts sent before an outage do not hide
//!   it; 97 % of at least 60 attempts failing within 10 s; a stall: no response head for `stall` or
//!   four times the typical time, while at least three attempts and half of those in flight wait
//!   for one.
//! - **Open**: only probes pass, the first after `probe_first`, then with exponential backoff.
//!   Waiting requests wait for `outage.max_wait` from the opening.
//! - **Open → `HalfOpen`**: any good answer that is news: its attempt began after the first failure
//!   was seen, probe or not. A stall is ended by any good answer at all.
//! - **`HalfOpen`**: attempts pass at a rising rate. It starts at the rate before the outage times
//!   the part that the outage's length justifies (`recovery::start`), and doubles each second.
//! - **`HalfOpen` → Closed**: the rate has passed twice the rate before the outage, and either what
//!   waits is a small burst at this rate, or the upstream has gone on for seconds at all that the
//!   limits give. This comes while requests wait, too.
//! - **`HalfOpen` → Open**: `consecutive` failures in a row.
//! - **Closed**, failing in part: retries are thinned out from a third failing on.

mod opening;
mod recovery;
mod state;
mod window;

#[cfg(test)]
mod tests;

use std::time::Duration;

use super::moment::{Moment, duration};
use super::settings::BreakerSettings;
use crate::retry::Health;

use recovery::{Ramp, backoff, ceiling};
pub use state::BreakerState;
pub(crate) use state::{Gate, Load};
use window::Window;

/// The attempts for each success up to which retries are not thinned: none is denied below a third
/// failing.
const PER_SUCCESS: f64 = 1.5;

/// The breaker of one scope. Its fields lie as they are written, as those of the scope.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Breaker {
    /// Failures of attempts that began before this say nothing about the present state.
    changed: Moment,
    /// While open: a good answer ends the outage if its attempt began at this moment or later.
    news_from: Moment,
    next_at: Moment,
    quiet_since: Moment,
    typical_head: Option<f64>,
    headless: u32,
    /// Failures since the last success arrived.
    run: Run,
    /// Failures since the last success of an attempt that began after the first of them failed: the
    /// successes of what was on the way when an outage began don't hide it.
    wave: Run,
    state: State,
    window: Window,
    opened: u64,
    /// Requests a second that the limits allow, as of the last look while half open.
    pace: Option<f64>,
}

/// An outage that goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outage {
    /// When the first attempt that failed began.
    pub(crate) since: Moment,
    /// When the breaker opened: how long requests wait counts from here.
    pub(crate) opened: Moment,
    /// When the upstream is asked next.
    pub(crate) next_probe: Moment,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed,
    Open(Open),
    HalfOpen { since: Moment, opened: Moment, ramp: Ramp, probes: u32 },
}

#[derive(Clone, Copy, Debug)]
struct Open {
    /// When the first attempt that failed began.
    since: Moment,
    opened: Moment,
    next_probe: Moment,
    probes: u32,
    /// When the newest probe went.
    last: Moment,
    /// Attempts a second before the outage.
    before: f64,
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
            news_from: Moment::START,
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

    /// Whether an attempt may go now. `pace` is what the limits allow a second; `load` is what
    /// waits and flies.
    pub(crate) fn gate(
        &mut self,
        settings: &BreakerSettings,
        pace: impl FnOnce() -> Option<f64>,
        load: Load,
        now: Moment,
    ) -> Gate {
        if !settings.enabled {
            // It may have been turned off while it blocked.
            self.state = State::Closed;
            return Gate::Pass;
        }
        self.watch_stall(settings, load.in_flight, now);
        match self.state {
            State::Closed => Gate::Pass,
            State::Open(open) if open.next_probe > now => Gate::Blocked(open.next_probe),
            State::Open(_) => Gate::Probe,
            State::HalfOpen { ramp, .. } => {
                self.pace = pace();
                if ramp.is_over(load.waiting, self.pace, now) {
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

    /// An attempt passed the gate.
    pub(crate) fn passed(&mut self, probe: bool, settings: &BreakerSettings, now: Moment) {
        self.window.bin(now).begun += 1;
        self.wave.starts = self.wave.starts.saturating_add(1);
        match self.state {
            State::Open(open) if probe => {
                // The next one does not wait for this one's answer: it may never come.
                let typical = duration(self.typical_head.unwrap_or_default() * 2.0);
                let longest = settings.probe_longest.max(settings.probe_first);
                let patience = typical.max(ceiling(open.probes + 1, now.since(open.since), settings));
                let next_probe = now.plus(patience.min(longest));
                self.state = State::Open(Open { next_probe, probes: open.probes + 1, last: now, ..open });
            }
            State::Closed | State::Open(_) => {}
            State::HalfOpen { ramp, .. } => {
                let rate = ramp.rate(now).min(self.pace.unwrap_or(f64::INFINITY));
                self.next_at = self.next_at.max(now).plus_seconds(1.0 / rate);
            }
        }
    }

    /// A probe ended without a verdict: given back, or its caller left.
    fn probe_lost(&mut self, now: Moment) {
        if let State::Open(open) = &mut self.state {
            open.next_probe = now;
        }
    }

    /// The chance with which a retry is denied: what is failing in part gets fewer of them.
    pub(crate) fn denies_retries(&self, settings: &BreakerSettings, now: Moment) -> f64 {
        if settings.enabled && matches!(self.state, State::Closed) { self.thinning(now) } else { 0.0 }
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
        if let (State::Open(open), Health::Alive) = (self.state, health)
            && began >= self.news_from
        {
            let lasted = now.since(open.since);
            let ramp = Ramp::after(open.before, lasted, now);
            let Open { since, opened, probes, .. } = open;
            self.change(State::HalfOpen { since, opened, ramp, probes }, now);
            self.window.bin(now).alive += 1;
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
            Health::Alive | Health::Failing if stale && !(probe && matches!(self.state, State::Open(_))) => {
                return;
            }
            Health::Alive => self.window.bin(now).alive += 1,
            Health::Failing => self.window.failed(now),
        }
        match self.state {
            State::Closed => self.count(health, began, settings, rng, now),
            // An older probe's end says nothing that its silence did not.
            State::Open(open) if probe && began >= open.last => {
                let next_probe = now.plus(backoff(open.probes, now.since(open.since), settings, rng));
                self.state = State::Open(Open { next_probe, ..open });
            }
            State::Open(_) => {}
            State::HalfOpen { since, opened, ramp, probes } => {
                if health == Health::Alive {
                    self.run = Run::default();
                    return;
                }
                if self.run.failures == 0 {
                    self.run = Run { began, seen: now, ..Run::default() };
                }
                self.run.failures += 1;
                let enough = settings.consecutive.max(1);
                if self.run.failures >= enough {
                    // After as many good answers it had been back, and this is another outage: what
                    // waits does so from its own opening.
                    let was_back = self.window.counts(now).0 >= enough;
                    let (since, opened, probes) = if was_back {
                        (self.run.began.max(self.changed), now, 0)
                    } else {
                        (since, opened, probes)
                    };
                    let next_probe = now.plus(backoff(probes, now.since(since), settings, rng));
                    self.news_from = self.run.seen;
                    let before = ramp.before;
                    self.open(Open { since, opened, next_probe, probes, last: now, before }, now);
                }
            }
        }
    }

    /// How it stands, while `waiting` requests wait.
    pub(crate) fn state(&self, waiting: usize, now: Moment) -> BreakerState {
        match self.state {
            State::Closed if self.thinning(now) > 0.0 => BreakerState::Thinning,
            State::Closed => BreakerState::Closed,
            State::Open(_) => BreakerState::Open,
            State::HalfOpen { ramp, .. } if ramp.is_over(waiting, self.pace, now) => BreakerState::Closed,
            State::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    /// The outage that goes on while it is open.
    pub(crate) fn outage(&self) -> Option<Outage> {
        match self.state {
            State::Open(Open { since, opened, next_probe, .. }) => Some(Outage { since, opened, next_probe }),
            State::Closed | State::HalfOpen { .. } => None,
        }
    }

    /// How often it has blocked.
    pub(crate) fn opened(&self) -> u64 {
        self.opened
    }

    /// How long heads usually take.
    pub(crate) fn typical_head(&self) -> Option<Duration> {
        self.typical_head.map(duration)
    }

    /// Another replica's attempts have failed for this time. Who has had a good answer within the
    /// last two seconds knows better.
    pub(crate) fn failing_elsewhere(
        &mut self,
        lasted: Duration,
        settings: &BreakerSettings,
        rng: &mut fastrand::Rng,
        now: Moment,
    ) {
        if settings.enabled && matches!(self.state, State::Closed) && self.window.counts_of(2, now).0 == 0 {
            let next_probe = now.plus(backoff(0, lasted, settings, rng));
            self.news_from = now;
            self.begin_outage(now.minus(lasted), next_probe, now);
        }
    }

    /// Another replica has had a good answer: it is worth a probe.
    pub(crate) fn recovered_elsewhere(&mut self, now: Moment) {
        if let State::Open(open) = &mut self.state {
            open.next_probe = open.next_probe.min(now);
        }
    }

    /// Opens it at the first failures of an outage that began at `since`.
    fn begin_outage(&mut self, since: Moment, next_probe: Moment, now: Moment) {
        let before = self.window.begun_a_second(now);
        self.open(Open { since, opened: now, next_probe, probes: 0, last: now, before }, now);
    }

    fn open(&mut self, open: Open, now: Moment) {
        self.opened += 1;
        self.change(State::Open(open), now);
    }

    fn change(&mut self, state: State, now: Moment) {
        self.state = state;
        self.changed = now;
        self.run = Run::default();
        self.wave = Run::default();
        self.next_at = now;
        self.window = Window::default();
    }

    /// The part of the retries to deny, by the SRE book's client-side throttling.
    fn thinning(&self, now: Moment) -> f64 {
        if !self.window.has_failures(now) {
            return 0.0;
        }
        let (alive, failing) = self.window.counts(now);
        let total = f64::from(alive + failing);
        if total < 20.0 {
            return 0.0;
        }
        ((total - PER_SUCCESS * f64::from(alive)) / (total + 1.0)).max(0.0)
    }
}
