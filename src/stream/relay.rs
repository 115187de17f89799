//! The response body as the caller gets it: the upstream's frames, unmodified, while a copy is
//! inspected.

use std::collections::VecDeque;
use std::error::Error as StdError;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;

use super::reader::{Findings, Reader};
use crate::clock::{self, Instant};

/// How a body ended; reported to the [`Ledger`] exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The upstream completed it.
    Complete,
    /// The upstream broke it off; the caller's body was aborted.
    Cut,
    /// The upstream sent nothing for the idle timeout; the caller's body was aborted.
    Stalled,
    /// The caller left before the end.
    CallerLeft,
}

/// Receives the outcome of a body. Dropped with it.
pub trait Ledger: Send + Unpin + 'static {
    /// The first output event of a stream arrived; called at most once.
    fn began(&mut self, now: Instant);

    /// The body ended; called exactly once, at the latest when the body is dropped.
    fn ended(self, end: End, bytes: u64, findings: Findings, now: Instant);
}

/// The error with which a caller's body is aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aborted {
    /// The upstream cut its response off.
    Cut,
    /// The upstream stalled.
    Stalled,
    /// The client read nothing for too long.
    Unread,
}

impl fmt::Display for Aborted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Cut => "the upstream cut its response off",
            Self::Stalled => "the upstream stalled in its response",
            Self::Unread => "the client does not read its response",
        })
    }
}

impl StdError for Aborted {}

/// How a body is relayed.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Longest time between two chunks; `None` leaves that to the caller.
    pub idle_timeout: Option<Duration>,
    /// Whether to send an error event before an abort, if the stream is between two events.
    pub error_event: bool,
    /// Whether to abort a stream that ends normally before its terminal event.
    pub abort_incomplete: bool,
}

impl Settings {
    /// Passes on every end unchanged.
    pub const TRANSPARENT: Self = Self { idle_timeout: None, error_event: false, abort_incomplete: false };
}

/// A body being relayed from the upstream to the caller. Its start may be read ahead and held back
/// until [`Self::go_on`].
#[expect(clippy::struct_excessive_bools, reason = "each is an independent fact about the body")]
pub struct Relay<B, L: Ledger> {
    upstream: B,
    held: VecDeque<Frame<Bytes>>,
    reader: Reader,
    /// `None` before relaying starts, and after the end was reported.
    ledger: Option<L>,
    bytes: u64,
    /// The settings, stored in less space: the idle timeout in milliseconds, 0 for none.
    idle_millis: u64,
    error_event: bool,
    abort_incomplete: bool,
    read_at: Instant,
    timer: Option<clock::Timer>,
    aborting: Option<Aborting>,
    /// Whether the upstream broke off during read-ahead; the abort follows the held frames.
    broken: bool,
    /// Whether the upstream ended during read-ahead.
    ended: bool,
    /// Whether the body has a known length.
    announced: bool,
    /// Whether the ledger was told of the first event, or there is none to report.
    began: bool,
}

/// The steps of an abort after an error event: hyper drops a frame that an error follows at once.
#[derive(Clone, Copy)]
enum Aborting {
    Pause(Aborted),
    Abort(Aborted),
}

impl<B, L> Relay<B, L>
where
    B: Body<Data = Bytes> + Unpin,
    L: Ledger,
{
    /// A body whose head arrived at `read_at`.
    pub fn new(upstream: B, reader: Reader, settings: Settings, read_at: Instant) -> Self {
        Self {
            announced: upstream.size_hint().exact().is_some() && !upstream.is_end_stream(),
            upstream,
            held: VecDeque::new(),
            reader,
            ledger: None,
            bytes: 0,
            idle_millis: settings.idle_timeout.map_or(0, millis),
            error_event: settings.error_event,
            abort_incomplete: settings.abort_incomplete,
            read_at,
            timer: None,
            aborting: None,
            broken: false,
            ended: false,
            began: false,
        }
    }

    /// Reads ahead and holds frames back while `wants` returns true for the facts found and the
    /// bytes read, until `until`.
    ///
    /// # Cancel safety
    /// Frames read so far are kept; a new call continues.
    pub async fn read_ahead(&mut self, until: Instant, wants: impl Fn(&Reader, usize) -> bool) {
        let mut bytes = 0;
        while wants(&self.reader, bytes) {
            let Ok(next) = clock::timeout_at(until, self.upstream.frame()).await else { break };
            match next {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        bytes += data.len();
                        self.reader.read(data);
                    }
                    self.held.push_back(frame);
                }
                Some(Err(_)) => {
                    self.broken = true;
                    break;
                }
                None => {
                    self.reader.finish();
                    self.ended = true;
                    break;
                }
            }
        }
        self.read_at = clock::now();
    }

    /// The data that was read ahead.
    pub fn held(&self) -> impl Iterator<Item = &Bytes> {
        self.held.iter().filter_map(Frame::data_ref)
    }

    /// The facts found so far.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Whether the body ended or failed during read-ahead.
    pub fn is_over(&self) -> bool {
        self.broken || self.ended
    }

    /// Whether the body failed during read-ahead.
    pub fn broke_off(&self) -> bool {
        self.broken
    }

    /// Whether the body ended normally during read-ahead, and may end so for the caller.
    pub fn ended_in_order(&self) -> bool {
        self.ended && !(self.abort_incomplete && self.reader.lacks_its_end())
    }

    /// When the head, or the last frame read ahead, arrived.
    pub fn read_at(&self) -> Instant {
        self.read_at
    }

    /// Starts to relay the body at `now`; `ledger` receives its outcome.
    pub fn go_on(&mut self, ledger: L, now: Instant) {
        self.ledger = Some(ledger);
        self.read_at = now;
        self.began = !self.reader.is_stream();
        self.note_beginning();
        self.end_if_complete(now);
    }

    fn note_beginning(&mut self) {
        if !self.began && self.reader.has_begun() {
            self.began = true;
            if let Some(ledger) = &mut self.ledger {
                ledger.began(self.read_at);
            }
        }
    }

    /// hyper does not poll a body again once its known length is reached, so the end is detected
    /// with the last frame.
    fn end_if_complete(&mut self, now: Instant) {
        if self.is_end() {
            self.end(End::Complete, now);
        }
    }

    fn is_end(&self) -> bool {
        self.held.is_empty()
            && !self.broken
            && self.aborting.is_none()
            && self.upstream.is_end_stream()
            && !self.is_unfinished()
    }

    /// Whether EOF at this point means truncation. With a Content-Length, hyper has already ended
    /// the caller's body after the last byte.
    fn is_unfinished(&self) -> bool {
        self.ledger.is_some() && self.abort_incomplete && !self.announced && self.reader.lacks_its_end()
    }

    fn end(&mut self, end: End, now: Instant) {
        if let Some(ledger) = self.ledger.take() {
            ledger.ended(end, self.bytes, self.reader.findings(), now);
        }
    }

    fn pass(&mut self, frame: Frame<Bytes>, now: Instant) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        self.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
        if frame.is_trailers() {
            // The last frame: hyper will not poll again for the end.
            self.reader.finish();
            if self.is_unfinished() {
                return self.abort(Aborted::Cut);
            }
            self.end(End::Complete, now);
        }
        self.end_if_complete(now);
        Poll::Ready(Some(Ok(frame)))
    }

    fn abort(&mut self, why: Aborted) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        self.broken = false;
        let announce = self.error_event && self.reader.at_event_boundary();
        let end = match why {
            Aborted::Cut => End::Cut,
            Aborted::Stalled => End::Stalled,
            Aborted::Unread => End::CallerLeft,
        };
        self.end(end, clock::now());
        if announce {
            self.aborting = Some(Aborting::Pause(why));
            return Poll::Ready(Some(Ok(Frame::data(error_event(why)))));
        }
        Poll::Ready(Some(Err(why)))
    }

    /// Ready if the upstream has been silent for too long. The timer is armed once and reset only
    /// when it fires: a chunk costs one read of the clock.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.idle_millis == 0 {
            return Poll::Pending;
        }
        let limit = Duration::from_millis(self.idle_millis);
        let timer = self.timer.get_or_insert_with(|| clock::Timer::new(self.read_at + limit));
        loop {
            ready!(timer.poll_fired(cx));
            let due = self.read_at + limit;
            if due <= clock::now() {
                return Poll::Ready(());
            }
            timer.reset(due);
        }
    }
}

impl<B, L> Body for Relay<B, L>
where
    B: Body<Data = Bytes> + Unpin,
    L: Ledger,
{
    type Data = Bytes;
    type Error = Aborted;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        let this = &mut *self;
        if let Some(frame) = this.held.pop_front() {
            if this.held.is_empty() {
                // A stream may be long, so free the buffer.
                this.held = VecDeque::new();
            }
            return this.pass(frame, clock::now());
        }
        match this.aborting {
            Some(Aborting::Pause(why)) => {
                this.aborting = Some(Aborting::Abort(why));
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Some(Aborting::Abort(why)) => return Poll::Ready(Some(Err(why))),
            None if this.broken => return this.abort(Aborted::Cut),
            None => {}
        }
        match Pin::new(&mut this.upstream).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                this.read_at = clock::now();
                if let Some(data) = frame.data_ref() {
                    this.reader.read(data);
                    this.note_beginning();
                }
                this.pass(frame, this.read_at)
            }
            Poll::Ready(Some(Err(_))) => this.abort(Aborted::Cut),
            Poll::Ready(None) => {
                this.reader.finish();
                // SDKs would accept a normal end as the complete response.
                if this.is_unfinished() {
                    return this.abort(Aborted::Cut);
                }
                this.end(End::Complete, clock::now());
                Poll::Ready(None)
            }
            Poll::Pending => {
                ready!(this.poll_silence(cx));
                this.abort(Aborted::Stalled)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_end()
    }

    fn size_hint(&self) -> SizeHint {
        let held: u64 = self.held().map(|data| data.len() as u64).sum();
        let rest = self.upstream.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(held));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(held));
        }
        hint
    }
}

impl<B, L: Ledger> Drop for Relay<B, L> {
    fn drop(&mut self) {
        if let Some(ledger) = self.ledger.take() {
            ledger.ended(End::CallerLeft, self.bytes, self.reader.findings(), clock::now());
        }
    }
}

/// The timeout in milliseconds, at least one, because 0 means none.
fn millis(limit: Duration) -> u64 {
    u64::try_from(limit.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// The error event, in the form that every SDK raises an exception for.
fn error_event(why: Aborted) -> Bytes {
    Bytes::from_static(match why {
        Aborted::Cut => {
            b"event: error\ndata: {\"error\":{\"message\":\"The upstream cut this stream off; its content is incomplete.\",\"type\":\"weir_error\",\"param\":null,\"code\":\"stream_cut\"}}\n\n"
        }
        Aborted::Stalled | Aborted::Unread => {
            b"event: error\ndata: {\"error\":{\"message\":\"The upstream stalled in this stream; its content is incomplete.\",\"type\":\"weir_error\",\"param\":null,\"code\":\"timeout_idle\"}}\n\n"
        }
    })
}
