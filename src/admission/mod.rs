//! Admission: who may send what when, so that the upstream never needs to answer 429.
//!
//! A [`Scope`] is everything that shares one set of upstream limits. Behind its one lock a pure
//! [`machine::Machine`] joins the limits, the fair queue, the circuit breaker and the retry budget.
//! A [`Permit`] is the right to make one attempt. The page `docs/admission.md` explains how they
//! work together.
//!
//! Invariants: a permit is settled or given back exactly once; nothing is granted after its
//! deadline, nor before the time that a refusal named; the request whose turn it is is passed only
//! by requests of other callers, and only while it knows from the upstream's own numbers that it
//! cannot pass yet; wakers are called after the lock is released.

mod admitted;
mod breaker;
mod budget;
mod ceilings;
mod concurrency;
mod directory;
mod family;
mod front;
mod knowledge;
pub mod machine;
mod credential;
mod memory;
mod moment;
mod newcomer;
mod permit;
mod queue;
mod limits;
mod refusal;
mod registry;
mod settings;
mod spent;
mod status;

#[cfg(test)]
mod directory_tests;
#[cfg(test)]
mod hold_tests;
#[cfg(test)]
mod observe_tests;
#[cfg(test)]
mod price_tests;
#[cfg(test)]
mod replica_tests;
#[cfg(test)]
mod stress_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod trial_tests;

pub use admitted::Totals;
pub use breaker::BreakerState;
pub use budget::{BudgetExhausted, RetryPayment};
pub use ceilings::{Ceiling, CeilingRefusal, CeilingStatus, CeilingTurn, Ceilings};
pub use directory::{CredentialId, Scopes};
pub use front::{Admission, Ask, EVERYBODY, Scope, Waiting};
pub use knowledge::{Knowledge, PeerUpdate};
pub use limits::{
    Cost, Demand, LimitReport, LimitReports, Part, RefusalNumbers, Slot, Source, StatedLimit, Unit,
    WindowReport,
};
pub use machine::{HeadReport, Route, Ticket, Turn, Would};
pub use moment::Moment;
pub use newcomer::Newcomer;
pub use permit::{Permit, RetryTicket};
pub use queue::Key;
pub use refusal::{Refused, UpstreamWords, WordsBody};
pub use settings::{
    BreakerSettings, BudgetSettings, Family, Guarantee, LimitSettings, MemberSettings, QueueSettings,
    Settings,
};
pub use status::{Counts, DimensionStatus, MemberStatus, OutBecause, QueueStatus, ScopeStatus, ScopesCounts};
