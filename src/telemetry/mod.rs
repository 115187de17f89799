//! What leaves the process for people and collectors to read: log lines, trace context, and what
//! must never be in them.

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

/// The `tracing` target of the access log, whose lines are written as they are.
pub const ACCESS_LOG: &str = "weir::access";

/// The `tracing` target of the lines that name the limits in force.
pub const LIMITS_LOG: &str = "weir::limits";

/// How the log is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// What is logged at first.
    pub levels: Levels,
    /// What overrules the levels, also after a change.
    pub directives: Directives,
    /// As JSON, a line per event, instead of as text.
    pub json: bool,
    /// Text may be colored: the output is a terminal.
    pub color: bool,
    /// Lines that wait to be written; more are dropped and counted.
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

/// Why the log could not be set up.
#[derive(Debug, Error)]
pub enum LogError {
    /// The thread that writes could not be started.
    #[error("the log's thread could not be started: {0}")]
    Thread(#[from] io::Error),
    /// Something else in this process listens already.
    #[error("the log is set up already")]
    Twice,
}

/// Sets up the log of the whole process, written to `output` by a thread of its own.
///
/// Dropping the guard writes what still waits, for at most two seconds. The filter changes what is
/// logged.
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

/// The subscriber that [`start`] installs, writing where `writer` says, and its filter.
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

/// Runs `log` with a subscriber of this thread's own, for tests that run beside others.
///
/// tracing remembers of each place in the code whether anybody listens to it. A thread without a
/// subscriber could make it remember that nobody does just when another begins to listen; a
/// process-wide one that listens to all keeps it asking.
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
