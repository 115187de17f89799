//! The settings of the metrics.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// The bounds on series, and the labels of the process.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Names of the callers, in the order of their ids.
    pub callers: Vec<Arc<str>>,
    /// The most models with their own series.
    pub max_models: usize,
    /// Patterns of models that may have their own series, with `*` for any text; empty means any.
    pub models: Vec<Box<str>>,
    /// The most scopes with their own series.
    pub max_scopes: usize,
    /// The most series in total.
    pub max_series: usize,
    /// Worker threads.
    pub workers: usize,
    /// The version that is running.
    pub version: &'static str,
    /// The source revision, or empty.
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
