//! The upstreams of a pool as all modules name them, and which of them owns an object.

mod names;
mod object_ids;
mod owners;

pub use names::{Names, UpstreamId};
pub use owners::Owners;
