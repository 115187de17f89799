//! What an answer, or its absence, means: one closed list of classes.

pub mod class;

pub use class::ErrorClass;
