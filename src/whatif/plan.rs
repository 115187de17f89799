//! The plan of a replay: the recorded limits, with the requested changes.

use std::time::Duration;

use crate::admission::{LimitSettings, Moment, Settings};
use crate::simulate::limiter::{Depth, Dimension, Joint, Shape};

use super::recording::{End, Recording, nanos};

/// The minimum wait, in seconds, that counts as a wait for a limit.
pub(super) const SHORT: f32 = 0.05;
/// The minimum depth of a bucket, in seconds, that is assumed.
const SHALLOWEST: f64 = 1.0;

/// The limits, weights and replicas of one replay.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// The limits and the times from which they apply, in the order of [`Dimension::ALL`].
    pub(super) limits: Vec<(Moment, [Option<u64>; 4])>,
    pub(super) shape: Shape,
    /// Whether the upstream reports its limits. Otherwise they are configured.
    pub(super) told: bool,
    pub(super) in_flight: Option<u32>,
    /// The weight of each caller, if it differs from the recorded one.
    pub(super) weights: Vec<Option<u32>>,
    pub(super) replicas: u16,
    /// Tokens charged by the upstream per estimated token.
    pub(super) charge_ratio: f64,
    /// The seed of the random draws, such as the time of a probe.
    pub(super) seed: u64,
}

impl Plan {
    /// The recorded situation; `replicas` Weirs wrote the log.
    pub(super) fn recorded(recording: &Recording, replicas: u16, shape: Option<Shape>, seed: u64) -> Self {
        let begin = recording.requests.first().map_or(0, |request| request.arrived);
        let last = recording.limits.last();
        let of_this = |limit: u64, share: f64| {
            if replicas > 1 { limit } else { nanos(limit as f64 * share * 1e-6).max(1) }
        };
        let mut limits: Vec<_> = (recording.limits.iter())
            .map(|line| {
                let at = Moment::from_nanos(line.at.saturating_sub(begin));
                (at, line.limits.map(|limit| limit.map(|limit| of_this(limit, line.share))))
            })
            .collect();
        if let Some(first) = limits.first_mut() {
            // The first limits applied before they were logged.
            first.0 = Moment::START;
        }
        let mut plan = Self {
            limits,
            shape: Shape::Bucket(Depth::Window),
            told: last.is_none_or(|line| line.learned),
            in_flight: last.and_then(|line| line.in_flight),
            weights: vec![None; recording.callers.len()],
            replicas,
            charge_ratio: last.map_or(1.0, |line| line.charge_ratio),
            seed,
        };
        plan.shape = shape.unwrap_or_else(|| plan.shown_depth(recording));
        plan
    }

    /// The same plan with other limits; absent ones stay.
    pub(super) fn with_limits(&self, asked: [Option<u64>; 4]) -> Self {
        let mut plan = self.clone();
        if plan.limits.is_empty() {
            plan.limits.push((Moment::START, [None; 4]));
        }
        for (_, limits) in &mut plan.limits {
            for (limit, asked) in limits.iter_mut().zip(asked) {
                *limit = asked.or(*limit);
            }
        }
        plan
    }

    /// The same plan with all limits doubled.
    pub(super) fn doubled(&self) -> Self {
        let mut plan = self.clone();
        for (_, limits) in &mut plan.limits {
            *limits = limits.map(|limit| limit.map(|limit| limit.saturating_mul(2)));
        }
        plan.in_flight = plan.in_flight.map(|most| most.saturating_mul(2));
        plan
    }

    /// The limits at the end.
    pub(super) fn last_limits(&self) -> [Option<u64>; 4] {
        self.limits.last().map_or([None; 4], |(_, limits)| *limits)
    }

    /// The upstream's limiter at the start.
    pub(super) fn limiter(&self) -> Joint {
        let first = self.limits.first().map_or([None; 4], |(_, limits)| *limits);
        let limits = Dimension::ALL.into_iter().zip(first);
        limits.fold(Joint::new(), |joint, (dimension, limit)| match limit {
            Some(limit) => joint.with(dimension, limit, self.shape),
            None => joint,
        })
    }

    /// The settings of each Weir.
    pub(super) fn settings(&self) -> Settings {
        let [requests_per_minute, requests_per_day, tokens_per_minute, tokens_per_day] =
            if self.told { [None; 4] } else { self.last_limits() };
        let limits = LimitSettings {
            requests_per_minute,
            tokens_per_minute,
            requests_per_day,
            tokens_per_day,
            in_flight: self.in_flight,
            ..LimitSettings::default()
        };
        Settings { limits, ..Settings::default() }
    }

    /// The depth of the upstream's bucket, from the largest burst that it admitted. Only a
    /// recording with waiting requests shows it; else the depth is that of the window.
    fn shown_depth(&self, recording: &Recording) -> Shape {
        let waited = recording.requests.iter().filter(|request| request.course.waited > SHORT).count();
        let limits = self.last_limits();
        if waited < (recording.requests.len() / 50).max(10) {
            return self.shape;
        }
        let mut admitted: Vec<(f64, u32)> = (recording.requests.iter())
            .filter(|request| request.course.end == End::Answered)
            .filter_map(|request| {
                Some((request.arrived as f64 * 1e-9 + f64::from(request.course.sent?), request.tokens))
            })
            .collect();
        admitted.sort_by(|one, two| one.0.total_cmp(&two.0));
        let depth = |limit: Option<u64>, cost: &dyn Fn(u32) -> f64| {
            let rate = limit.map_or(f64::INFINITY, |limit| limit as f64 / 60.0);
            let (mut level, mut deepest, mut before) = (0.0_f64, 0.0_f64, f64::NEG_INFINITY);
            for (at, tokens) in &admitted {
                level = (level - (at - before) * rate).max(0.0) + cost(*tokens);
                deepest = deepest.max(level);
                before = *at;
            }
            deepest / rate
        };
        let requests = depth(limits[0], &|_| 1.0);
        let tokens = depth(limits[2], &|tokens| f64::from(tokens) * self.charge_ratio);
        let seconds = requests.max(tokens).max(SHALLOWEST);
        if seconds >= 45.0 { self.shape } else { Shape::Bucket(Depth::Of(Duration::from_secs_f64(seconds))) }
    }
}
