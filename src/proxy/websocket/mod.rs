//! A WebSocket session: frames pass both ways as they came, and each turn in them waits, is counted
//! and settled like a request.
//!
//! A turn is a `response.create` and its answer. Its frames wait for admission as a request of the
//! same caller would; the other frames go on meanwhile. What the upstream answers passes byte by
//! byte, but for an error that another attempt may mend, which is kept back until that is known.
//! Frames of Weir's own are the refusal of a turn and the close frame that says why a session ends.
//!
//! Everything of a session happens in one task: nothing is locked, and a side that does not read
//! stops its own session alone.

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

/// How long both sides have to take the last frames and to close.
const FAREWELL: Duration = Duration::from_secs(2);

/// How far moving frames got.
enum Moved {
    /// The session is to end: what is queued goes out, and its time is counted.
    Ending,
    /// It has ended.
    Ended(TunnelEnd),
}

/// One session between a client's connection and one to the upstream.
pub(super) struct Session<C, U> {
    client: Link<C>,
    upstream: Link<U>,
    upward: Upward,
    downward: Downward,
    turns: Turns,
    /// A close frame went to this side: it gets nothing further of Weir's.
    client_closed: bool,
    upstream_closed: bool,
    draining: bool,
    /// How the session ends, once that is decided.
    ending: Option<TunnelEnd>,
    moved_at: Instant,
    /// Since when the client has taken nothing of what waits for it.
    untaken_since: Option<Instant>,
    up: u64,
    down: u64,
}

impl<C, U> Session<C, U>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    /// A session over two connections that have just switched protocols; `model` is the one that
    /// the handshake named.
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
            untaken_since: None,
            up: 0,
            down: 0,
        }
    }

    /// Runs the session until both sides have closed, one breaks, both are silent for too long, or
    /// the process ends.
    ///
    /// # Cancel safety
    /// Dropping the future closes both sides; turns under way are accounted for as those of a
    /// client that left.
    pub(super) async fn run(mut self, slot: &mut TunnelSlot) -> TunnelReport {
        let limits = slot.limits();
        let mut timer = pin!(clock::sleep(limits.idle.min(limits.unread)));
        self.enter(slot.phase());
        let mut told = false;
        let end = loop {
            if self.ending.is_some() && !std::mem::replace(&mut told, true) {
                timer.as_mut().reset(clock::now() + FAREWELL);
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
                    let next = self.look_at_silence(&limits, clock::now());
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

    /// Ends the session where its client takes nothing, or nobody says anything, for too long; when
    /// to look again.
    fn look_at_silence(&mut self, limits: &TunnelLimits, now: Instant) -> Instant {
        self.turns.pass_over_silent(now);
        let unread_by = self.untaken_since.unwrap_or(now) + limits.unread;
        let idle_by = self.moved_at + limits.idle;
        let limits_reached = &self.turns.context().proxy.account.metrics().limits_reached;
        if now >= unread_by {
            limits_reached.inc(Bound::WriteTimeout);
            let reason = "nothing of what was sent was taken for server.write_timeout";
            self.close(CloseCode::InternalError, reason, TunnelEnd::Unread);
        } else if now >= idle_by {
            limits_reached.inc(Bound::WebSocketIdle);
            // A client's loop over events takes 1001 for a good end, which it is between two turns.
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
                    "Weir shuts down: the drain's time is over",
                    TunnelEnd::Stopped,
                );
            }
        }
    }

    fn poll(&mut self, cx: &mut TaskContext<'_>) -> Poll<Moved> {
        if let Some(end) = self.ending {
            return self.poll_farewell(cx).map(|()| Moved::Ended(end));
        }
        match self.poll_pass(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(Moved::Ended(TunnelEnd::Closed)),
            Poll::Ready(Err(_)) => Poll::Ready(Moved::Ended(TunnelEnd::Broken)),
            Poll::Pending if self.ending.is_some() => Poll::Ready(Moved::Ending),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Moves what can be moved; ready once both sides have closed, or one broke.
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
            self.untaken_since = match self.untaken_since {
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
                    "Weir shuts down; another replica goes on",
                    TunnelEnd::Stopped,
                );
                return Poll::Pending;
            }
            if !more {
                return Poll::Pending;
            }
        }
    }

    /// Queues what the turns have for either side.
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
                Ok(Some(upward::Came::Message(create))) => self.turns.take_client(*create, now),
                Ok(Some(upward::Came::Control(kind, frame))) => {
                    // What was said before goes before.
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
            // Nothing is answered any more, whatever the client still says.
            self.client.push(self.downward.rest());
            self.client.finish();
            self.upstream.finish();
            self.ending = Some(TunnelEnd::Closed);
            return Poll::Ready(Ok(()));
        }
        loop {
            match self.downward.next() {
                Ok(downward::Came::Message) => self.message(now),
                Ok(downward::Came::Close) => self.client_closed = true,
                Ok(downward::Came::Nothing) => break,
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

    /// Looks at a whole message of the upstream's.
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

    /// Ends the session because of what one side sent.
    fn refuse(&mut self, unreadable: Unreadable) {
        let metrics = self.turns.context().proxy.account.metrics();
        match unreadable.code {
            CloseCode::TooBig => metrics.limits_reached.inc(Bound::WebSocketMessage),
            // The budget of bodies has counted it.
            CloseCode::TryAgainLater => {}
            CloseCode::ProtocolError
            | CloseCode::InternalError
            | CloseCode::GoingAway
            | CloseCode::ServiceRestart => metrics.http_refusals.inc(HttpRule::WebSocketFrame),
        }
        self.close(unreadable.code, unreadable.reason, TunnelEnd::Refused);
    }

    /// Says to both sides why the session ends, as far as they can still be told.
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

    /// Writes the last frames, and reads until both sides have closed: a connection that is closed
    /// with bytes unread is reset, and what was written last is lost.
    fn poll_farewell(&mut self, cx: &mut TaskContext<'_>) -> Poll<()> {
        let client = poll_out(&mut self.client, cx, &mut self.down);
        let upstream = poll_out(&mut self.upstream, cx, &mut self.up);
        if client && upstream { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// Reads what has come into a buffer that is given back while it is empty.
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

/// Writes what is left, and reads to the end; whether both are done, or the connection broke.
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
