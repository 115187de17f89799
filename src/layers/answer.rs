//! A response body that settles its attempt when it ends.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::admission::Permit;
use crate::classify;
use crate::clock::{self, Instant};
use crate::openai::Endpoint;
use crate::proxy::settle;
use crate::stream::{Aborted, End, Findings, Ledger, Relay};

/// A response body with the inner service's bytes. When it ends, or is dropped, the attempt is
/// settled.
pub struct AnswerBody<R>(pub(super) Box<Relay<Pin<Box<R>>, Owed>>);

impl<R> fmt::Debug for AnswerBody<R> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("AnswerBody")
    }
}

impl<R: Body<Data = Bytes>> Body for AnswerBody<R> {
    type Data = Bytes;
    type Error = Aborted;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        Pin::new(&mut *self.0).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

/// The permit of an attempt; `None` if the attempt was settled before.
pub(super) struct Owed {
    pub(super) permit: Option<Permit>,
    pub(super) endpoint: Endpoint,
}

impl Ledger for Owed {
    fn began(&mut self, now: Instant) {
        if let Some(permit) = &mut self.permit {
            permit.began(now);
        }
    }

    fn ended(self, end: End, _bytes: u64, findings: Findings, now: Instant) {
        let Some(mut permit) = self.permit else { return };
        if let Some(data) = &findings.error {
            let classified = classify::stream_error(self.endpoint, data, clock::wall());
            return settle::refused(permit, classified.class, &classified, || None);
        }
        if let Some(class) = findings.class(end) {
            return permit.fail(class);
        }
        if let Some(usage) = findings.usage {
            permit.used(usage.input);
        }
        permit.done_at(now);
    }
}
