//! The layer that admits requests.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, response};
use http_body::Body;
use http_body_util::{BodyExt as _, Limited};
use tower::{BoxError, Layer, Service, ServiceExt as _};

use super::answer::{AnswerBody, Owed};
use super::{Attempt, Error, Refusal, Settings};
use crate::admission::{Ask, HeadReport, Permit, Route, Scope, Scopes, Turn};
use crate::caller::{self, CallerId, CredentialId, Lane, Mode};
use crate::classify::{self, ErrorClass};
use crate::clock;
use crate::estimate::{Cost, Estimator};
use crate::openai::endpoint::{Named, deployment};
use crate::openai::{AnswerHeaders, Endpoint, RequestPeek, request_peek};
use crate::proxy::{limits, settle};
use crate::retry::{Safety, is_rate_limit};
use crate::stream::{self, Reader, Relay};

/// The longest wait for an error's body, which normally follows its head at once.
const ERROR_BODY_PATIENCE: Duration = Duration::from_secs(5);

/// Delays each request until it is admitted, by configured or learned limits. All services of one
/// layer, and of its clones, share the limits.
#[derive(Clone, Debug)]
pub struct AdmissionLayer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    scopes: Scopes,
    estimator: Estimator,
    max_wait: Duration,
    max_priced_bytes: u64,
}

impl AdmissionLayer {
    /// Creates a layer with these settings.
    pub fn new(settings: &Settings) -> Self {
        Self {
            shared: Arc::new(Shared {
                scopes: Scopes::new(settings.admission.clone(), fastrand::u64(..)),
                estimator: Estimator::default(),
                max_wait: settings.max_wait,
                max_priced_bytes: settings.max_priced_bytes,
            }),
        }
    }
}

impl<S> Layer<S> for AdmissionLayer {
    type Service = Admission<S>;

    fn layer(&self, inner: S) -> Admission<S> {
        Admission { inner, shared: Arc::clone(&self.shared) }
    }
}

/// A service that delays requests until they are admitted; see [`AdmissionLayer`].
#[derive(Clone, Debug)]
pub struct Admission<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S, B, R> Service<Request<B>> for Admission<S>
where
    S: Service<Request<B>, Response = Response<R>, Future: Send> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Clone + Send + 'static,
    R: Body<Data = Bytes> + Send + 'static,
{
    type Response = Response<AnswerBody<R>>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Error>> + Send>>;

    /// Always ready: requests wait in their futures, which can be dropped.
    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (inner, shared) = (self.inner.clone(), Arc::clone(&self.shared));
        Box::pin(async move { shared.run(inner, request).await })
    }
}

/// A priced request.
struct Priced {
    named: Named,
    cost: Cost,
    safety: Safety,
    scope: Arc<Scope>,
}

impl Shared {
    /// Prices the request, waits, sends it, and reads the response's head.
    async fn run<S, B, R>(
        &self,
        mut inner: S,
        mut request: Request<B>,
    ) -> Result<Response<AnswerBody<R>>, Error>
    where
        S: Service<Request<B>, Response = Response<R>> + Send,
        S::Error: Into<BoxError>,
        B: Body<Data = Bytes, Error: Into<BoxError>> + Clone + Send,
        R: Body<Data = Bytes> + Send,
    {
        let attempt = request.extensions_mut().remove::<Attempt>();
        let (attempt, priced) = {
            let peek = self.peek(request.body().clone()).await;
            let deadline = clock::now() + self.max_wait;
            let first = Attempt { turn: Turn::First, requeues: 0, deadline };
            (attempt.unwrap_or(first), self.price(&request, peek.as_ref()))
        };
        let ask = Ask {
            caller: CallerId(0),
            weight: 1,
            lane: Lane::Interactive,
            cost: priced.cost,
            body_bytes: request
                .body()
                .size_hint()
                .exact()
                .map_or(0, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
            deadline: attempt.deadline,
            head_due: false,
            turn: attempt.turn,
            mode: Mode::Enforce,
            route: Route::default(),
        };
        let mut permit = priced.scope.admit(ask).await.map_err(Error::refused)?;
        // Not earlier: a ready service reserves capacity, which other requests could use meanwhile.
        let scope = || Some(Arc::clone(&priced.scope));
        let ready = inner.ready().await.map_err(|error| Error::service(error, scope()))?;
        permit.sent();
        // Converted at once: the service's error type may not be `Send`.
        let came: Result<_, BoxError> = ready.call(request).await.map_err(Into::into);
        match came {
            Ok(answer) => Ok(self.judge(answer, permit, priced, attempt.requeues).await),
            Err(error) => {
                permit.fail(ErrorClass::ConnectionReset);
                Err(Error::service(error, scope()))
            }
        }
    }

    /// Parses a copy of a request's body for its price.
    async fn peek<B>(&self, copy: B) -> Option<RequestPeek>
    where
        B: Body<Data = Bytes, Error: Into<BoxError>>,
    {
        let bytes = copy.size_hint().exact().filter(|bytes| *bytes <= self.max_priced_bytes)?;
        let copy = Limited::new(copy, usize::try_from(bytes).ok()?);
        let read = pin!(copy).collect().await.ok()?.to_bytes();
        Some(request_peek::scan(&read)?.peek)
    }

    fn price<B>(&self, request: &Request<B>, peek: Option<&RequestPeek>) -> Priced {
        let path = request.uri().path();
        let named = Named::by(path);
        let credential = CredentialId(caller::credential_name(request.headers()));
        let model = peek.and_then(|peek| peek.model.as_deref());
        Priced {
            named,
            cost: self.estimator.price(named.endpoint, peek),
            safety: Safety::of(request.method(), path, named, peek, &[]),
            scope: self.scopes.resolve(credential, deployment(path).or(model)),
        }
    }

    /// Reports a response to its scope, and reads an error's body.
    async fn judge<R>(
        &self,
        answer: Response<R>,
        mut permit: Permit,
        priced: Priced,
        requeues: u32,
    ) -> Response<AnswerBody<R>>
    where
        R: Body<Data = Bytes> + Send,
    {
        let now = clock::now();
        let (mut head, body) = answer.into_parts();
        let endpoint = priced.named.endpoint;
        let is_error = head.status.as_u16() >= 400;
        report_head(&mut permit, &head, !is_error);
        let reader = if is_error { Reader::blind() } else { Reader::of(endpoint, &head.headers) };
        let mut body = Box::new(Relay::new(Box::pin(body), reader, stream::Settings::TRANSPARENT, now));
        let owed = if is_error {
            body.read_ahead(now + ERROR_BODY_PATIENCE, |_, bytes| bytes < classify::MAX_BODY).await;
            let plain = stream::copy(&head.headers, body.held(), classify::MAX_BODY);
            let refusal = refuse(endpoint, &head, &plain, permit, priced, requeues);
            head.extensions.insert(refusal);
            Owed { permit: None, endpoint }
        } else {
            Owed { permit: Some(permit), endpoint }
        };
        body.go_on(owed, clock::now());
        Response::from_parts(head, AnswerBody(body))
    }
}

/// Classifies an error, and settles its attempt.
fn refuse(
    endpoint: Endpoint,
    head: &response::Parts,
    body: &[u8],
    permit: Permit,
    priced: Priced,
    requeues: u32,
) -> Refusal {
    let classified = classify::response(endpoint, head.status, &head.headers, body, clock::wall());
    let place = if is_rate_limit(classified.class) {
        Some(settle::rate_limited(permit, classified.class, Some(&classified), || None, requeues))
    } else {
        settle::refused(permit, classified.class, &classified, || None);
        None
    };
    Refusal { scope: priced.scope, classified: Arc::new(classified), safety: priced.safety, place }
}

/// Reports the limits in a response's head to the scope.
fn report_head(permit: &mut Permit, head: &response::Parts, is_good: bool) {
    let found = AnswerHeaders::of(&head.headers, clock::wall);
    let told = HeadReport { limits: limits::reports(&found, head.status), processing: found.processing };
    permit.head_at(&told, found.organization, found.project, is_good, clock::now());
}
