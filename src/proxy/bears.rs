//! The configured credential that a request bears, which may be rotated while it waits.

use std::sync::Arc;

use http::HeaderMap;

use super::Policies;
use super::upstreams::Way;
use crate::caller::{CallerId, CredentialId};

/// Which configured credential a request bears.
#[derive(Clone)]
pub(super) struct Bears {
    policies: Arc<Policies>,
    caller: CallerId,
    /// The fingerprint of what it bears.
    content: CredentialId,
    /// The upstream whose own credential it bears.
    way: Option<Arc<Way>>,
}

impl Bears {
    /// What requests of `caller` bear now; nothing where that is their own.
    pub(super) fn of(
        policies: &Arc<Policies>,
        caller: CallerId,
        content: Option<CredentialId>,
    ) -> Option<Self> {
        content.map(|content| Self { policies: Arc::clone(policies), caller, content, way: None })
    }

    /// Lets the headers bear the credential as it is now. What a caller that is no longer
    /// configured bears stays.
    pub(super) fn renew(&mut self, headers: &mut HeaderMap) {
        let policy = self.policies.current();
        if let Some(current) = policy.callers.current(self.caller)
            && current.content != self.content
        {
            current.credential.apply(headers);
            self.content = current.content;
        }
    }

    /// Lets the headers bear the credential of one of several upstreams.
    pub(super) fn at(&mut self, way: &Arc<Way>, headers: &mut HeaderMap) {
        way.bear(headers);
        self.way = Some(Arc::clone(way));
    }

    /// Has the files looked at that the credential may come from, unless another one is known
    /// already.
    pub(super) async fn look(self) {
        if !self.was_rotated() {
            self.policies.look_at_keys().await;
        }
    }

    /// Whether the credential is another one now.
    pub(super) fn was_rotated(&self) -> bool {
        let policy = self.policies.current();
        match &self.way {
            Some(way) => policy.upstreams.way(way.id).is_some_and(|now| now.credential != way.credential),
            None => policy.callers.current(self.caller).is_some_and(|now| now.content != self.content),
        }
    }
}
