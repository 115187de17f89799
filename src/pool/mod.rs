//! The identity of a pool's upstreams, and the owners of objects among them.

mod names;
mod object_ids;
mod owners;

pub use names::{Names, UpstreamId};
pub use owners::Owners;
