//! The request that the upstream's rate limit refuses again and again: shown while it happens, not
//! only when it ends.

use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use crate::caller::CallerId;

use super::record::Record;
use super::request_id::RequestId;

/// Refusals of one request from which on it is shown. One or two are the price of a limit that is
/// not known yet.
const LEAST_REFUSALS: u32 = 3;

/// A request that met several rate limits.
#[derive(Clone, Debug)]
pub struct RepeatedRefusal {
    /// The request.
    pub id: RequestId,
    /// Its caller.
    pub caller: CallerId,
    /// Its model, where it named one.
    pub model: Option<Box<str>>,
    /// Rate limits that it met so far.
    pub refusals: u32,
    /// When it met the last one.
    pub at: SystemTime,
}

/// The last request that was refused at least [`LEAST_REFUSALS`] times.
#[derive(Debug, Default)]
pub(super) struct Repeated(Mutex<Option<RepeatedRefusal>>);

impl Repeated {
    /// Notes that the request of `record` met its `refusals`-th rate limit.
    pub(super) fn note(&self, record: &Record, refusals: u32, at: SystemTime) {
        if refusals < LEAST_REFUSALS {
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
