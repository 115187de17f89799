//! A WebSocket session: frames are relayed unchanged both ways, and each turn is admitted, counted
//! and settled like a request.
//!
//! A turn is a `response.create` and its response. Its frames wait for admission; other frames are
//! relayed meanwhile. The upstream's responses are relayed unchanged, but an error that a retry may
//! fix is held back until the retry's outcome is known. Weir itself sends only the refusal of a
//! turn, and the close frame at the end of a session.
//!
//! A session is one task: nothing is locked, and a side that does not read stops only its own
//! session.

mod answers;
mod context;
mod downward;
mod lane;
mod turn;
mod turns;
mod upward;

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};

pub(super) use context::Context;

use crate::classify::ErrorClass;
use crate::clock::{self, Instant};
use crate::metrics::{Bound, HttpRule};
use crate::upstream::upgrade::{Phase, TunnelEnd, TunnelLimits, TunnelReport, TunnelSlot};
use crate::websocket::{CloseCode, Kind, Link};
use answers::Verdict;
use downward::Downward;
use turns::Turns;
use upward::{Unreadable, Upward};

/// Time for both sides to read the last frames and to close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// The state of a session after relaying.
enum Moved {
    /// The session is ending: queued frames are still written, until a timeout.
    Ending,
    /// The session has ended.
    Ended(TunnelEnd),
}

/// One session between a client's connection and an upstream's.
pub(super) struct Session<C, U> {
    client: Link<C>,
    upstream: Link<U>,
    upward: Upward,
    downward: Downward,
    turns: Turns,
    /// Whether a close frame was sent to this side: Weir sends no further frames of its own.
    client_closed: bool,
    upstream_closed: bool,
    draining: bool,
    /// The reason for the session's end, once it is decided.
    ending: Option<TunnelEnd>,
    moved_at: Instant,
    /// Since when the client has read none of the queued bytes.
    unread_since: Option<Instant>,
    up: u64,
    down: u64,
}

impl<C, U> Session<C, U>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    /// Creates a session over two connections that just switched protocols. `model` is from the
    /// handshake.
    pub(super) fn new(client: C, upstream: U, context: Context, model: Option<Box<str>>) -> Self {
        let budget = std::sync::Arc::clone(&context.proxy.kept_bodies);
        let upward = Upward::new(budget, context.longest, context.rights.clone());
        Self {
            client: Link::new(client),
            upstream: Link::new(upstream),
            upward,
            downward: Downward::new(),
            turns: Turns::new(context, model),
            client_closed: false,
            upstream_closed: false,
            draining: false,
            ending: None,
            moved_at: clock::now(),
            unread_since: None,
            up: 0,
            down: 0,
        }
    }

    /// Runs the session until both sides have closed, one fails, both are idle for too long, or the
    /// process ends.
    ///
    /// # Cancel safety
    /// Dropping the future closes both sides. Running turns are accounted for as those of a client
    /// that left.
    pub(super) async fn run(mut self, slot: &mut TunnelSlot) -> TunnelReport {
        let limits = slot.limits();
        let mut timer = pin!(clock::sleep(limits.idle.min(limits.unread)));
        self.enter(slot.phase());
        let mut told = false;
        let end = loop {
            if self.ending.is_some() && !std::mem::replace(&mut told, true) {
                timer.as_mut().reset(clock::now() + CLOSE_TIMEOUT);
            }
            tokio::select! {
                biased;
                phase = slot.changed() => self.enter(phase),
                moved = poll_fn(|cx| self.poll(cx)) => match moved {
                    Moved::Ending => {}
                    Moved::Ended(end) => break end,
                },
                () = timer.as_mut() => {
                    if let Some(end) = self.ending {
                        break end;
                    }
                    let next = self.check_timeouts(&limits, clock::now());
                    timer.as_mut().reset(next);
                }
            }
        };
        let client_left = self.upstream_closed || self.client.has_ended() && !self.upstream.has_ended();
        let class = match end {
            TunnelEnd::Closed | TunnelEnd::Broken if client_left => None,
            TunnelEnd::Unread => None,
            TunnelEnd::Closed | TunnelEnd::Broken | TunnelEnd::Refused => Some(ErrorClass::StreamCut),
            TunnelEnd::Idle => Some(ErrorClass::TimeoutIdle),
            TunnelEnd::Stopped => Some(ErrorClass::WeirDraining),
        };
        self.turns.cut(class, clock::now());
        TunnelReport { up: self.up, down: self.down, end }
    }

    /// Ends the session if its client reads nothing, or both sides send nothing, for too long.
    /// Returns when to check again.
    fn check_timeouts(&mut self, limits: &TunnelLimits, now: Instant) -> Instant {
        self.turns.release_silent(now);
        let unread_by = self.unread_since.unwrap_or(now) + limits.unread;
        let idle_by = self.moved_at + limits.idle;
        let limits_reached = &self.turns.context().proxy.account.metrics().limits_reached;
        if now >= unread_by {
            limits_reached.inc(Bound::WriteTimeout);
            let reason = "nothing of what was sent was taken for server.write_timeout";
            self.close(CloseCode::InternalError, reason, TunnelEnd::Unread);
        } else if now >= idle_by {
            limits_reached.inc(Bound::WebSocketIdle);
            // Clients treat 1001 as a regular end, which it is only between two turns.
            let code = if self.turns.are_over() { CloseCode::GoingAway } else { CloseCode::InternalError };
            self.close(code, "no frame came for upstream.websocket.idle_timeout", TunnelEnd::Idle);
        }
        unread_by.min(idle_by)
    }

    fn enter(&mut self, phase: Phase) {
        match phase {
            Phase::Open => {}
            Phase::Draining => {
                self.draining = true;
                self.turns.drain(clock::now());
            }
            Phase::Stopped => {
                self.close(
                    CloseCode::ServiceRestart,
                    "Weir is shutting down: the drain timeout has passed",
                    TunnelEnd::Stopped,
                );
            }
        }
    }

    fn poll(&mut self, cx: &mut TaskContext<'_>) -> Poll<Moved> {
        if let Some(end) = self.ending {
            return self.poll_close(cx).map(|()| Moved::Ended(end));
        }
        match self.poll_pass(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(Moved::Ended(TunnelEnd::Closed)),
            Poll::Ready(Err(_)) => Poll::Ready(Moved::Ended(TunnelEnd::Broken)),
            Poll::Pending if self.ending.is_some() => Poll::Ready(Moved::Ending),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Relays all available data. Ready once both sides have closed, or one failed.
    fn poll_pass(&mut self, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut more = self.turns.poll_waits(cx).is_ready();
            more |= self.poll_client(cx)?.is_ready();
            more |= self.poll_upstream(cx)?.is_ready();
            if self.ending.is_some() {
                return Poll::Pending;
            }
            self.queue();
            let (up, down) = (self.up, self.down);
            let written = self.upstream.poll_write(cx, &mut self.up)?.is_ready();
            let taken = self.client.poll_write(cx, &mut self.down)?.is_ready();
            if (up, down) != (self.up, self.down) {
                self.moved_at = clock::now();
            }
            self.unread_since = match self.unread_since {
                _ if taken => None,
                Some(since) if down == self.down => Some(since),
                _ => Some(clock::now()),
            };
            let written = written && taken;
            if written && self.client.has_ended() && self.upstream.has_ended() {
                return Poll::Ready(Ok(()));
            }
            if self.draining && self.turns.are_over() && self.turns.down.is_empty() {
                self.close(
                    CloseCode::ServiceRestart,
                    "Weir is shutting down: reconnect to another replica",
                    TunnelEnd::Stopped,
                );
                return Poll::Pending;
            }
            if !more {
                return Poll::Pending;
            }
        }
    }

    /// Queues the frames that the turns produced for either side.
    fn queue(&mut self) {
        for frames in self.turns.up.drain(..) {
            self.upstream.push(frames);
        }
        if !self.turns.down.is_empty() && (self.client_closed || self.downward.is_at_boundary()) {
            for message in self.turns.down.drain(..).filter(|_| !self.client_closed) {
                self.client.push(message);
            }
        }
    }

    /// Reads from the client, once.
    fn poll_client(&mut self, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        if self.client.has_ended() || self.upstream.is_full() || self.turns.are_full() {
            return Poll::Pending;
        }
        let read = ready!(read(&mut self.client, &mut self.upward.buffer, cx))?;
        let now = clock::now();
        self.moved_at = now;
        if read == 0 {
            for rest in self.upward.rest() {
                self.upstream.push(rest);
            }
            self.upstream.finish();
            self.turns.client_left();
            return Poll::Ready(Ok(()));
        }
        loop {
            match self.upward.next() {
                Ok(Some(upward::Received::Message(create))) => self.turns.take_client(*create, now),
                Ok(Some(upward::Received::Control(kind, frame))) => {
                    // Earlier messages must stay ahead.
                    self.queue();
                    self.upstream.push(frame);
                    if kind == Kind::Close {
                        self.upstream_closed = true;
                        self.turns.client_left();
                    }
                }
                Ok(None) => break,
                Err(unreadable) => {
                    self.refuse(unreadable);
                    break;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads from the upstream, once.
    fn poll_upstream(&mut self, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        if self.upstream.has_ended() || self.client.is_full() {
            return Poll::Pending;
        }
        let read = ready!(read(&mut self.upstream, &mut self.downward.buffer, cx))?;
        let now = clock::now();
        self.moved_at = now;
        if read == 0 {
            // No more responses can come, whatever the client still sends.
            self.client.push(self.downward.rest());
            self.client.finish();
            self.upstream.finish();
            self.ending = Some(TunnelEnd::Closed);
            return Poll::Ready(Ok(()));
        }
        loop {
            match self.downward.next() {
                Ok(downward::Received::Message) => self.message(now),
                Ok(downward::Received::Close) => self.client_closed = true,
                Ok(downward::Received::Nothing) => break,
                Err(violation) => {
                    let reason = violation.what();
                    self.client.push(self.downward.take());
                    self.refuse(Unreadable { code: CloseCode::InternalError, reason });
                    break;
                }
            }
        }
        self.client.push(self.downward.take());
        Poll::Ready(Ok(()))
    }

    /// Inspects a complete message of the upstream.
    fn message(&mut self, now: Instant) {
        let message = self.downward.message();
        let frames = message.frames.map(|frames| move || Bytes::copy_from_slice(frames));
        let frames = frames.as_ref().map(|frames| frames as &dyn Fn() -> Bytes);
        match self.turns.take_upstream(message.head, message.tail, message.length, frames, now) {
            Verdict::Pass => self.downward.pass(),
            Verdict::Keep => {
                let before = self.downward.keep();
                self.client.push(before);
            }
        }
    }

    /// Ends the session because of invalid data from one side.
    fn refuse(&mut self, unreadable: Unreadable) {
        let metrics = self.turns.context().proxy.account.metrics();
        match unreadable.code {
            CloseCode::TooBig => metrics.limits_reached.inc(Bound::WebSocketMessage),
            // The budget for kept bodies has counted it.
            CloseCode::TryAgainLater => {}
            CloseCode::ProtocolError
            | CloseCode::InternalError
            | CloseCode::GoingAway
            | CloseCode::ServiceRestart => metrics.http_refusals.inc(HttpRule::WebSocketFrame),
        }
        self.close(unreadable.code, unreadable.reason, TunnelEnd::Refused);
    }

    /// Sends a close frame with the reason to both sides, as far as possible.
    fn close(&mut self, code: CloseCode, reason: &str, end: TunnelEnd) {
        if self.ending.is_some() {
            return;
        }
        self.queue();
        if self.downward.is_at_boundary() && !self.client_closed {
            self.client.push(code.frame(reason, None));
        }
        if !self.upstream_closed {
            let mask = self.turns.context().random(|rng| rng.u32(..)).to_ne_bytes();
            self.upstream.push(CloseCode::GoingAway.frame("", Some(mask)));
        }
        self.client.finish();
        self.upstream.finish();
        self.ending = Some(end);
    }

    /// Writes the last frames, and reads until both sides have closed: closing a connection with
    /// unread bytes resets it, and loses the last frames.
    fn poll_close(&mut self, cx: &mut TaskContext<'_>) -> Poll<()> {
        let client = poll_out(&mut self.client, cx, &mut self.down);
        let upstream = poll_out(&mut self.upstream, cx, &mut self.up);
        if client && upstream { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// Reads into a buffer that is freed while it is empty.
fn read<T: AsyncRead + AsyncWrite + Unpin>(
    link: &mut Link<T>,
    buffer: &mut BytesMut,
    cx: &mut TaskContext<'_>,
) -> Poll<io::Result<usize>> {
    let read = link.poll_read(cx, buffer);
    if buffer.is_empty() {
        *buffer = BytesMut::new();
    }
    read
}

/// Writes the rest and reads to the end. Ready when both are done, or the connection failed.
fn poll_out<T: AsyncRead + AsyncWrite + Unpin>(
    link: &mut Link<T>,
    cx: &mut TaskContext<'_>,
    moved: &mut u64,
) -> bool {
    let written = match link.poll_write(cx, moved) {
        Poll::Ready(Ok(())) => true,
        Poll::Ready(Err(_)) => return true,
        Poll::Pending => false,
    };
    let mut ignored = BytesMut::new();
    while !link.has_ended() {
        ignored.clear();
        match link.poll_read(cx, &mut ignored) {
            Poll::Ready(Ok(_)) => {}
            Poll::Ready(Err(_)) => return true,
            Poll::Pending => return false,
        }
    }
    written
}
