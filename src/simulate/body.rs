//! The bytes of a response, and the pace at which they are sent.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use thiserror::Error;

use crate::clock;

use super::exchange::UnderWay;
use super::wire::Fate;

/// The connection is broken on purpose: hyper closes it after this error.
#[derive(Clone, Copy, Debug, Error)]
#[error("cut on purpose")]
pub(super) struct Cut;

/// The body of an answer.
#[derive(Debug)]
pub(super) struct Body {
    kind: Kind,
    /// Dropped with the body.
    _under_way: Option<UnderWay>,
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
    fate: Arc<Fate>,
}

/// The next step of a paced body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Send this.
    Data(Bytes),
    /// Send nothing for this long.
    Wait(Duration),
    /// Send nothing more, and keep the connection open.
    Stall,
    /// Reset the connection.
    Cut,
}

impl Body {
    /// All at once, with a length.
    pub(super) fn whole(data: Bytes) -> Self {
        Self { kind: Kind::Whole(Some(data)), _under_way: None }
    }

    /// Sent step by step, without a length. `fate` is the connection's.
    pub(super) fn paced(steps: VecDeque<Step>, fate: Arc<Fate>) -> Self {
        Self { kind: Kind::Paced(Box::new(Paced { steps, sleep: None, fate })), _under_way: None }
    }

    /// The same, holding the request under way until it is gone.
    pub(super) fn with(self, under_way: UnderWay) -> Self {
        Self { _under_way: Some(under_way), ..self }
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
                    self.fate.reset();
                    return Poll::Ready(Some(Err(Cut)));
                }
            }
        }
    }
}
