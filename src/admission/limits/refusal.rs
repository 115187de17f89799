//! An attempt's times, and its refusal, as the limits are told of them.

use std::time::Duration;

use crate::admission::moment::Moment;

use super::own::{Charge, Cost, Marks};
use super::report::RefusalNumbers;
use super::slot::Unit;

/// When an attempt was sent and answered, and the running total just after it was sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) sent: Moment,
    pub(crate) head: Moment,
    pub(crate) processing: Option<Duration>,
}

impl Times {
    /// When the upstream admitted it: the head's time less the processing, never before the send.
    /// Without a processing time the send is the best guess, and a safe one.
    pub(crate) fn admitted(&self) -> Moment {
        self.processing.map_or(self.sent, |processing| self.head.minus(processing).max(self.sent))
    }

    /// When the upstream refused it. Without a processing time that is the head's: refusals are
    /// quick, and a wait that is counted from too late only ends a little later.
    pub(crate) fn refused(&self) -> Moment {
        self.processing.map_or(self.head, |processing| self.head.minus(processing).max(self.sent))
    }
}

/// A refusal of an attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refusal<'a> {
    /// What was too much, where it says so.
    pub(crate) unit: Option<Unit>,
    /// It is for the load, and tells of no rate.
    pub(crate) by_load: bool,
    pub(crate) numbers: Option<&'a RefusalNumbers>,
    pub(crate) hint: Option<Duration>,
    pub(crate) cost: Cost,
    pub(crate) charge: Charge,
    pub(crate) marks: Marks,
    pub(crate) times: &'a Times,
}

/// What a refusal asks of the request that met it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// It need not be tried before that.
    pub(crate) not_before: Moment,
}

/// The numbers of a refusal, in cells.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Numbers {
    pub(crate) limit: f64,
    pub(crate) used: f64,
    pub(crate) requested: f64,
    pub(crate) wait: Option<Duration>,
}
