//! A request's body as the client sends it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::client_waker::ClientWaker;
use crate::clock;

/// Longest silence of a client that got its response before it sent its whole body; nginx's
/// `lingering_timeout`.
pub const LINGER_SILENCE: Duration = Duration::from_secs(5);
/// Longest time that the rest of such a body is read and discarded; nginx's `lingering_time`.
pub const LINGER: Duration = Duration::from_secs(30);

/// A request's body that is disposed of correctly if it is not read to its end.
///
/// Over HTTP/1 the connection closes, and discards what the client still sends: the connection's
/// `body_open` flag tells it to. Over HTTP/2 the rest is read and discarded here: many clients
/// treat a reset stream as a failure while they send, and lose the response.
#[derive(Debug)]
pub struct ClientBody(Option<Box<Sending>>);

/// A body that was not empty when its request arrived. Boxed, because each request's future stores
/// it in several states.
#[derive(Debug)]
struct Sending {
    incoming: Incoming,
    /// The waker of an HTTP/1 connection; `None` over HTTP/2.
    client: Option<Arc<ClientWaker>>,
}

impl ClientBody {
    /// A body over HTTP/1 (with `client`), which is open until it was read to its end, or over
    /// HTTP/2.
    pub fn new(incoming: Incoming, client: Option<Arc<ClientWaker>>) -> Self {
        let is_empty = incoming.is_end_stream();
        if let Some(client) = &client {
            client.body_open.store(!is_empty, Ordering::Relaxed);
        }
        Self((!is_empty).then(|| Box::new(Sending { incoming, client })))
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(Sending { incoming, client }) = self.0.as_deref_mut() else { return Poll::Ready(None) };
        let Some(client) = client else { return Pin::new(incoming).poll_frame(cx) };
        let polled = ClientWaker::take(|| Pin::new(&mut *incoming).poll_frame(cx));
        client.taken(incoming.is_end_stream());
        let frame = ready!(polled);
        // No frame follows trailers.
        if incoming.is_end_stream()
            || frame.as_ref().is_none_or(|frame| frame.as_ref().is_ok_and(Frame::is_trailers))
        {
            client.body_open.store(false, Ordering::Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|sending| sending.incoming.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(|| SizeHint::with_exact(0), |sending| sending.incoming.size_hint())
    }
}

impl Drop for ClientBody {
    fn drop(&mut self) {
        let Some(sending) = self.0.take() else { return };
        let Sending { incoming, client } = *sending;
        // Without a runtime, the process is ending.
        if client.is_none() && !incoming.is_end_stream() && tokio::runtime::Handle::try_current().is_ok() {
            clock::spawn(linger(incoming));
        }
    }
}

/// Reads and discards until the body ends, the client is silent, or the time is over.
async fn linger(mut incoming: Incoming) {
    let end = clock::now() + LINGER;
    while clock::now() < end {
        let until = end.min(clock::now() + LINGER_SILENCE);
        let Ok(Some(Ok(_))) = clock::timeout_at(until, incoming.frame()).await else { return };
    }
}
