//! What stands in for replicas where Weir was built without the cargo feature `replicas`: a Redis
//! in the configuration is refused.

use std::convert::Infallible;
use std::io;
use std::path::PathBuf;

use crate::admission::Scopes;
use crate::caller::Secret;
use crate::clock::Instant;
use crate::upstream::tls::Roots;

use super::{Settings, Status};

/// A URL that is not read.
#[derive(Debug)]
pub struct Address(Infallible);

/// Why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("can't be used: this Weir was built without the cargo feature `replicas`; leave it out")]
pub struct AddressError;

/// TLS that is not spoken.
#[derive(Clone, Debug)]
pub struct Tls(Infallible);

/// A URL that is not looked up.
#[derive(Clone, Debug)]
pub struct Url;

/// No replicas.
#[derive(Debug)]
pub struct Replicas(Infallible);

impl Address {
    /// Refuses every URL.
    ///
    /// # Errors
    /// Always.
    pub fn parse(_: &str) -> Result<Self, AddressError> {
        Err(AddressError)
    }

    /// Never asked.
    pub fn is_tls(&self) -> bool {
        match self.0 {}
    }
}

impl Tls {
    /// Refuses.
    ///
    /// # Errors
    /// Always.
    pub fn read(_: &Roots, _: Option<(&PathBuf, &PathBuf)>) -> Result<Self, String> {
        Err(AddressError.to_string())
    }
}

impl Url {
    /// Nothing is looked up.
    pub fn new(_: impl Fn() -> Result<Secret, String> + Send + Sync + 'static) -> Self {
        Self
    }
}

/// Refuses.
///
/// # Errors
/// Always.
pub fn start(_: Settings, _: Scopes) -> io::Result<Replicas> {
    Err(io::Error::new(io::ErrorKind::Unsupported, AddressError))
}

impl Replicas {
    /// Never asked.
    pub fn leave(&self) {
        match self.0 {}
    }

    /// Never asked.
    pub fn leave_and_wait(&self) {
        match self.0 {}
    }

    /// Never asked.
    pub fn status(&self, _: Instant) -> Status {
        match self.0 {}
    }
}
