//! Converts Weir's spans to those of the SDK.

use opentelemetry::trace::{self, SpanContext, SpanKind, Status, TraceFlags, TraceState};
use opentelemetry::{Array, InstrumentationScope, KeyValue, StringValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use crate::telemetry::span::{Side, Span, Value};

/// The resource that identifies this service.
pub(super) fn resource(service_name: String) -> Resource {
    Resource::builder_empty()
        .with_service_name(service_name)
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build()
}

pub(super) fn span(span: Span) -> SpanData {
    let id = |id: u64| trace::SpanId::from_bytes(id.to_be_bytes());
    let context = SpanContext::new(
        trace::TraceId::from_bytes(span.trace.number().to_be_bytes()),
        id(span.id.number()),
        TraceFlags::SAMPLED,
        false,
        TraceState::NONE,
    );
    SpanData {
        span_context: context,
        parent_span_id: span.parent.map_or(trace::SpanId::INVALID, |parent| id(parent.number())),
        parent_span_is_remote: span.side == Side::Server && span.parent.is_some(),
        span_kind: match span.side {
            Side::Server => SpanKind::Server,
            Side::Client => SpanKind::Client,
        },
        name: span.name,
        start_time: span.start,
        end_time: span.end,
        attributes: span.attributes.into_iter().map(attribute).collect(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: if span.failed { Status::error("") } else { Status::Unset },
        instrumentation_scope: InstrumentationScope::builder("weir")
            .with_version(env!("CARGO_PKG_VERSION"))
            .build(),
    }
}

fn attribute((key, value): (&'static str, Value)) -> KeyValue {
    match value {
        Value::Text(text) => KeyValue::new(key, text),
        Value::Texts(texts) => {
            let texts = texts.into_iter().map(StringValue::from).collect();
            KeyValue::new(key, opentelemetry::Value::Array(Array::String(texts)))
        }
        Value::Count(count) => KeyValue::new(key, count),
        Value::Seconds(seconds) => KeyValue::new(key, seconds),
        Value::Flag(flag) => KeyValue::new(key, flag),
    }
}
