//! What a connection is waiting for, and for how long it may.
//!
//! The clock is read and the timer set only when a connection's wait changes, never for each request: a timer that fires
//! too early is set again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::Context;
use std::time::Duration;

use crate::clock::{self, Instant, Timer};

use super::{Limit, Settings};

/// What happened on a connection, as its parts report it. All orderings are relaxed: one task does it all, but for the
/// streams of HTTP/2, which may be a moment late.
#[derive(Debug, Default)]
pub(super) struct Activity {
    /// Requests whose answers are not complete.
    requests: AtomicU32,
    /// Requests begun and ended, and writes that went on after a wait: a wait that saw one of these is a new wait.
    progress: AtomicU32,
    /// Whether bytes came that belong to no request yet.
    head_begun: AtomicBool,
    /// Whether the client has yet to take what it was sent.
    write_waits: AtomicBool,
    /// Whether it speaks HTTP/2: many requests come in one read then.
    pub(super) http2: bool,
}

/// A request from its head to the end of its answer.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Activity>);

impl Activity {
    /// Of a connection that speaks HTTP/2 or does not.
    pub(super) fn new(http2: bool) -> Arc<Self> {
        Arc::new(Self { http2, ..Self::default() })
    }

    pub(super) fn begin(self: &Arc<Self>) -> InFlight {
        self.head_begun.store(false, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.progress.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }

    /// Requests under way.
    pub(super) fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }

    pub(super) fn read(&self) {
        if self.requests.load(Ordering::Relaxed) == 0 {
            self.head_begun.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn write(&self, waits: bool) {
        if self.write_waits.load(Ordering::Relaxed) {
            if !waits {
                self.write_waits.store(false, Ordering::Relaxed);
                self.progress.fetch_add(1, Ordering::Relaxed);
            }
        } else if waits {
            self.write_waits.store(true, Ordering::Relaxed);
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
        self.0.progress.fetch_add(1, Ordering::Relaxed);
    }
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// Its first request, or the rest of a head.
    Head,
    /// Another request.
    Idle,
    /// The service.
    Service,
    /// The client, to take what it was sent.
    Write,
}

/// Watches one connection.
#[derive(Debug)]
pub(super) struct Watch {
    activity: Arc<Activity>,
    /// Over HTTP/2, bytes without a request may be pings and window updates.
    http2: bool,
    wait: Wait,
    progress: u32,
    deadline: Option<Instant>,
    timer: Timer,
}

impl Watch {
    /// Watches a connection that began at `since` and waits for its first request.
    pub(super) fn new(activity: Arc<Activity>, settings: &Settings, http2: bool, since: Instant) -> Self {
        let deadline = since + settings.head_timeout;
        Self {
            activity,
            http2,
            wait: Wait::Head,
            progress: 0,
            deadline: Some(deadline),
            timer: Timer::new(deadline),
        }
    }

    /// The limit that the connection has now reached, if any. To be called after each poll of the connection. The settings are
    /// those that it began with: each connection need not have room for them.
    pub(super) fn check(&mut self, settings: &Settings, cx: &mut Context<'_>) -> Option<Limit> {
        self.observe(settings);
        // Looked at first: the timer lies apart in memory, and most polls find a request with the service.
        let deadline = self.deadline?;
        loop {
            if self.timer.poll_fired(cx).is_pending() {
                return None;
            }
            if deadline <= self.timer.deadline() {
                return match self.wait {
                    Wait::Head => Some(Limit::HeadTimeout),
                    Wait::Idle => Some(Limit::IdleTimeout),
                    Wait::Write => Some(Limit::WriteTimeout),
                    Wait::Service => None,
                };
            }
            self.timer.reset(deadline);
        }
    }

    /// Gives a connection that was told to end some time to do so.
    pub(super) fn allow(&mut self, time: Duration) {
        let deadline = clock::now() + time;
        self.deadline = Some(deadline);
        self.timer.reset(deadline);
    }

    fn observe(&mut self, settings: &Settings) {
        let progress = self.activity.progress.load(Ordering::Relaxed);
        let wait = if self.activity.write_waits.load(Ordering::Relaxed) {
            Wait::Write
        } else if self.activity.requests.load(Ordering::Relaxed) > 0 {
            Wait::Service
        } else if progress == 0 || (!self.http2 && self.activity.head_begun.load(Ordering::Relaxed)) {
            Wait::Head
        } else {
            Wait::Idle
        };
        if wait == self.wait && progress == self.progress {
            return;
        }
        self.wait = wait;
        self.progress = progress;
        let allowed = match wait {
            Wait::Head => settings.head_timeout,
            Wait::Idle => settings.idle_timeout,
            Wait::Write => settings.write_timeout,
            Wait::Service => {
                self.deadline = None;
                return;
            }
        };
        let deadline = clock::now() + allowed;
        self.deadline = Some(deadline);
        // A timer that fires earlier than needed is set again then; one that fires later must be set now.
        if deadline < self.timer.deadline() || self.timer.has_fired() {
            self.timer.reset(deadline);
        }
    }
}
