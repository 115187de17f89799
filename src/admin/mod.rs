//! What operators see and do: metrics, health, status page, reports, drain and reload, on an
//! address of their own.
//!
//! It shows what a [`Source`] tells, which `app` implements. The page is one HTML document with
//! everything in it.

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

/// Who knows what the admin address shows, and does what it asks for. Called on the admin thread;
/// must not block for long.
pub trait Source: Send + Sync + 'static {
    /// The state of everything now, without findings.
    fn status(&self) -> Status;

    /// Appends the metrics in Prometheus's text format.
    fn metrics(&self, out: &mut Vec<u8>);

    /// What keeps Weir from being ready: nothing, or words such as `draining`.
    fn not_ready(&self) -> Vec<&'static str>;

    /// The reports that are kept, the newest first.
    fn reports(&self) -> Vec<Report>;

    /// The report with this id; `last` is the newest.
    fn report(&self, id: &str) -> Option<Report>;

    /// The configuration in force, without secrets, as TOML.
    fn config(&self) -> String;

    /// Counts a request with a wrong token.
    fn token_refused(&self);

    /// Begins to drain; again is nothing new.
    fn drain(&self);

    /// Reads the configuration again.
    ///
    /// # Errors
    /// Every problem of it, as text; the one in force stays.
    fn reload(&self) -> Result<(), String>;
}

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;
