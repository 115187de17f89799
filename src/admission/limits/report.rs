//! What the upstream says about its limits, in its headers and in its refusals.

use std::time::Duration;

use super::slot::{Slot, Unit};

/// Where a limit comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// The configuration.
    Configured,
    /// The upstream's headers or refusals.
    Learned,
    /// What it refused without naming a limit: it takes no more, whatever its headers say.
    Found,
}

impl Source {
    /// The source's name in the status.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Configured => "configured",
            Self::Learned => "learned",
            Self::Found => "found",
        }
    }
}

/// What the headers of one answer say about one unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitReport {
    /// The limit per window.
    pub limit: u64,
    /// What is left of it.
    pub remaining: u64,
    /// Until nothing is used, where told.
    pub reset: Option<Duration>,
}

/// What the headers of one answer say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LimitReports {
    /// Of requests, by the minute or by a window that is not told.
    pub requests: Option<LimitReport>,
    /// The same of tokens.
    pub tokens: Option<LimitReport>,
    /// Of limits that have another window by their own words.
    pub windows: Vec<WindowReport>,
    /// Limits of which nothing else is told.
    pub stated: Vec<StatedLimit>,
    /// Whose limits these are, where the answer names an owner below the organization: a hash.
    pub owner: Option<u64>,
    /// The answer is an error. Where good answers tell of no limit, what a refusal tells is a time
    /// to wait: no later answer would say what is left.
    pub of_error: bool,
}

/// What the headers say about a limit of a window that they name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowReport {
    /// What it counts.
    pub unit: Unit,
    /// The window.
    pub window: Duration,
    /// The numbers.
    pub report: LimitReport,
}

/// A limit of which the headers tell the window, and nothing of what is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatedLimit {
    /// What it counts.
    pub unit: Unit,
    /// The window.
    pub window: Duration,
    /// The limit per window.
    pub limit: u64,
}

impl LimitReports {
    /// Each report with what it counts, and its window where that is told.
    pub(super) fn each(&self) -> impl Iterator<Item = (Unit, Option<Duration>, LimitReport)> {
        let minute = [(Unit::Requests, self.requests), (Unit::Tokens, self.tokens)];
        let minute = minute.into_iter().filter_map(|(unit, report)| Some((unit, None, report?)));
        let windows = self.windows.iter();
        // 0 means "unknown" in some dialects.
        minute
            .chain(windows.map(|told| (told.unit, Some(told.window), told.report)))
            .filter(|(_, _, report)| report.limit > 0)
    }
}

impl LimitReport {
    /// The same for all requests, of which only this part counts for the limit.
    pub(super) fn of_part(self, part: f64) -> Self {
        let of_all = |count: u64| super::ceil(count as f64 / part);
        Self { limit: of_all(self.limit), remaining: of_all(self.remaining), ..self }
    }
}

/// The numbers in a 429's message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefusalNumbers {
    /// Which limit refused.
    pub slot: Slot,
    /// Its window, where it is another than the slot's.
    pub window: Option<Duration>,
    /// The limit.
    pub limit: u64,
    /// What was used, where told.
    pub used: Option<u64>,
    /// What the request asked for, where told.
    pub requested: Option<u64>,
    /// When it would pass, where told.
    pub wait: Option<Duration>,
    /// The limit is one of its own, which only some requests count for and no header tells of.
    pub apart: bool,
}

impl RefusalNumbers {
    /// Whether a use, a time or an unusual window comes with the limit. The words "per min" alone
    /// are often a name, beside a limit that counts by the second.
    pub(super) fn are_borne_out(&self, hint: Option<Duration>) -> bool {
        self.used.is_some() || self.window.is_some() || self.wait.or(hint).is_some()
    }
}
