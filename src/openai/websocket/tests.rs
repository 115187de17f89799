//! Messages of both sides of a session.

use proptest::prelude::*;

use super::*;

#[test]
fn a_create_says_its_lane_its_parent_and_its_price() {
    let event = client_event(
        br#"{"type":"response.create","stream_id":"main","model":"gpt-5.6","store":false,"previous_response_id":"resp_1",
            "input":[{"type":"message","role":"user","content":[{"type":"input_text","text":"12345678"}]}],"tools":[]}"#,
    );
    assert_eq!((event.kind, event.stream_id.as_deref()), (ClientKind::Create, Some("main")));
    assert_eq!((event.previous_response_id.as_deref(), event.warms_up), (Some("resp_1"), false));
    let peek = event.peek.unwrap();
    assert_eq!((peek.model.as_deref(), peek.text_chars, peek.store), (Some("gpt-5.6"), 8, Some(false)));
    let warm = client_event(br#"{"generate":false,"previous_response_id":null,"type":"response.create"}"#);
    assert_eq!((warm.kind, warm.warms_up, warm.previous_response_id), (ClientKind::Create, true, None));
    let realtime = client_event(
        br#"{"event_id":"e1","type":"response.create","response":{"instructions":"1234","max_output_tokens":9}}"#,
    );
    assert_eq!(realtime.event_id.as_deref(), Some("e1"));
    assert_eq!(realtime.peek.unwrap().text_chars, 4);
}

#[test]
fn a_create_hides_in_no_spelling() {
    for message in [
        r#"{"type":"response.cancel","type":"response.create"}"#,
        r#" { "input" : "x" , "ty\u0070e" : "response.creat\u0065" } "#,
        r#"{"response":5,"type":"response.create"}"#,
    ] {
        assert_eq!(client_event(message.as_bytes()).kind, ClientKind::Create, "{message}");
    }
    for (message, kind) in [
        (r#"{"type":"response.steer","previous_response_id":"r","input":"x"}"#, ClientKind::Other),
        (r#"{"type":"response.cancel"}"#, ClientKind::Cancel),
        (r#"{"type":"input_audio_buffer.append","audio":"AAAA"}"#, ClientKind::Audio),
        (r#"{"type":"session.update","session":{"type":"response.create"}}"#, ClientKind::Other),
        (r#"{"type":["response.create"]}"#, ClientKind::Other),
        (r#"[{"type":"response.create"}]"#, ClientKind::Other),
        (r#"{"type":"response.create""#, ClientKind::Other),
        (r#"{"type":"response.create"}{}"#, ClientKind::Other),
        ("", ClientKind::Other),
    ] {
        assert_eq!(client_event(message.as_bytes()).kind, kind, "{message}");
    }
}

#[test]
fn events_say_whose_they_are_and_what_they_end() {
    for (event, kind, stream, response) in [
        (
            r#"{"type":"response.created","response":{"id":"resp_1","status":"in_progress"},"stream_id":"a"}"#,
            ServerKind::Created,
            Some("a"),
            Some("resp_1"),
        ),
        (
            r#"{"type":"response.output_text.delta","delta":"x","stream_id":"a"}"#,
            ServerKind::Progress,
            Some("a"),
            None,
        ),
        (
            r#"{"type":"response.completed","response":{"id":"r","output":[{"status":"failed"}],"status":"completed"}}"#,
            ServerKind::Ended,
            None,
            Some("r"),
        ),
        (r#"{"type":"response.incomplete","response":{"id":"r"}}"#, ServerKind::Ended, None, Some("r")),
        (
            r#"{"type":"response.failed","response":{"id":"r","status":"failed"}}"#,
            ServerKind::Failed,
            None,
            Some("r"),
        ),
        (
            r#"{"type":"response.done","response":{"id":"r","status":"cancelled"}}"#,
            ServerKind::Ended,
            None,
            Some("r"),
        ),
        (
            r#"{"response":{"id":"r","status":"failed"},"type":"response.done"}"#,
            ServerKind::Failed,
            None,
            Some("r"),
        ),
        (r#"{"type":"response.steer.accepted","stream_id":"a"}"#, ServerKind::Other, Some("a"), None),
        (
            r#"{"type":"error","status":400,"stream_id":"b","error":{"code":"x"}}"#,
            ServerKind::Error,
            Some("b"),
            None,
        ),
        (r#"{"type":"session.created"}"#, ServerKind::Other, None, None),
        ("not json", ServerKind::Other, None, None),
    ] {
        let read = server_event(event.as_bytes(), b"");
        assert_eq!(
            (read.kind, read.stream_id.as_deref(), read.response_id.as_deref()),
            (kind, stream, response),
            "{event}"
        );
    }
    let about = server_event(br#"{"type":"error","error":{"code":"x","event_id":"e1"}}"#, b"");
    assert_eq!(about.about.as_deref(), Some("e1"));
}

#[test]
fn of_a_long_event_beginning_and_end_tell() {
    let head = br#"{"type":"response.completed","response":{"id":"r","output":[{"text":"aaaa"#;
    let tail = br#"\"stream_id\":\"no\" aaa"}]},"usage":{},"stream_id" : "yes","sequence_number":9}"#;
    let event = server_event(head, tail);
    assert_eq!((event.kind, event.stream_id.as_deref()), (ServerKind::Ended, Some("yes")));
}

#[test]
fn limits_and_headers_are_read_from_events() {
    let limits = rate_limits(
        br#"{"type":"rate_limits.updated","event_id":"e","rate_limits":[{"name":"requests","limit":1000,"remaining":999,
            "reset_seconds":60},{"name":"tokens","limit":50000,"remaining":49950,"reset_seconds":0.5},{"name":"other","limit":1,"remaining":1}]}"#,
    );
    let requests = limits.of(Unit::Requests, Part::Whole).next().unwrap();
    assert_eq!(
        (requests.limit, requests.remaining, requests.reset),
        (Some(1000), Some(999), Some(Duration::from_mins(1)))
    );
    let tokens = limits.of(Unit::Tokens, Part::Whole).next().unwrap();
    assert_eq!((tokens.reset, limits.len()), (Some(Duration::from_millis(500)), 2));
    assert!(rate_limits(br#"{"rate_limits":[{"name":"tokens","limit":0,"remaining":0}]}"#).is_empty());
    for event in [
        r#"{"type":"error","status":429,"error":{"code":"rate_limit_exceeded","headers":{"Retry-After":"3","x-n":5,"b d":"x"}}}"#,
        r#"{"type":"error","status":429,"error":{"code":"rate_limit_exceeded"},"headers":{"retry-after":"3","x-n":5}}"#,
    ] {
        let headers = error_headers(event.as_bytes());
        assert_eq!(
            (headers.len(), headers["retry-after"].as_bytes(), headers["x-n"].as_bytes()),
            (2, &b"3"[..], &b"5"[..])
        );
    }
    let done = br#"{"type":"response.done","response":{"id":"r","status":"failed","status_details":{"error":{"code":"server_error"}}}}"#;
    assert_eq!(error_body(done), br#"{"error":{"code":"server_error"}}"#);
}

#[test]
fn names_of_lanes_are_as_the_guide_says() {
    for (id, valid) in [("main", true), ("a.b-C_9", true), ("", false), ("a b", false), ("é", false)] {
        assert_eq!(is_stream_id(id), valid, "{id}");
    }
    assert!(is_stream_id(&"a".repeat(256)) && !is_stream_id(&"a".repeat(257)));
}

proptest! {
    #[test]
    fn arbitrary_bytes_do_no_harm(bytes in any::<Vec<u8>>(), cut in 0_usize..64) {
        for prefix in [&b""[..], b"{\"type\":\"error\",\"error\":{\"headers\":{", b"{\"rate_limits\":[{"] {
            let json = [prefix, &bytes].concat();
            client_event(&json);
            server_event(&json, &json[json.len().min(cut)..]);
            error_headers(&json);
            rate_limits(&json);
            error_body(&json);
        }
    }
}
