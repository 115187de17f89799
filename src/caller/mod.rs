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

/// Which of a scope's two queues a caller waits in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Lane {
    /// Ordinary work.
    #[default]
    Interactive,
    /// Work that yields to all other, and never starves.
    Background,
}

impl Lane {
    /// Both lanes.
    pub const ALL: [Self; 2] = [Self::Interactive, Self::Background];

    /// The lane's name in metrics and the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Interactive => "interactive",
            Self::Background => "background",
        }
    }
}

/// How much of its work Weir does for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Mode {
    /// Pace, hold, retry.
    #[default]
    Enforce,
    /// Delay, hold and retry nothing; report what would have been done.
    Observe,
    /// Only forward and count.
    Bypass,
}

impl Mode {
    /// All modes.
    pub const ALL: [Self; 3] = [Self::Enforce, Self::Observe, Self::Bypass];

    /// The mode's name in the configuration and the status.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Observe => "observe",
            Self::Bypass => "bypass",
        }
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
