//! What came of a run.

use std::collections::BTreeMap;

use weir::internals::admission::Moment;

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    pub(crate) offered: u64,
    pub(crate) offered_first_minute: u64,
    pub(crate) accepted: u64,
    pub(crate) refused_upstream: u64,
    /// Rate limits that one request met, at most.
    pub(crate) most_refusals_of_one: u32,
    /// Upstream 429s by minute.
    pub(crate) refused_by_minute: Vec<u64>,
    /// Those of attempts that were sent after the first 429 had come back.
    pub(crate) refused_knowingly: Vec<u64>,
    /// Accepted cost (requests, tokens) in the measured time.
    pub(crate) used: (u64, u64),
    /// What others took in that time.
    pub(crate) others: (u64, u64),
    pub(crate) measured: f64,
    pub(crate) waits: Vec<f64>,
    /// (predicted, happened) of those that waited.
    pub(crate) predictions: Vec<(f64, f64)>,
    pub(crate) deadline_refused: u64,
    pub(crate) other_refused: u64,
    /// Tokens served in the measured time, by caller.
    pub(crate) served: BTreeMap<u16, u64>,
    /// Waits by caller.
    pub(crate) waits_of: BTreeMap<u16, Vec<f64>>,
    /// The most that others were ever said to take, as a part of a limit.
    pub(crate) foreign: f64,
    /// When the last answer came.
    pub(crate) finished: f64,
    pub(crate) late: u64,
    /// Answers whose head came after the deadline of their call.
    pub(crate) answered_late: u64,
    pub(crate) in_flight_end: u32,
    pub(crate) answered: BTreeMap<u16, u64>,
    /// Calls that failed for good, and when.
    pub(crate) failed: Vec<f64>,
    /// When attempts went upstream.
    pub(crate) attempts: Vec<f64>,
    /// When the calls answered were answered, and how long each took from its arrival.
    pub(crate) done: Vec<(f64, f64)>,
    /// How long calls that were refused had waited.
    pub(crate) refused_after: Vec<f64>,
    /// When answers ended, how long after the send their heads had come, and to which caller.
    pub(crate) heads: Vec<(f64, f64, u16)>,
    /// The first turns of calls, by caller, in the order of time.
    pub(crate) turns: BTreeMap<u16, Vec<Served>>,
    /// Calls that were refused before their deadline: caller, when, and that deadline.
    pub(crate) early: Vec<(u16, Moment, Moment)>,
    /// How far the level that Weir tells was from what the upstream counted, in parts of the limit,
    /// every two seconds of the measured time.
    pub(crate) levels: Vec<f64>,
    /// When, the level that Weir tells and what the upstream counted, in parts of the limit.
    pub(crate) track: Vec<(f64, f64, f64)>,
    /// What an upstream that was asked without a pause from the last change of a limit on would
    /// have taken in the measured time.
    pub(crate) ideal: u64,
}

impl Report {
    pub(crate) fn refused_from(&self, minute: usize) -> u64 {
        self.refused_by_minute.iter().skip(minute).sum()
    }

    pub(crate) fn percentile(&self, part: f64) -> f64 {
        percentile(&self.waits, part)
    }

    /// Of the calls that were refused early until a moment: those that could not have been served
    /// without another call missing its deadline, and all.
    ///
    /// Each refused call is put in its place in the order of deadlines: it takes the turn of the
    /// first call of its caller that has a later deadline, that call takes the next turn, and so
    /// on. One of them misses its deadline, or one need not wait: then there was a free turn.
    pub(crate) fn refused_rightly(&self, until: Moment) -> (usize, usize) {
        let refused: Vec<_> = self.early.iter().filter(|(_, at, _)| *at < until).collect();
        let misses = |&&&(caller, at, deadline): &&&(u16, Moment, Moment)| {
            let Some(turns) = self.turns.get(&caller) else { return true };
            let mut pushed = deadline;
            for turn in &turns[turns.partition_point(|turn| turn.at <= at)..] {
                if turn.at > pushed {
                    return true;
                }
                if turn.since == turn.at {
                    return false;
                }
                pushed = pushed.max(turn.deadline);
            }
            false
        };
        (refused.iter().filter(misses).count(), refused.len())
    }
}

/// A call that had its turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Served {
    pub(super) since: Moment,
    pub(super) at: Moment,
    pub(super) deadline: Moment,
}

pub(crate) fn percentile(values: &[f64], part: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    if values.is_empty() {
        return 0.0;
    }
    values[((values.len() - 1) as f64 * part).round() as usize]
}
