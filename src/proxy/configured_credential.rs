//! The configured credential of a request, which may be rotated while the request waits.

use std::sync::Arc;

use http::HeaderMap;

use super::Policies;
use super::upstreams::PoolMember;
use crate::caller::{CallerId, CredentialId};

/// The configured credential that a request carries.
#[derive(Clone)]
pub(super) struct ConfiguredCredential {
    policies: Arc<Policies>,
    caller: CallerId,
    /// The fingerprint of the credential in the request's headers.
    content: CredentialId,
    /// The pool member whose own credential it is, if it is one's.
    member: Option<Arc<PoolMember>>,
}

impl ConfiguredCredential {
    /// The credential of `caller`; `None` if requests carry the caller's own.
    pub(super) fn of(
        policies: &Arc<Policies>,
        caller: CallerId,
        content: Option<CredentialId>,
    ) -> Option<Self> {
        content.map(|content| Self { policies: Arc::clone(policies), caller, content, member: None })
    }

    /// Replaces the credential in the headers if it was rotated. If the caller is no longer
    /// configured, the old one stays.
    pub(super) fn renew(&mut self, headers: &mut HeaderMap) {
        let policy = self.policies.current();
        if let Some(current) = policy.callers.current(self.caller)
            && current.content != self.content
        {
            current.credential.apply(headers);
            self.content = current.content;
        }
    }

    /// Replaces the credential in the headers by a pool member's.
    pub(super) fn switch_to(&mut self, member: &Arc<PoolMember>, headers: &mut HeaderMap) {
        member.bear(headers);
        self.member = Some(Arc::clone(member));
    }

    /// Rereads the credential files, unless a newer credential is already loaded.
    pub(super) async fn request_reload(self) {
        if !self.was_rotated() {
            self.policies.reload_keys().await;
        }
    }

    /// Whether the credential was rotated since it was written to the headers.
    pub(super) fn was_rotated(&self) -> bool {
        let policy = self.policies.current();
        match &self.member {
            Some(member) => {
                policy.upstreams.member(member.id).is_some_and(|now| now.credential != member.credential)
            }
            None => policy.callers.current(self.caller).is_some_and(|now| now.content != self.content),
        }
    }
}
