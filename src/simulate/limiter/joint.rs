//! Several limits, charged atomically: a request is charged to all of them or to none.

use std::time::Duration;

use crate::clock::Instant;
use crate::label::names;

use super::{Level, Limiter, Refusal, Shape};

const MINUTE: Duration = Duration::from_mins(1);
const DAY: Duration = Duration::from_hours(24);

/// The unit of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Requests.
    Requests,
    /// Tokens.
    Tokens,
}

names! {
    /// The dimensions of limits, in the order of checking.
    Dimension {
        /// Requests per minute (RPM).
        RequestsPerMinute = "rpm",
        /// Requests per day (RPD).
        RequestsPerDay = "rpd",
        /// Tokens per minute (TPM).
        TokensPerMinute = "tpm",
        /// Tokens per day (TPD).
        TokensPerDay = "tpd",
    }
}

impl Dimension {
    /// The unit of the limit.
    pub const fn unit(self) -> Unit {
        match self {
            Self::RequestsPerMinute | Self::RequestsPerDay => Unit::Requests,
            Self::TokensPerMinute | Self::TokensPerDay => Unit::Tokens,
        }
    }

    /// The window of the limit.
    pub const fn window(self) -> Duration {
        match self {
            Self::RequestsPerMinute | Self::TokensPerMinute => MINUTE,
            Self::RequestsPerDay | Self::TokensPerDay => DAY,
        }
    }

    /// The name in a refusal's message, such as `tokens per min (TPM)`.
    pub const fn phrase(self) -> &'static str {
        match self {
            Self::RequestsPerMinute => "requests per min (RPM)",
            Self::RequestsPerDay => "requests per day (RPD)",
            Self::TokensPerMinute => "tokens per min (TPM)",
            Self::TokensPerDay => "tokens per day (TPD)",
        }
    }

    /// The index in [`Dimension::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// The charge for one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    /// Charged to the limits of requests.
    pub requests: u64,
    /// Charged to the limits of tokens.
    pub tokens: u64,
}

impl Price {
    /// The amount charged to a dimension.
    pub const fn of(self, dimension: Dimension) -> u64 {
        match dimension.unit() {
            Unit::Requests => self.requests,
            Unit::Tokens => self.tokens,
        }
    }
}

/// A refusal and the dimension that refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JointRefusal {
    /// The first dimension that refused.
    pub dimension: Dimension,
    /// The dimension's refusal.
    pub refusal: Refusal,
}

/// The limits of one organization, project and model, enforced together.
#[derive(Clone, Debug, Default)]
pub struct Joint {
    limiters: [Option<Limiter>; 4],
    count_refused: bool,
}

impl Joint {
    /// Creates a set without limits.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the limit of one dimension.
    #[must_use]
    pub fn with(mut self, dimension: Dimension, limit: u64, shape: Shape) -> Self {
        self.limiters[dimension.index()] = Some(Limiter::new(limit, dimension.window(), shape));
        self
    }

    /// Whether the limits of requests are charged for refused requests too, as in the API's guide
    /// ("unsuccessful requests contribute to your per-minute limit"). Off by default.
    #[must_use]
    pub fn counting_refused(mut self, count: bool) -> Self {
        self.count_refused = count;
        self
    }

    /// Charges `price` to every dimension, or to none.
    ///
    /// # Errors
    /// The first dimension whose limit is smaller than the price; else the first without enough
    /// left.
    pub fn try_take(&mut self, price: Price, now: Instant) -> Result<(), JointRefusal> {
        let mut refused: Option<JointRefusal> = None;
        for (dimension, limiter) in self.each() {
            if let Err(refusal) = limiter.check(price.of(dimension), now)
                && refused.is_none_or(|first| refusal.too_large && !first.refusal.too_large)
            {
                refused = Some(JointRefusal { dimension, refusal });
            }
        }
        if let Some(refused) = refused {
            if self.count_refused {
                self.force(Price { tokens: 0, ..price }, now);
            }
            return Err(refused);
        }
        for (dimension, limiter) in self.each() {
            // The check above passed at the same instant.
            let taken = limiter.try_take(price.of(dimension), now);
            debug_assert!(taken.is_ok(), "checked and taken under one borrow");
        }
        Ok(())
    }

    /// Charges as much of `price` as is left, for another consumer of the same limits.
    pub fn force(&mut self, price: Price, now: Instant) {
        for (dimension, limiter) in self.each() {
            limiter.force(price.of(dimension), now);
        }
    }

    /// The level that the headers report for a dimension; `None` without a limit.
    pub fn level(&mut self, dimension: Dimension, now: Instant) -> Option<Level> {
        self.limiters[dimension.index()].as_mut().map(|limiter| limiter.level(now))
    }

    /// The limiter of a dimension.
    pub fn limiter(&mut self, dimension: Dimension) -> Option<&mut Limiter> {
        self.limiters[dimension.index()].as_mut()
    }

    /// Changes the limit of a dimension that has one. What is used stays used.
    pub fn set_limit(&mut self, dimension: Dimension, limit: u64, now: Instant) {
        if let Some(limiter) = self.limiter(dimension) {
            limiter.set_limit(limit, now);
        }
    }

    fn each(&mut self) -> impl Iterator<Item = (Dimension, &mut Limiter)> {
        Dimension::ALL
            .into_iter()
            .zip(self.limiters.iter_mut())
            .filter_map(|(dimension, limiter)| limiter.as_mut().map(|limiter| (dimension, limiter)))
    }
}
