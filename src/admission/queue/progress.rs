//! How fast a lane's virtual time moves on while callers wait.

use crate::admission::moment::Moment;

/// The time over which the progress is averaged, in seconds: a request waits for about as long, and
/// those that never wait take another part of the limit in each second.
const AVERAGED: f64 = 20.0;
/// The shortest time that is a measure, in seconds.
const LEAST: f64 = 4.0;
/// A longer pause was an outage or a hold, in seconds: what was measured before is no measure of
/// what comes.
const PAUSE: f64 = 2.0 * LEAST;

/// The factor within which two dominant shares of one request count as parts of the same limit: a
/// smaller change distorts the measure by no more than itself, and fades.
const ALIKE: f64 = 2.0;

/// Whether two dominant shares of one request, at different moments, are parts of the same limit.
pub(super) fn are_alike(one: f64, other: f64) -> bool {
    one <= other * ALIKE && other <= one * ALIKE
}

/// The virtual time that passed lately while requests of the lane waited. It knows what their
/// backlogs don't: how much of the limit those take who never wait for long.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    /// When a request was served last.
    served: Option<Moment>,
    /// Windows of the limit at weight 1, and the seconds in which they passed: both fade.
    windows: f64,
    seconds: f64,
}

impl Progress {
    /// A request was served, and the virtual time moved on by `windows`.
    pub(super) fn served(&mut self, windows: f64, now: Moment) {
        let Some(served) = self.served.replace(now) else { return };
        let seconds = now.seconds_since(served);
        if seconds >= PAUSE {
            (self.windows, self.seconds) = (0.0, 0.0);
            return;
        }
        let kept = AVERAGED / (AVERAGED + seconds);
        self.windows = self.windows * kept + windows;
        self.seconds = self.seconds * kept + seconds;
    }

    /// A request was served once more after a refusal: the virtual time stood still, and neither it
    /// nor the seconds are a measure.
    pub(super) fn served_again(&mut self, now: Moment) {
        self.served = Some(now);
    }

    /// Seconds until the virtual time has moved on by `windows`.
    pub(super) fn wait(&self, windows: f64, now: Moment) -> Option<f64> {
        let since = now.seconds_since(self.served?);
        let is_measure = self.seconds >= LEAST && since < PAUSE && self.windows > 0.0;
        is_measure.then(|| (windows * self.seconds / self.windows - since).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_served_again_is_no_measure() {
        let mut progress = Progress::default();
        let at = |seconds: f64| Moment::START.plus_seconds(seconds);
        for second in 0..20 {
            progress.served(1.0, at(f64::from(second)));
            progress.served_again(at(f64::from(second) + 0.5));
        }
        let wait = progress.wait(5.0, at(19.5)).expect("it is measured");
        assert!((wait - 2.5).abs() < 0.01, "{wait}");
        assert!(are_alike(0.1, 0.15) && are_alike(0.15, 0.1) && !are_alike(0.1, 0.3) && !are_alike(0.1, 0.0));
    }

    #[test]
    fn what_was_held_is_no_measure_of_what_comes() {
        let mut progress = Progress::default();
        let at = |seconds: f64| Moment::START.plus_seconds(seconds);
        for tenth in 0..200 {
            progress.served(0.1, at(f64::from(tenth) * 0.1));
        }
        let wait = progress.wait(5.0, at(19.9)).unwrap();
        assert!((wait - 5.0).abs() < 0.01, "{wait}");
        // An outage: nothing for ten seconds. The first that is served afterwards must not be the
        // measure.
        assert_eq!(progress.wait(5.0, at(29.0)), None);
        progress.served(0.1, at(30.0));
        assert_eq!(progress.wait(5.0, at(30.0)), None);
    }
}
