//! What asks for a permit, and what becomes of it.

use crate::admission::limits::Cost;
use crate::admission::machine::{Route, Turn};
use crate::admission::permit::Permit;
use crate::admission::refusal::Refused;
use crate::caller::{CallerId, Lane, Mode};
use crate::clock::Instant;

use super::Waiting;

/// A request for a permit.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// Whose it is.
    pub caller: CallerId,
    /// The caller's share relative to others, at least 1.
    pub weight: u32,
    /// The lane.
    pub lane: Lane,
    /// What it is expected to cost.
    pub cost: Cost,
    /// Bytes of its body that wait with it, for the queue's bound.
    pub body_bytes: usize,
    /// Its turn must come before that.
    pub deadline: Instant,
    /// Whether the head of its answer must come before that, too: then its turn must come sooner.
    pub head_due: bool,
    /// Whether it was here before.
    pub turn: Turn,
    /// How much of its work Weir does for it.
    pub mode: Mode,
    /// Which upstreams it may go to.
    pub route: Route,
}

/// What became of a request that asked.
#[derive(Debug)]
#[must_use = "a permit that is dropped at once is given back, and who does not wait leaves the queue"]
pub enum Admission {
    /// It may go now.
    Granted(Permit),
    /// It may not.
    Refused(Refused),
    /// It waits for its turn: await it.
    Waits(Waiting),
}
