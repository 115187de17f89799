//! The body of a response on its way to the client.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Buf;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::watch::InFlight;

pin_project! {
    /// The response body that a service returns. The request counts as in flight until it is
    /// dropped.
    ///
    /// Over HTTP/1 it yields no frame while hyper holds `Settings::unwritten` bytes or more that
    /// the client has not read: hyper alone would fill its own, larger buffer.
    ///
    /// An error of the service's body aborts the response, so that the client sees a truncation.
    /// hyper drops a chunk if an error follows at once, so the error is yielded one poll later.
    pub struct EdgeBody<B: Body> {
        #[pin]
        body: B,
        // Whether the last poll yielded a frame.
        yielded: bool,
        error: Option<B::Error>,
        request: InFlight,
    }
}

impl<B: Body> EdgeBody<B> {
    pub(super) fn new(body: B, request: InFlight) -> Self {
        Self { body, yielded: true, error: None, request }
    }
}

impl<B: Body> Body for EdgeBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        if let Some(error) = this.error.take() {
            return Poll::Ready(Some(Err(error)));
        }
        if this.request.is_full() {
            return Poll::Pending;
        }
        let after_frame = std::mem::replace(this.yielded, false);
        match ready!(this.body.poll_frame(cx)) {
            Some(Err(error)) if after_frame => {
                *this.error = Some(error);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            item => {
                if let Some(Ok(data)) = item.as_ref().map(|frame| frame.as_ref().map(Frame::data_ref)) {
                    this.request.queue(data.map_or(0, Buf::remaining));
                }
                *this.yielded = true;
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
