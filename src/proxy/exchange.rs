//! What is still owed once an answer's head has gone to the caller: the permit, and the record.

use http::Version;

use super::call::Call;
use super::forward::ForwardedError;
use super::settle;
use crate::account::{Record, Usage};
use crate::admission::Permit;
use crate::classify;
use crate::clock::{self, Instant};
use crate::metrics::{Bound, StreamOutcome};
use crate::openai::Endpoint;
use crate::replay::Passage;
use crate::stream::{End, Findings, Ledger};

/// The permit and the record of an answer on its way. Whatever ends the answer settles both, once.
pub struct Exchange {
    /// None where the attempt was settled before, or took no permit.
    permit: Option<Permit>,
    record: Box<Record>,
    promise: Promise,
    /// Boxed: most answers have none of it, and each is moved about.
    rare: Option<Box<Rare>>,
}

/// What few answers have.
struct Rare {
    /// Of a request's body that was not kept.
    passage: Option<Passage>,
    /// Of an error whose body was not read.
    error: Option<Box<ForwardedError>>,
}

/// What is known of an answer when its head goes to the caller.
pub(super) enum Answered {
    /// It has begun well.
    Well,
    /// It is an error, which is accounted for already.
    Accounted,
    /// It is an error whose body was not read.
    Unread(Box<ForwardedError>),
}

/// What the end of an answer is judged by.
struct Promise {
    endpoint: Endpoint,
    /// Tokens that the request was priced at.
    priced: u64,
    /// Whether the caller can tell an answer that was cut from one that ended: HTTP/1.0 can't.
    sees_cuts: bool,
    /// Whether the caller's connection carries several answers at once.
    is_http2: bool,
    /// Whether the answer is an error that is accounted for, or is to be by what passed of it.
    accounted: bool,
}

impl Exchange {
    pub(super) fn record_mut(&mut self) -> &mut Record {
        &mut self.record
    }

    /// `answered` says what is known of the answer to `call`.
    pub(super) fn new(permit: Option<Permit>, record: Box<Record>, call: &Call, answered: Answered) -> Self {
        let promise = Promise {
            endpoint: call.head.endpoint,
            priced: call.cost.tokens,
            sees_cuts: call.head.version > Version::HTTP_10,
            is_http2: call.head.version == Version::HTTP_2,
            accounted: !matches!(answered, Answered::Well),
        };
        let passage = call.body.passage();
        let error = match answered {
            Answered::Unread(error) => Some(error),
            Answered::Well | Answered::Accounted => None,
        };
        let rare = (passage.is_some() || error.is_some()).then(|| Box::new(Rare { passage, error }));
        Self { permit, record, promise, rare }
    }

    /// Whether the answer is one of several on its caller's connection.
    pub(super) fn shares_its_connection(&self) -> bool {
        self.promise.is_http2
    }

    /// Settles an attempt whose answer had begun well.
    fn settle(&mut self, end: End, findings: &Findings, now: Instant) {
        let permit = self.permit.take();
        let Some(class) = findings.class(end) else {
            if let Some(mut permit) = permit {
                if let Some(usage) = findings.usage {
                    permit.used(usage.input);
                }
                permit.done_at(now);
            }
            return;
        };
        self.record.attempt_failed(class, now);
        match &findings.error {
            None => {
                self.record.failed(class, None);
                if let Some(permit) = permit {
                    permit.fail(class);
                }
            }
            Some(data) => {
                let classified = classify::stream_error(self.promise.endpoint, data, clock::wall());
                self.record.failed(class, Some(settle::detail(&classified, true)));
                if let Some(permit) = permit {
                    settle::refused(permit, class, &classified, || None);
                }
            }
        }
    }

    /// Takes note of what passed of a body that was streamed.
    fn account_request(&mut self, passage: &Passage) {
        self.record.set_bytes_in(passage.bytes());
        if let Some(model) = passage.start(Call::model_in).flatten() {
            self.record.set_model(model);
        }
    }

    /// Accounts for the tokens that an answer took: what it says, or for a stream that ended before
    /// it could say so, the price of the request and an event a token.
    fn account_tokens(&mut self, findings: &Findings) {
        if let Some(usage) = findings.usage {
            let told = Usage { input: usage.input, cached: usage.cached_input, output: usage.output };
            self.record.used(told, told.input);
        } else if findings.stream {
            // An estimate is no measure of estimates.
            self.record.used(Usage { input: self.promise.priced, cached: 0, output: findings.outputs }, 0);
        }
    }
}

impl Ledger for Exchange {
    fn began(&mut self, now: Instant) {
        if let Some(permit) = &mut self.permit {
            permit.began(now);
        }
    }

    fn ended(mut self, end: End, bytes: u64, findings: Findings, now: Instant) {
        let metrics = self.record.account().metrics();
        if findings.unread {
            metrics.limits_reached.inc(Bound::DecodedCopy);
        }
        if findings.stream {
            metrics.stream_outcomes.inc(stream_outcome(end, &findings, self.promise.sees_cuts));
        }
        self.record.sent(bytes);
        if !self.promise.accounted {
            self.settle(end, &findings, now);
            self.account_tokens(&findings);
        }
        if let Some(rare) = self.rare.take() {
            if let Some(passage) = &rare.passage {
                self.account_request(passage);
            }
            if let Some(error) = rare.error {
                error.account(self.permit.take(), &mut self.record, &findings, now);
            }
        }
        match end {
            // Dropping the record says that the client left.
            End::CallerLeft if !findings.is_answered() => {}
            End::CallerLeft | End::Complete | End::Cut | End::Stalled => self.record.finish(now),
        }
    }
}

fn stream_outcome(end: End, findings: &Findings, seen: bool) -> StreamOutcome {
    match end {
        End::CallerLeft if findings.is_answered() => StreamOutcome::Complete,
        End::Cut | End::Stalled if findings.complete && findings.error.is_none() => StreamOutcome::Complete,
        End::Complete if findings.error.is_some() => StreamOutcome::Error,
        End::Complete if findings.complete || findings.unread => StreamOutcome::Complete,
        End::Complete | End::Cut | End::Stalled if !seen => StreamOutcome::CutUnseen,
        End::Complete | End::Cut => StreamOutcome::Cut,
        End::Stalled => StreamOutcome::Idle,
        End::CallerLeft => StreamOutcome::ClientClosed,
    }
}
