//! The numbers of upstreams. A number is assigned once per name and never reused, so that a reload
//! keeps the knowledge about an upstream.

use std::sync::{Arc, PoisonError, RwLock};

/// The most names that a process numbers, over all its reloads; further ones share one number,
/// which has no name.
const MOST: u16 = 4096;

/// The number of an upstream, in the order in which names were first seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UpstreamId(pub u16);

/// The names of all upstreams that this process has had.
#[derive(Debug, Default)]
pub struct Names(RwLock<Vec<Arc<str>>>);

impl Names {
    /// The name of the upstream outside of a pool.
    pub const THE_ONE: &'static str = "upstream";

    /// The number of the upstream with this name; a new name gets a new number.
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

    /// The name of the upstream with this number.
    pub fn name(&self, id: UpstreamId) -> Option<Arc<str>> {
        let names = self.0.read().unwrap_or_else(PoisonError::into_inner);
        names.get(usize::from(id.0)).cloned()
    }
}
