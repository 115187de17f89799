//! Decides whether, when and at what cost an attempt is repeated. Pure functions over the result of
//! classification.
//!
//! The retry budget belongs to the scope; the cost of a retry is decided here.

pub mod backoff;
pub mod decision;
pub mod policy;
pub mod safety;
pub mod sdk;
pub mod verdict;

pub(crate) use crate::classify::Health;
pub use backoff::Backoff;
pub use decision::{Decision, Situation, StopReason, decide};
pub use policy::{Contradiction, Policy, Settings};
pub use safety::{Operation, Safety};
pub use sdk::{OBEYED_HINT, stops_sdk};
pub(crate) use verdict::health;
pub use verdict::{MilliTokens, Verdict, cost, is_rate_limit, verdict};
