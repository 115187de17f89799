//! Classifies responses and failures of attempts into one closed list.

pub mod class;
pub mod failure;
pub mod meaning;
pub mod response;
pub mod stream;
mod words;

pub use class::ErrorClass;
pub use failure::{Failure, FailureKind, is_exhausted};
pub use meaning::{Health, Repeat, Source, Subject, Work};
pub(crate) use response::of_body;
pub use response::{Classified, MAX_BODY, response};
pub(crate) use stream::status_of;
pub use stream::{frame_error, stream_error};

#[cfg(test)]
mod tests;
