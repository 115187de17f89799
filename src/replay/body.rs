//! The request body of one attempt.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};

use super::budget::Reservation;
use super::client_body::ClientBody;
use super::progress::{BodyProgress, ProgressGuard};
use super::read::{ReadError, Rest};

/// A request's body on its way to the upstream.
///
/// It fails with a [`ReadError`] if the client breaks off a streamed body, which aborts the
/// attempt.
#[derive(Debug)]
pub struct Body<B = ClientBody> {
    first: Bytes,
    then: Then<B>,
}

#[derive(Debug)]
enum Then<B> {
    End {
        trailers: Option<Arc<HeaderMap>>,
        _reservation: Option<Arc<Reservation>>,
        /// The progress guard, if [`Body::watched`] was called.
        watched: Option<ProgressGuard>,
    },
    Rest {
        rest: Box<Rest<B>>,
        passing: ProgressGuard,
    },
}

impl<B> Body<B> {
    /// An empty body.
    #[cfg(any(test, feature = "internals"))]
    pub fn empty() -> Self {
        Self::whole(Bytes::new(), None, None)
    }

    pub(super) fn whole(
        bytes: Bytes,
        trailers: Option<Arc<HeaderMap>>,
        reservation: Option<Arc<Reservation>>,
    ) -> Self {
        Self { first: bytes, then: Then::End { trailers, _reservation: reservation, watched: None } }
    }

    pub(super) fn streamed(prefix: Bytes, rest: Box<Rest<B>>, progress: &BodyProgress) -> Self {
        Self { first: prefix, then: Then::Rest { rest, passing: progress.begin() } }
    }

    /// The progress of a body that is still arriving from the client; `None` for a complete body.
    pub fn progress(&self) -> Option<BodyProgress> {
        match &self.then {
            Then::End { .. } => None,
            Then::Rest { passing, .. } => Some(passing.progress().clone()),
        }
    }
}

impl<B> Body<B> {
    /// Replaces the bytes already read by the result of `edit`. Returns the change in length.
    pub fn edit(&mut self, edit: impl FnOnce(&Bytes) -> Option<Bytes>) -> Option<isize> {
        let edited = edit(&self.first)?;
        let more = edited.len().cast_signed().wrapping_sub(self.first.len().cast_signed());
        self.first = edited;
        Some(more)
    }

    /// The progress of the body, complete or not, until it was sent or dropped.
    pub fn watched(&mut self) -> BodyProgress {
        let passing = match &mut self.then {
            Then::End { watched, .. } => watched.get_or_insert_with(|| BodyProgress::new(false).begin()),
            Then::Rest { passing, .. } => passing,
        };
        passing.progress().clone()
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
            let first = std::mem::take(&mut self.first);
            if let Then::Rest { passing, .. } = &self.then {
                passing.pass(&first);
            }
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        match &mut self.then {
            Then::End { trailers, .. } => Poll::Ready(
                trailers.take().map(|trailers| Ok(Frame::trailers(Arc::unwrap_or_clone(trailers)))),
            ),
            Then::Rest { rest, passing } => {
                rest.prefix_is_sent();
                let item = ready!(rest.poll_frame(cx));
                if let Some(Ok(data)) = item.as_ref().map(|item| item.as_ref().map(Frame::data_ref)) {
                    passing.pass(data.map_or(&[], |data| data));
                }
                Poll::Ready(item)
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

    /// Exact if the length is known and no trailers follow; trailers require chunked encoding.
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
