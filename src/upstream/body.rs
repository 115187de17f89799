//! The body of an upstream response, which returns its connection to the pool.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::classify::Failure;
use crate::replay;

use super::failure;
use super::http1::Lease;
use super::http2::Stream;

/// Largest chunk that is copied, in bytes.
const COPY_BELOW: usize = 2 << 10;

/// The body of an upstream response.
///
/// When it was read to its end, its connection returns to the pool. If it is dropped before, or
/// fails, the connection (HTTP/1.1) is closed or the stream (HTTP/2) is reset at once.
#[derive(Debug)]
pub struct AnswerBody {
    incoming: Incoming,
    /// Owned for its drop, which returns or closes the connection.
    source: Option<Source>,
}

/// The connection or stream that a response arrives on.
#[derive(Debug)]
pub(super) enum Source {
    Http1(Lease),
    Http2 { _stream: Stream },
}

impl AnswerBody {
    pub(super) fn new(incoming: Incoming, source: Source) -> Self {
        let mut body = Self { incoming, source: Some(source) };
        body.release_if_ended();
        body
    }

    fn release_if_ended(&mut self) {
        if self.incoming.is_end_stream() {
            self.release();
        }
    }

    /// Copies a small, non-final chunk so that hyper can reuse its read buffer instead of
    /// allocating a new one while this chunk is in flight.
    fn copy_small(&self, frame: Frame<Bytes>) -> Frame<Bytes> {
        if !matches!(self.source, Some(Source::Http1(_))) {
            return frame;
        }
        frame.map_data(|data| if data.len() <= COPY_BELOW { Bytes::copy_from_slice(&data) } else { data })
    }

    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let Self { incoming, source } = self;
        match source {
            Some(Source::Http1(lease)) => lease.poll_with(cx, |cx| Pin::new(&mut *incoming).poll_frame(cx)),
            Some(Source::Http2 { .. }) | None => Pin::new(incoming).poll_frame(cx),
        }
    }

    fn release(&mut self) {
        match self.source.take() {
            Some(Source::Http1(lease)) => lease.give_back(),
            Some(Source::Http2 { .. }) | None => {}
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        match ready!(self.poll_incoming(cx)) {
            Some(Ok(mut frame)) => {
                if let Some(trailers) = frame.trailers_mut() {
                    replay::strip_trailers(trailers);
                    // No frame follows trailers, but hyper must be polled once more to reach its
                    // end state.
                    if let Poll::Ready(None) = self.poll_incoming(cx) {
                        self.release();
                    }
                }
                self.release_if_ended();
                Poll::Ready(Some(Ok(self.copy_small(frame))))
            }
            Some(Err(error)) => {
                self.source = None;
                Poll::Ready(Some(Err(failure::of_body(&error))))
            }
            None => {
                self.release();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
