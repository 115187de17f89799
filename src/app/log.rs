//! The process's log, on standard error.

use std::io::IsTerminal;

use crate::config::Config;
use crate::config::observe::Format;
use crate::telemetry::{self, LogError, LogGuard};

use super::Error;

/// Starts the log. Says whether it is for people rather than for programs.
pub(super) fn start(config: &Config) -> Result<(LogGuard, bool), Error> {
    let of = &config.log;
    let terminal = std::io::stderr().is_terminal();
    let text = match of.format {
        Format::Auto => terminal,
        Format::Json => false,
        Format::Text => true,
    };
    // The libraries below show headers where they trace: at most what they say at "info" is told.
    let own = of.level.as_str();
    let level = if matches!(own, "debug" | "trace") { format!("info,weir={own}") } else { own.to_owned() };
    let access = if of.access { "info" } else { "off" };
    let settings = telemetry::Settings {
        filter: format!("{level},{}={access}", telemetry::ACCESS_LOG),
        json: !text,
        colour: text && terminal,
        ..telemetry::Settings::default()
    };
    let started = telemetry::start(&settings, std::io::stderr()).map_err(|error| match error {
        LogError::Filter(error) => Error::Configuration(format!("log.level: {error}")),
        error @ (LogError::Thread(_) | LogError::Twice) => Error::Other(error.to_string()),
    })?;
    Ok((started, text))
}
