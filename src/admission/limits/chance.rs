//! Refusals that come whatever the pace: a part of the attempts is refused by chance.
//!
//! A limit that was measured takes what goes below it. Where the rate was lowered again and again,
//! and one attempt was refused each time before it rose again, the pace is not what is refused.
//! Such a part of the attempts is then borne for a while, and only more of it is a limit.

use crate::admission::moment::Moment;

use super::HOLD;

/// Times in a row at which lowering the rate was in vain.
const VAIN: u32 = 4;
/// What is borne, as a multiple of the part that was refused in those times; and at most.
const BORNE: (f64, f64) = (3.0, 0.3);
/// Refusals beyond that part which are no chance.
const BEYOND: f64 = 5.0;

/// What is known of refusals by chance.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Chance {
    /// Times in a row at which lowering the rate was in vain, the highest rate that met one, in
    /// cells a second, and the attempts that were taken and refused since the first.
    vain: u32,
    rate: f64,
    taken: u32,
    refused: u32,
    /// The part of the attempts that is borne, and until when.
    borne: f64,
    until: Option<Moment>,
    /// Refusals beyond it.
    beyond: f64,
}

impl Chance {
    /// An attempt was taken.
    pub(super) fn taken(&mut self) {
        self.taken = self.taken.saturating_add(1);
        self.beyond = (self.beyond - self.borne).max(0.0);
    }

    /// An attempt was refused: whether that is borne.
    pub(super) fn bears(&mut self, now: Moment) -> bool {
        if self.until.is_none_or(|until| now >= until) {
            return false;
        }
        self.beyond += 1.0;
        let bears = self.beyond <= BEYOND;
        if !bears {
            *self = Self::default();
        }
        bears
    }

    /// A time of being refused ended that allows no such conclusion.
    pub(super) fn restart(&mut self) {
        *self = Self::default();
    }

    /// A time of being refused ended that began at `rate`. That was lower than the limit where it
    /// was `measured`. Returns the rate to go back to where chance explains such times.
    pub(super) fn lowered(&mut self, rate: f64, measured: bool, now: Moment) -> Option<f64> {
        if self.vain == 0 {
            (self.taken, self.refused) = (0, 0);
        }
        self.vain += u32::from(measured);
        self.refused += 1;
        self.rate = self.rate.max(rate);
        if self.vain < VAIN {
            return None;
        }
        let part = f64::from(self.refused - 1) / f64::from(self.taken.max(1));
        let borne = (part * BORNE.0).min(BORNE.1);
        let rate = self.rate;
        *self = Self { borne, until: Some(now.plus(HOLD.0)), ..Self::default() };
        Some(rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_measurements_in_vain_are_chance_for_a_while_and_more_refusals_are_none() {
        let now = Moment::START.plus_seconds(1.0);
        let mut chance = Chance::default();
        for rate in [20.0, 19.0, 18.0] {
            assert_eq!(chance.lowered(rate, true, now), None);
            (0..20).for_each(|_| chance.taken());
        }
        assert_eq!(chance.lowered(17.0, true, now), Some(20.0));
        for _ in 0..100 {
            (0..19).for_each(|_| chance.taken());
            assert!(chance.bears(now), "one of twenty");
        }
        let borne = (0..10).take_while(|_| chance.bears(now)).count();
        assert!((4..=6).contains(&borne), "{borne}");
        assert!(!chance.bears(now.plus(HOLD.0)));
    }

    #[test]
    fn a_guess_that_was_too_high_is_no_measurement() {
        let mut chance = Chance::default();
        for _ in 0..20 {
            assert_eq!(chance.lowered(20.0, false, Moment::START), None);
        }
    }
}
