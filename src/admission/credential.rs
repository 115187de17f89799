//! What the scopes of one credential share.

use std::sync::Arc;

use crate::pool::UpstreamId;

use super::settings::Settings;
use super::spent::QuotaBreaker;

/// What a credential's scopes share.
#[derive(Debug, Default)]
pub(super) struct Credential {
    /// One for each upstream that a scope was made of.
    pub(super) breakers: Vec<(UpstreamId, Arc<QuotaBreaker>)>,
    pub(super) entries: usize,
    pub(super) unnamed: usize,
}

impl Credential {
    /// The upstreams that serve a model, each with its breaker.
    pub(super) fn members(
        &mut self,
        settings: &Settings,
        model: Option<&str>,
    ) -> Vec<(UpstreamId, Arc<QuotaBreaker>)> {
        let one = settings.members.is_empty().then(UpstreamId::default);
        let ids = settings.members_for(model).chain(one);
        ids.map(|id| {
            let known = self.breakers.iter().find(|(member, _)| *member == id).cloned();
            known.unwrap_or_else(|| {
                self.breakers.push((id, Arc::default()));
                self.breakers[self.breakers.len() - 1].clone()
            })
        })
        .collect()
    }
}
