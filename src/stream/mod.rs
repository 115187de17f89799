//! The answer's body on its way to the caller.

pub(crate) mod decode;
