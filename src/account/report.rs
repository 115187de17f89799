//! A failure report for support. OpenAI's guide ("Persistent errors") asks for the model, the
//! error's message and code, the request's data and headers, and the time with its time zone.

use std::fmt::{self, Write as _};
use std::time::SystemTime;

use serde::Serialize;

use super::attempts::Attempt;
use super::record::{Record, Wait};
use super::timestamp::Rfc3339;
use crate::catalog;
use crate::classify::ErrorClass;
use crate::clock::Instant;

/// Most bytes of a request's body in a report.
const MAX_REQUEST_DATA: usize = 64 * 1024;

/// One failure that reached a caller.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Its id, such as `w-000123`, numbered since the start of the process.
    pub id: String,
    /// When the error was sent.
    pub time: Rfc3339,
    /// The error's class.
    pub class: &'static str,
    /// The status that the caller got, if a response had begun.
    pub status: Option<u16>,
    /// The error's code.
    pub code: Option<String>,
    /// The error's type.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// The error's param.
    pub param: Option<String>,
    /// The error's message, masked unless configured otherwise.
    pub message: String,
    /// The request's path, if the upstream does not know it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The model in the request.
    pub model: Option<String>,
    /// The request's endpoint.
    pub endpoint: &'static str,
    /// The caller.
    pub caller: String,
    /// Weir's id of the request.
    pub request_id: String,
    /// The id of its trace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// Seconds from its head to its end.
    pub duration_seconds: f64,
    /// Seconds that it waited for admission.
    pub queue_seconds: f64,
    /// The stored attempts, in order.
    pub attempts: Vec<AttemptReport>,
    /// Number of attempts, including those not in `attempts`.
    pub attempt_count: u32,
    /// The request headers on the configured list.
    pub headers: Vec<(String, String)>,
    /// The request's body, if configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_data: Option<String>,
    /// Number of equal failures (caller, class, endpoint, model and code), including this one.
    pub occurrences: u64,
    /// When the first of them occurred.
    pub since: Rfc3339,
}

/// One attempt of a failed request.
#[derive(Clone, Debug, Serialize)]
pub struct AttemptReport {
    /// Its error class, or a word for another outcome.
    pub outcome: &'static str,
    /// The upstream's status.
    pub status: Option<u16>,
    /// The upstream's `x-request-id`, by which its support finds the request.
    pub upstream_request_id: Option<String>,
    /// The pause before it, in seconds.
    pub delay_seconds: f64,
    /// Its start, in seconds after the request's.
    pub start_seconds: f64,
    /// Seconds from its start to the response's head, or to its end without one.
    pub time_to_head_seconds: Option<f64>,
}

impl Report {
    pub(super) fn of(
        record: &Record,
        class: ErrorClass,
        caller: &str,
        number: u64,
        wall: SystemTime,
        now: Instant,
    ) -> Self {
        let detail = record.detail.as_deref().cloned().unwrap_or_default();
        let header = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        Self {
            id: format!("w-{number:06}"),
            time: Rfc3339(wall),
            class: class.as_str(),
            status: record.status.map(|status| status.as_u16()),
            code: detail.code,
            kind: detail.kind,
            param: detail.param,
            message: detail.message,
            path: detail.path,
            model: record.model().map(str::to_owned),
            endpoint: record.endpoint.as_str(),
            caller: detail.peer.map_or_else(|| caller.to_owned(), |peer| format!("unknown, from {peer}")),
            request_id: record.id.to_string(),
            trace_id: record.trace.map(|at| at.trace.to_string()),
            duration_seconds: now.saturating_duration_since(record.started).as_secs_f64(),
            queue_seconds: record.waits(Wait::Queue).as_secs_f64(),
            attempts: record
                .attempts
                .iter()
                .map(|attempt| AttemptReport::of(attempt, record.started))
                .collect(),
            attempt_count: record.attempts.count(),
            headers: record.headers.iter().map(|(name, value)| (name.to_string(), header(value))).collect(),
            request_data: record.request_data.as_deref().map(|data| text_of(data)),
            occurrences: 1,
            since: Rfc3339(wall),
        }
    }
}

impl AttemptReport {
    fn of(attempt: &Attempt, started: Instant) -> Self {
        Self {
            outcome: attempt.outcome(),
            status: attempt.status.map(|status| status.as_u16()),
            upstream_request_id: attempt
                .upstream_id
                .as_ref()
                .and_then(|id| id.to_str().ok())
                .map(str::to_owned),
            delay_seconds: attempt.delay.as_secs_f64(),
            start_seconds: attempt.started.saturating_duration_since(started).as_secs_f64(),
            time_to_head_seconds: attempt.time_to_head().map(|time| time.as_secs_f64()),
        }
    }
}

/// The report as text, ready to paste.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Weir report {}", self.id)?;
        let status = self.status.map_or_else(|| "no status".to_owned(), |status| status.to_string());
        row(f, "Time", &format!("{} (UTC)", self.time))?;
        row(f, "Model", self.model.as_deref().unwrap_or("none named"))?;
        let path = self.path.as_deref().map(|path| format!(": {path}")).unwrap_or_default();
        row(f, "Endpoint", &format!("{}{path}", self.endpoint))?;
        row(f, "Error", &format!("{status} {}", self.class))?;
        row(f, "Code", &self.code_told())?;
        row(f, "Type", self.kind.as_deref().unwrap_or("none"))?;
        row(f, "Param", self.param.as_deref().unwrap_or("none"))?;
        row(f, "Message", if self.message.is_empty() { "none" } else { &self.message })?;
        row(f, "Occurred", &self.occurred())?;
        row(f, "Caller", &self.caller)?;
        row(f, "Request", &self.request_id)?;
        if let Some(trace) = &self.trace_id {
            row(f, "Trace", trace)?;
        }
        row(
            f,
            "Took",
            &format!("{:.3} s, {:.3} s of it in the queue", self.duration_seconds, self.queue_seconds),
        )?;
        writeln!(f, "Attempts  {}", self.attempt_count)?;
        for (number, attempt) in (1..).zip(&self.attempts) {
            writeln!(f, "  {number}. {attempt}")?;
        }
        if self.attempts.len() < self.attempt_count as usize {
            writeln!(
                f,
                "  (the last is shown last; {} between are left out)",
                self.attempt_count as usize - self.attempts.len()
            )?;
        }
        if !self.headers.is_empty() {
            writeln!(f, "Headers")?;
            for (name, value) in &self.headers {
                writeln!(f, "  {name}: {}", one_line(value))?;
            }
        }
        match &self.request_data {
            Some(data) => writeln!(f, "Request data\n{data}"),
            None => writeln!(f, "Request data is not kept (report.request_data)."),
        }
    }
}

impl Report {
    /// The code, with a note if this version does not know it.
    fn code_told(&self) -> String {
        match self.code.as_deref() {
            None => "none".to_owned(),
            Some(code) if catalog::knows(code) => code.to_owned(),
            Some(code) => format!("{code} (not in the catalog: {})", catalog::NEWER_GUIDE),
        }
    }

    fn occurred(&self) -> String {
        match self.occurrences {
            1 => "once".to_owned(),
            times => {
                format!("{times} times since {} (same caller, class, endpoint, model and code)", self.since)
            }
        }
    }
}

impl fmt::Display for AttemptReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {:.3} s", self.start_seconds)?;
        if self.delay_seconds > 0.0 {
            write!(f, " after a pause of {:.3} s", self.delay_seconds)?;
        }
        f.write_str(": ")?;
        if let Some(status) = self.status {
            write!(f, "{status} ")?;
        }
        f.write_str(self.outcome)?;
        if let Some(time) = self.time_to_head_seconds {
            write!(f, " after {time:.3} s")?;
        }
        match &self.upstream_request_id {
            Some(id) => write!(f, ", x-request-id {}", one_line(id)),
            None => f.write_str(", no x-request-id"),
        }
    }
}

fn row(f: &mut fmt::Formatter<'_>, name: &str, value: &str) -> fmt::Result {
    writeln!(f, "{name:<9} {}", one_line(value))
}

/// The stored part of the body as text.
fn text_of(body: &[u8]) -> String {
    let kept = &body[..body.len().min(MAX_REQUEST_DATA)];
    let mut text =
        String::from_utf8_lossy(kept).replace(|part: char| part.is_control() && part != '\n', "\u{fffd}");
    if kept.len() < body.len() {
        let written = write!(text, "\n… ({} bytes in all)", body.len());
        debug_assert!(written.is_ok(), "a String takes everything");
    }
    text
}

/// Escapes line breaks: external text must not forge a line.
fn one_line(value: &str) -> String {
    value.chars().fold(String::with_capacity(value.len()), |mut line, part| {
        if part.is_control() {
            let written = write!(line, "{}", part.escape_default());
            debug_assert!(written.is_ok(), "a String takes everything");
        } else {
            line.push(part);
        }
        line
    })
}
