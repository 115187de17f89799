//! The modes `bypass` and `observe`: requests and responses are forwarded unchanged.
//!
//! There are no deadlines, no waiting, no hold-back, no read-ahead and no truncation: the caller
//! gets what it would get without Weir, and the outcome is counted afterwards. `observe` also takes
//! a permit without waiting, and reports what `enforce` would have done.

use std::convert::Infallible;
use std::sync::Arc;

use http::{HeaderMap, Response, StatusCode};

use super::answer::{self, Notes};
use super::attempt::{Answer, report_head, send};
use super::body::Body;
use super::call::Call;
use super::destination::Destination;
use super::priced_request::PricedRequest;
use super::response_guard::{Answered, ResponseGuard};
use super::{Opened, Policy, Proxy, refuse_body, settle};
use crate::account::{ErrorDetail, Record};
use crate::admission::{Permit, Turn};
use crate::classify::{self, Classified, Failure};
use crate::clock::{self, Instant};
use crate::metrics::{RetryStop, WouldHave};
use crate::openai::{Endpoint, ModelSearch};
use crate::replay::Replay;
use crate::response;
use crate::retry::{self, Decision, Situation};
use crate::stream::{self, Findings, Reader, Relay};
use crate::upstream::{AnswerBody, HeadLimit};

/// The state that `observe` needs to report what `enforce` would do.
struct Observed {
    permit: Permit,
    /// The situation after a failure, before the failure's details are known.
    situation: Situation,
}

/// The facts to classify an error after its body was relayed.
pub(super) struct ForwardedError {
    policy: Arc<Policy>,
    endpoint: Endpoint,
    status: StatusCode,
    headers: HeaderMap,
    situation: Option<Situation>,
}

impl Proxy {
    /// Forwards a request without reading its body first.
    pub(super) async fn bypass(self: Arc<Self>, opened: Opened) -> Result<Response<Body>, Infallible> {
        if opened.reads_models() {
            return Box::pin(self.bypass_checked(opened)).await;
        }
        let Opened { since, policy, head, incoming, record, .. } = opened;
        let body = Replay::unread(incoming, &policy.replay, &self.kept_bodies);
        Ok(self.forward(Call::unpriced(head, body), record, policy, None, since).await)
    }

    /// Forwards a request after its models were checked: a caller's rights hold in every mode.
    async fn bypass_checked(self: Arc<Self>, mut opened: Opened) -> Result<Response<Body>, Infallible> {
        let settings = opened.policy.replay_for(opened.body_check);
        let reading =
            self.read(opened.incoming, settings, &mut opened.record, opened.since, ModelSearch::Skip);
        let (body, now) = match reading.await {
            Ok(read) => read,
            Err(error) => return Ok(refuse_body(error, opened.record)),
        };
        let body = match opened.policy.check_body(opened.caller.id, opened.body_check, &opened.head, body) {
            Ok(body) => body,
            Err(unchecked) => return Ok(unchecked.refuse(opened.record)),
        };
        Ok(self.forward(Call::unpriced(opened.head, body), opened.record, opened.policy, None, now).await)
    }

    /// Forwards a request after its body was read, which the estimate needs.
    pub(super) async fn observe(self: Arc<Self>, mut opened: Opened) -> Result<Response<Body>, Infallible> {
        let settings = opened.policy.replay_for(opened.body_check);
        let reading =
            self.read(opened.incoming, settings, &mut opened.record, opened.since, ModelSearch::Skip);
        let (body, now) = match reading.await {
            Ok(read) => read,
            Err(error) => return Ok(refuse_body(error, opened.record)),
        };
        let body = match opened.policy.check_body(opened.caller.id, opened.body_check, &opened.head, body) {
            Ok(body) => body,
            Err(unchecked) => return Ok(unchecked.refuse(opened.record)),
        };
        let policy = Arc::clone(&opened.policy);
        let mut priced = self.price(&policy, &opened.caller, opened.head, body, opened.record, false);
        // This mode admits every request at once.
        let permit = priced.admit(Turn::First, now).await.ok().map(|(permit, _)| permit);
        let situation = priced.situation(None, now);
        let PricedRequest { call, record, .. } = priced;
        let observed = permit.map(|permit| Observed { permit, situation });
        Ok(self.forward(call, record, Arc::clone(&policy), observed, now).await)
    }

    async fn forward(
        &self,
        mut call: Call,
        mut record: Box<Record>,
        policy: Arc<Policy>,
        observed: Option<Observed>,
        now: Instant,
    ) -> Response<Body> {
        let (mut permit, situation) = match observed {
            Some(Observed { permit, situation }) => (Some(permit), Some(situation)),
            None => (None, None),
        };
        record.attempt(std::time::Duration::ZERO, false, now);
        let to = match &permit {
            Some(permit) => Destination::of(permit, &policy, &self.policies, true),
            None => Destination::home(&policy),
        };
        record.goes_to(to.member.id);
        match self.pass(&mut call, &to, permit.as_mut(), &record, now).await {
            Ok(response) => {
                let error = ForwardedError::of(&response, &call, Arc::clone(&policy), situation);
                relay(response, &call, record, permit, error, (self, &policy))
            }
            Err(failure) => {
                let class = failure.kind.class();
                record.attempt_failed(class, clock::now());
                if let Some(permit) = permit {
                    settle::failed(permit, class, &Err(failure.clone()), None);
                }
                if let Some(situation) = situation {
                    let situation = Situation { class, may_have_run: failure.sent, ..situation };
                    report(&mut record, &policy, &situation);
                }
                let own = response::failure(class, &failure);
                let detail = ErrorDetail::masked(Some(&own.message), None, None, None);
                call.head.headers.with(|headers| record.keep_headers(headers, &policy.report_headers));
                record.failed(class, Some(detail));
                answer::own(own, record)
            }
        }
    }

    /// Sends the request, and waits for the response's head until the caller leaves.
    async fn pass(
        &self,
        call: &mut Call,
        to: &Destination,
        permit: Option<&mut Permit>,
        record: &Record,
        now: Instant,
    ) -> Result<Response<AnswerBody>, Failure> {
        let upstream = to.member.of_worker(self.worker);
        let connection = match upstream.idle(now, true) {
            Some(connection) => connection,
            None => Box::pin(upstream.connection()).await?,
        };
        let sent = send(connection, call, to, permit, record, HeadLimit::default(), now);
        sent.expect("the body of a request is there for its first attempt").await
    }
}

/// Relays the upstream's response unchanged.
fn relay(
    response: Response<AnswerBody>,
    call: &Call,
    mut record: Box<Record>,
    mut permit: Option<Permit>,
    error: Option<Box<ForwardedError>>,
    of: (&Proxy, &Policy),
) -> Response<Body> {
    let now = clock::now();
    let (head, rest) = response.into_parts();
    report_head(permit.as_mut(), &mut record, &head, error.is_none(), now);
    let reader = match error {
        Some(_) => Reader::of_error(&head.headers),
        None => Reader::of(call.head.endpoint, &head.headers),
    };
    let body = Box::new(Relay::new(rest, reader, stream::Settings::TRANSPARENT, now));
    let notes = Notes { class: None, stop_retries: false };
    let answered = error.map_or(Answered::Well, Answered::Unread);
    let owed = ResponseGuard::new(permit, record, call, answered);
    answer::relay(Answer { head, body }, &notes, owed, of, now)
}

impl ForwardedError {
    fn of(
        response: &Response<AnswerBody>,
        call: &Call,
        policy: Arc<Policy>,
        situation: Option<Situation>,
    ) -> Option<Box<Self>> {
        let (status, endpoint) = (response.status(), call.head.endpoint);
        let headers = || response.headers().clone();
        (status.as_u16() >= 400)
            .then(|| Box::new(Self { policy, endpoint, status, headers: headers(), situation }))
    }

    /// Classifies and accounts for the error after its body was relayed.
    pub(super) fn account(
        self,
        permit: Option<Permit>,
        record: &mut Record,
        findings: &Findings,
        now: Instant,
    ) {
        let body = findings.error.as_deref().unwrap_or_default();
        let classified = classify::response(self.endpoint, self.status, &self.headers, body, clock::wall());
        let class = classified.class;
        record.attempt_failed(class, now);
        record.failed(class, Some(settle::detail(&classified, self.policy.mask_messages)));
        if let Some(permit) = permit {
            settle::refused(permit, class, &classified, || None);
        }
        if let Some(situation) = self.situation {
            report(record, &self.policy, &after(situation, &classified));
        }
    }
}

/// The situation after an error response.
fn after(situation: Situation, classified: &Classified) -> Situation {
    Situation {
        class: classified.class,
        may_have_run: classified.may_have_run(),
        forbidden: classified.should_retry == Some(false),
        hint: classified.hint,
        ..situation
    }
}

/// Counts what `enforce` would have done after a failure.
fn report(record: &mut Record, policy: &Policy, situation: &Situation) {
    // Jitter decides the delay of a retry. A fixed seed reports equal failures alike.
    let decision = retry::decide(situation, &policy.retry, &mut fastrand::Rng::with_seed(0));
    if !matches!(decision, Decision::Stop(_)) {
        record.account().metrics().observe_would.inc(WouldHave::Retried);
        record.retries_stopped(RetryStop::Mode);
    }
}
