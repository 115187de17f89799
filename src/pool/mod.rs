//! The ids of a pool's upstreams, and which upstream owns each object.

mod names;
mod object_ids;
mod owners;

pub use names::{Names, UpstreamId};
pub use owners::Owners;
