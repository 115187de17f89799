//! How long a request will wait: by what is served before it, and by how fast its caller is served.

use crate::caller::{CallerId, Lane};
use crate::scope::moment::Moment;

use super::row::MEASURED;
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
        let row = self.by_caller.get(&(caller, lane)).map(|&index| &self.rows[index as usize]);
        let own = row.and_then(|row| self.backlogs.get(row.backlog as usize));
        let floor = self.floor(lane);
        let start = match (row, own) {
            (Some(row), Some(own)) => {
                row.counter.saturating_add(own.tokens.saturating_mul(UNIT) / u64::from(row.weight))
            }
            (Some(row), None) => row.counter.max(floor),
            (None, _) => floor,
        };
        let mut ahead = Ahead::default();
        let start = start as f64;
        for backlog in &self.backlogs {
            let sums = &backlog.sums;
            if backlog.lane == lane && sums.counter <= start {
                // It is served until its counter passes the start, which is on average half a request further.
                let until = (start - sums.counter) * sums.per_count + sums.half_mean;
                let tokens = until.min(sums.tokens);
                ahead.tokens += tokens;
                ahead.requests += tokens * sums.per_token;
            }
        }
        let other = &self.lanes[1 - lane as usize];
        let other_lane = Ahead { requests: other.requests as f64, tokens: other.tokens as f64 };
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

    /// Seconds until a new request of this caller is served, at the rate at which its row has been served of late. It knows
    /// what the backlogs don't: how much of the limit those take who never wait for long.
    pub(crate) fn measured_wait(&self, caller: CallerId, lane: Lane, now: Moment) -> Option<f64> {
        let row = &self.rows[*self.by_caller.get(&(caller, lane))? as usize];
        let backlog = self.backlogs.get(row.backlog as usize)?;
        let fresh = row.service.since.is_some_and(|since| now.seconds_since(since) < 2.0 * MEASURED);
        let rate = row.service.rate.filter(|_| fresh && row.service.steady)?;
        Some(backlog.tokens as f64 / rate.max(1e-9))
    }
}
