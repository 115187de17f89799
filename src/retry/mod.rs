//! Whether, when and at what price an attempt is repeated: pure decisions over what classification
//! found.
//!
//! The budget that bounds retries lives with the scope; what a retry costs it is decided here.

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
