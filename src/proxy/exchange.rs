//! What is still owed once an answer's head has gone to the caller: the permit, and the record.

use crate::account::{Record, Usage};
use crate::classify::ErrorClass;
use crate::clock::{self, Instant};
use crate::metrics::{Bound, StreamOutcome};
use crate::scope::Permit;
use crate::stream::{End, Findings, Ledger};

/// The permit and the record of an answer on its way. Whatever ends the answer settles both, once.
pub struct Exchange {
    /// None where the attempt was settled before: its answer is an error that is passed on.
    permit: Option<Permit>,
    record: Record,
    /// Tokens that the request was priced at.
    priced: u64,
}

impl Exchange {
    pub(super) fn record_mut(&mut self) -> &mut Record {
        &mut self.record
    }

    pub(super) fn new(permit: Option<Permit>, record: Record, priced: u64) -> Self {
        Self { permit, record, priced }
    }
}

impl Ledger for Exchange {
    fn first_byte(&mut self, _now: Instant) {}

    fn ended(mut self, end: End, bytes: u64, findings: Findings) {
        let now = clock::now();
        let metrics = self.record.account().metrics();
        if findings.unread {
            metrics.limits_reached.inc(Bound::DecodedCopy);
        }
        if findings.stream {
            metrics.stream_outcomes.inc(stream_outcome(end, &findings));
        }
        self.record.sent(bytes);
        if let Some(permit) = self.permit.take() {
            match class_of(end, &findings) {
                None => permit.done(),
                Some(class) => {
                    self.record.attempt_failed(class, now);
                    self.record.failed(class, None);
                    permit.fail(class);
                }
            }
            if let Some(usage) = used(&findings, self.priced) {
                self.record.used(usage, usage.input);
            }
        }
        match end {
            // Dropping the record says that the client left.
            End::CallerLeft => {}
            End::Complete | End::Cut | End::Stalled => self.record.finish(now),
        }
    }
}

/// The tokens that an answer took: what it says, or for a stream that ended before it could say so, the price of the
/// request and an event a token.
fn used(findings: &Findings, priced: u64) -> Option<Usage> {
    match findings.usage {
        Some(usage) => Some(Usage { input: usage.input, cached: usage.cached_input, output: usage.output }),
        None if findings.stream && findings.outputs > 0 => {
            Some(Usage { input: priced, cached: 0, output: findings.outputs })
        }
        None => None,
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

fn stream_outcome(end: End, findings: &Findings) -> StreamOutcome {
    match end {
        End::Complete if findings.error.is_some() => StreamOutcome::Error,
        End::Complete if findings.complete || findings.unread => StreamOutcome::Complete,
        End::Complete | End::Cut => StreamOutcome::Cut,
        End::Stalled => StreamOutcome::Idle,
        End::CallerLeft => StreamOutcome::ClientClosed,
    }
}
