//! What a connection is waiting for, and for how long it may.
//!
//! The clock is read and the timer set only when a connection's wait changes, never for each
//! request: a timer that fires too early is set again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicUsize, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue};

use crate::clock::{self, Instant, Timer};

use super::Settings;
use super::drain::Phase;
use crate::metrics::Bound;
use crate::replay::ClientWaker;

/// What happened on a connection, as its parts report it. All orderings are relaxed: one task does
/// it all, but for the streams of HTTP/2, which may be a moment late.
#[derive(Debug, Default)]
pub(super) struct Activity {
    /// Requests whose answers are not complete.
    requests: AtomicU32,
    /// Requests begun and ended, and writes that went on after a wait: a wait that saw one of these
    /// is a new wait.
    progress: AtomicU32,
    /// Whether bytes came that belong to no request yet.
    head_begun: AtomicBool,
    /// Whether the client has yet to take what it was sent.
    write_waits: AtomicBool,
    /// Whether it speaks HTTP/2: many requests come in one read then.
    pub(super) http2: bool,
    /// Wakes the task that moves the connection.
    client: Arc<ClientWaker>,
    fields: Arc<ConnectionFields>,
    /// Bytes of answers that hyper holds and the client has not taken; not over HTTP/2.
    unwritten: AtomicUsize,
    /// Whether an answer's body waits for the client to take some of them.
    body_waits: AtomicBool,
    /// Whether it is to close, if it is idle, for a newcomer.
    yields: AtomicBool,
}

/// What answers over HTTP/1 say of their connection; one for all connections of a front.
#[derive(Debug, Default)]
pub(super) struct ConnectionFields {
    /// The phase of the drain.
    phase: Arc<AtomicU8>,
    /// `Keep-Alive: timeout=SECONDS`; nothing where connections are closed too soon for one.
    keep_alive: Option<HeaderValue>,
    /// Unwritten bytes at which an answer's body waits.
    most_unwritten: usize,
}

impl ConnectionFields {
    /// For connections that end with a drain of this phase, and are closed when they were idle for
    /// `idle_timeout`: clients are told a second less, so that none sends a request on a connection
    /// that is being closed.
    pub(super) fn new(phase: Arc<AtomicU8>, idle_timeout: Duration, most_unwritten: usize) -> Arc<Self> {
        let seconds = idle_timeout.as_secs().saturating_sub(1);
        let keep_alive =
            (seconds > 0).then(|| HeaderValue::from_str(&format!("timeout={seconds}")).ok()).flatten();
        Arc::new(Self { phase, keep_alive, most_unwritten })
    }

    /// Adds what an answer says of its connection. `closes` says that it closes after this answer
    /// anyway.
    fn write(&self, headers: &mut HeaderMap, closes: bool) {
        if self.phase.load(Ordering::Relaxed) >= Phase::Announced as u8 {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        } else if !closes && let Some(keep_alive) = &self.keep_alive {
            headers.insert(KEEP_ALIVE, keep_alive.clone());
        }
    }
}

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// A request from its head to the end of its answer.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Activity>);

impl Activity {
    /// Of a connection that speaks HTTP/2 or does not.
    pub(super) fn new(http2: bool, fields: Arc<ConnectionFields>) -> Arc<Self> {
        Arc::new(Self { http2, fields, ..Self::default() })
    }

    /// Requests begun and ended on a connection that is idle between two; nothing on any other.
    pub(super) fn idle_at(&self) -> Option<u32> {
        let is_idle = self.requests() == 0 && !self.head_begun.load(Ordering::Relaxed);
        let progress = self.progress.load(Ordering::Relaxed);
        (is_idle && progress > 0).then_some(progress)
    }

    /// Asks the connection to close, unless a request has come meanwhile.
    pub(super) fn ask_to_yield(&self) {
        self.yields.store(true, Ordering::Release);
        self.client.wake_task();
    }

    /// Whether the connection was asked to close and is idle; asked once.
    pub(super) fn yields(&self) -> bool {
        self.yields.load(Ordering::Acquire)
            && self.yields.swap(false, Ordering::AcqRel)
            && self.idle_at().is_some()
    }

    /// Notes the task that moves the connection, and tells whether it was another one before.
    pub(super) fn moved_by(&self, task: &Waker) -> bool {
        self.client.listen(task)
    }

    /// What is woken in place of that task, and told of the bodies of requests; none over HTTP/2,
    /// where each stream ends by itself.
    pub(super) fn client(&self) -> Option<&Arc<ClientWaker>> {
        (!self.http2).then_some(&self.client)
    }

    /// Whether bytes came that belong to no request.
    pub(super) fn has_strays(&self) -> bool {
        self.head_begun.load(Ordering::Relaxed) && self.requests() == 0
    }

    /// Whether the client may still be sending what nobody reads: the rest of a body, or of what
    /// was no request.
    pub(super) fn client_may_send(&self) -> bool {
        self.client.has_open_body() || self.head_begun.load(Ordering::Relaxed)
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

    /// Bytes that the client took; `None` where it has to be waited for.
    pub(super) fn write(&self, taken: Option<usize>, cx: &mut Context<'_>) {
        let waits = taken.is_none();
        if let Some(taken) = taken.filter(|_| !self.http2) {
            // Heads and framing count as taken, too: what is left is what a body waits for.
            let left = self.unwritten.load(Ordering::Relaxed).saturating_sub(taken);
            self.unwritten.store(left, Ordering::Relaxed);
            if left < self.fields.most_unwritten && self.body_waits.swap(false, Ordering::Relaxed) {
                cx.waker().wake_by_ref();
            }
        }
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

impl InFlight {
    /// Whether the client takes so little of its answer that no more of it is to be read now. The
    /// connection's task is woken once it has taken some.
    pub(super) fn is_full(&self) -> bool {
        let of = &self.0;
        let is_full = !of.http2 && of.unwritten.load(Ordering::Relaxed) >= of.fields.most_unwritten;
        if is_full {
            of.body_waits.store(true, Ordering::Relaxed);
        }
        is_full
    }

    /// Notes bytes of the answer that go to hyper.
    pub(super) fn queue(&self, bytes: usize) {
        if !self.0.http2 {
            self.0.unwritten.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// Adds what the answer says of its connection.
    pub(super) fn write_fields(&self, headers: &mut HeaderMap, closes: bool) {
        if !self.0.http2 {
            // The connection closes, since nobody reads the rest (RFC 9112, section 9.6).
            if self.0.client.has_open_body() {
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
                return;
            }
            self.0.fields.write(headers, closes);
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

    /// The limit that the connection has now reached, if any. To be called after each poll of the
    /// connection. The settings are those that it began with: no connection needs to store them.
    pub(super) fn check(&mut self, settings: &Settings, cx: &mut Context<'_>) -> Option<Bound> {
        self.observe(settings);
        // Looked at first: the timer lies apart in memory, and most polls find a request with the
        // service.
        let deadline = self.deadline?;
        loop {
            if self.timer.poll_fired(cx).is_pending() {
                return None;
            }
            if deadline <= self.timer.deadline() {
                return match self.wait {
                    Wait::Head => Some(Bound::HeadTimeout),
                    Wait::Idle => Some(Bound::IdleTimeout),
                    Wait::Write => Some(Bound::WriteTimeout),
                    Wait::Service => None,
                };
            }
            self.timer.reset(deadline);
        }
    }

    /// What happens on the connection.
    pub(super) fn activity(&self) -> &Activity {
        &self.activity
    }

    /// Whether the connection speaks HTTP/2.
    pub(super) fn is_http2(&self) -> bool {
        self.http2
    }

    /// Whether a request has come over the connection.
    pub(super) fn has_served(&self) -> bool {
        self.activity.progress.load(Ordering::Relaxed) > 0
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
        // A timer that fires earlier than needed is set again then; one that fires later must be
        // set now.
        if deadline < self.timer.deadline() || self.timer.has_fired() {
            self.timer.reset(deadline);
        }
    }
}
