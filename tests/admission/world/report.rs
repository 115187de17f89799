//! The results of a run.

use std::collections::BTreeMap;

use weir::internals::admission::Moment;

/// The results of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    pub(crate) offered: u64,
    pub(crate) offered_first_minute: u64,
    pub(crate) accepted: u64,
    pub(crate) refused_upstream: u64,
    /// The maximum number of rate limit errors of one request.
    pub(crate) most_refusals_of_one: u32,
    /// Upstream 429s by minute.
    pub(crate) refused_by_minute: Vec<u64>,
    /// 429s of attempts that were sent after the first 429 was received.
    pub(crate) refused_knowingly: Vec<u64>,
    /// Accepted cost (requests, tokens) in the measured time.
    pub(crate) used: (u64, u64),
    /// The use by others in that time.
    pub(crate) others: (u64, u64),
    pub(crate) measured: f64,
    pub(crate) waits: Vec<f64>,
    /// The predicted and the actual wait of the calls that waited.
    pub(crate) predictions: Vec<(f64, f64)>,
    pub(crate) deadline_refused: u64,
    pub(crate) other_refused: u64,
    /// Tokens served in the measured time, by caller.
    pub(crate) served: BTreeMap<u16, u64>,
    /// Waits by caller.
    pub(crate) waits_of: BTreeMap<u16, Vec<f64>>,
    /// The maximum reported use by others, as a fraction of a limit.
    pub(crate) foreign: f64,
    /// The time of the last response.
    pub(crate) finished: f64,
    pub(crate) late: u64,
    /// Responses whose head arrived after the deadline of their call.
    pub(crate) answered_late: u64,
    pub(crate) in_flight_end: u32,
    pub(crate) answered: BTreeMap<u16, u64>,
    /// Failed calls, with their times.
    pub(crate) failed: Vec<f64>,
    /// The times at which attempts were sent.
    pub(crate) attempts: Vec<f64>,
    /// The times at which calls were answered, and their durations.
    pub(crate) done: Vec<(f64, f64)>,
    /// The waits of refused calls.
    pub(crate) refused_after: Vec<f64>,
    /// The end of each response, the latency of its head, and its caller.
    pub(crate) heads: Vec<(f64, f64, u16)>,
    /// The first admissions of calls, by caller, in order of time.
    pub(crate) turns: BTreeMap<u16, Vec<Served>>,
    /// Calls refused before their deadline: caller, time and deadline.
    pub(crate) early: Vec<(u16, Moment, Moment)>,
    /// The difference between Weir's level and the upstream's, as a fraction of the limit, every
    /// two seconds of the measured time.
    pub(crate) levels: Vec<f64>,
    /// The time, Weir's level and the upstream's, as fractions of the limit.
    pub(crate) track: Vec<(f64, f64, f64)>,
    /// The amount that the upstream would have admitted in the measured time, under constant load
    /// since the last change of a limit.
    pub(crate) ideal: u64,
}

impl Report {
    pub(crate) fn refused_from(&self, minute: usize) -> u64 {
        self.refused_by_minute.iter().skip(minute).sum()
    }

    pub(crate) fn percentile(&self, part: f64) -> f64 {
        percentile(&self.waits, part)
    }

    /// The early refusals until a time: those that were justified, because serving the call would
    /// have made another miss its deadline; and all.
    ///
    /// Each refused call is inserted in the order of deadlines: it takes the slot of its caller's
    /// first call with a later deadline, which takes the next slot, and so on. If none of them
    /// misses its deadline, there was a free slot.
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

/// An admitted call.
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
