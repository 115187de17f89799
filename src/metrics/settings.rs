//! What the series are made for, as configured.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// What the series are made for.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Names of the callers, in the order of their ids.
    pub callers: Vec<Arc<str>>,
    /// Models that may have series of their own.
    pub max_models: usize,
    /// Which models may, as patterns with `*` for anything; empty means any.
    pub models: Vec<Box<str>>,
    /// Scopes that may have series of their own.
    pub max_scopes: usize,
    /// Series at most, over all families.
    pub max_series: usize,
    /// Worker threads.
    pub workers: usize,
    /// The version that is running.
    pub version: &'static str,
    /// The source revision it was built from, or nothing.
    pub revision: &'static str,
    /// When the process started.
    pub started: SystemTime,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            callers: Vec::new(),
            max_models: 50,
            models: Vec::new(),
            max_scopes: 100,
            max_series: 20_000,
            workers: 1,
            version: env!("CARGO_PKG_VERSION"),
            revision: "",
            started: UNIX_EPOCH,
        }
    }
}
