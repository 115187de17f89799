//! The spans that the real binary sends to an OTLP/HTTP endpoint, and the trace headers that the
//! upstream receives.

#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a real process is polled, by a real clock and within bounds"
)]

mod collector;
mod upstream;
mod weir;

use std::collections::HashMap;
use std::time::Duration;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, Status};

use collector::Collector;
use upstream::{Answer, Upstream};
use weir::Weir;

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
const KEY: &str = "sk-not-for-any-log-0123456789";
const BODY: &str = r#"{"model":"gpt-5-mini","messages":[{"role":"user","content":"a secret prompt"}]}"#;

/// The export interval in these tests.
const INTERVAL: &str = "100ms";

fn attributes(span: &Span) -> HashMap<&str, Value> {
    let value = |attribute: &'_ opentelemetry_proto::tonic::common::v1::KeyValue| {
        attribute.value.clone().and_then(|value| value.value).expect("attributes have values")
    };
    span.attributes.iter().map(|attribute| (attribute.key.as_str(), value(attribute))).collect()
}

fn text(value: &str) -> Value {
    Value::StringValue(value.to_owned())
}

fn hex(id: &[u8]) -> String {
    use std::fmt::Write as _;
    id.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes everything");
        text
    })
}

#[test]
fn a_retried_request_is_one_span_with_a_child_for_each_attempt() {
    let collector = Collector::start(200);
    let upstream = Upstream::start(&[Answer::ServerError, Answer::Chat]);
    let weir = Weir::start(&upstream, Some(&collector), INTERVAL);
    let status = weir.ask(&[("authorization", &format!("Bearer {KEY}")), ("traceparent", PARENT)], BODY);
    assert_eq!(status, 200);

    let spans = collector.spans(3, Duration::from_secs(20));
    let (request, attempts): (Vec<Span>, Vec<Span>) =
        spans.into_iter().partition(|span| span.kind() == SpanKind::Server);
    let [request] = request.as_slice() else { panic!("one span of the request: {request:?}") };
    assert_eq!(attempts.len(), 2);
    assert_eq!(hex(&request.trace_id), "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(hex(&request.parent_span_id), "b7ad6b7169203331");
    assert_eq!(request.name, "chat_completions");
    let told = attributes(request);
    assert_eq!(told["weir.attempts"], Value::IntValue(2));
    assert_eq!(told["weir.outcome"], text("success"));
    assert_eq!(told["gen_ai.request.model"], text("gpt-5-mini"));
    assert_eq!(told["http.response.status_code"], Value::IntValue(200));
    assert!(!told.contains_key("error.type"));

    let seen = upstream.seen("traceparent");
    for (attempt, seen) in attempts.iter().zip(&seen) {
        assert_eq!(attempt.kind(), SpanKind::Client);
        assert_eq!(attempt.trace_id, request.trace_id);
        assert_eq!(attempt.parent_span_id, request.span_id);
        assert!(attempt.start_time_unix_nano >= request.start_time_unix_nano);
        assert!(attempt.end_time_unix_nano <= request.end_time_unix_nano);
        let expected = format!("00-0af7651916cd43dd8448eb211c80319c-{}-01", hex(&attempt.span_id));
        assert_eq!(seen.as_deref(), Some(expected.as_str()), "the upstream's parent is the attempt");
        let told = attributes(attempt);
        assert_eq!(told["gen_ai.operation.name"], text("chat"));
        assert_eq!(told["gen_ai.provider.name"], text("openai"));
        assert_eq!(told["openai.api.type"], text("chat_completions"));
        assert_eq!(told["server.address"], text("127.0.0.1"));
        assert_eq!(told["server.port"], Value::IntValue(i64::from(upstream.address().port())));
    }
    let (failed, succeeded) = (attributes(&attempts[0]), attributes(&attempts[1]));
    assert_eq!(failed["error.type"], text("internal_server_error"));
    assert_eq!(failed["http.response.status_code"], Value::IntValue(500));
    assert!(!failed.contains_key("gen_ai.usage.input_tokens"));
    assert_eq!(attempts[0].status.as_ref().map(Status::code), Some(StatusCode::Error));
    assert_eq!(succeeded["http.request.resend_count"], Value::IntValue(1));
    assert_eq!(succeeded["gen_ai.usage.input_tokens"], Value::IntValue(11));
    assert_eq!(succeeded["gen_ai.usage.output_tokens"], Value::IntValue(7));
    assert_eq!(attempts[1].name, "chat gpt-5-mini");
    assert_ne!(attempts[1].status.as_ref().map(Status::code), Some(StatusCode::Error));

    assert_eq!(collector.service().as_deref(), Some("weir-under-test"));
    assert_eq!(collector.authorization().as_deref(), Some("Bearer collector-token"));
    let raw = collector.raw();
    for secret in [KEY, "a secret prompt"] {
        let found = raw.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!found, "{secret} is in the spans");
    }
    weir.await_metric("weir_trace_spans_total{result=\"sent\"} 3");
}

#[test]
fn a_turn_of_a_session_is_a_span_of_its_own_in_the_sessions_trace() {
    let collector = Collector::start(200);
    let upstream = Upstream::start(&[Answer::Session]);
    let weir = Weir::start(&upstream, Some(&collector), INTERVAL);
    let create = r#"{"type":"response.create","model":"gpt-5-mini","input":"a secret prompt"}"#;
    weir.say(&[("authorization", &format!("Bearer {KEY}")), ("traceparent", PARENT)], create);
    // The handshake and the turn, each with one attempt.
    let spans = collector.spans(4, Duration::from_secs(20));
    assert!(spans.iter().all(|span| hex(&span.trace_id) == "0af7651916cd43dd8448eb211c80319c"), "{spans:?}");
    let of_the_turn = |kind: SpanKind| {
        let is_turn = |span: &&Span| {
            span.kind() == kind && attributes(span).get("gen_ai.request.model") == Some(&text("gpt-5-mini"))
        };
        let found: Vec<_> = spans.iter().filter(is_turn).collect();
        let [span] = found.as_slice() else { panic!("one turn: {spans:?}") };
        (*span).clone()
    };
    let (turn, attempt) = (of_the_turn(SpanKind::Server), of_the_turn(SpanKind::Client));
    assert_eq!((turn.name.as_str(), hex(&turn.parent_span_id).as_str()), ("responses", "b7ad6b7169203331"));
    assert_eq!(attempt.parent_span_id, turn.span_id);
    let told = attributes(&turn);
    assert_eq!(told["weir.outcome"], text("success"));
    assert_eq!(told["weir.attempts"], Value::IntValue(1));
    let told = attributes(&attempt);
    assert_eq!(told["gen_ai.usage.input_tokens"], Value::IntValue(11));
    assert_eq!(told["gen_ai.usage.output_tokens"], Value::IntValue(7));
    let raw = collector.raw();
    for secret in [KEY, "a secret prompt"] {
        assert!(!raw.windows(secret.len()).any(|window| window == secret.as_bytes()), "{secret}");
    }
}

#[test]
fn unsampled_requests_pass_unchanged() {
    let upstream = Upstream::start(&[Answer::Chat, Answer::Chat]);
    let collector = Collector::start(200);
    let weir = Weir::start(&upstream, Some(&collector), INTERVAL);
    assert_eq!(weir.ask(&[("traceparent", UNSAMPLED), ("tracestate", "a=b")], BODY), 200);
    drop(weir);
    let silent = Weir::start(&upstream, None, INTERVAL);
    assert_eq!(silent.ask(&[("traceparent", PARENT), ("tracestate", "a=b")], BODY), 200);
    drop(silent);
    let seen = upstream.seen("traceparent");
    assert_eq!(seen, [Some(UNSAMPLED.to_owned()), Some(PARENT.to_owned())]);
    assert_eq!(upstream.seen("tracestate"), [Some("a=b".to_owned()), Some("a=b".to_owned())]);
    assert!(collector.raw().is_empty(), "an unsampled request left a span");
}

#[test]
fn a_trace_begins_where_the_caller_has_none_and_the_last_spans_go_out_at_the_end() {
    let collector = Collector::start(200);
    let upstream = Upstream::start(&[Answer::Chat]);
    let weir = Weir::start(&upstream, Some(&collector), "10m");
    assert_eq!(weir.ask(&[], BODY), 200);
    let seen = upstream.seen("traceparent");
    drop(weir);
    let spans = collector.spans(2, Duration::from_secs(20));
    let request = spans.iter().find(|span| span.kind() == SpanKind::Server).expect("a span of the request");
    let attempt = spans.iter().find(|span| span.kind() == SpanKind::Client).expect("a span of the attempt");
    assert!(request.parent_span_id.is_empty());
    assert_eq!(seen, [Some(format!("00-{}-{}-01", hex(&request.trace_id), hex(&attempt.span_id)))]);
}

#[test]
fn a_collector_that_is_gone_costs_spans_and_no_request() {
    let collector = Collector::start(400);
    let upstream = Upstream::start(&[Answer::Chat, Answer::Chat]);
    let weir = Weir::start(&upstream, Some(&collector), INTERVAL);
    assert_eq!(weir.ask(&[], BODY), 200);
    weir.await_metric("weir_trace_spans_total{result=\"failed\"} 2");
    assert_eq!(weir.ask(&[], BODY), 200);
}
