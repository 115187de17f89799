//! The one answer that the caller of a request gets.

use http::Response;

use super::{Conversation, Unsuccessful};
use crate::account::ErrorDetail;
use crate::admission::{Permit, Refused};
use crate::classify::ErrorClass;
use crate::clock;
use crate::proxy::answer::{self, Notes};
use crate::proxy::attempt::Answer;
use crate::proxy::body::Body;
use crate::proxy::exchange::{Answered, Exchange};
use crate::proxy::labels::{no_turn_label, queue_refusal};
use crate::proxy::settle;
use crate::response::{self, OwnAnswer};
use crate::retry;

impl Conversation<'_> {
    /// Gives the caller a good answer.
    pub(in crate::proxy) fn succeed(mut self, answer: Answer, mut permit: Permit) -> Response<Body> {
        self.note_early_head();
        if answer.body.reader().has_begun() {
            self.learn_first_event(answer.body.read_at());
        }
        permit.accepted();
        let notes = Notes { class: None, stop_retries: false };
        let owed = Exchange::new(Some(permit), self.record, &self.call, Answered::Well);
        let read_at = answer.body.read_at();
        answer::relay(answer, &notes, owed, (self.proxy, self.policy), read_at)
    }

    /// Gives the caller what the last attempt brought.
    #[expect(clippy::boxed_local, reason = "it is boxed where it is kept, and comes from there")]
    pub(in crate::proxy) fn pass_on(
        mut self,
        unsuccessful: Box<Unsuccessful>,
        stop_sdk: bool,
    ) -> Response<Body> {
        let Unsuccessful { class, came, classified } = *unsuccessful;
        self.note_early_head();
        self.keep_headers();
        let mut detail =
            classified.as_deref().map(|classified| settle::detail(classified, self.policy.mask_messages));
        if let Some(detail) = detail.as_mut().filter(|_| class == ErrorClass::NotFound) {
            // A base URL with a mistake shows in it.
            detail.path = Some(self.call.head.uri.look(|uri| ErrorDetail::path_of(uri.path())));
        }
        match came {
            Ok(answer) if class != ErrorClass::StreamCut || answer.body.ended_in_order() => {
                self.record.failed(class, detail);
                let notes = Notes { class: Some(class), stop_retries: stop_sdk };
                let owed = Exchange::new(None, self.record, &self.call, Answered::Accounted);
                answer::relay(answer, &notes, owed, (self.proxy, self.policy), clock::now())
            }
            // Nothing of the answer has gone to the caller, who can be told in its place.
            Ok(_) => self.own_failure(response::cut_before_it_began(), stop_sdk),
            Err(failure) => self.own_failure(response::failure(class, &failure), stop_sdk),
        }
    }

    /// There is no answer of the upstream's: the caller gets one of Weir's own.
    fn own_failure(mut self, mut own: OwnAnswer, stop_sdk: bool) -> Response<Body> {
        own.should_retry = stop_sdk.then_some(false);
        if let Some(passage) = self.call.body.passage() {
            self.record.set_bytes_in(passage.bytes());
        }
        self.record.failed(own.class, Some(ErrorDetail::masked(Some(&own.message), None, None, None)));
        answer::own(own, self.record)
    }

    /// Keeps what a report may show of the request's headers.
    pub(in crate::proxy) fn keep_headers(&mut self) {
        let (record, listed) = (&mut self.record, &self.policy.report_headers);
        self.call.head.headers.look(|headers| record.keep_headers(headers, listed));
    }

    /// There is no turn for another attempt: whether the SDK is told that its own would be no
    /// better.
    fn gave_up(&self, refused: &Refused) -> bool {
        match refused {
            // Waited out, or not to be waited out: it is known to be down.
            Refused::BreakerOpen { .. } | Refused::QuotaExhausted(_) => true,
            Refused::Told { retry_after, .. } => *retry_after > retry::OBEYED_HINT,
            Refused::QueueFull { .. } | Refused::CallerLimit { .. } | Refused::Deadline { .. } => {
                self.record.attempts().count() > 1
            }
            // Another replica will take it.
            Refused::Draining => false,
        }
    }

    /// There is no turn: the caller gets what the last attempt brought, or the reason.
    pub(in crate::proxy) fn turned_away(
        mut self,
        refused: &Refused,
        last: Option<Box<Unsuccessful>>,
    ) -> Response<Body> {
        self.proxy.account.metrics().queue_refusals.inc(queue_refusal(refused));
        let spent = matches!(refused, Refused::QuotaExhausted(_));
        if let Some(last) = last.filter(|_| !spent) {
            if let Some(label) = no_turn_label(refused) {
                self.record.retries_stopped(label);
            }
            let stop_sdk = self.gave_up(refused);
            return self.pass_on(last, stop_sdk);
        }
        let own = self.proxy.random(|rng| response::refusal(refused, rng));
        self.note_early_head();
        self.keep_headers();
        self.record
            .failed(own.class, Some(ErrorDetail::masked(Some(&own.message), None, Some(&own.code), None)));
        answer::own(own, self.record)
    }
}
