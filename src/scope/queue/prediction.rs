//! How long a request will wait: by what is served before it, and by how fast its caller is served.

use crate::caller::{CallerId, Lane};
use crate::scope::moment::Moment;

use super::line::MEASURED;
use super::{Queue, UNIT};

/// Work that waits before a request.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Ahead {
    pub(crate) requests: f64,
    pub(crate) tokens: f64,
}

impl<W> Queue<W> {
    /// What would be served before a new request of this caller.
    pub(crate) fn ahead(&self, caller: CallerId, lane: Lane, background_share: f64) -> Ahead {
        let line = self.by_caller.get(&(caller, lane)).map(|&index| (&self.lines[index as usize], index));
        let own = line.and_then(|(line, _)| self.backlogs.get(line.backlog as usize));
        let floor = self.floor(lane);
        let start = match (line, own) {
            (Some((line, _)), Some(own)) => {
                line.counter.saturating_add(own.tokens.saturating_mul(UNIT) / u64::from(line.weight))
            }
            (Some((line, _)), None) => line.counter.max(floor),
            (None, _) => floor,
        };
        let mut ahead = Ahead::default();
        let mut other_lane = Ahead::default();
        for backlog in &self.backlogs {
            if backlog.lane != lane {
                other_lane.requests += backlog.requests as f64;
                other_lane.tokens += backlog.tokens as f64;
                continue;
            }
            let is_own = line.is_some_and(|(_, index)| index == backlog.line);
            if is_own {
                ahead.requests += backlog.requests as f64;
                ahead.tokens += backlog.tokens as f64;
            } else if backlog.counter <= start {
                // It is served until its counter passes the start, which is on average half a request further.
                let mean = backlog.tokens as f64 / backlog.requests.max(1) as f64;
                let until = (start - backlog.counter) as f64 * f64::from(backlog.weight) / UNIT as f64;
                let tokens = (until + mean / 2.0).min(backlog.tokens as f64);
                ahead.tokens += tokens;
                ahead.requests += tokens / mean.max(1.0);
            }
        }
        let share = match lane {
            Lane::Interactive => background_share / (1.0 - background_share),
            Lane::Background => (1.0 - background_share) / background_share,
        };
        let portion = if other_lane.tokens > 0.0 {
            ((ahead.tokens + 1.0) * share / other_lane.tokens).min(1.0)
        } else {
            1.0
        };
        ahead.tokens += other_lane.tokens * portion;
        ahead.requests += other_lane.requests * portion;
        ahead
    }

    /// Seconds until a new request of this caller is served, at the rate at which its line has been served of late. It knows
    /// what the backlogs don't: how much of the limit those take who never wait for long.
    pub(crate) fn measured_wait(&self, caller: CallerId, lane: Lane, now: Moment) -> Option<f64> {
        let line = &self.lines[*self.by_caller.get(&(caller, lane))? as usize];
        let backlog = self.backlogs.get(line.backlog as usize)?;
        let fresh = line.service.since.is_some_and(|since| now.seconds_since(since) < 2.0 * MEASURED);
        let rate = line.service.rate.filter(|_| fresh && line.service.steady)?;
        Some(backlog.tokens as f64 / rate.max(1e-9))
    }
}
