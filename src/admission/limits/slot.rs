//! The limits that there can be: what they count, and over which window.

use std::time::Duration;

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Requests.
    Requests,
    /// Tokens.
    Tokens,
}

impl Unit {
    /// Its place among the units.
    pub(super) const fn index(self) -> usize {
        self as usize
    }
}

/// A place for one limit of a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Slot {
    /// Requests a minute, or an hour.
    RequestsPerMinute,
    /// Tokens a minute, or an hour.
    TokensPerMinute,
    /// Requests a day, or a month.
    RequestsPerDay,
    /// Tokens a day, or a month.
    TokensPerDay,
}

impl Slot {
    /// Every slot, in order.
    pub const ALL: [Self; 4] =
        [Self::RequestsPerMinute, Self::TokensPerMinute, Self::RequestsPerDay, Self::TokensPerDay];

    /// The one for a minute's limit.
    pub const fn by_minute(unit: Unit) -> Self {
        match unit {
            Unit::Requests => Self::RequestsPerMinute,
            Unit::Tokens => Self::TokensPerMinute,
        }
    }

    /// The slot of the same unit for a window of this length, in seconds.
    #[must_use]
    pub fn of_window(self, seconds: f64) -> Self {
        match (self.unit(), seconds > super::shape::HOUR) {
            (Unit::Requests, false) => Self::RequestsPerMinute,
            (Unit::Requests, true) => Self::RequestsPerDay,
            (Unit::Tokens, false) => Self::TokensPerMinute,
            (Unit::Tokens, true) => Self::TokensPerDay,
        }
    }

    /// What it counts.
    pub const fn unit(self) -> Unit {
        match self {
            Self::RequestsPerMinute | Self::RequestsPerDay => Unit::Requests,
            Self::TokensPerMinute | Self::TokensPerDay => Unit::Tokens,
        }
    }

    /// The window that it assumes until something tells otherwise.
    pub const fn window(self) -> Duration {
        match self {
            Self::RequestsPerMinute | Self::TokensPerMinute => Duration::from_mins(1),
            Self::RequestsPerDay | Self::TokensPerDay => Duration::from_hours(24),
        }
    }

    /// Its name in metrics and the status.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RequestsPerMinute => "requests_per_minute",
            Self::TokensPerMinute => "tokens_per_minute",
            Self::RequestsPerDay => "requests_per_day",
            Self::TokensPerDay => "tokens_per_day",
        }
    }

    /// Its place in [`Slot::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }
}
