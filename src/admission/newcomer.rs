//! The part of the limits that a new scope begins with, where several replicas share them.

use std::sync::Arc;

use super::limits::Part;

/// Says which part of the limits a new scope begins with.
#[derive(Clone)]
pub struct Newcomer(Arc<dyn Fn(&str) -> Part + Send + Sync>);

impl Newcomer {
    /// By the family of the scope's models.
    pub fn new(part: impl Fn(&str) -> Part + Send + Sync + 'static) -> Self {
        Self(Arc::new(part))
    }

    pub(super) fn part(&self, family: &str) -> Part {
        (self.0)(family)
    }
}

impl std::fmt::Debug for Newcomer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Newcomer")
    }
}
