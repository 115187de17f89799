//! How a breaker stands, and what it says to an attempt.

use crate::admission::moment::Moment;

/// Whether an attempt may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// It may.
    Pass,
    /// It may, at that moment: the pace is held down.
    At(Moment),
    /// It may, as the one that asks whether the upstream is back.
    Probe,
    /// Nothing may before that moment.
    Blocked(Moment),
}

/// What waits behind the breaker, and what is in flight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Requests that wait.
    pub(crate) waiting: usize,
    /// Attempts in flight.
    pub(crate) in_flight: u32,
}

/// How the breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Everything passes.
    Closed,
    /// A part of the attempts fails: fewer are made.
    Thinning,
    /// Nothing passes but probes.
    Open,
    /// The upstream is back: attempts pass at a rising rate.
    HalfOpen,
}
