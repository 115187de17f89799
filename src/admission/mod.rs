//! Admission: who may send what when, so that the upstream never needs to answer 429.
//!
//! A [`Scope`] is what shares one set of upstream limits. Behind its one lock a pure [`machine::Machine`] joins the quota (the
//! mirror of the upstream's buckets and the pacer before it), the fair queue, the breaker and the retry budget. A
//! [`Permit`] is the right to make one attempt.
//!
//! Invariants: a permit is settled or given back exactly once; nothing is granted after its deadline; nobody passes a
//! request whose turn it is, except while that request knows from the upstream's own numbers that it cannot pass yet; wakers
//! are called after the lock is released.

mod admitted;
mod breaker;
mod budget;
mod directory;
mod family;
mod front;
pub mod machine;
mod moment;
mod permit;
mod queue;
mod quota;
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
mod stress_tests;
#[cfg(test)]
mod tests;

pub use breaker::BreakerState;
pub use budget::{BudgetExhausted, RetryPayment};
pub use directory::{CredentialId, Newcomer, Scopes, ScopesCounts};
pub use front::{Admission, Ask, EVERYBODY, Scope, Waiting};
pub use machine::{HeadReport, Ticket, Turn, Would};
pub use moment::Moment;
pub use permit::{Permit, RetryTicket};
pub use queue::Key;
pub use quota::{Cost, Demand, LimitReport, LimitReports, Part, RefusalNumbers, Slot, Source, Unit};
pub use refusal::{Refused, SpentQuota};
pub use settings::{BreakerSettings, BudgetSettings, Family, LimitSettings, QueueSettings, Settings};
pub use status::{Counts, DimensionStatus, QueueStatus, ScopeStatus};
