//! A request's spans, exported when it has ended: one for the request and one for each attempt, by
//! OpenTelemetry's conventions for generative AI
//! (<https://github.com/open-telemetry/semantic-conventions-genai>, `docs/gen-ai/openai.md`).

use std::borrow::Cow;
use std::time::SystemTime;

use super::Account;
use super::attempts::Attempt;
use super::record::{Record, Wait};
use crate::clock::{self, Instant};
use crate::metrics::Label;
use crate::openai::Endpoint;
use crate::telemetry::{Side, Span, SpanId, Value};

type Attributes = Vec<(&'static str, Value)>;

/// Exports the record's spans, if export is enabled and this request is sampled.
pub(super) fn send(record: &Record, account: &Account, now: Instant) {
    let Some(export) = &account.settings.spans else { return };
    let Some(own) = record.trace.and_then(|trace| trace.span) else { return };
    let told = Told { record, account, now, wall: clock::wall() };
    let mut spans = Vec::with_capacity(1 + record.attempts.iter().count());
    spans.extend(told.request(own));
    let count = record.attempts.count();
    for (place, attempt) in (1..).zip(record.attempts.iter()) {
        spans.extend(told.attempt(attempt, place, record.attempts.number(place), own, count));
    }
    export.send(spans);
}

struct Told<'a> {
    record: &'a Record,
    account: &'a Account,
    now: Instant,
    wall: SystemTime,
}

impl Told<'_> {
    fn request(&self, own: SpanId) -> Option<Span> {
        let record = self.record;
        let trace = record.trace?;
        let mut attributes: Attributes = vec![
            ("weir.request_id", record.id.to_string().into()),
            ("weir.caller", self.account.caller_name(record.caller).as_ref().to_owned().into()),
            ("weir.endpoint", record.endpoint.as_str().into()),
            ("weir.outcome", record.outcome().name().into()),
            ("weir.attempts", record.attempts.count().into()),
            ("weir.queue_seconds", Value::Seconds(record.waits(Wait::Queue).as_secs_f64())),
        ];
        self.of_model(&mut attributes);
        if let Some(status) = record.status {
            attributes.push(("http.response.status_code", status.as_u16().into()));
        }
        if let Some(estimated) = record.estimated {
            attributes.push(("weir.tokens_estimated", estimated.into()));
        }
        if let Some(overhead) = record.overhead() {
            attributes.push(("weir.overhead_seconds", Value::Seconds(overhead.as_secs_f64())));
        }
        if let Some(class) = record.class {
            attributes.push(("error.type", class.as_str().into()));
        }
        Some(Span {
            trace: trace.trace,
            id: own,
            parent: trace.parent,
            side: Side::Server,
            name: record.endpoint.as_str().into(),
            start: self.at(record.started),
            end: self.wall,
            attributes,
            // A server span is not an error if the client's request was wrong.
            failed: record.class.is_some() && record.status.is_none_or(|status| status.is_server_error()),
        })
    }

    fn attempt(&self, attempt: &Attempt, place: u32, number: u32, own: SpanId, count: u32) -> Option<Span> {
        let record = self.record;
        let trace = record.trace?;
        let (host, port) = &self.account.settings.upstream;
        let operation = operation(record.endpoint);
        let mut attributes: Attributes = vec![
            ("gen_ai.operation.name", operation.into()),
            ("gen_ai.provider.name", "openai".into()),
            ("server.address", host.to_string().into()),
            ("server.port", (*port).into()),
        ];
        self.of_model(&mut attributes);
        if matches!(record.endpoint, Endpoint::ChatCompletions | Endpoint::Responses) {
            attributes.push(("openai.api.type", record.endpoint.as_str().into()));
        }
        if let Some(status) = attempt.status {
            attributes.push(("http.response.status_code", status.as_u16().into()));
        }
        if let Some(id) = attempt.upstream_id.as_ref().and_then(|id| id.to_str().ok()) {
            attributes.push(("http.response.header.x-request-id", Value::Texts(vec![id.to_owned()])));
        }
        if number > 1 {
            attributes.push(("http.request.resend_count", (number - 1).into()));
            attributes.push(("weir.delay_seconds", Value::Seconds(attempt.delay.as_secs_f64())));
        }
        if attempt.probe {
            attributes.push(("weir.probe", true.into()));
        }
        if let Some(class) = attempt.class {
            attributes.push(("error.type", class.as_str().into()));
        }
        if number == count {
            self.of_answer(attempt, &mut attributes);
        }
        let name = match record.model() {
            Some(model) => Cow::Owned(format!("{operation} {}", self.account.metrics.model_label(model))),
            None => operation.into(),
        };
        Some(Span {
            trace: trace.trace,
            id: trace.attempt(place)?,
            parent: Some(own),
            side: Side::Client,
            name,
            start: self.at(attempt.started),
            end: self.at(attempt.ended.unwrap_or(self.now)),
            attributes,
            failed: attempt.class.is_some(),
        })
    }

    /// The attributes known only for the attempt whose response the caller got.
    fn of_answer(&self, attempt: &Attempt, attributes: &mut Attributes) {
        let record = self.record;
        if record.streamed {
            attributes.push(("gen_ai.request.stream", true.into()));
            if let Some(answered) = record.answered.filter(|_| attempt.class.is_none()) {
                let first = answered.saturating_duration_since(attempt.started).as_secs_f64();
                attributes.push(("gen_ai.response.time_to_first_chunk", Value::Seconds(first)));
            }
        }
        // A truncated response reports no usage; its charge is an estimate.
        if let Some((usage, _)) = record.used.filter(|_| record.class.is_none()) {
            attributes.push(("gen_ai.usage.input_tokens", usage.input.into()));
            attributes.push(("gen_ai.usage.output_tokens", usage.output.into()));
            attributes.push(("gen_ai.usage.cache_read.input_tokens", usage.cached.into()));
        }
    }

    fn of_model(&self, attributes: &mut Attributes) {
        if let Some(model) = self.record.model() {
            attributes.push(("gen_ai.request.model", model.to_owned().into()));
        }
    }

    /// The wall time of a moment before the request's end.
    fn at(&self, moment: Instant) -> SystemTime {
        let ago = self.now.saturating_duration_since(moment);
        self.wall.checked_sub(ago).unwrap_or(self.wall)
    }
}

/// The convention's name of the operation, or the endpoint's name if there is none.
fn operation(endpoint: Endpoint) -> &'static str {
    let is = |endpoints: &[Endpoint]| endpoints.contains(&endpoint);
    if is(&[Endpoint::ChatCompletions, Endpoint::Responses]) {
        "chat"
    } else if is(&[Endpoint::Completions]) {
        "text_completion"
    } else {
        endpoint.as_str()
    }
}
