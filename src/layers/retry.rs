//! The layer that retries requests.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use tower::{BoxError, Layer, Service, ServiceExt as _};

use super::{Attempt, Error, Refusal, Settings};
use crate::admission::{RetryTicket, Turn};
use crate::classify::ErrorClass;
use crate::clock::{self, Instant};
use crate::openai::endpoint::Named;
use crate::retry::{self, Decision, Policy, Safety, Situation};

/// Retries failed requests that are safe to repeat: with full jitter, within the retry budget of
/// the scope in [`AdmissionLayer`](super::AdmissionLayer), until the longest wait is over. It
/// belongs outside of that layer, and without it retries nothing.
#[derive(Clone, Debug)]
pub struct RetryLayer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    policy: Policy,
    max_wait: Duration,
    rng: Mutex<fastrand::Rng>,
}

impl RetryLayer {
    /// Creates a layer with these settings; use the same for the
    /// [`AdmissionLayer`](super::AdmissionLayer).
    pub fn new(settings: &Settings) -> Self {
        let policy = Policy { max_attempts: settings.max_attempts, ..Policy::default() };
        let rng = Mutex::new(fastrand::Rng::new());
        Self { shared: Arc::new(Shared { policy, max_wait: settings.max_wait, rng }) }
    }
}

impl<S> Layer<S> for RetryLayer {
    type Service = Retry<S>;

    fn layer(&self, inner: S) -> Retry<S> {
        Retry { inner, shared: Arc::clone(&self.shared) }
    }
}

/// A service that retries requests; see [`RetryLayer`].
#[derive(Clone, Debug)]
pub struct Retry<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S, B, R> Service<Request<B>> for Retry<S>
where
    S: Service<Request<B>, Response = Response<R>, Future: Send> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    B: Clone + Send + 'static,
    R: Send + 'static,
{
    type Response = Response<R>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Error>> + Send>>;

    /// Always ready: each attempt waits for the inner service.
    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (inner, shared) = (self.inner.clone(), Arc::clone(&self.shared));
        Box::pin(async move { shared.run(inner, request).await })
    }
}

/// The state of one request over its attempts.
struct Course {
    deadline: Instant,
    safety: Safety,
    attempts: u32,
    requeues: u32,
}

impl Shared {
    async fn run<S, B, R>(&self, mut inner: S, request: Request<B>) -> Result<Response<R>, Error>
    where
        S: Service<Request<B>, Response = Response<R>>,
        S::Error: Into<BoxError>,
        B: Clone,
    {
        let path = request.uri().path();
        let safety = Safety::of(request.method(), path, Named::by(path), None, &[]);
        let deadline = clock::now() + self.max_wait;
        let mut course = Course { deadline, safety, attempts: 0, requeues: 0 };
        let mut turn = Turn::First;
        let mut ticket: Option<RetryTicket> = None;
        let mut last: Option<Response<R>> = None;
        loop {
            let mut attempt = request.clone();
            attempt.extensions_mut().insert(Attempt { turn, requeues: course.requeues, deadline });
            let ready = inner.ready().await.map_err(own)?;
            let came = ready.call(attempt).await.map_err(own);
            drop(ticket.take());
            course.attempts += 1;
            let (situation, scope, place) = match &came {
                Ok(answer) => match answer.extensions().get::<Refusal>() {
                    None => return came,
                    Some(refusal) => (course.after(refusal), Some(&refusal.scope), refusal.place),
                },
                // The last response is more informative than the refusal of a further attempt.
                Err(error) if error.is_refused() => return last.map_or(came, Ok),
                Err(error) => (course.after_failure(), error.scope(), None),
            };
            let delay = match (self.decide(&situation), scope, place) {
                (Decision::Requeue, _, Some(place)) => {
                    course.requeues += 1;
                    course.attempts -= 1;
                    turn = Turn::Requeued(place);
                    Duration::ZERO
                }
                (Decision::After { delay, cost }, Some(scope), _) => {
                    let Ok(paid) = scope.retry_ticket(cost) else { return came };
                    ticket = Some(paid);
                    turn = Turn::Retry;
                    delay
                }
                (Decision::Stop(_) | Decision::Requeue | Decision::After { .. }, _, _) => return came,
            };
            last = came.ok().or(last);
            clock::sleep(delay).await;
        }
    }

    fn decide(&self, situation: &Situation) -> Decision {
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        retry::decide(situation, &self.policy, &mut rng)
    }
}

impl Course {
    fn after(&self, refusal: &Refusal) -> Situation {
        let classified = &refusal.classified;
        Situation {
            class: classified.class,
            safety: refusal.safety,
            may_have_run: classified.may_have_run(),
            forbidden: classified.should_retry == Some(false),
            hint: classified.hint,
            ..self.after_failure()
        }
    }

    /// The inner service failed, and it is unknown whether the request was sent.
    fn after_failure(&self) -> Situation {
        Situation {
            attempts: self.attempts,
            requeues: self.requeues,
            left: self.deadline.saturating_duration_since(clock::now()),
            ..Situation::new(ErrorClass::ConnectionReset, self.safety)
        }
    }
}

/// The error of the inner service, unwrapped if it is admission's own.
fn own(error: impl Into<BoxError>) -> Error {
    match error.into().downcast::<Error>() {
        Ok(own) => *own,
        Err(other) => Error::service(other, None),
    }
}
