//! The body of an answer on its way to the client.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Buf;
use http_body::{Body, Frame, SizeHint};

use super::watch::InFlight;

/// A service's body: the request is in flight as long as it lives.
///
/// Over HTTP/1 no more of it is read than the client takes, but for `Settings::unwritten`: hyper
/// would take what its buffer holds and what comes at once.
///
/// An error of the service's body aborts the answer, so that the client sees it cut. hyper drops a
/// chunk that an error follows without a pause, so there is always one in between.
#[derive(Debug)]
pub struct EdgeBody<B: Body> {
    body: B,
    /// Whether the last poll brought a frame.
    yielded: bool,
    error: Option<B::Error>,
    request: InFlight,
}

impl<B: Body> EdgeBody<B> {
    pub(super) fn new(body: B, request: InFlight) -> Self {
        Self { body, yielded: true, error: None, request }
    }
}

impl<B> Body for EdgeBody<B>
where
    B: Body + Unpin,
    B::Error: Unpin,
{
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        if let Some(error) = self.error.take() {
            return Poll::Ready(Some(Err(error)));
        }
        if self.request.is_full() {
            return Poll::Pending;
        }
        let after_frame = std::mem::replace(&mut self.yielded, false);
        match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Err(error)) if after_frame => {
                self.error = Some(error);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            item => {
                if let Some(Ok(data)) = item.as_ref().map(|frame| frame.as_ref().map(Frame::data_ref)) {
                    self.request.queue(data.map_or(0, Buf::remaining));
                }
                self.yielded = true;
                Poll::Ready(item)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
