//! The state shared by all requests: limits, counters and the random generator.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Instant;

use super::dialect::Levels;
use super::fault::{Directive, Fault};
use super::limiter::{Dimension, Joint, JointRefusal, Price};
use super::schedule::{ForeignConsumer, OutageKind};
use super::settings::{Account, Limits, Settings};
use super::stats::{Recorder, Stats};

/// The maximum number of limit sets. Further models share one set.
const MAX_SETS: usize = 1_000;

/// The simulator's mutable state, behind one lock that is held for about a microsecond.
#[derive(Debug)]
pub(super) struct State {
    pub(super) settings: Arc<Settings>,
    pub(super) recorder: Recorder,
    pub(super) rng: fastrand::Rng,
    start: Instant,
    limits: HashMap<Box<str>, LimitSet>,
    /// The buffer for a limit set's name, reused to avoid allocations.
    name: String,
}

/// The limits of one organization, project and model.
#[derive(Debug)]
struct LimitSet {
    joint: Joint,
    foreign: ForeignConsumer,
    changes_made: usize,
}

/// The current outage, if any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OutageStatus {
    pub(super) outage: Option<OutageKind>,
    /// The start or end of the next outage, at which this may change.
    pub(super) until: Option<Instant>,
}

impl State {
    pub(super) fn new(mut settings: Settings, now: Instant) -> Self {
        settings.limit_changes.sort_by_key(|change| change.at);
        Self {
            rng: fastrand::Rng::with_seed(settings.seed),
            settings: Arc::new(settings),
            recorder: Recorder::default(),
            start: now,
            limits: HashMap::new(),
            name: String::new(),
        }
    }

    /// Resets the start time, limits, counters and the random generator.
    pub(super) fn reset(&mut self, now: Instant) {
        self.start = now;
        self.limits.clear();
        self.recorder.reset();
        self.rng = fastrand::Rng::with_seed(self.settings.seed);
    }

    /// Replaces the settings. Keeps the used amounts if the shape and the limited dimensions stay
    /// the same.
    pub(super) fn change(&mut self, mut settings: Settings, now: Instant) {
        settings.limit_changes.sort_by_key(|change| change.at);
        let old = std::mem::replace(&mut self.settings, Arc::new(settings));
        let limited = |limits: &Limits| Dimension::ALL.map(|dimension| limits.of(dimension).is_some());
        let same_form = old.shape == self.settings.shape
            && old.share_models == self.settings.share_models
            && old.models == self.settings.models
            && limited(&old.limits) == limited(&self.settings.limits);
        if !same_form {
            self.limits.clear();
        } else if old.limits != self.settings.limits {
            for (name, set) in &mut self.limits {
                let limits = limits_of(&self.settings, name.rsplit('/').next().unwrap_or_default());
                for dimension in Dimension::ALL {
                    if let Some(limit) = limits.of(dimension) {
                        set.joint.set_limit(dimension, limit, now);
                    }
                }
            }
        }
    }

    pub(super) fn since_start(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.start)
    }

    pub(super) fn second(&self, now: Instant) -> u64 {
        self.since_start(now).as_secs()
    }

    pub(super) fn stats(&self, now: Instant) -> Stats {
        self.recorder.snapshot(self.since_start(now).as_secs_f64())
    }

    pub(super) fn outage_status(&self, now: Instant) -> OutageStatus {
        let since_start = self.since_start(now);
        let outages = &self.settings.outages;
        let outage = outages.iter().find(|outage| outage.covers(since_start)).map(|outage| outage.kind);
        let until = outages
            .iter()
            .flat_map(|outage| [outage.start, outage.start.saturating_add(outage.length)])
            .filter(|edge| *edge > since_start)
            .min()
            .map(|edge| self.start + edge);
        OutageStatus { outage, until }
    }

    /// Draws the fault of a request: the requested one, else one by the configured rates.
    pub(super) fn draw_fault(&mut self, directive: &Directive, attempt: u32) -> Option<Fault> {
        if let Some(fault) = directive.fault {
            let in_time = directive.times.is_none_or(|times| attempt <= times);
            let by_odds = directive.rate.is_none_or(|rate| self.rng.f64() < rate);
            return (in_time && by_odds).then_some(fault);
        }
        if self.settings.faults.is_empty() {
            return None;
        }
        let mut drawn = self.rng.f64();
        for (fault, rate) in &self.settings.faults {
            if drawn < *rate {
                return Some(*fault);
            }
            drawn -= rate;
        }
        None
    }

    /// Charges the limiter. Returns the result and the levels for the headers.
    pub(super) fn admit(
        &mut self,
        account: &Account,
        model: &str,
        price: Price,
        now: Instant,
    ) -> (Result<(), JointRefusal>, Levels) {
        let (second, seconds) = (self.second(now), self.since_start(now));
        let settings = Arc::clone(&self.settings);
        let set = self.limit_set(&settings, account, model, now);
        for change in settings.limit_changes.iter().skip(set.changes_made) {
            if change.at > seconds {
                break;
            }
            set.joint.set_limit(change.dimension, change.limit, now);
            set.changes_made += 1;
        }
        set.foreign.catch_up(&settings.foreign, &mut set.joint, now);
        let result = set.joint.try_take(price, now);
        let mut either = |first, second| set.joint.level(first, now).or_else(|| set.joint.level(second, now));
        let levels = Levels {
            requests: either(Dimension::RequestsPerDay, Dimension::RequestsPerMinute),
            tokens: either(Dimension::TokensPerMinute, Dimension::TokensPerDay),
        };
        match &result {
            Ok(()) => self.recorder.admitted(second, price.tokens),
            Err(refused) => self.recorder.refused(seconds.as_secs_f64(), second, refused),
        }
        (result, levels)
    }

    fn limit_set(
        &mut self,
        settings: &Settings,
        account: &Account,
        model: &str,
        now: Instant,
    ) -> &mut LimitSet {
        let model = if settings.share_models { "" } else { model };
        self.name.clear();
        for part in [&*account.organization, "/", &*account.project, "/", model] {
            self.name.push_str(part);
        }
        if self.limits.len() >= MAX_SETS && !self.limits.contains_key(self.name.as_str()) {
            self.name.clear();
            self.name.push_str("further");
        }
        if !self.limits.contains_key(self.name.as_str()) {
            let joint =
                limits_of(settings, model).joint(settings.shape).counting_refused(settings.count_refused);
            let foreign = ForeignConsumer::new(self.start, now);
            self.limits.insert(self.name.as_str().into(), LimitSet { joint, foreign, changes_made: 0 });
        }
        match self.limits.get_mut(self.name.as_str()) {
            Some(set) => set,
            None => unreachable!("inserted above"),
        }
    }
}

fn limits_of<'a>(settings: &'a Settings, model: &str) -> &'a Limits {
    settings.models.iter().find(|(name, _)| name == model).map_or(&settings.limits, |(_, limits)| limits)
}
