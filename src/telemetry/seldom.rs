//! For a line that would otherwise be said again and again.

use std::time::Duration;

use crate::clock::Instant;

/// How long what was said is known.
const PAUSE: Duration = Duration::from_secs(10);

/// Says when something that goes on may be said again: every ten seconds.
#[derive(Debug, Default)]
pub struct Seldom {
    last: Option<Instant>,
}

impl Seldom {
    /// Whether it is to be said at `now`; if so, it counts as said.
    pub fn again(&mut self, now: Instant) -> bool {
        let again = self.last.is_none_or(|last| now.saturating_duration_since(last) >= PAUSE);
        if again {
            self.last = Some(now);
        }
        again
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn what_goes_on_is_said_every_ten_seconds() {
        let (mut seldom, start) = (Seldom::default(), clock::now());
        let said: Vec<u64> =
            (0..35).filter(|second| seldom.again(start + Duration::from_secs(*second))).collect();
        assert_eq!(said, [0, 10, 20, 30]);
    }
}
