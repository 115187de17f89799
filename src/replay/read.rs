//! Reads a body, as far as it may be kept.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};

use super::budget::{Budget, Reservation};
use super::pace::{Pace, Slow};
use super::progress::BodyProgress;
use super::trailers::strip_trailers;
use super::{Kind, Settings};
use crate::metrics::ReplaySkip;
use crate::openai::{ModelScan, ModelSearch};

/// Initial capacity for a body in several pieces. Memory is allocated as bytes arrive, not as
/// announced, because `prlimit --data` counts unused capacity too.
const FIRST_CAPACITY: usize = 64 << 10;

/// Bodies up to this size, in bytes, are copied: such a body arrived with its head, and would keep
/// the connection's whole read buffer alive. Copying is cheaper than another buffer.
const COPY_BELOW: usize = 4 << 10;

/// Most bytes that arrive of a body that is not being read: an HTTP/2 stream's window, or the
/// socket's buffer.
const UNREAD_MARGIN: usize = 128 << 10;

/// Most bytes that are read to find the model in a body that is too large to keep: more than the
/// API's largest JSON body (50 MB).
const MAX_SCANNED: usize = 64 << 20;

/// The reason why a request's body could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// It exceeds the size limit.
    #[error("the body is larger than allowed")]
    TooLarge,
    /// The client sent nothing for too long.
    #[error("the client stopped sending its body")]
    Idle,
    /// The client sends too slowly.
    #[error("the client sends its body too slowly")]
    TooSlow,
    /// The client left, or reset the stream, before the end of the body.
    #[error("the client closed the connection before its body was complete")]
    Aborted,
    /// The framing is invalid, for example a bad chunk.
    #[error("the body's framing is invalid")]
    Malformed,
    /// The memory budget for bodies is used up.
    #[error("the memory for bodies is exhausted")]
    NoRoom,
}

impl ReadError {
    /// Every reason.
    pub const ALL: [Self; 6] =
        [Self::TooLarge, Self::Idle, Self::TooSlow, Self::Aborted, Self::Malformed, Self::NoRoom];
}

/// The unread rest of a body, and the client's remaining limits.
#[derive(Debug)]
pub(super) struct Rest<B> {
    source: B,
    pace: Pace,
    /// Bytes that the client may still send.
    left: u64,
    /// The reservation for the bytes read so far.
    reservation: Reservation,
}

pub(super) async fn read<B>(
    source: B,
    settings: &Settings,
    budget: &Arc<Budget>,
    model_search: ModelSearch,
) -> Result<Kind<B>, ReadError>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if source.is_end_stream() {
        return Ok(Kind::Whole { bytes: Bytes::new(), trailers: None, reservation: None });
    }
    let announced = source.size_hint().lower();
    if announced > settings.limit {
        return Err(budget.fail(ReadError::TooLarge));
    }
    let too_large = announced > settings.keep as u64;
    let reservation = Reservation::new(budget);
    let mut rest = Rest { source, pace: Pace::new(settings), left: settings.limit, reservation };
    let mut chunks = Chunks::default();
    let mut ahead = too_large.then(|| Box::new(ReadAhead::begin(ReplaySkip::TooLarge, model_search, &[])));
    loop {
        if let Some(ahead) = &ahead
            && (ahead.over || chunks.len() >= settings.prefix)
            && (ahead.scan.is_done() || chunks.len() >= MAX_SCANNED)
        {
            return streamed(chunks, rest, ahead.why);
        }
        let Some(frame) = poll_fn(|cx| rest.poll_frame(cx)).await else {
            return match ahead.filter(|ahead| ahead.over) {
                Some(ahead) => streamed(chunks, rest, ahead.why),
                None => Ok(whole(chunks, None, rest)),
            };
        };
        let data = match frame?.into_data() {
            Ok(data) => data,
            Err(frame) => match frame.into_trailers() {
                Ok(trailers) => return Ok(whole(chunks, Some(Arc::new(trailers)), rest)),
                Err(_unknown) => continue,
            },
        };
        let reserved = rest.reservation.grow(data.len());
        if let Some(ahead) = &mut ahead {
            ahead.scan.feed(&data);
        }
        // The announced length of the rest, if it will be read.
        let to_come =
            rest.source.size_hint().lower().min(if ahead.is_some() { 0 } else { settings.keep as u64 });
        chunks.push(data, usize::try_from(to_come).unwrap_or(FIRST_CAPACITY));
        if !reserved || chunks.len() > settings.keep {
            let why = if reserved { ReplaySkip::TooLarge } else { ReplaySkip::Budget };
            let ahead =
                ahead.get_or_insert_with(|| Box::new(ReadAhead::begin(why, model_search, chunks.bytes())));
            ahead.over = true;
            // A body that can't be kept is still read to find its model, while the buffered budget
            // allows.
            if !reserved
                && (ahead.scan.is_done() || !rest.reservation.only_buffer(chunks.len() + UNREAD_MARGIN))
            {
                return streamed(chunks, rest, ahead.why);
            }
        }
        if rest.source.is_end_stream() {
            return match ahead.filter(|ahead| ahead.over) {
                Some(ahead) => streamed(chunks, rest, ahead.why),
                None => Ok(whole(chunks, None, rest)),
            };
        }
    }
}

/// The state of reading ahead in a body that is not kept. Boxed: most bodies are kept.
struct ReadAhead {
    why: ReplaySkip,
    /// Whether more was read than may be kept, so that the body is not kept even if it ends now.
    over: bool,
    scan: ModelScan,
}

impl ReadAhead {
    fn begin(why: ReplaySkip, model_search: ModelSearch, read: &[u8]) -> Self {
        let mut scan = ModelScan::new(model_search);
        scan.feed(read);
        Self { why, over: false, scan }
    }
}

fn whole<B>(chunks: Chunks, trailers: Option<Arc<HeaderMap>>, rest: Rest<B>) -> Kind<B> {
    Kind::Whole { bytes: chunks.into_bytes(), trailers, reservation: Some(Arc::new(rest.reservation)) }
}

/// The bytes read wait in the queue, perhaps for long, so they count as buffered until they are
/// sent.
fn streamed<B>(chunks: Chunks, mut rest: Rest<B>, why: ReplaySkip) -> Result<Kind<B>, ReadError> {
    if !rest.reservation.only_buffer(chunks.len() + UNREAD_MARGIN) {
        return Err(rest.reservation.budget().fail(ReadError::NoRoom));
    }
    let (prefix, rest) = (chunks.into_bytes(), Some(Box::new(rest)));
    Ok(Kind::Streamed { prefix, rest, why: Some(why), progress: BodyProgress::new(false) })
}

/// A body that is streamed without being read first.
pub(super) fn unread<B>(source: B, settings: &Settings, budget: &Arc<Budget>) -> Kind<B> {
    let reservation = Reservation::new(budget);
    let rest = Rest { source, pace: Pace::new(settings), left: settings.limit, reservation };
    Kind::Streamed {
        prefix: Bytes::new(),
        rest: Some(Box::new(rest)),
        why: None,
        progress: BodyProgress::new(true),
    }
}

impl<B> Rest<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ReadError>>> {
        let item = ready!(self.poll_source(cx));
        Poll::Ready(item.map(|item| item.map_err(|error| self.reservation.budget().fail(error))))
    }

    /// Releases the bytes that were read before, because they are being sent.
    pub(super) fn prefix_is_sent(&mut self) {
        self.reservation.release();
    }

    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ReadError>>> {
        let Poll::Ready(item) = Pin::new(&mut self.source).poll_frame(cx) else {
            return Poll::Ready(Some(Err(match ready!(self.pace.poll_slow(cx)) {
                Slow::Idle => ReadError::Idle,
                Slow::Rate => ReadError::TooSlow,
            })));
        };
        let frame = match item {
            None => return Poll::Ready(None),
            Some(Err(error)) => return Poll::Ready(Some(Err(cause(error.into().as_ref())))),
            Some(Ok(mut frame)) => {
                if let Some(trailers) = frame.trailers_mut() {
                    strip_trailers(trailers);
                }
                frame
            }
        };
        if let Some(data) = frame.data_ref() {
            self.pace.received(data.len());
            match self.left.checked_sub(data.len() as u64) {
                Some(left) => self.left = left,
                None => return Poll::Ready(Some(Err(ReadError::TooLarge))),
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }

    pub(super) fn source(&self) -> &B {
        &self.source
    }
}

/// Distinguishes invalid framing from a client that left.
///
/// hyper's error kinds are private; a bad chunk has an `io::Error` of kind `InvalidInput` or
/// `InvalidData` among its sources.
fn cause(error: &(dyn std::error::Error + 'static)) -> ReadError {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            let kind = error.kind();
            if kind == std::io::ErrorKind::InvalidInput || kind == std::io::ErrorKind::InvalidData {
                return ReadError::Malformed;
            }
        }
        next = error.source();
    }
    ReadError::Aborted
}

/// The bytes read so far: a single piece is not copied, several are copied into one buffer.
#[derive(Debug, Default)]
struct Chunks {
    one: Bytes,
    several: Vec<u8>,
}

impl Chunks {
    fn len(&self) -> usize {
        self.one.len() + self.several.len()
    }

    fn bytes(&self) -> &[u8] {
        if self.several.is_empty() { &self.one } else { &self.several }
    }

    fn push(&mut self, data: Bytes, to_come: usize) {
        if self.len() == 0 {
            self.one = if data.len() <= COPY_BELOW { Bytes::copy_from_slice(&data) } else { data };
            return;
        }
        let now = self.len() + data.len();
        if to_come > 0 && self.several.capacity() < now {
            let wanted = (2 * self.several.capacity()).max(FIRST_CAPACITY).max(now);
            self.several.reserve_exact(wanted.min(now.saturating_add(to_come)) - self.several.len());
        }
        self.several.extend_from_slice(&std::mem::take(&mut self.one));
        self.several.extend_from_slice(&data);
    }

    fn into_bytes(mut self) -> Bytes {
        if self.several.is_empty() {
            return self.one;
        }
        self.several.shrink_to_fit();
        Bytes::from(self.several)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_set_aside_than_has_come_and_nothing_beyond_the_announced_end() {
        const ANNOUNCED: usize = 1_000_000;
        let piece = Bytes::from(vec![7; 10_000]);
        for announced in [ANNOUNCED, 0] {
            let (mut chunks, mut moved, mut capacity) = (Chunks::default(), 0, 0);
            for come in (piece.len()..=ANNOUNCED).step_by(piece.len()) {
                chunks.push(piece.clone(), announced.saturating_sub(come));
                assert_eq!(chunks.len(), come);
                let set_aside = chunks.several.capacity();
                assert!(set_aside <= FIRST_CAPACITY.max(2 * come), "{set_aside} for {come}");
                assert!(announced == 0 || set_aside <= announced, "{set_aside} of {announced}");
                moved += usize::from(set_aside != std::mem::replace(&mut capacity, set_aside));
            }
            assert!(moved <= 8, "moved {moved} times");
            assert!(chunks.into_bytes().iter().eq(std::iter::repeat_n(&7, ANNOUNCED)));
        }
    }
}
