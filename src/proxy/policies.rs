//! The current policy, and the signal that a configured key was refused.

use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::Policy;
use crate::clock;

/// Longest time that a request with a refused key waits while the key files are reread.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(1);

/// A policy that can be replaced while requests run. Each request keeps the policy it began with,
/// except for its credential.
#[derive(Debug)]
pub struct Policies {
    current: RwLock<Arc<Policy>>,
    reload_requests: OnceLock<mpsc::Sender<oneshot::Sender<()>>>,
}

impl Policies {
    /// Creates the holder of the current policy.
    pub fn new(policy: Policy) -> Arc<Self> {
        Arc::new(Self { current: RwLock::new(Arc::new(policy)), reload_requests: OnceLock::new() })
    }

    /// The policy for a request that begins now.
    pub fn current(&self) -> Arc<Policy> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the policy for new requests.
    pub fn replace(&self, policy: Policy) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
    }

    /// Sets the channel that is signaled when the upstream refuses a configured key. Later calls
    /// have no effect.
    pub fn on_refused_key(&self, reload_requests: mpsc::Sender<oneshot::Sender<()>>) {
        self.reload_requests.set(reload_requests).ok();
    }

    /// Requests a reread of the key files, and waits until it is done, for at most a second.
    pub(super) async fn reload_keys(&self) {
        let Some(reload_requests) = self.reload_requests.get() else { return };
        let (answer, looked) = oneshot::channel();
        if reload_requests.try_send(answer).is_ok() {
            clock::timeout_at(clock::now() + RELOAD_TIMEOUT, looked).await.ok();
        }
    }
}
