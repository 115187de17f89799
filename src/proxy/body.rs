//! The one body type that Weir answers with.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::exchange::Exchange;
use super::keep_alive::KeptAlive;
use super::stall::Watched;
use crate::stream::{Aborted, Relay};
use crate::upstream::AnswerBody;

/// An answer's body: Weir's own bytes, or the upstream's on their way.
pub enum Body {
    /// Bytes that are all here; none once they were taken.
    Whole(Bytes),
    /// The upstream's body; on the heap, because most of an answer's life is spent moving it about.
    Relayed(Relayed),
}

/// The upstream's body on its way, as a type of its own, so that [`Body`] does not grow by another
/// form.
pub enum Relayed {
    /// Alone on its caller's connection.
    Alone(Box<Relay<AnswerBody, Exchange>>),
    /// One of several, whose client may leave it unread while it reads others.
    Watched(Arc<Watched>),
    /// Begun with comments, before the upstream's came.
    KeptAlive(Box<KeptAlive>),
}

/// Over HTTP/2 a request has a task with room for its answer's body: a few bytes more, and tokio
/// gives it 384 in place of 256.
const _: () = assert!(size_of::<Body>() <= 32);

/// Each stream has one on the heap: a few bytes more, and the allocator gives it 448.
const _: () = assert!(size_of::<Relay<AnswerBody, Exchange>>() <= 384);

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Aborted;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        match &mut *self {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Relayed(Relayed::Alone(relay)) => Pin::new(relay.as_mut()).poll_frame(cx),
            Self::Relayed(Relayed::Watched(watched)) => watched.poll_frame(cx),
            Self::Relayed(Relayed::KeptAlive(kept)) => kept.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Relayed(Relayed::Alone(relay)) => relay.is_end_stream(),
            Self::Relayed(Relayed::Watched(watched)) => {
                watched.look(HttpBody::is_end_stream).unwrap_or(false)
            }
            Self::Relayed(Relayed::KeptAlive(kept)) => kept.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Relayed(Relayed::Alone(relay)) => relay.size_hint(),
            Self::Relayed(Relayed::Watched(watched)) => watched.look(HttpBody::size_hint).unwrap_or_default(),
            Self::Relayed(Relayed::KeptAlive(_)) => SizeHint::default(),
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::Whole(bytes)
    }
}
