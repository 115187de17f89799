//! Whether refusals are by a bound on attempts in flight: such a bound refuses only where about as
//! many are in flight as it ever took beside another one, and a rate refuses at any number.

/// A refusal is weighed against this number of attempts that were taken,
const WEIGHED: u32 = 30;
/// and may be by a bound in flight where at least this many others were in flight,
const LEAST_BOUND: u32 = 4;
/// and no fewer than this part of what was taken beside: what is on its way does not count upstream
/// yet.
const NEAR: f64 = 0.85;
/// Refusals in a row that a bound must explain before it is believed.
const BELIEVED: u32 = 2;

/// What speaks for a bound in flight.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AtOnce {
    /// The most others that were in flight beside an attempt that was taken, since the last
    /// refusal.
    most: u32,
    /// The attempts that were taken since then.
    taken: u32,
    /// Refusals in a row that a bound explains.
    explained: u32,
}

impl AtOnce {
    /// An attempt was taken, beside which `in_flight` others were.
    pub(super) fn taken(&mut self, in_flight: u32) {
        self.most = self.most.max(in_flight);
        self.taken = self.taken.saturating_add(1);
    }

    /// Counts anew from here on.
    pub(super) fn restart(&mut self) {
        (self.most, self.taken) = (0, 0);
    }

    /// An attempt was refused, beside which `in_flight` others were: whether a bound is believed to
    /// be what refuses.
    pub(super) fn explains(&mut self, in_flight: u32) -> bool {
        let fits = in_flight >= LEAST_BOUND && f64::from(in_flight) >= f64::from(self.most) * NEAR;
        self.explained = match (self.taken >= WEIGHED, fits) {
            (true, true) => self.explained + 1,
            (true, false) => 0,
            // Too little was taken since the last one to tell: it is no proof, and no reason to go
            // on without a pause.
            (false, _) => self.explained.min(BELIEVED - 1),
        };
        self.explained >= BELIEVED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_refuses_at_its_top_and_a_rate_anywhere() {
        let outcome = |refused_at: [u32; 3]| {
            let mut filter = AtOnce::default();
            refused_at.map(|refused| {
                (0..100).for_each(|step| filter.taken(step % 20));
                let explains = filter.explains(refused);
                filter.restart();
                explains
            })
        };
        assert_eq!(outcome([20, 19, 20]), [false, true, true]);
        assert_eq!(outcome([20, 12, 20]), [false, false, false]);
        assert_eq!(outcome([3, 3, 3]), [false, false, false]);
    }

    #[test]
    fn refusals_one_after_the_other_stop_everything() {
        let mut filter = AtOnce::default();
        for _ in 0..2 {
            (0..100).for_each(|_| filter.taken(20));
            filter.explains(20);
            filter.restart();
        }
        assert!(!filter.explains(20), "nothing was taken in between");
    }
}
