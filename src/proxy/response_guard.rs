//! The state that outlives a response's head: the permit and the record.

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
use crate::replay::BodyProgress;
use crate::stream::{End, Findings, Ledger};

/// A guard for a response that is being relayed: it settles the permit and the record exactly once,
/// however the response ends.
pub struct ResponseGuard {
    /// `None` if the attempt was settled before, or took no permit.
    permit: Option<Permit>,
    record: Box<Record>,
    expected: Expectation,
    /// Boxed: most responses have none of it, and each is moved several times.
    rare: Option<Box<Rare>>,
}

/// The state that few responses have.
struct Rare {
    /// The progress of a request body that was not kept.
    progress: Option<BodyProgress>,
    /// An error whose body was not read.
    error: Option<Box<ForwardedError>>,
}

/// The state of a response when its head is relayed.
pub(super) enum Answered {
    /// A success so far.
    Well,
    /// An error that is already accounted for.
    Accounted,
    /// An error whose body was not read.
    Unread(Box<ForwardedError>),
}

/// The facts that decide how the end of a response counts.
struct Expectation {
    endpoint: Endpoint,
    /// The request's estimate, in tokens.
    priced: u64,
    /// Whether the caller can detect a truncated response: HTTP/1.0 can't.
    sees_cuts: bool,
    /// Whether the caller's connection carries concurrent responses.
    is_http2: bool,
    /// Whether the response is an error that is already accounted for, or will be from the relayed
    /// bytes.
    accounted: bool,
}

impl ResponseGuard {
    pub(super) fn record_mut(&mut self) -> &mut Record {
        &mut self.record
    }

    /// Guards the response to `call`, whose state is `answered`.
    pub(super) fn new(permit: Option<Permit>, record: Box<Record>, call: &Call, answered: Answered) -> Self {
        let expected = Expectation {
            endpoint: call.head.endpoint,
            priced: call.cost.tokens,
            sees_cuts: call.head.version > Version::HTTP_10,
            is_http2: call.head.version == Version::HTTP_2,
            accounted: !matches!(answered, Answered::Well),
        };
        let progress = call.body.progress();
        let error = match answered {
            Answered::Unread(error) => Some(error),
            Answered::Well | Answered::Accounted => None,
        };
        let rare = (progress.is_some() || error.is_some()).then(|| Box::new(Rare { progress, error }));
        Self { permit, record, expected, rare }
    }

    /// Whether the response shares its caller's connection with others.
    pub(super) fn shares_its_connection(&self) -> bool {
        self.expected.is_http2
    }

    /// Settles an attempt whose response started well.
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
                let classified = classify::stream_error(self.expected.endpoint, data, clock::wall());
                self.record.failed(class, Some(settle::detail(&classified, true)));
                if let Some(permit) = permit {
                    settle::refused(permit, class, &classified, || None);
                }
            }
        }
    }

    /// Records the progress of a request body that was streamed.
    fn account_request(&mut self, progress: &BodyProgress) {
        self.record.set_bytes_in(progress.bytes());
        if let Some(model) = progress.start(Call::model_in).flatten() {
            self.record.set_model(model);
        }
    }

    /// Accounts for a response's tokens: its reported usage, or, for a stream that ended before its
    /// usage, the estimate of the request and one token per event.
    fn account_tokens(&mut self, findings: &Findings) {
        if let Some(usage) = findings.usage {
            let told = Usage { input: usage.input, cached: usage.cached_input, output: usage.output };
            self.record.used(told, told.input);
        } else if findings.stream {
            // An estimate must not calibrate estimates.
            self.record.used(Usage { input: self.expected.priced, cached: 0, output: findings.outputs }, 0);
        }
    }
}

impl Ledger for ResponseGuard {
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
            metrics.stream_outcomes.inc(stream_outcome(end, &findings, self.expected.sees_cuts));
        }
        self.record.sent(bytes);
        if !self.expected.accounted {
            self.settle(end, &findings, now);
            self.account_tokens(&findings);
        }
        if let Some(rare) = self.rare.take() {
            if let Some(progress) = &rare.progress {
                self.account_request(progress);
            }
            if let Some(error) = rare.error {
                error.account(self.permit.take(), &mut self.record, &findings, now);
            }
        }
        match end {
            // Dropping the record accounts for a caller that left.
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
