//! The access log: one line per request, as JSON for machines or as text for a terminal. It never
//! contains a body or a key.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::attempts::Attempt;
use super::record::{Record, Wait};
use super::timestamp::Rfc3339;
use super::{Account, Settings};
use crate::caller::Lane;
use crate::classify::ErrorClass;
use crate::clock::{self, Instant};
use crate::metrics::Label;
use crate::pool::UpstreamId;
use crate::telemetry::ACCESS_LOG;

/// Writes the record's line, unless logging is off or the request is not in the sample.
pub(super) fn write(record: &Record, settings: &Settings, now: Instant) {
    if !tracing::enabled!(target: ACCESS_LOG, tracing::Level::INFO) || !record.is_told(settings.log_sample) {
        return;
    }
    let entry = Entry::of(record, record.account(), now);
    let line = if settings.log_text { entry.text() } else { entry.json() };
    tracing::info!(target: ACCESS_LOG, "{line}");
}

#[derive(Serialize)]
struct Entry<'a> {
    timestamp: Rfc3339,
    level: &'static str,
    target: &'static str,
    request_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
    caller: String,
    endpoint: &'static str,
    model: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lane: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight: Option<u32>,
    /// The upstream's name, if there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<String>,
    outcome: &'static str,
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_class: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_message: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_path: Option<&'a str>,
    duration_ms: f64,
    queue_ms: f64,
    overhead_ms: Option<f64>,
    deadline_left_ms: Option<f64>,
    stream: bool,
    bytes_in: u64,
    bytes_out: u64,
    tokens_estimated: Option<u64>,
    tokens_charged: Option<u64>,
    tokens_input: Option<u64>,
    tokens_cached: Option<u64>,
    tokens_output: Option<u64>,
    #[serde(skip_serializing_if = "is_zero")]
    sdk_retries: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    retries_stopped: Option<&'static str>,
    attempt_count: u32,
    attempts: Vec<AttemptEntry<'a>>,
}

#[derive(Serialize)]
struct AttemptEntry<'a> {
    outcome: &'static str,
    status: Option<u16>,
    delay_ms: f64,
    start_ms: f64,
    time_to_head_ms: Option<f64>,
    upstream_request_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<String>,
    #[serde(skip_serializing_if = "is_false")]
    probe: bool,
}

impl<'a> Entry<'a> {
    fn of(record: &'a Record, account: &Account, now: Instant) -> Self {
        let detail = record.detail.as_deref();
        let usage = record.used.map(|(usage, _)| usage);
        let settled = record.answered.unwrap_or(now);
        Self {
            timestamp: Rfc3339(clock::wall()),
            level: "INFO",
            target: ACCESS_LOG,
            request_id: record.id.to_string(),
            trace_id: record.trace.map(|at| at.trace.to_string()),
            caller: account.caller_name(record.caller).as_ref().to_owned(),
            endpoint: record.endpoint.as_str(),
            model: record.model(),
            scope: record.scope.as_deref(),
            lane: (record.lane != Lane::Interactive).then(|| record.lane.as_str()),
            weight: (record.weight != 1).then_some(record.weight),
            upstream: record.upstream().and_then(|id| upstream_name(id, account)),
            outcome: record.outcome().name(),
            status: record.status.map(|status| status.as_u16()),
            error_class: record.class.map(ErrorClass::as_str),
            error_code: detail.and_then(|detail| detail.code.as_deref()),
            error_message: detail.map(|detail| detail.message.as_str()),
            error_path: detail.and_then(|detail| detail.path.as_deref()),
            duration_ms: millis(now.saturating_duration_since(record.started)),
            queue_ms: millis(record.waits(Wait::Queue)),
            overhead_ms: record.overhead().map(millis),
            deadline_left_ms: record.deadline.map(|at| left(at, settled)),
            stream: record.streamed,
            bytes_in: record.bytes_in,
            bytes_out: record.bytes_out,
            tokens_estimated: record.estimated,
            tokens_charged: record.used.map(|(_, charged)| charged),
            tokens_input: usage.map(|usage| usage.input),
            tokens_cached: usage.map(|usage| usage.cached),
            tokens_output: usage.map(|usage| usage.output),
            sdk_retries: record.sdk_retries,
            retries_stopped: record.stopped.map(Label::name),
            attempt_count: record.attempts.count(),
            attempts: record
                .attempts
                .iter()
                .map(|attempt| AttemptEntry::of(attempt, record.started, account))
                .collect(),
        }
    }

    fn json(&self) -> String {
        // Serialization fails only for non-string map keys or a failing Serialize; there are
        // neither.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// `12:03:04.567 200 success batch chat_completions gpt-5 1.204 s (waited 0.310 s) 3 attempts:
    /// 2× overloaded success …`
    fn text(&self) -> String {
        let time = self.timestamp.to_string();
        let clock = time.get(11..23).unwrap_or(&time);
        let status = self.status.map_or_else(|| "---".to_owned(), |status| status.to_string());
        let mut line = format!(
            "{clock} {status} {} {} {} {} {:.3} s",
            self.outcome,
            self.caller,
            self.endpoint,
            self.model.unwrap_or("-").escape_debug(),
            self.duration_ms / 1e3
        );
        if let Some(upstream) = &self.upstream {
            append(&mut line, format_args!(" at {upstream}"));
        }
        if self.queue_ms >= 1.0 {
            append(&mut line, format_args!(" (waited {:.3} s)", self.queue_ms / 1e3));
        }
        if self.attempt_count > 1 {
            append(&mut line, format_args!(" {} attempts:", self.attempt_count));
            for alike in self.attempts.chunk_by(|one, two| one.outcome == two.outcome) {
                let outcome = alike.first().map_or("", |attempt| attempt.outcome);
                match alike.len() {
                    1 => append(&mut line, format_args!(" {outcome}")),
                    times => append(&mut line, format_args!(" {times}× {outcome}")),
                }
            }
        }
        if let Some(why) = self.retries_stopped {
            append(&mut line, format_args!(" (no further try: {why})"));
        }
        if let Some(class) = self.error_class {
            append(&mut line, format_args!(" [{class}]"));
        }
        if let Some(message) = self.error_message.filter(|message| !message.is_empty()) {
            append(&mut line, format_args!(" {message}"));
        }
        append(&mut line, format_args!(" {}", self.request_id));
        line
    }
}

impl<'a> AttemptEntry<'a> {
    fn of(attempt: &'a Attempt, started: Instant, account: &Account) -> Self {
        Self {
            outcome: attempt.outcome(),
            status: attempt.status.map(|status| status.as_u16()),
            delay_ms: millis(attempt.delay),
            start_ms: millis(attempt.started.saturating_duration_since(started)),
            time_to_head_ms: attempt.time_to_head().map(millis),
            upstream_request_id: attempt.upstream_id.as_ref().and_then(|id| id.to_str().ok()),
            upstream: upstream_name(attempt.upstream, account),
            probe: attempt.probe,
        }
    }
}

fn upstream_name(id: UpstreamId, account: &Account) -> Option<String> {
    account.upstream_name(id).map(|name| name.to_string())
}

fn append(line: &mut String, text: std::fmt::Arguments<'_>) {
    let written = line.write_fmt(text);
    debug_assert!(written.is_ok(), "a String takes everything");
}

/// Milliseconds with three decimals, because Weir's overhead is in microseconds.
fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// Milliseconds until the deadline; negative after it.
fn left(deadline: Instant, now: Instant) -> f64 {
    millis(deadline.saturating_duration_since(now)) - millis(now.saturating_duration_since(deadline))
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}
