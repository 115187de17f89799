//! The replacement for replicas if Weir was built without the cargo feature `replicas`: a
//! configured Redis is an error.

use std::convert::Infallible;
use std::io;
use std::path::PathBuf;

use crate::admission::Scopes;
use crate::caller::Secret;
use crate::clock::Instant;
use crate::upstream::tls::Roots;

use super::{Settings, Status};

/// A URL of Redis; it can't be created.
#[derive(Debug)]
pub struct Address(Infallible);

/// The error for every URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("can't be used: this Weir was built without the cargo feature `replicas`; leave it out")]
pub struct AddressError;

/// The TLS settings; they can't be created.
#[derive(Clone, Debug)]
pub struct Tls(Infallible);

/// The source of the URL, which is never read.
#[derive(Clone, Debug)]
pub struct Url;

/// The running exchange; it can't be created.
#[derive(Debug)]
pub struct Replicas(Infallible);

impl Address {
    /// Rejects every URL.
    ///
    /// # Errors
    /// Always.
    pub fn parse(_: &str) -> Result<Self, AddressError> {
        Err(AddressError)
    }

    /// Never called.
    pub fn is_tls(&self) -> bool {
        match self.0 {}
    }
}

impl Tls {
    /// Always fails.
    ///
    /// # Errors
    /// Always.
    pub fn read(_: &Roots, _: Option<(&PathBuf, &PathBuf)>) -> Result<Self, String> {
        Err(AddressError.to_string())
    }
}

impl Url {
    /// Ignores its parameter.
    pub fn new(_: impl Fn() -> Result<Secret, String> + Send + Sync + 'static) -> Self {
        Self
    }
}

/// Always fails.
///
/// # Errors
/// Always.
pub fn start(_: Settings, _: Scopes) -> io::Result<Replicas> {
    Err(io::Error::new(io::ErrorKind::Unsupported, AddressError))
}

impl Replicas {
    /// Never called.
    pub fn leave(&self) {
        match self.0 {}
    }

    /// Never called.
    pub fn leave_and_wait(&self) {
        match self.0 {}
    }

    /// Never called.
    pub fn status(&self, _: Instant) -> Status {
        match self.0 {}
    }
}
