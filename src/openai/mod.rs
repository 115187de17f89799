//! All knowledge of the API's wire format, and nothing else: pure functions over headers and bytes.

pub mod endpoint;

pub use endpoint::Endpoint;
