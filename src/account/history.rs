//! Errors of the last hour by class and minute, for the status page's counts and sparklines.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::classify::ErrorClass;
use crate::clock::Instant;

/// Minutes in the history.
pub const MINUTES: usize = 60;

const CLASSES: usize = ErrorClass::ALL.len();

/// The last hour of one error class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassHistory {
    /// The class.
    pub class: ErrorClass,
    /// Attempts with this class: the upstream's errors.
    pub attempts: u64,
    /// Requests with this class: the callers' errors.
    pub requests: u64,
    /// Errors per minute, the oldest first; a request and its last attempt count once.
    pub minutes: [u32; MINUTES],
    /// Time since the last one, to the minute.
    pub last_seen: Duration,
}

/// A ring of minutes. Only errors lock it.
#[derive(Debug)]
pub struct History {
    started: Instant,
    ring: Mutex<Box<[Minute]>>,
}

#[derive(Clone, Copy, Debug)]
struct Minute {
    /// The minute that the counts belong to, since the start.
    number: u64,
    attempts: [u32; CLASSES],
    requests: [u32; CLASSES],
}

const EMPTY: Minute = Minute { number: 0, attempts: [0; CLASSES], requests: [0; CLASSES] };

impl History {
    /// An empty history whose first minute begins at `now`.
    pub fn new(now: Instant) -> Self {
        Self { started: now, ring: Mutex::new(vec![EMPTY; MINUTES].into_boxed_slice()) }
    }

    /// Counts an attempt that ended with `class`.
    pub fn attempt(&self, class: ErrorClass, now: Instant) {
        self.at(now, |minute| add(&mut minute.attempts[class.index()]));
    }

    /// Counts a request that ended with `class`.
    pub fn request(&self, class: ErrorClass, now: Instant) {
        self.at(now, |minute| add(&mut minute.requests[class.index()]));
    }

    /// Every class of the last hour, the most frequent first.
    pub fn classes(&self, now: Instant) -> Vec<ClassHistory> {
        let current = self.number(now);
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut seen: Vec<ClassHistory> =
            ErrorClass::ALL.into_iter().filter_map(|class| summary(&ring, class, current)).collect();
        seen.sort_by_key(|class| std::cmp::Reverse(class.attempts.max(class.requests)));
        seen
    }

    fn at(&self, now: Instant, count: impl FnOnce(&mut Minute)) {
        let number = self.number(now);
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let minute = &mut ring[place(number)];
        if minute.number != number {
            *minute = Minute { number, ..EMPTY };
        }
        count(minute);
    }

    fn number(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.started).as_secs() / 60
    }
}

fn add(count: &mut u32) {
    *count = count.saturating_add(1);
}

fn place(number: u64) -> usize {
    usize::try_from(number % MINUTES as u64).unwrap_or_default()
}

fn summary(ring: &[Minute], class: ErrorClass, current: u64) -> Option<ClassHistory> {
    let mut history =
        ClassHistory { class, attempts: 0, requests: 0, minutes: [0; MINUTES], last_seen: Duration::ZERO };
    for (index, shown) in history.minutes.iter_mut().enumerate() {
        let Some(number) = (current + index as u64 + 1).checked_sub(MINUTES as u64) else { continue };
        let minute = &ring[place(number)];
        if minute.number != number {
            continue;
        }
        let (attempts, requests) = (minute.attempts[class.index()], minute.requests[class.index()]);
        history.attempts += u64::from(attempts);
        history.requests += u64::from(requests);
        *shown = attempts.max(requests);
        if *shown > 0 {
            history.last_seen = Duration::from_mins(current - number);
        }
    }
    (history.attempts + history.requests > 0).then_some(history)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[tokio::test(start_paused = true)]
    async fn forgets_after_an_hour() {
        let start = clock::now();
        let history = History::new(start);
        let minute = |number: u64| start + Duration::from_mins(number);
        history.attempt(ErrorClass::Overloaded, minute(0));
        history.attempt(ErrorClass::Overloaded, minute(0));
        history.request(ErrorClass::Overloaded, minute(1));
        history.request(ErrorClass::WeirDeadline, minute(1));
        let seen = history.classes(minute(1));
        assert_eq!(seen.len(), 2);
        assert_eq!((seen[0].class, seen[0].attempts, seen[0].requests), (ErrorClass::Overloaded, 2, 1));
        assert_eq!(seen[0].minutes[MINUTES - 2..], [2, 1]);
        assert_eq!(seen[0].last_seen, Duration::ZERO);
        let later = history.classes(minute(60));
        assert_eq!(later[0].attempts, 0, "minute 0 is 60 minutes ago");
        assert_eq!(later[0].minutes[0], 1);
        assert_eq!(later[0].last_seen, Duration::from_mins(59));
        assert!(history.classes(minute(61)).is_empty());
        history.attempt(ErrorClass::SlowDown, minute(120));
        let reused = history.classes(minute(120));
        assert_eq!((reused.len(), reused[0].attempts), (1, 1), "a slot of the ring starts again at 0");
    }
}
