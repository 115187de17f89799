//! The last five minutes by caller: requests, errors by class, and when each was last seen.
//!
//! A successful request costs two relaxed stores to its caller's memory; only errors take the lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::caller::CallerId;
use crate::classify::ErrorClass;
use crate::clock::Instant;

/// Minutes that count as recent, including the current one.
pub const RECENT_MINUTES: u64 = 5;
/// Entries in each ring: one more than is read.
const PLACES: usize = 6;
/// Callers with their own entry; all others share the last one. 57 KB.
const CALLERS: usize = 1_024;
/// Most entries of errors by caller and class; the one without errors for longest is replaced.
const MAX_PAIRS: usize = 512;
/// Bits of a ring entry that contain its count; the others contain its minute.
const COUNT_BITS: u32 = 32;

/// Requests and errors of the last minutes.
#[derive(Debug)]
pub struct Recent {
    started: Instant,
    callers: Box<[CallerMinutes]>,
    pairs: Mutex<Vec<Pair>>,
}

#[derive(Debug, Default)]
struct CallerMinutes {
    requests: [AtomicU64; PLACES],
    /// The time of the last success in milliseconds since the start, plus one; 0 before the first.
    success: AtomicU64,
}

/// The recent errors of one class and caller.
#[derive(Clone, Debug)]
struct Pair {
    caller: CallerId,
    class: ErrorClass,
    /// Whether the requests spent more time in Weir's queue than upstream.
    queued: bool,
    minutes: [Counts; PLACES],
    last: Instant,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    minute: u64,
    attempts: u32,
    requests: u32,
}

/// The recent requests of one caller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallerRecent {
    /// Requests that ended.
    pub requests: u64,
    /// Time since the last success, if there was one.
    pub success: Option<Duration>,
}

/// The recent errors of one class and caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecentErrors {
    /// The caller.
    pub caller: CallerId,
    /// The class.
    pub class: ErrorClass,
    /// Whether the requests spent more time in Weir's queue than upstream.
    pub queued: bool,
    /// Attempts with this error.
    pub attempts: u64,
    /// Requests with this error.
    pub requests: u64,
    /// Time since the last one.
    pub last: Duration,
}

impl Recent {
    pub(super) fn new(now: Instant) -> Self {
        let callers = (0..CALLERS).map(|_| CallerMinutes::default()).collect();
        Self { started: now, callers, pairs: Mutex::default() }
    }

    /// Counts a request that ended.
    pub(super) fn ended(&self, caller: CallerId, success: bool, now: Instant) {
        let of = self.of(caller);
        let since = now.saturating_duration_since(self.started);
        let minute = since.as_secs() / 60;
        let counted =
            |held: u64| Some(if held >> COUNT_BITS == minute { held + 1 } else { minute << COUNT_BITS | 1 });
        // Never fails: the closure always returns `Some`.
        of.requests[place(minute)].fetch_update(Ordering::Relaxed, Ordering::Relaxed, counted).ok();
        if success {
            let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX - 1);
            of.success.store(millis + 1, Ordering::Relaxed);
        }
    }

    /// Counts an attempt that ended with an error.
    pub(super) fn attempt(&self, caller: CallerId, class: ErrorClass, queued: bool, now: Instant) {
        self.count((caller, class, queued), now, |counts| {
            counts.attempts = counts.attempts.saturating_add(1);
        });
    }

    /// Counts a request that ended with an error.
    pub(super) fn request(&self, caller: CallerId, class: ErrorClass, queued: bool, now: Instant) {
        self.count((caller, class, queued), now, |counts| {
            counts.requests = counts.requests.saturating_add(1);
        });
    }

    /// The recent requests of a caller.
    pub fn caller(&self, caller: CallerId, now: Instant) -> CallerRecent {
        let (of, minute) = (self.of(caller), self.minute(now));
        let held = of.requests.iter().map(|place| place.load(Ordering::Relaxed));
        let fresh = held.filter(|held| is_recent(held >> COUNT_BITS, minute));
        let success = of.success.load(Ordering::Relaxed).checked_sub(1).map(Duration::from_millis);
        CallerRecent {
            requests: fresh.map(|held| held & u64::from(u32::MAX)).sum(),
            success: success.map(|at| now.saturating_duration_since(self.started).saturating_sub(at)),
        }
    }

    /// All recent errors, the most frequent first.
    pub fn errors(&self, now: Instant) -> Vec<RecentErrors> {
        let minute = self.minute(now);
        let pairs = self.pairs.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut seen: Vec<RecentErrors> = pairs
            .iter()
            .map(|pair| {
                let fresh = || pair.minutes.iter().filter(|counts| is_recent(counts.minute, minute));
                RecentErrors {
                    caller: pair.caller,
                    class: pair.class,
                    queued: pair.queued,
                    attempts: fresh().map(|counts| u64::from(counts.attempts)).sum(),
                    requests: fresh().map(|counts| u64::from(counts.requests)).sum(),
                    last: now.saturating_duration_since(pair.last),
                }
            })
            .filter(|errors| errors.attempts + errors.requests > 0)
            .collect();
        seen.sort_by_key(|errors| std::cmp::Reverse((errors.requests, errors.attempts)));
        seen
    }

    fn count(
        &self,
        (caller, class, queued): (CallerId, ErrorClass, bool),
        now: Instant,
        count: impl FnOnce(&mut Counts),
    ) {
        let minute = self.minute(now);
        let mut pairs = self.pairs.lock().unwrap_or_else(PoisonError::into_inner);
        let known = pairs
            .iter()
            .position(|pair| pair.caller == caller && pair.class == class && pair.queued == queued);
        let at = known.unwrap_or_else(|| {
            if pairs.len() >= MAX_PAIRS
                && let Some(quiet) = (0..pairs.len()).min_by_key(|at| pairs[*at].last)
            {
                pairs.swap_remove(quiet);
            }
            pairs.push(Pair { caller, class, queued, minutes: [Counts::default(); PLACES], last: now });
            pairs.len() - 1
        });
        let pair = &mut pairs[at];
        pair.last = now;
        let counts = &mut pair.minutes[place(minute)];
        if counts.minute != minute {
            *counts = Counts { minute, ..Counts::default() };
        }
        count(counts);
    }

    fn of(&self, caller: CallerId) -> &CallerMinutes {
        &self.callers[usize::from(caller.0).min(self.callers.len() - 1)]
    }

    fn minute(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.started).as_secs() / 60
    }
}

fn is_recent(minute: u64, current: u64) -> bool {
    current.saturating_sub(minute) < RECENT_MINUTES
}

fn place(minute: u64) -> usize {
    usize::try_from(minute % PLACES as u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[tokio::test(start_paused = true)]
    async fn five_minutes_are_recent_and_the_sixth_is_not() {
        let start = clock::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let recent = Recent::new(start);
        let (chat, class) = (CallerId(0), ErrorClass::ModelNotFound);
        recent.ended(chat, true, at(0));
        recent.ended(chat, false, at(30));
        recent.attempt(chat, class, false, at(30));
        recent.request(chat, class, false, at(30));
        let known = recent.caller(chat, at(299));
        assert_eq!(known, CallerRecent { requests: 2, success: Some(Duration::from_secs(299)) });
        let errors = recent.errors(at(299));
        assert_eq!(errors.len(), 1);
        assert_eq!((errors[0].attempts, errors[0].requests), (1, 1));
        assert_eq!(errors[0].last, Duration::from_secs(269));
        assert_eq!(recent.caller(chat, at(300)).requests, 0);
        assert!(recent.errors(at(300)).is_empty());
        recent.ended(chat, true, at(360));
        assert_eq!(recent.caller(chat, at(360)).requests, 1, "a place that is used again starts at 0");
    }

    #[tokio::test(start_paused = true)]
    async fn what_waited_in_the_queue_is_told_apart_and_all_is_bounded() {
        let start = clock::now();
        let recent = Recent::new(start);
        recent.request(CallerId(0), ErrorClass::TimeoutResponse, true, start);
        recent.request(CallerId(0), ErrorClass::TimeoutResponse, false, start);
        assert_eq!(recent.errors(start).len(), 2);
        for id in 0..=u16::MAX {
            recent.ended(CallerId(id), false, start);
            recent.request(CallerId(id), ErrorClass::BadRequest, false, start);
        }
        assert_eq!(recent.errors(start).len(), MAX_PAIRS);
        assert_eq!(recent.caller(CallerId(0), start).requests, 1);
    }
}
