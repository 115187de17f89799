//! Keep-alive for streams (`stream.keepalive`). A caller that waits for the first event of its
//! stream gets the response's head and comments meanwhile, so that no load balancer in between
//! times out.
//!
//! The request proceeds as usual: it waits for admission and may be retried. A failure becomes an
//! event of the stream.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method, Response, StatusCode, response};
use http_body::{Body as HttpBody, Frame};
use tokio::task::JoinHandle;

use super::body::{Body, Relayed};
use super::call::Head;
use super::{Answering, Policy};
use crate::account::RequestId;
use crate::caller::Mode;
use crate::classify;
use crate::clock::{self, Instant, Timer};
use crate::metrics::Metrics;
use crate::openai::Endpoint;
use crate::response::{self as own, REQUEST_ID};
use crate::stream::{self, Aborted};

/// A comment line, which all readers of event streams ignore. No blank line follows: some readers
/// would report an empty event.
const COMMENT: &[u8] = b": weir\n";

/// The keep-alive state of one request.
#[derive(Debug)]
pub(super) struct KeepAlive {
    every: Duration,
    id: RequestId,
    endpoint: Endpoint,
    metrics: Arc<Metrics>,
    /// When the request was read, if it asks for a stream.
    read: OnceLock<Instant>,
    /// When the early head was sent to the caller, if it was.
    answered: OnceLock<Instant>,
}

impl KeepAlive {
    /// The keep-alive state, if the policy enables it and the response may be an event stream.
    pub(super) fn of(
        policy: &Policy,
        head: &Head,
        id: RequestId,
        metrics: &Arc<Metrics>,
    ) -> Option<Arc<Self>> {
        let every = policy.keepalive?;
        let streams =
            matches!(head.endpoint, Endpoint::ChatCompletions | Endpoint::Completions | Endpoint::Responses);
        (streams && head.mode == Mode::Enforce && head.method == Method::POST && head.is_itself()).then(
            || {
                Arc::new(Self {
                    every,
                    id,
                    endpoint: head.endpoint,
                    metrics: Arc::clone(metrics),
                    read: OnceLock::new(),
                    answered: OnceLock::new(),
                })
            },
        )
    }

    /// Starts the interval: the request was read, and asks for a stream.
    pub(super) fn begin(&self, now: Instant) {
        self.read.set(now).ok();
    }

    /// When the early head was sent to the caller, if it was.
    pub(super) fn answered(&self) -> Option<Instant> {
        self.answered.get().copied()
    }

    /// Waits for the response, and starts an event stream if there is none within the interval.
    pub(super) fn wrap(self: Arc<Self>, mut answering: Answering) -> Answering {
        Box::pin(async move {
            let mut timer = None;
            let in_time = poll_fn(|cx| {
                if let Poll::Ready(answer) = answering.as_mut().poll(cx) {
                    return Poll::Ready(Some(answer));
                }
                let Some(read) = self.read.get() else { return Poll::Pending };
                let timer = timer.get_or_insert_with(|| Timer::new(*read + self.every));
                timer.poll_fired(cx).map(|()| None)
            })
            .await;
            if let Some(answer) = in_time {
                return answer;
            }
            let now = clock::now();
            self.answered.set(now).ok();
            self.metrics.streams_kept_alive.inc();
            // A separate task: a client that does not open its HTTP/2 window must not block a
            // request that was admitted.
            let state = State::Waiting(clock::spawn(answering));
            let body =
                KeptAlive { state, every: self.every, timer: Timer::new(now), endpoint: self.endpoint };
            let mut response = Response::new(Body::Relayed(Relayed::KeptAlive(Box::new(body))));
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
            // nginx would buffer the comments.
            headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
            if let Ok(id) = HeaderValue::from_str(&self.id.to_string()) {
                headers.insert(REQUEST_ID, id);
            }
            Ok(response)
        })
    }
}

/// The body of a response that starts with comments.
pub struct KeptAlive {
    state: State,
    every: Duration,
    /// The time of the next comment.
    timer: Timer,
    endpoint: Endpoint,
}

enum State {
    /// There is no response yet.
    Waiting(JoinHandle<Result<Response<Body>, Infallible>>),
    /// A response that is not a stream: it is read to be reported as an event.
    Reading(Box<response::Parts>, Body, Vec<Bytes>),
    /// The upstream's stream is relayed.
    Relaying(Body),
    Over,
}

impl KeptAlive {
    /// The next frame of the response; pending while there is none.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        loop {
            match &mut self.state {
                State::Waiting(task) => match ready!(Pin::new(task).poll(cx)) {
                    Ok(Ok(answer)) => self.state = State::of(answer),
                    // The task panicked: a bug in Weir.
                    Err(_) => {
                        let event = own::panic_event(self.endpoint);
                        return self.end_with(event);
                    }
                },
                State::Reading(head, body, read) => {
                    let frame = ready!(Pin::new(body).poll_frame(cx));
                    let more = match frame {
                        Some(Ok(frame)) => {
                            read.extend(frame.into_data().ok());
                            read.iter().map(Bytes::len).sum::<usize>() < classify::MAX_BODY
                        }
                        Some(Err(_)) | None => false,
                    };
                    if !more {
                        let plain = stream::copy(&head.headers, read.iter(), classify::MAX_BODY);
                        let event = own::stream_error(self.endpoint, head.status, &head.headers, &plain);
                        return self.end_with(event);
                    }
                }
                State::Relaying(body) => return Pin::new(body).poll_frame(cx),
                State::Over => return Poll::Ready(None),
            }
        }
    }

    fn end_with(&mut self, event: Vec<u8>) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        self.state = State::Over;
        Poll::Ready(Some(Ok(Frame::data(event.into()))))
    }

    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        if let Poll::Ready(frame) = self.poll_answer(cx) {
            return Poll::Ready(frame);
        }
        if matches!(self.state, State::Relaying(_)) {
            return Poll::Pending;
        }
        ready!(self.timer.poll_fired(cx));
        self.timer.reset(clock::now() + self.every);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(COMMENT)))))
    }

    pub(super) fn is_end_stream(&self) -> bool {
        match &self.state {
            State::Over => true,
            State::Relaying(body) => body.is_end_stream(),
            State::Waiting(_) | State::Reading(..) => false,
        }
    }
}

impl State {
    fn of(answer: Response<Body>) -> Self {
        let is_stream = answer.status() == StatusCode::OK
            && !answer.headers().contains_key(CONTENT_ENCODING)
            && answer
                .headers()
                .get(CONTENT_TYPE)
                .and_then(|kind| kind.as_bytes().get(..17))
                .is_some_and(|kind| kind.eq_ignore_ascii_case(b"text/event-stream"));
        let (head, body) = answer.into_parts();
        if is_stream { Self::Relaying(body) } else { Self::Reading(Box::new(head), body, Vec::new()) }
    }
}

impl Drop for KeptAlive {
    fn drop(&mut self) {
        // The caller left, so the request is aborted.
        if let State::Waiting(task) = &self.state {
            task.abort();
        }
    }
}
