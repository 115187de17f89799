//! The timeouts of a client's connection.
//!
//! The clock is read and the timer set only when the connection's state changes, not for each
//! request. A timer that fires too early is set again.

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

/// The state of a connection, reported by its parts. All orderings are relaxed: one task does all
/// updates, except that HTTP/2 streams may be slightly late.
#[derive(Debug, Default)]
pub(super) struct Activity {
    /// Requests whose responses are not complete.
    requests: AtomicU32,
    /// Number of request starts, request ends and resumed writes. A wait during which it changes
    /// counts as a new wait.
    progress: AtomicU32,
    /// Whether bytes arrived that belong to no request yet.
    head_begun: AtomicBool,
    /// Whether a write waits for the client to read.
    write_waits: AtomicBool,
    /// Whether the connection speaks HTTP/2, where one read can bring many requests.
    pub(super) http2: bool,
    /// Wakes the task that drives the connection.
    client: Arc<ClientWaker>,
    fields: Arc<ConnectionFields>,
    /// Bytes of responses that hyper holds and the client has not read. HTTP/1 only.
    unwritten: AtomicUsize,
    /// Whether a response body waits until the client has read more.
    body_waits: AtomicBool,
    /// Whether the connection was asked to close, if idle, for a new one.
    close_requested: AtomicBool,
}

/// The connection header fields of HTTP/1 responses, and their buffer limit; shared by all
/// connections of a server.
#[derive(Debug, Default)]
pub(super) struct ConnectionFields {
    /// The phase of the drain.
    phase: Arc<AtomicU8>,
    /// `Keep-Alive: timeout=SECONDS`; `None` if the idle timeout is too short for one.
    keep_alive: Option<HeaderValue>,
    /// Unwritten bytes at which a response body waits.
    most_unwritten: usize,
}

impl ConnectionFields {
    /// `idle_timeout` is that of the connections. Clients are told one second less, so that none
    /// sends a request on a closing connection.
    pub(super) fn new(phase: Arc<AtomicU8>, idle_timeout: Duration, most_unwritten: usize) -> Arc<Self> {
        let seconds = idle_timeout.as_secs().saturating_sub(1);
        let keep_alive =
            (seconds > 0).then(|| HeaderValue::from_str(&format!("timeout={seconds}")).ok()).flatten();
        Arc::new(Self { phase, keep_alive, most_unwritten })
    }

    /// Adds the connection's header fields to a response. `closes`: the connection closes after
    /// this response in any case.
    fn write(&self, headers: &mut HeaderMap, closes: bool) {
        if self.phase.load(Ordering::Relaxed) >= Phase::Announced as u8 {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        } else if !closes && let Some(keep_alive) = &self.keep_alive {
            headers.insert(KEEP_ALIVE, keep_alive.clone());
        }
    }
}

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// A guard for a request in flight, from its head to the end of its response.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Activity>);

impl Activity {
    /// The activity of a new connection.
    pub(super) fn new(http2: bool, fields: Arc<ConnectionFields>) -> Arc<Self> {
        Arc::new(Self { http2, fields, ..Self::default() })
    }

    /// The progress count of a connection that is idle between two requests; `None` for any other.
    pub(super) fn idle_at(&self) -> Option<u32> {
        let is_idle = self.requests() == 0 && !self.head_begun.load(Ordering::Relaxed);
        let progress = self.progress.load(Ordering::Relaxed);
        (is_idle && progress > 0).then_some(progress)
    }

    /// Asks the connection to close, unless a request arrives first.
    pub(super) fn request_close(&self) {
        self.close_requested.store(true, Ordering::Release);
        self.client.wake_task();
    }

    /// Whether the connection was asked to close and is idle. Clears the request to close.
    pub(super) fn take_close_request(&self) -> bool {
        self.close_requested.load(Ordering::Acquire)
            && self.close_requested.swap(false, Ordering::AcqRel)
            && self.idle_at().is_some()
    }

    /// Sets the task that drives the connection. Returns whether it was another one before.
    pub(super) fn set_task(&self, task: &Waker) -> bool {
        self.client.listen(task)
    }

    /// The waker to use in place of that task's, which also tracks request bodies. `None` over
    /// HTTP/2, where each stream ends by itself.
    pub(super) fn client(&self) -> Option<&Arc<ClientWaker>> {
        (!self.http2).then_some(&self.client)
    }

    /// Whether bytes arrived that belong to no request.
    pub(super) fn has_unclaimed_bytes(&self) -> bool {
        self.head_begun.load(Ordering::Relaxed) && self.requests() == 0
    }

    /// Whether the client may still be sending bytes that are not read: the rest of a body, or an
    /// unparsable request.
    pub(super) fn client_may_send(&self) -> bool {
        self.client.has_open_body() || self.head_begun.load(Ordering::Relaxed)
    }

    pub(super) fn begin(self: &Arc<Self>) -> InFlight {
        self.head_begun.store(false, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.progress.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }

    /// Requests in flight.
    pub(super) fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }

    pub(super) fn read(&self) {
        if self.requests.load(Ordering::Relaxed) == 0 {
            self.head_begun.store(true, Ordering::Relaxed);
        }
    }

    /// Records a write: the bytes written, or `None` if the client does not read.
    pub(super) fn write(&self, taken: Option<usize>, cx: &mut Context<'_>) {
        let waits = taken.is_none();
        if let Some(taken) = taken.filter(|_| !self.http2) {
            // Heads and framing are not in `unwritten` but are subtracted from it, so it may be too
            // low.
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
    /// Whether the client has too much unread data for more to be read from the upstream. The
    /// connection's task is woken when the client has read some.
    pub(super) fn is_full(&self) -> bool {
        let of = &self.0;
        let is_full = !of.http2 && of.unwritten.load(Ordering::Relaxed) >= of.fields.most_unwritten;
        if is_full {
            of.body_waits.store(true, Ordering::Relaxed);
        }
        is_full
    }

    /// Counts bytes of the response that were passed to hyper.
    pub(super) fn queue(&self, bytes: usize) {
        if !self.0.http2 {
            self.0.unwritten.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// Adds the connection's header fields to the response.
    pub(super) fn write_fields(&self, headers: &mut HeaderMap, closes: bool) {
        if !self.0.http2 {
            // The rest of the body is not read, so the connection must close (RFC 9112, section
            // 9.6).
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

/// The event that a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// Its first request, or the rest of a head.
    Head,
    /// The next request.
    Idle,
    /// The service's response.
    Service,
    /// The client, to read the response.
    Write,
}

/// The timeout watch of one connection.
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
    /// Watches a connection that opened at `since` and waits for its first request.
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

    /// The limit that the connection has reached, if any. Call it after each poll of the
    /// connection, always with the same settings; they are not stored, to keep connections small.
    pub(super) fn check(&mut self, settings: &Settings, cx: &mut Context<'_>) -> Option<Bound> {
        self.observe(settings);
        // Checked first because it is cheap: in most polls a request is with the service, without a
        // deadline.
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

    /// The activity of the connection.
    pub(super) fn activity(&self) -> &Activity {
        &self.activity
    }

    /// Whether the connection speaks HTTP/2.
    pub(super) fn is_http2(&self) -> bool {
        self.http2
    }

    /// Whether a request has arrived on the connection.
    pub(super) fn has_served(&self) -> bool {
        self.activity.progress.load(Ordering::Relaxed) > 0
    }

    /// Gives a connection that was told to close `time` to do so.
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
        // A timer that fires too early is set again then; one that would fire too late must be set
        // now.
        if deadline < self.timer.deadline() || self.timer.has_fired() {
            self.timer.reset(deadline);
        }
    }
}
