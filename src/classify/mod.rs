//! What an answer, or its absence, means: one closed list of classes.

pub mod class;
pub mod failure;

pub use class::ErrorClass;
pub use failure::{Failure, FailureKind};
