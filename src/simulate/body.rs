//! The response body, sent at once or step by step.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use thiserror::Error;

use crate::clock;

use super::exchange::InFlight;
use super::wire::WireFault;

/// The error that makes hyper close the connection, for a simulated fault.
#[derive(Clone, Copy, Debug, Error)]
#[error("cut on purpose")]
pub(super) struct Cut;

/// The body of a response.
#[derive(Debug)]
pub(super) struct Body {
    kind: Kind,
    /// Counts the request as in flight until the body is dropped.
    _in_flight: Option<InFlight>,
}

#[derive(Debug)]
enum Kind {
    Whole(Option<Bytes>),
    Paced(Box<Paced>),
}

#[derive(Debug)]
struct Paced {
    steps: VecDeque<Step>,
    sleep: Option<Pin<Box<tokio::time::Sleep>>>,
    wire_fault: Arc<WireFault>,
}

/// The next step of a paced body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Send these bytes.
    Data(Bytes),
    /// Pause for this duration.
    Wait(Duration),
    /// Pause forever, with the connection open.
    Stall,
    /// Reset the connection.
    Cut,
}

impl Body {
    /// A body sent at once, with a `content-length`.
    pub(super) fn whole(data: Bytes) -> Self {
        Self { kind: Kind::Whole(Some(data)), _in_flight: None }
    }

    /// A body sent step by step, without a `content-length`. `wire_fault` is the connection's.
    pub(super) fn paced(steps: VecDeque<Step>, wire_fault: Arc<WireFault>) -> Self {
        Self { kind: Kind::Paced(Box::new(Paced { steps, sleep: None, wire_fault })), _in_flight: None }
    }

    /// Attaches the guard of the request in flight.
    pub(super) fn with(self, in_flight: InFlight) -> Self {
        Self { _in_flight: Some(in_flight), ..self }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match &mut self.kind {
            Kind::Whole(data) => {
                Poll::Ready(data.take().filter(|data| !data.is_empty()).map(|data| Ok(Frame::data(data))))
            }
            Kind::Paced(paced) => paced.poll(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Whole(data) => data.as_ref().is_none_or(Bytes::is_empty),
            Kind::Paced(paced) => paced.steps.is_empty() && paced.sleep.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Whole(data) => SizeHint::with_exact(data.as_ref().map_or(0, Bytes::len) as u64),
            Kind::Paced(_) => SizeHint::default(),
        }
    }
}

impl Paced {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        loop {
            if let Some(sleep) = &mut self.sleep {
                ready!(sleep.as_mut().poll(context));
                self.sleep = None;
            }
            match self.steps.pop_front() {
                None => return Poll::Ready(None),
                Some(Step::Data(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Some(Step::Wait(time)) => self.sleep = Some(Box::pin(clock::sleep(time))),
                Some(Step::Stall) => {
                    self.steps.push_front(Step::Stall);
                    return Poll::Pending;
                }
                Some(Step::Cut) => {
                    self.wire_fault.reset();
                    return Poll::Ready(Some(Err(Cut)));
                }
            }
        }
    }
}
