//! The admin address for operators: metrics, health, status page, reports, drain and reload.
//!
//! The data comes from a [`Source`], which `app` implements. The page is one self-contained HTML
//! document.

mod client;
mod guard;
mod page;
mod routes;
mod server;
mod status;
mod table;
mod verdict;
mod words;

pub use client::{Client, ClientError};
pub use guard::{Access, CurrentAccess};
pub use server::{Settings, start};
pub use status::{
    BreakerState, BreakerStatus, BudgetStatus, Build, CallerErrors, CallerStatus, CeilingStatus,
    CredentialStatus, ErrorStatus, FailureLine, IssuerStatus, LimitStatus, QuotaSpent, Reload,
    RepeatedRefusal, ReplicasStatus, ScopeStatus, Status, UpstreamState, UpstreamStatus,
};
pub use table::table;

use crate::account::Report;

/// The data and the actions behind the admin address. Called on the admin thread; must not block
/// for long.
pub trait Source: Send + Sync + 'static {
    /// The present status, without findings.
    fn status(&self) -> Status;

    /// Appends the metrics in Prometheus's text format.
    fn metrics(&self, out: &mut Vec<u8>);

    /// The reasons why Weir is not ready, such as `draining`; empty if it is ready.
    fn not_ready(&self) -> Vec<&'static str>;

    /// The stored reports, the newest first.
    fn reports(&self) -> Vec<Report>;

    /// The report with this id; `last` selects the newest.
    fn report(&self, id: &str) -> Option<Report>;

    /// The configuration in force, without secrets, as TOML.
    fn config(&self) -> String;

    /// Counts a request with a wrong token.
    fn token_refused(&self);

    /// Starts a drain; repeated calls have no effect.
    fn drain(&self);

    /// Reads the configuration again.
    ///
    /// # Errors
    /// All problems, as text; the configuration in force stays.
    fn reload(&self) -> Result<(), String>;
}

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;
