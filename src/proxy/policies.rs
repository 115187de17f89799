//! The policy in force, and the word that a configured key was refused.

use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::Policy;
use crate::clock;

/// How long a request whose key was refused waits for a look at the files that keys come from.
const LOOK: Duration = Duration::from_secs(1);

/// A policy that can be replaced while requests run; each keeps the one that it began with, but for
/// its credential.
#[derive(Debug)]
pub struct Policies {
    current: RwLock<Arc<Policy>>,
    looks: OnceLock<mpsc::Sender<oneshot::Sender<()>>>,
}

impl Policies {
    /// Begins with `policy`.
    pub fn new(policy: Policy) -> Arc<Self> {
        Arc::new(Self { current: RwLock::new(Arc::new(policy)), looks: OnceLock::new() })
    }

    /// The policy for a request that begins now.
    pub fn current(&self) -> Arc<Policy> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the policy for requests from now on.
    pub fn replace(&self, policy: Policy) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
    }

    /// Tells `looks` when the upstream refused a configured key, and waits for the answer. Only the
    /// first that is given counts.
    pub fn on_refused_key(&self, looks: mpsc::Sender<oneshot::Sender<()>>) {
        self.looks.set(looks).ok();
    }

    /// Has somebody look whether keys were rotated, and waits until that is done, for a second at
    /// most.
    pub(super) async fn look_at_keys(&self) {
        let Some(looks) = self.looks.get() else { return };
        let (answer, looked) = oneshot::channel();
        if looks.try_send(answer).is_ok() {
            clock::timeout_at(clock::now() + LOOK, looked).await.ok();
        }
    }
}
