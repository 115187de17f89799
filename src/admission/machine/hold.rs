//! A limit that comes back in hours, by the upstream's word: everybody is told so at once, and one request a minute asks whether
//! it still holds.

use std::time::Duration;

use crate::admission::moment::Moment;

/// A wait that a refusal names for longer than this is a hold: shorter ones are waited out.
pub(super) const LONG: Duration = Duration::from_mins(1);

/// One probe in this time.
const PROBE: Duration = Duration::from_mins(1);

/// What the upstream said about when it takes requests again. There is no hold while `until` is in the past.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hold {
    until: Moment,
    /// When the refusal came: what was granted later and is answered well proves that it is over.
    since: Moment,
    next_probe: Moment,
}

impl Hold {
    /// A refusal named a time to wait that holds for every request.
    pub(super) fn refused(&mut self, wait: Duration, now: Moment) {
        if wait > LONG {
            *self = Self { until: now.plus(wait), since: now, next_probe: now.plus(PROBE) };
        }
    }

    /// An attempt that was granted at `granted` was answered well.
    pub(super) fn accepted(&mut self, granted: Moment) {
        if granted > self.since {
            self.until = Moment::START;
        }
    }

    /// While no request may go: until when, and when the next one may ask.
    pub(super) fn holds(&self, now: Moment) -> Option<(Moment, Moment)> {
        (self.until > now && self.next_probe > now).then_some((self.until, self.next_probe))
    }

    /// An attempt goes: during a hold, it is the one that asks.
    pub(super) fn passed(&mut self, now: Moment) {
        if self.until > now {
            self.next_probe = now.plus(PROBE);
        }
    }

    /// When requests are taken again, by what is known.
    pub(super) fn until(&self) -> Moment {
        self.until
    }
}
