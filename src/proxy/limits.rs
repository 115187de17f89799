//! From the upstream's words about its limits to what admission understands.

use std::time::Duration;

use crate::admission::{LimitReport, LimitReports, RefusalNumbers, Slot};
use crate::openai::{Dimension, HeaderLimit, LimitHeaders, LimitRefusal, Part, Unit};

/// What the limit headers say of requests and tokens: of several limits of one unit the one with the least left. Limits of the
/// input or the output alone are no limits of what a request is priced at.
pub(crate) fn reports(headers: &LimitHeaders) -> LimitReports {
    let tightest = |unit: Unit| {
        let of_unit = headers.of(unit, Part::Whole).chain(headers.of(unit, Part::Project));
        of_unit.filter_map(report).min_by_key(|report| report.remaining)
    };
    LimitReports { requests: tightest(Unit::Requests), tokens: tightest(Unit::Tokens) }
}

/// The numbers of a refusal, if it names a limit that admission keeps.
pub(super) fn numbers(refusal: &LimitRefusal) -> Option<RefusalNumbers> {
    let slot = match refusal.dimension {
        Dimension::RequestsPerMinute => Slot::RequestsPerMinute,
        Dimension::TokensPerMinute => Slot::TokensPerMinute,
        Dimension::RequestsPerDay => Slot::RequestsPerDay,
        Dimension::TokensPerDay => Slot::TokensPerDay,
        // A limit of its own, which text does not count for: only the refused request waits.
        Dimension::ImagesPerMinute | Dimension::AudioPerMinute => {
            return Some(RefusalNumbers {
                slot: Slot::RequestsPerMinute,
                limit: refusal.limit.unwrap_or_default(),
                used: refusal.used,
                requested: refusal.requested,
                wait: refusal.wait,
                apart: true,
            });
        }
        Dimension::Other => return None,
    };
    // A limit of another window (an hour's) is none of these.
    if refusal.window.is_some_and(|window| window != refusal.dimension.window()) {
        return None;
    }
    Some(RefusalNumbers {
        slot,
        limit: refusal.limit?,
        used: refusal.used,
        requested: refusal.requested,
        wait: refusal.wait,
        apart: refusal.long_context,
    })
}

/// A limit whose window is told is reported with the reset that an evenly refilled bucket of that window has: admission derives
/// the window from it.
fn report(told: &HeaderLimit) -> Option<LimitReport> {
    let (limit, remaining) = (told.limit?, told.remaining?);
    let used = limit.saturating_sub(remaining);
    let reset = match told.window {
        None => told.reset,
        Some(window) if window == MINUTE || window == DAY => {
            told.reset.and(Some(window.mul_f64(used as f64 / limit as f64)))
        }
        Some(_) => return None,
    };
    Some(LimitReport { limit, remaining, reset })
}

const MINUTE: Duration = Duration::from_mins(1);
const DAY: Duration = Duration::from_hours(24);
