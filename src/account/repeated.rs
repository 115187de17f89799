//! A request that the upstream's rate limit refuses repeatedly; shown while it happens.

use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use crate::caller::CallerId;

use super::record::Record;
use super::request_id::RequestId;

/// Fewest refusals of one request to show it. One or two are normal for a limit that is not known
/// yet.
const MIN_REFUSALS: u32 = 3;

/// A request that met several rate limits.
#[derive(Clone, Debug)]
pub struct RepeatedRefusal {
    /// The request.
    pub id: RequestId,
    /// Its caller.
    pub caller: CallerId,
    /// Its model, if it named one.
    pub model: Option<Box<str>>,
    /// Rate limits met so far.
    pub refusals: u32,
    /// When it met the last one.
    pub at: SystemTime,
}

/// The last request that was refused at least [`MIN_REFUSALS`] times.
#[derive(Debug, Default)]
pub(super) struct Repeated(Mutex<Option<RepeatedRefusal>>);

impl Repeated {
    /// Records that the request of `record` met its `refusals`-th rate limit.
    pub(super) fn note(&self, record: &Record, refusals: u32, at: SystemTime) {
        if refusals < MIN_REFUSALS {
            return;
        }
        let model = record.model().map(Box::from);
        let seen = RepeatedRefusal { id: record.id(), caller: record.caller(), model, refusals, at };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
    }

    pub(super) fn last(&self) -> Option<RepeatedRefusal> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
