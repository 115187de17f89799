//! Time as the pure machines see it: nanoseconds since the scopes were made.

use std::time::Duration;

/// A moment, in nanoseconds since the start of the scope's clock.
///
/// Everything saturates: a moment is never before [`Moment::START`] nor after [`Moment::NEVER`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    /// The clock's start.
    pub const START: Self = Self(0);
    /// Later than anything that happens: 146 years. What is added to it still fits into 64 bits.
    pub const NEVER: Self = Self(1 << 62);

    /// The moment `nanos` nanoseconds after the start.
    pub const fn from_nanos(nanos: u64) -> Self {
        if nanos > Self::NEVER.0 { Self::NEVER } else { Self(nanos) }
    }

    /// Nanoseconds since the start.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The moment `span` later.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self::from_nanos(self.0.saturating_add(nanos(span)))
    }

    /// The moment `seconds` seconds later; nonsense (negative, not a number) counts as 0.
    #[must_use]
    pub fn plus_seconds(self, seconds: f64) -> Self {
        Self::from_nanos(self.0.saturating_add(nanos_of(seconds)))
    }

    /// The moment `span` earlier.
    #[must_use]
    pub fn minus(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(span)))
    }

    /// The moment `seconds` seconds earlier; nonsense counts as 0.
    #[must_use]
    pub fn minus_seconds(self, seconds: f64) -> Self {
        Self(self.0.saturating_sub(nanos_of(seconds)))
    }

    /// How long after `earlier` this is; zero where it is before.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Whether this is `span` or more after `earlier`.
    pub fn is_after(self, earlier: Self, span: Duration) -> bool {
        self.0.saturating_sub(earlier.0) >= nanos(span)
    }

    /// [`Moment::since`] in seconds.
    pub fn seconds_since(self, earlier: Self) -> f64 {
        // A signed number, as it fits into one, is made a float with fewer instructions.
        self.0.saturating_sub(earlier.0).cast_signed() as f64 * 1e-9
    }
}

/// In 64 bits, saturating.
fn nanos(span: Duration) -> u64 {
    span.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(span.subsec_nanos()))
}

/// Seconds as a duration, between 0 and a century; what is not a number is 0.
pub(crate) fn duration(seconds: f64) -> Duration {
    Duration::from_nanos(nanos_of(seconds))
}

/// The same in nanoseconds.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within 62 bits, by the bounds")]
fn nanos_of(seconds: f64) -> u64 {
    const CENTURY: f64 = 3_155_760_000.0;
    // To the nearest nanosecond. The cast sends what is not a number to 0.
    (seconds.clamp(0.0, CENTURY) * 1e9 + 0.5) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_overflows() {
        assert_eq!(Moment::NEVER.plus(Duration::MAX), Moment::NEVER);
        assert_eq!(Moment::START.minus(Duration::MAX), Moment::START);
        assert_eq!(Moment::START.plus_seconds(f64::NAN), Moment::START);
        assert_eq!(Moment::START.plus_seconds(-3.0), Moment::START);
        assert_eq!(Moment::from_nanos(5).minus_seconds(f64::NAN), Moment::from_nanos(5));
        assert_eq!(Moment::from_nanos(5).minus_seconds(f64::INFINITY), Moment::START);
        assert!(Moment::START.plus_seconds(f64::INFINITY) < Moment::NEVER);
        assert_eq!(Moment::from_nanos(5).since(Moment::from_nanos(9)), Duration::ZERO);
    }
}
