//! Metrics of the process: build, start, configuration and drain.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::proto::MetricFamily;

use super::exposed::{family, flag, single};
use super::families;

/// The state of the process.
#[derive(Debug)]
pub(super) struct Process {
    /// Whether the configuration in force is the last one read.
    pub(super) reload_successful: bool,
    /// When the configuration in force was read.
    pub(super) reloaded: SystemTime,
    pub(super) draining: bool,
    pub(super) started: SystemTime,
    pub(super) version: &'static str,
    pub(super) revision: &'static str,
}

impl Process {
    pub(super) fn exposed(&self) -> [MetricFamily; 5] {
        let unix = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        [
            single(&families::RELOAD_SUCCESSFUL, flag(self.reload_successful)),
            single(&families::RELOAD_TIME, unix(self.reloaded)),
            single(&families::UP_STATE, flag(self.draining)),
            single(&families::START_TIME, unix(self.started)),
            family(&families::BUILD_INFO, [(vec![self.version, self.revision], 1.0)]),
        ]
    }
}
