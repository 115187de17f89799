//! Weir's id of a request.

use std::fmt;

/// Weir's id of a request: the `x-request-id` of Weir's own responses, also in the log and the
/// reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(u128);

impl RequestId {
    /// A new id.
    pub fn new(rng: &mut fastrand::Rng) -> Self {
        Self(rng.u128(..))
    }

    /// Whether this id falls into a random sample of all requests of size `share`.
    pub(super) fn sampled(self, share: f64) -> bool {
        #[expect(clippy::cast_possible_truncation, reason = "any 32 of the random bits will do")]
        let drawn = self.0 as u32;
        f64::from(drawn) < share * (f64::from(u32::MAX) + 1.0)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "weir_{:032x}", self.0)
    }
}
