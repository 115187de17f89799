//! The breaker of one scope: it blocks, probes, and lets go at a rising pace; at partial failure it thins attempts out.

use std::time::Duration;

use crate::classify::ErrorClass;

use super::moment::{Moment, duration};
use super::settings::BreakerSettings;

/// The window of the failure rate: so many bins of a second.
const BINS: usize = 10;
/// A run of failures must be less likely by chance than this to block.
const CHANCE: f64 = 1e-6;
/// A failure rate blocks from here on, over at least so many attempts.
const BLOCKING_RATE: (f64, u32) = (0.97, 60);
/// Thinning lets so many attempts pass per success: none is held back below a third failing.
const PER_SUCCESS: f64 = 1.5;
/// The most that thinning holds back.
const THINNEST: f64 = 0.75;
/// The release starts at this part of the rate before the outage, at least so many a second, and doubles each second.
const RELEASE: (f64, f64) = (0.1, 4.0);
/// From this many times the rate before the outage on, the release is over.
const RELEASED: f64 = 2.0;
/// Attempts that must be without a head before their silence counts as a stall.
const STALLED: u32 = 3;

/// What an attempt's end says about the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// It works.
    Alive,
    /// It fails.
    Failing,
    /// Nothing.
    Unknown,
}

/// What an error says about the upstream's health: an answer that blames the request proves that it works.
pub(crate) fn health(class: ErrorClass) -> Health {
    match class {
        ErrorClass::InternalServerError
        | ErrorClass::Overloaded
        | ErrorClass::BadGateway
        | ErrorClass::ConnectionDns
        | ErrorClass::ConnectionRefused
        | ErrorClass::ConnectionTls
        | ErrorClass::ConnectionReset
        | ErrorClass::TimeoutConnect
        | ErrorClass::TimeoutResponse
        | ErrorClass::OtherServerError
        | ErrorClass::MalformedResponse
        | ErrorClass::StreamError => Health::Failing,
        ErrorClass::AuthenticationInvalid
        | ErrorClass::AuthenticationIncorrectKey
        | ErrorClass::AuthenticationNoOrganization
        | ErrorClass::AuthenticationIpDenied
        | ErrorClass::AuthenticationMissingScope
        | ErrorClass::AuthenticationOther
        | ErrorClass::PermissionDenied
        | ErrorClass::RegionUnsupported
        | ErrorClass::BadRequest
        | ErrorClass::ContextLengthExceeded
        | ErrorClass::NotFound
        | ErrorClass::ModelNotFound
        | ErrorClass::RequestTimeout
        | ErrorClass::Conflict
        | ErrorClass::ConversationLocked
        | ErrorClass::PayloadTooLarge
        | ErrorClass::Unprocessable
        | ErrorClass::RateLimitRequests
        | ErrorClass::RateLimitTokens
        | ErrorClass::RateLimitOther
        | ErrorClass::RequestExceedsLimit
        | ErrorClass::QuotaExhausted
        | ErrorClass::OtherClientError => Health::Alive,
        ErrorClass::SlowDown
        | ErrorClass::ResourceUnavailable
        | ErrorClass::TimeoutIdle
        | ErrorClass::StreamCut
        | ErrorClass::WeirQueueFull
        | ErrorClass::WeirDeadline
        | ErrorClass::WeirBreakerOpen
        | ErrorClass::WeirQuotaBreaker
        | ErrorClass::WeirCallerLimit
        | ErrorClass::WeirCallerUnknown
        | ErrorClass::WeirBodyTooLarge
        | ErrorClass::WeirDraining
        | ErrorClass::WeirClientClosed
        | ErrorClass::WeirInternal => Health::Unknown,
    }
}

/// Whether an attempt may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// It may.
    Pass,
    /// It may, at that moment: the pace is held down.
    At(Moment),
    /// It may, as the one that asks whether the upstream is back.
    Probe,
    /// Nothing may before that moment.
    Blocked(Moment),
}

/// How the breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Everything passes.
    Closed,
    /// A part of the attempts fails: fewer are made.
    Thinning,
    /// Nothing passes but probes.
    Open,
    /// The upstream is back: the queue is let go at a rising pace.
    Releasing,
}

impl BreakerState {
    /// The state's name in the status.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Thinning => "thinning",
            Self::Open => "open",
            Self::Releasing => "releasing",
        }
    }
}

/// The breaker of one scope.
#[derive(Debug)]
pub(crate) struct Breaker {
    state: State,
    /// Outcomes of attempts that began before this say nothing about the present state.
    changed: Moment,
    run: Run,
    bins: [Bin; BINS],
    next_at: Moment,
    headless: u32,
    quiet_since: Moment,
    typical_head: Option<f64>,
    opened: u64,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed,
    Open { since: Moment, next_probe: Moment, probes: u32, probing: bool, before: f64 },
    Releasing { since: Moment, began: Moment, before: f64, probes: u32 },
}

/// Failures without a success between them.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    failures: u32,
    /// When the first failed attempt began.
    began: Moment,
    /// Attempts begun since then, and those of them that failed.
    starts: u32,
    started_failures: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Bin {
    second: u64,
    begun: u32,
    alive: u32,
    failing: u32,
}

impl Breaker {
    pub(crate) fn new(now: Moment) -> Self {
        Self {
            state: State::Closed,
            changed: now,
            run: Run::default(),
            bins: [Bin::default(); BINS],
            next_at: now,
            headless: 0,
            quiet_since: now,
            typical_head: None,
            opened: 0,
        }
    }

    /// Whether an attempt may go now.
    pub(crate) fn gate(&mut self, settings: &BreakerSettings, now: Moment) -> Gate {
        if !settings.enabled {
            return Gate::Pass;
        }
        self.watch_stall(settings, now);
        match self.state {
            State::Closed => {
                if self.thinning(now) > 0.0 && self.next_at > now {
                    Gate::At(self.next_at)
                } else {
                    Gate::Pass
                }
            }
            State::Open { next_probe, probing, .. } => {
                if probing || next_probe > now {
                    Gate::Blocked(next_probe.max(now))
                } else {
                    Gate::Probe
                }
            }
            State::Releasing { began, before, .. } => {
                if release_rate(began, before, now) > before * RELEASED {
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
    pub(crate) fn passed(&mut self, probe: bool, now: Moment) {
        self.bin(now).begun += 1;
        if self.run.failures > 0 {
            self.run.starts += 1;
        }
        match &mut self.state {
            State::Closed => {
                let thinning = self.thinning(now);
                if thinning > 0.0 {
                    let rate = (self.begun_rate(now) * (1.0 - thinning)).max(1.0);
                    self.next_at = self.next_at.max(now).plus_seconds(1.0 / rate);
                }
            }
            State::Open { probing, .. } => *probing |= probe,
            State::Releasing { began, before, .. } => {
                let rate = release_rate(*began, *before, now);
                self.next_at = self.next_at.max(now).plus_seconds(1.0 / rate);
            }
        }
    }

    /// A probe ended without a verdict: given back, or its caller left.
    pub(crate) fn probe_lost(&mut self, now: Moment) {
        if let State::Open { probing, next_probe, .. } = &mut self.state {
            *probing = false;
            *next_probe = now;
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
        match health {
            Health::Unknown => {
                if probe {
                    self.probe_lost(now);
                }
                return;
            }
            Health::Alive => self.bin(now).alive += 1,
            Health::Failing => self.bin(now).failing += 1,
        }
        if began < self.changed && !probe {
            return;
        }
        match self.state {
            State::Closed => self.count(health, began, settings, rng, now),
            State::Open { since, probes, before, .. } if probe => {
                if health == Health::Alive {
                    self.change(State::Releasing { since, began: now, before, probes }, now);
                } else {
                    let next_probe = now.plus(backoff(probes + 1, settings, rng));
                    self.state =
                        State::Open { since, next_probe, probes: probes + 1, probing: false, before };
                }
            }
            State::Open { .. } => {}
            State::Releasing { since, before, probes, .. } => {
                if health == Health::Failing {
                    self.run.failures += 1;
                    if self.run.failures >= 3 {
                        self.open(since, probes, before, settings, rng, now);
                    }
                } else {
                    self.run = Run::default();
                }
            }
        }
    }

    /// How it stands.
    pub(crate) fn state(&self, now: Moment) -> BreakerState {
        match self.state {
            State::Closed if self.thinning(now) > 0.0 => BreakerState::Thinning,
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

    fn watch_stall(&mut self, settings: &BreakerSettings, now: Moment) {
        if self.stall_at(settings).is_some_and(|at| now >= at) {
            let before = self.begun_rate(now);
            let next_probe = now.plus(settings.probe_first);
            self.opened += 1;
            self.change(
                State::Open { since: self.quiet_since, next_probe, probes: 0, probing: false, before },
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
            // What began before the first of the failures says nothing about the time since.
            if began >= self.run.began {
                self.run = Run::default();
            }
            return;
        }
        if self.run.failures == 0 {
            self.run = Run { failures: 0, began, starts: 0, started_failures: 0 };
        }
        self.run.failures += 1;
        let (alive, failing) = self.counts(now);
        let (before_run, of) =
            (failing.saturating_sub(self.run.failures), (alive + failing).saturating_sub(self.run.failures));
        let likely = if of >= 10 { f64::from(before_run) / f64::from(of) } else { 0.0 };
        let needed = if likely > 0.0 { (CHANCE.ln() / likely.min(0.97).ln()).ceil() } else { 0.0 };
        let enough = f64::from(self.run.failures) >= needed.max(f64::from(settings.consecutive.max(1)));
        let total = alive + failing;
        let rate = total >= BLOCKING_RATE.1 && f64::from(failing) >= f64::from(total) * BLOCKING_RATE.0;
        if enough || rate {
            let before = self.begun_rate(now);
            self.open(self.run.began.max(self.changed), 0, before, settings, rng, now);
        }
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
        let next_probe = now.plus(backoff(probes, settings, rng));
        self.change(State::Open { since, next_probe, probes, probing: false, before }, now);
    }

    fn change(&mut self, state: State, now: Moment) {
        self.state = state;
        self.changed = now;
        self.run = Run::default();
        self.next_at = now;
        self.bins = [Bin::default(); BINS];
    }

    /// The part of the attempts to hold back, by the SRE book's client-side throttling.
    fn thinning(&self, now: Moment) -> f64 {
        let (alive, failing) = self.counts(now);
        let total = f64::from(alive + failing);
        if total < 20.0 {
            return 0.0;
        }
        ((total - PER_SUCCESS * f64::from(alive)) / (total + 1.0)).clamp(0.0, THINNEST)
    }

    fn counts(&self, now: Moment) -> (u32, u32) {
        self.recent(now).fold((0, 0), |(alive, failing), bin| (alive + bin.alive, failing + bin.failing))
    }

    /// Attempts begun a second, over the window.
    fn begun_rate(&self, now: Moment) -> f64 {
        let begun: u32 = self.recent(now).map(|bin| bin.begun).sum();
        let first = self.recent(now).map(|bin| bin.second).min().unwrap_or_else(|| second(now));
        f64::from(begun) / (second(now) - first + 1).max(1) as f64
    }

    fn recent(&self, now: Moment) -> impl Iterator<Item = &Bin> {
        let oldest = second(now).saturating_sub(BINS as u64 - 1);
        self.bins
            .iter()
            .filter(move |bin| bin.second >= oldest && (bin.begun > 0 || bin.alive > 0 || bin.failing > 0))
    }

    fn bin(&mut self, now: Moment) -> &mut Bin {
        let second = second(now);
        let index = usize::try_from(second % BINS as u64).unwrap_or(0);
        let bin = &mut self.bins[index];
        if bin.second != second {
            *bin = Bin { second, ..Bin::default() };
        }
        bin
    }
}

fn second(now: Moment) -> u64 {
    now.as_nanos() / 1_000_000_000
}

/// Full exponential backoff with a quarter of jitter to either side.
fn backoff(probes: u32, settings: &BreakerSettings, rng: &mut fastrand::Rng) -> Duration {
    let longest = settings.probe_longest.max(settings.probe_first);
    let base = settings.probe_first.saturating_mul(1 << probes.min(16)).min(longest);
    base.mul_f64(0.75 + 0.25 * rng.f64())
}

fn release_rate(began: Moment, before: f64, now: Moment) -> f64 {
    let first = (before * RELEASE.0).max(RELEASE.1);
    first * now.seconds_since(began).min(40.0).exp2()
}
