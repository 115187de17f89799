//! Logs, trace context and span export, and the masking of secrets in them.

pub mod otlp;
mod filter;
mod format;
mod redact;
mod span;
mod throttle;
mod trace;
mod writer;

use std::io;

use thiserror::Error;
use tracing::Subscriber;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;

pub use filter::{DirectiveError, Directives, Levels, LogFilter};
pub use redact::{Hidden, masked, without_keys};
pub use span::{Side, Span, Value};
pub use throttle::{LogThrottle, SharedLogThrottle};
pub use trace::{RequestTrace, SpanId, TraceContext};
pub use writer::{DroppedLines, LogGuard};

/// The `tracing` target of the access log, whose lines are written unchanged.
pub const ACCESS_LOG: &str = "weir::access";

/// The `tracing` target of the lines with the current limits.
pub const LIMITS_LOG: &str = "weir::limits";

/// The log settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The initial levels.
    pub levels: Levels,
    /// Directives that take precedence over the levels, also after a change.
    pub directives: Directives,
    /// Whether each line is JSON instead of text.
    pub json: bool,
    /// Whether text may be colored, because the output is a terminal.
    pub color: bool,
    /// The capacity of the queue, in lines. Further lines are dropped and counted.
    pub queue: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            levels: Levels::default(),
            directives: Directives::default(),
            json: true,
            color: false,
            queue: 8_192,
        }
    }
}

/// The reason why the log could not be set up.
#[derive(Debug, Error)]
pub enum LogError {
    /// The writer thread could not be started.
    #[error("the log's thread could not be started: {0}")]
    Thread(#[from] io::Error),
    /// The process already has a subscriber.
    #[error("the log is set up already")]
    Twice,
}

/// Sets up the log of the process, which a separate thread writes to `output`.
///
/// Dropping the guard writes the remaining lines, for at most two seconds. The filter changes what
/// is logged.
///
/// # Errors
/// See [`LogError`].
pub fn start(
    settings: &Settings,
    output: impl io::Write + Send + 'static,
) -> Result<(LogGuard, LogFilter), LogError> {
    let (queue, guard) = writer::start(settings.queue, output)?;
    let (subscriber, filter) = subscriber(settings, queue);
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::Twice)?;
    Ok((guard, filter))
}

/// The subscriber that [`start`] installs, with the given writer, and its filter.
pub fn subscriber<W>(settings: &Settings, writer: W) -> (impl Subscriber + Send + Sync + use<W>, LogFilter)
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let filter = LogFilter::new(settings.levels, settings.directives.clone());
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(settings.color)
        .with_writer(writer)
        .fmt_fields(format::Fields::new(settings.json))
        .event_format(format::Format::new(settings.json, settings.color));
    (tracing_subscriber::registry().with(lines).with(filter.clone()), filter)
}

/// Runs `log` with a subscriber for this thread, for tests that run in parallel.
///
/// tracing caches for each call site whether it is enabled. A thread without a subscriber could
/// make it cache "disabled" just before another thread sets one; a process-wide subscriber for
/// everything prevents that.
#[cfg(test)]
pub(crate) fn with_own_log(subscriber: impl Subscriber + Send + Sync + 'static, log: impl FnOnce()) {
    static LISTENS: std::sync::Once = std::sync::Once::new();
    LISTENS.call_once(|| {
        let all = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(io::sink);
        tracing::subscriber::set_global_default(all.finish()).expect("nobody else sets one in these tests");
    });
    tracing::subscriber::with_default(subscriber, log);
}

#[cfg(test)]
mod tests;
