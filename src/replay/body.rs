//! The body of one attempt.

use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;

use super::budget::Reservation;
use super::read::{ReadError, Rest};

/// A request's body on its way to the upstream.
///
/// It fails with a [`ReadError`] when the client breaks off a body that is streamed, which aborts the attempt.
#[derive(Debug)]
pub struct Body<B = Incoming> {
    first: Bytes,
    then: Then<B>,
}

#[derive(Debug)]
enum Then<B> {
    End { trailers: Option<Arc<HeaderMap>>, _reservation: Option<Arc<Reservation>> },
    Rest { rest: Box<Rest<B>>, sending: Arc<()> },
}

/// Tells whether a body that is streamed is still being sent.
#[derive(Debug)]
pub struct Sending(Weak<()>);

impl Sending {
    /// Whether there is still more to be sent.
    pub fn goes_on(&self) -> bool {
        self.0.strong_count() > 0
    }
}

impl<B> Body<B> {
    /// An empty body.
    pub fn empty() -> Self {
        Self::whole(Bytes::new(), None, None)
    }

    pub(super) fn whole(
        bytes: Bytes,
        trailers: Option<Arc<HeaderMap>>,
        reservation: Option<Arc<Reservation>>,
    ) -> Self {
        Self { first: bytes, then: Then::End { trailers, _reservation: reservation } }
    }

    pub(super) fn streamed(prefix: Bytes, rest: Box<Rest<B>>) -> Self {
        Self { first: prefix, then: Then::Rest { rest, sending: Arc::default() } }
    }

    /// What tells when the body has been sent; `None` when no part of it is still to come from the client.
    pub fn sending(&self) -> Option<Sending> {
        match &self.then {
            Then::End { .. } => None,
            Then::Rest { sending, .. } => Some(Sending(Arc::downgrade(sending))),
        }
    }
}

impl<B> From<Bytes> for Body<B> {
    fn from(bytes: Bytes) -> Self {
        Self::whole(bytes, None, None)
    }
}

impl<B> http_body::Body for Body<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = ReadError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ReadError>>> {
        if !self.first.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.first)))));
        }
        match &mut self.then {
            Then::End { trailers, .. } => Poll::Ready(
                trailers.take().map(|trailers| Ok(Frame::trailers(Arc::unwrap_or_clone(trailers)))),
            ),
            Then::Rest { rest, .. } => {
                rest.prefix_is_sent();
                Poll::Ready(ready!(rest.poll_frame(cx)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_empty()
            && match &self.then {
                Then::End { trailers, .. } => trailers.is_none(),
                Then::Rest { rest, .. } => rest.source().is_end_stream(),
            }
    }

    /// Exact where the length is known and no trailers follow; trailers need chunks.
    fn size_hint(&self) -> SizeHint {
        let first = self.first.len() as u64;
        match &self.then {
            Then::End { trailers: None, .. } => SizeHint::with_exact(first),
            Then::End { trailers: Some(_), .. } => SizeHint::default(),
            Then::Rest { rest, .. } => match rest.source().size_hint().exact() {
                Some(rest) => SizeHint::with_exact(first + rest),
                None => SizeHint::default(),
            },
        }
    }
}
