//! What the upstream says about its limits, in its headers and in its refusals.

use std::time::Duration;

use super::slot::Slot;

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
