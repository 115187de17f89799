//! What leaves the process for people and collectors to read: log lines, trace context, and what must never be in them.

pub mod otlp;
mod format;
mod redact;
mod span;
mod trace;
mod writer;

use std::io;

use thiserror::Error;
use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

pub use redact::{Hidden, MAX_MESSAGE, masked, without_keys};
pub use span::{Side, Span, Value};
pub use trace::{RequestTrace, SpanId, TraceContext, TraceId};
pub use writer::{DroppedLines, LogGuard};

/// The `tracing` target of the access log, whose lines are written as they are.
pub const ACCESS_LOG: &str = "weir::access";

/// How the log is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What is logged, in the syntax of `tracing-subscriber`'s `EnvFilter`: `info,weir::access=off`.
    pub filter: String,
    /// As JSON, a line per event, instead of as text.
    pub json: bool,
    /// Text may be coloured: the output is a terminal.
    pub colour: bool,
    /// Lines that wait to be written; more are dropped and counted.
    pub queue: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { filter: "info".to_owned(), json: true, colour: false, queue: 8_192 }
    }
}

/// Why the log could not be set up.
#[derive(Debug, Error)]
pub enum LogError {
    /// The filter is not in `EnvFilter`'s syntax.
    #[error("the log's filter is wrong: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// The thread that writes could not be started.
    #[error("the log's thread could not be started: {0}")]
    Thread(#[from] io::Error),
    /// Something else in this process listens already.
    #[error("the log is set up already")]
    Twice,
}

/// Sets up the log of the whole process, written to `output` by a thread of its own.
///
/// Dropping the guard writes what still waits, for at most two seconds.
///
/// # Errors
/// See [`LogError`].
pub fn start(settings: &Settings, output: impl io::Write + Send + 'static) -> Result<LogGuard, LogError> {
    let (queue, guard) = writer::start(settings.queue, output)?;
    let subscriber = subscriber(settings, queue)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::Twice)?;
    Ok(guard)
}

/// The subscriber that [`start`] installs, writing where `writer` says.
///
/// # Errors
/// If the filter is wrong.
pub fn subscriber<W>(
    settings: &Settings,
    writer: W,
) -> Result<impl Subscriber + Send + Sync + use<W>, LogError>
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let filter = EnvFilter::builder().parse(&settings.filter)?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(settings.colour)
        .with_writer(writer)
        .event_format(format::Format::new(settings.json, settings.colour))
        .finish();
    Ok(subscriber)
}

/// Runs `log` with a subscriber of this thread's own, for tests that run beside others.
///
/// tracing remembers of each place in the code whether anybody listens to it. A thread without a subscriber could make it
/// remember that nobody does just when another begins to listen; a process-wide one that listens to all keeps it asking.
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
