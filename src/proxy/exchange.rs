//! What is still owed once an answer's head has gone to the caller: the permit, and the record.

use http::Version;

use super::call::Call;
use super::settle;
use crate::account::{Record, Usage};
use crate::admission::Permit;
use crate::classify::{self, ErrorClass};
use crate::clock::{self, Instant};
use crate::metrics::{Bound, StreamOutcome};
use crate::openai::Endpoint;
use crate::stream::{End, Findings, Ledger};

/// The permit and the record of an answer on its way. Whatever ends the answer settles both, once.
pub struct Exchange {
    /// None where the attempt was settled before: its answer is an error that is passed on.
    permit: Option<Permit>,
    record: Box<Record>,
    promise: Promise,
}

/// What the end of an answer is judged by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Promise {
    endpoint: Endpoint,
    /// Tokens that the request was priced at.
    priced: u64,
    /// Whether the caller can tell an answer that was cut from one that ended: HTTP/1.0 can't.
    sees_cuts: bool,
}

impl Promise {
    pub(super) fn of(call: &Call) -> Self {
        Self {
            endpoint: call.head.endpoint,
            priced: call.cost.tokens,
            sees_cuts: call.head.version > Version::HTTP_10,
        }
    }
}

impl Exchange {
    pub(super) fn record_mut(&mut self) -> &mut Record {
        &mut self.record
    }

    pub(super) fn new(permit: Option<Permit>, record: Box<Record>, promise: Promise) -> Self {
        Self { permit, record, promise }
    }

    /// Settles an attempt whose answer had begun well.
    fn settle(&mut self, mut permit: Permit, end: End, findings: &Findings, now: Instant) {
        let Some(class) = class_of(end, findings) else {
            if let Some(usage) = findings.usage {
                permit.used(usage.input);
            }
            return permit.done_at(now);
        };
        self.record.attempt_failed(class, now);
        match &findings.error {
            None => {
                self.record.failed(class, None);
                permit.fail(class);
            }
            Some(data) => {
                let classified = classify::stream_error(self.promise.endpoint, data, clock::wall());
                self.record.failed(class, Some(settle::detail(&classified, true)));
                settle::refused(permit, class, &classified);
            }
        }
    }

    /// Accounts for the tokens that an answer took: what it says, or for a stream that ended before it could say so, the
    /// price of the request and an event a token.
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
    fn ended(mut self, end: End, bytes: u64, findings: Findings, now: Instant) {
        let metrics = self.record.account().metrics();
        if findings.unread {
            metrics.limits_reached.inc(Bound::DecodedCopy);
        }
        if findings.stream {
            metrics.stream_outcomes.inc(stream_outcome(end, &findings, self.promise.sees_cuts));
        }
        self.record.sent(bytes);
        if let Some(permit) = self.permit.take() {
            self.settle(permit, end, &findings, now);
            self.account_tokens(&findings);
        }
        match end {
            // Dropping the record says that the client left.
            End::CallerLeft => {}
            End::Complete | End::Cut | End::Stalled => self.record.finish(now),
        }
    }
}

/// What an answer that had begun well ended as; nothing where it ended well.
fn class_of(end: End, findings: &Findings) -> Option<ErrorClass> {
    match end {
        End::Complete if findings.error.is_some() => Some(ErrorClass::StreamError),
        End::Complete if findings.stream && !findings.complete && !findings.unread => {
            Some(ErrorClass::StreamCut)
        }
        End::Complete | End::CallerLeft => None,
        End::Cut => Some(ErrorClass::StreamCut),
        End::Stalled => Some(ErrorClass::TimeoutIdle),
    }
}

fn stream_outcome(end: End, findings: &Findings, seen: bool) -> StreamOutcome {
    match end {
        End::Complete if findings.error.is_some() => StreamOutcome::Error,
        End::Complete if findings.complete || findings.unread => StreamOutcome::Complete,
        End::Complete | End::Cut | End::Stalled if !seen => StreamOutcome::CutUnseen,
        End::Complete | End::Cut => StreamOutcome::Cut,
        End::Stalled => StreamOutcome::Idle,
        End::CallerLeft => StreamOutcome::ClientClosed,
    }
}
