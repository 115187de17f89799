//! Virtual time: what a flow was served, divided by its weight.

/// A moment of virtual time, in parts of 2⁸⁰ of a window of the limit that binds, at weight 1. At
/// the largest weight, 10⁶, a millionth of a limit is still a million parts; a window served each
/// second lasts for millions of years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tag(u128);

/// 2⁶⁰: more bits of a float's share than it has.
const SCALE: f64 = (1_u64 << 60) as f64;
/// The further bits, for the weight to divide.
const FRACTION: u32 = 20;
/// The most that one request is counted as, in windows of the limit.
const MOST: f64 = 1e6;

impl Tag {
    pub(super) const START: Self = Self(0);

    /// The moment after a dominant share was served at a weight.
    pub(super) fn after(self, share: f64, weight: u32) -> Self {
        Self(self.0.saturating_add(parts(share) / u128::from(weight.max(1))))
    }

    /// The moment after a dominant share was served to a class with this part of the service.
    pub(super) fn after_part(self, share: f64, part: f64) -> Self {
        Self(self.0.saturating_add(parts(share / part)))
    }

    /// The moment before by the time that a share takes at a weight.
    pub(super) fn before(self, share: f64, weight: u32) -> Self {
        Self(self.0.saturating_sub(parts(share) / u128::from(weight.max(1))))
    }

    /// In windows of the limit.
    pub(super) fn as_windows(self) -> f64 {
        self.0 as f64 / (SCALE * f64::from(1 << FRACTION))
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between 0 and 2⁸⁰, and not a number is 0"
)]
fn parts(share: f64) -> u128 {
    // Nothing is free: who sends what costs nothing must not pass all others for ever.
    (((share.clamp(0.0, MOST) * SCALE) as u128) << FRACTION).max(1 << FRACTION)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_cost_at_the_largest_weight_counts_exactly() {
        let (mut one, mut million) = (Tag::START.after(1e6, 1), Tag::START.after(1e6, 1));
        one = one.after(1e-6, 1);
        for _ in 0..1_000_000 {
            million = million.after(1e-6, 1_000_000);
        }
        let apart = (one.as_windows() - million.as_windows()).abs();
        assert!(one.0.abs_diff(million.0) < 1 << 21, "{apart}");
        assert!(Tag::START.after(0.0, 1_000_000) > Tag::START && Tag::START.after(f64::NAN, 1) > Tag::START);
        assert_eq!(Tag::START.before(5.0, 1), Tag::START);
    }
}
