//! Identifies the caller of a request: an internal service with a name, a weight and a lane.
//!
//! [`Callers`] identifies it by a Weir key, a token, a client certificate or a header, and replaces
//! its credential by the upstream's. Secrets appear neither in `Debug` nor in errors.

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
pub use issuer::{InvalidToken, Issuer, IssuerSettings, KeySource, Standing};
pub use registry::Registry;
pub use secret::Secret;
pub use shared_name::shared_name;
pub use tokens::TokenClaim;

/// A caller's number: one for each name, for the life of the process. The index of tables by
/// caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallerId(pub u16);

names! {
    /// The queue of a scope that a caller waits in.
    #[derive(Default)]
    Lane {
        /// Ordinary work.
        #[default]
        Interactive = "interactive",
        /// Work that yields to all other work, but never starves.
        Background = "background",
    }
}

names! {
    /// How far Weir intervenes in a request.
    #[derive(Default)]
    Mode {
        /// Queue, hold back and retry.
        #[default]
        Enforce = "enforce",
        /// Delay, hold back and retry nothing, but report what `enforce` would have done.
        Observe = "observe",
        /// Only forward and count.
        Bypass = "bypass",
    }
}

/// A configured caller.
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
    /// Its own mode, if it has one.
    pub mode: Option<Mode>,
    /// The most waiting requests, if it has its own limit.
    pub max_waiting: Option<usize>,
    /// The latest deadline that its requests may have.
    pub max_deadline: Option<Duration>,
}

impl Caller {
    /// The default caller.
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
