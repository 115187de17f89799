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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitReports {
    /// `x-ratelimit-*-requests`.
    pub requests: Option<LimitReport>,
    /// `x-ratelimit-*-tokens`.
    pub tokens: Option<LimitReport>,
    /// The limit of requests that is a day's by its own words.
    pub requests_a_day: Option<LimitReport>,
    /// The same of tokens.
    pub tokens_a_day: Option<LimitReport>,
}

impl LimitReports {
    /// Each report with what it counts, and where it is filed: where two limits of a unit are told
    /// their windows say so.
    pub(super) fn each(&self) -> [(Unit, Option<&LimitReport>, Option<Slot>); 4] {
        let minute = |unit, day: Option<LimitReport>| day.map(|_| Slot::by_minute(unit));
        let (requests, tokens) = (self.requests.as_ref(), self.tokens.as_ref());
        [
            (Unit::Requests, requests, minute(Unit::Requests, self.requests_a_day)),
            (Unit::Tokens, tokens, minute(Unit::Tokens, self.tokens_a_day)),
            (Unit::Requests, self.requests_a_day.as_ref(), Some(Slot::RequestsPerDay)),
            (Unit::Tokens, self.tokens_a_day.as_ref(), Some(Slot::TokensPerDay)),
        ]
    }
}

/// The numbers in a 429's message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefusalNumbers {
    /// Which limit refused.
    pub slot: Slot,
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
