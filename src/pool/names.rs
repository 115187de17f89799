//! The ids of upstreams. An id is assigned once per name and never reused, so that a reload keeps
//! what is known about an upstream.

use std::sync::{Arc, PoisonError, RwLock};

/// The maximum number of names over the life of the process. Further upstreams share one id, which
/// has no name.
const MOST: u16 = 4096;

/// The id of an upstream, in the order in which names were first seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UpstreamId(pub u16);

/// The names of all upstreams that this process has had.
#[derive(Debug, Default)]
pub struct Names(RwLock<Vec<Arc<str>>>);

impl Names {
    /// The name of the upstream outside of a pool.
    pub const THE_ONE: &'static str = "upstream";

    /// The id of the upstream with this name. A new name gets a new id.
    pub fn id(&self, name: &str) -> UpstreamId {
        let mut names = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let place = names.iter().position(|known| **known == *name).unwrap_or(names.len());
        match u16::try_from(place) {
            Ok(id) if id < MOST => {
                if place == names.len() {
                    names.push(name.into());
                }
                UpstreamId(id)
            }
            Ok(_) | Err(_) => UpstreamId(MOST),
        }
    }

    /// The name of the upstream with this id.
    pub fn name(&self, id: UpstreamId) -> Option<Arc<str>> {
        let names = self.0.read().unwrap_or_else(PoisonError::into_inner);
        names.get(usize::from(id.0)).cloned()
    }
}
