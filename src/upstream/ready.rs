//! A connection that is ready for an attempt: sends the request, and receives the response's head.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;

use super::body::{AnswerBody, Source};
use super::head_limit::HeadClock;
use super::{HeadLimit, Upstream, failure, headers, http1, http2};
use crate::classify::{Failure, FailureKind};
use crate::clock;
use crate::replay;

/// A connection for one attempt. Dropping it without a request closes it.
#[derive(Debug)]
pub struct Ready {
    pub(super) upstream: Upstream,
    pub(super) channel: Channel,
}

/// A connection, by protocol.
#[derive(Debug)]
pub(super) enum Channel {
    Http1(http1::Lease),
    /// The clock is boxed to keep each attempt's future small.
    Http2(http2::Stream, Box<HeadClock>),
}

/// A request in progress, which resolves to the response's head. Boxed, because hyper's future
/// stores the whole request.
pub(super) type Exchange =
    Pin<Box<dyn Future<Output = Result<Response<Incoming>, TrySendError<Request<replay::Body>>>> + Send>>;

/// The outcome of sending a request.
enum Sent {
    Answer(Response<Incoming>),
    /// The connection was lost before the request was sent.
    Unsent(Box<Request<replay::Body>>),
}

impl Ready {
    /// Sends a request and waits for the response's head, until `limit`.
    ///
    /// The request's URI is from [`super::Target::uri`]. If an idle connection turns out to be
    /// closed before the request was sent, it is replaced silently. Nothing else is repeated.
    ///
    /// # Errors
    /// [`Failure::sent`] is whether the upstream may have received the request.
    ///
    /// # Cancel safety
    /// Dropping the future ends the attempt and closes its connection, or resets its stream.
    pub fn send(
        mut self,
        request: Request<replay::Body>,
        limit: HeadLimit,
    ) -> impl Future<Output = Result<Response<AnswerBody>, Failure>> + Send {
        // Not an async fn: the request is passed to its connection here, so that no future stores
        // it.
        let begun = self.begin(request, limit);
        async move {
            let answer = self.exchange(begun).await?;
            if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
                return Err(Failure::sent(FailureKind::Malformed, "101 without a request to upgrade"));
            }
            self.answer(answer)
        }
    }

    /// Passes a request to its connection.
    pub(super) fn begin(&mut self, mut request: Request<replay::Body>, limit: HeadLimit) -> Exchange {
        match &mut self.channel {
            Channel::Http1(lease) => {
                self.upstream.target().restore_origin_form(&mut request);
                Box::pin(lease.send(request, limit))
            }
            Channel::Http2(stream, clock) => {
                clock.begin(limit, limit.after_request.map(|_| request.body_mut().watched()));
                Box::pin(stream.send(request, self.upstream.target()))
            }
        }
    }

    /// Waits for the response's head after the request was passed on.
    #[expect(clippy::manual_async_fn, reason = "an async fn stores its arguments twice")]
    pub(super) fn exchange(
        &mut self,
        begun: Exchange,
    ) -> impl Future<Output = Result<Response<Incoming>, Failure>> + Send {
        async move {
            // Destructured before the await, so that the future does not store the response as
            // well.
            let unsent = match self.head_of(begun).await {
                Ok(Sent::Answer(answer)) => return Ok(answer),
                Ok(Sent::Unsent(request)) => request,
                Err(failure) => return Err(failure),
            };
            self.resend(unsent).await
        }
    }

    #[expect(clippy::manual_async_fn, reason = "an async fn stores its arguments twice")]
    fn head_of(&mut self, mut begun: Exchange) -> impl Future<Output = Result<Sent, Failure>> + Send {
        async move {
            let channel = &mut self.channel;
            let outcome = poll_fn(|cx| match channel.poll_with(cx, |cx| begun.as_mut().poll(cx)) {
                Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
                Poll::Pending => channel.poll_late(cx).map(|()| None),
            })
            .await;
            match outcome {
                Some(outcome) => self.outcome_of(outcome),
                None => Err(Failure::sent(FailureKind::ResponseTimeout, "")),
            }
        }
    }

    /// Sends a request again on a new connection, after an idle one was lost. Boxed, because it is
    /// rare.
    fn resend(
        &mut self,
        request: Box<Request<replay::Body>>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Incoming>, Failure>> + Send + '_>> {
        Box::pin(async move {
            let limit = self.channel.limit();
            self.channel = self.upstream.fresh().await?;
            let begun = self.begin(*request, limit);
            self.exchange(begun).await
        })
    }

    /// Distinguishes a response, a request that may be sent again, and a failure.
    fn outcome_of(
        &self,
        outcome: Result<Response<Incoming>, TrySendError<Request<replay::Body>>>,
    ) -> Result<Sent, Failure> {
        let mut error = match outcome {
            Ok(answer) => return Ok(Sent::Answer(answer)),
            Err(error) => error,
        };
        let unsent = error.take_message();
        let failure = failure::of_attempt(error.error());
        if failure.kind == FailureKind::HeadTooLarge {
            self.upstream.shared.counters.count_head_too_large();
        }
        match unsent {
            None => {
                if let (FailureKind::Reset, Channel::Http1(lease)) = (failure.kind, &self.channel) {
                    lease.lost(clock::now(), failure::is_vanished(error.error()));
                }
                Err(failure)
            }
            Some(request) if self.channel.reused() => Ok(Sent::Unsent(Box::new(request))),
            Some(_) => Err(Failure::unsent(failure.kind, failure.detail().to_owned())),
        }
    }

    /// The response, with a body that returns its connection to the pool.
    pub(super) fn answer(self, response: Response<Incoming>) -> Result<Response<AnswerBody>, Failure> {
        let (head, incoming) = response.into_parts();
        let source = match self.channel {
            Channel::Http1(mut lease) => {
                headers::check_framing(&head.headers)
                    .map_err(|problem| Failure::sent(FailureKind::Malformed, problem))?;
                lease.answered(&head.headers);
                Source::Http1(lease)
            }
            Channel::Http2(stream, _) => Source::Http2 { _stream: stream },
        };
        Ok(Response::from_parts(head, AnswerBody::new(incoming, source)))
    }
}

impl Channel {
    pub(super) fn http2(stream: http2::Stream) -> Self {
        Self::Http2(stream, Box::default())
    }

    /// Drives an HTTP/1.1 connection's I/O, then polls `waiting`.
    fn poll_with<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut waiting: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        match self {
            Self::Http1(lease) => lease.poll_with(cx, waiting),
            // An HTTP/2 connection has its own task.
            Self::Http2(..) => waiting(cx),
        }
    }

    /// Ready once the response's head is late.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Http1(lease) => lease.poll_late(cx),
            Self::Http2(_, clock) => clock.poll_late(None, cx),
        }
    }

    fn limit(&self) -> HeadLimit {
        match self {
            Self::Http1(lease) => lease.limit(),
            Self::Http2(_, clock) => clock.limit(),
        }
    }

    fn reused(&self) -> bool {
        match self {
            Self::Http1(lease) => lease.is_reused(),
            Self::Http2(stream, _) => stream.reused,
        }
    }
}
