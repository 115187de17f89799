//! A limit that comes back later than callers wait, by the upstream's word: they are told so at
//! once. While it is to come back in hours, one request a minute asks whether that still holds.

use std::sync::Arc;
use std::time::Duration;

use crate::admission::moment::Moment;
use crate::admission::refusal::UpstreamWords;

/// A wait that a refusal names for longer than this is a hold: shorter ones are waited out. While
/// it lasts one probe goes in this time.
pub(super) use crate::admission::limits::USUAL_WINDOW as LONG;

/// What the upstream said about when it takes requests again. There is no hold while `until` is in
/// the past.
#[derive(Clone, Debug, Default)]
pub(super) struct Hold {
    until: Moment,
    /// When the refusal came: what was granted later and is answered well proves that it is over.
    since: Moment,
    next_probe: Moment,
    told: Option<Box<Told>>,
}

/// The upstream's words and the moment that they name.
#[derive(Clone, Debug)]
struct Told {
    until: Moment,
    words: Arc<UpstreamWords>,
}

impl Hold {
    /// A refusal named a time to wait; `for_all` says that it holds for every request.
    pub(super) fn refused(
        &mut self,
        wait: Duration,
        for_all: bool,
        words: Option<Arc<UpstreamWords>>,
        now: Moment,
    ) {
        let until = now.plus(wait);
        if let Some(words) = words.filter(|_| self.told.as_ref().is_none_or(|told| told.until < until)) {
            self.told = Some(Box::new(Told { until, words }));
            self.since = now;
        }
        if for_all && wait > LONG {
            (self.until, self.since, self.next_probe) = (until, now, now.plus(LONG));
        }
    }

    /// An attempt that was granted at `granted` was answered well.
    pub(super) fn accepted(&mut self, granted: Moment) {
        if granted > self.since {
            self.until = Moment::START;
            self.told = None;
        }
    }

    /// The upstream's words, where it named a moment after `deadline`, and that moment.
    pub(super) fn told_beyond(&self, deadline: Moment) -> Option<(Arc<UpstreamWords>, Moment)> {
        let told = self.told.as_ref().filter(|told| told.until > deadline)?;
        Some((Arc::clone(&told.words), told.until))
    }

    /// While no request may go: until when, and when the next one may ask.
    pub(super) fn holds(&self, now: Moment) -> Option<(Moment, Moment)> {
        (self.until > now && self.next_probe > now).then_some((self.until, self.next_probe))
    }

    /// An attempt goes: during a hold, it is the one that asks.
    pub(super) fn passed(&mut self, now: Moment) {
        if self.until > now {
            self.next_probe = now.plus(LONG);
        }
    }

    /// When requests are taken again, by what is known.
    pub(super) fn until(&self) -> Moment {
        self.until
    }
}
