//! A refusal of one attempt, as the quota hears of it.

use std::time::Duration;

use crate::scope::moment::Moment;

use super::dimension::Times;
use super::own::{Charge, Cost, Marks};
use super::report::RefusalNumbers;
use super::slot::Unit;

/// A refusal of an attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refusal<'a> {
    pub(crate) unit: Unit,
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
