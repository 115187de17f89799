//! Who sends a request: an internal service with a name, a weight and a lane.
//!
//! [`Callers`] says who it is, from a Weir key, a token, a client certificate or a header, and
//! swaps what the request bears for the upstream's credential. Nothing here shows a secret: not in
//! `Debug`, not in an error.

mod credential;
mod directory;
mod issuer;
pub mod origin;
mod registry;
mod secret;
mod shared_name;
#[cfg(test)]
mod tests;
mod tokens;
#[cfg(test)]
mod tokens_tests;

use std::sync::Arc;
use std::time::Duration;

use crate::label::names;

pub use credential::{AuthHeader, Credential, CredentialId, credential_name};
pub use directory::{Callers, Current, Entry, Identified, KnownBy, Settings, Unknown};
pub use issuer::{Issuer, IssuerSettings, KeySource, Standing, Untrue};
pub use registry::Registry;
pub use secret::Secret;
pub use shared_name::shared_name;
pub use tokens::TokenClaim;

/// A caller's number: one for each name, for the life of the process. The key of every table with
/// one entry a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallerId(pub u16);

names! {
    /// Which of a scope's two queues a caller waits in.
    #[derive(Default)]
    Lane {
        /// Ordinary work.
        #[default]
        Interactive = "interactive",
        /// Work that yields to all other, and never starves.
        Background = "background",
    }
}

names! {
    /// How much of its work Weir does for a request.
    #[derive(Default)]
    Mode {
        /// Pace, hold, retry.
        #[default]
        Enforce = "enforce",
        /// Delay, hold and retry nothing; report what would have been done.
        Observe = "observe",
        /// Only forward and count.
        Bypass = "bypass",
    }
}

/// One caller as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The number of its name.
    pub id: CallerId,
    /// Its name in metrics and logs.
    pub name: Arc<str>,
    /// Its share of a contended limit relative to the other callers, at least 1.
    pub weight: u32,
    /// The queue that it waits in.
    pub lane: Lane,
    /// Its own mode, where it differs from everybody's.
    pub mode: Option<Mode>,
    /// Requests that it may have waiting, where it has a bound of its own.
    pub max_waiting: Option<usize>,
    /// The latest deadline that its requests may ask for.
    pub max_deadline: Option<Duration>,
}

impl Caller {
    /// The caller of whom nothing is known.
    pub fn unknown(id: CallerId) -> Self {
        Self {
            id,
            name: Callers::DEFAULT.into(),
            weight: 1,
            lane: Lane::Interactive,
            mode: None,
            max_waiting: None,
            max_deadline: None,
        }
    }
}
