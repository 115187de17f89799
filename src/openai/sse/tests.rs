//! Real streams, split into chunks in any way.

use proptest::prelude::*;

use super::line::{HEAD, TAIL};
use super::*;

/// An event with its data as text, for comparison.
fn tell(event: &Event<'_>) -> String {
    match event {
        Event::Error { data } | Event::Failed { data, .. } => format!("{event:?} {}", data.escape_ascii()),
        Event::Done
        | Event::Preamble
        | Event::Output
        | Event::Usage(_)
        | Event::Completed(_)
        | Event::Incomplete(_) => format!("{event:?}"),
    }
}

/// All events of a stream in chunks of these sizes, and one for the rest.
fn told(stream: &[u8], chunks: impl IntoIterator<Item = usize>) -> Vec<String> {
    let mut scanner = SseScanner::default();
    let mut events = Vec::new();
    let mut rest = stream;
    for size in chunks {
        let (chunk, after) = rest.split_at(size.min(rest.len()));
        scanner.feed(chunk, &mut |event| events.push(tell(&event)));
        rest = after;
    }
    scanner.feed(rest, &mut |event| events.push(tell(&event)));
    events
}

fn events(stream: &str) -> Vec<String> {
    told(stream.as_bytes(), [])
}

fn usage(input: u64, output: u64) -> Usage {
    Usage { input, output, cached_input: 0, total: input + output }
}

#[test]
fn tells_a_chat_stream() {
    let stream = concat!(
        "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}],\"usage\":null}\n\n",
        ": keep-alive\n\n",
        "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\\\"usage\\\":{\"}}],\"usage\":null}\n\n",
        "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"error\"}}],\"usage\":null}\n\n",
        "data: {\"id\":\"c\",\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":3,\"total_tokens\":12}}\n\n",
        "data: [DONE]\n\n",
    );
    let expected = [Event::Preamble, Event::Output, Event::Output, Event::Usage(usage(9, 3)), Event::Done]
        .map(|event| tell(&event));
    assert_eq!(events(stream), expected);
}

#[test]
fn tells_a_responses_stream() {
    let stream = "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"error\":null,\"usage\":null}}\n\n\
        event: response.in_progress\ndata: {\"type\":\"response.in_progress\"}\n\n\
        event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"hi\"}\n\n\
        event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"error\":null,\"usage\":{\"input_tokens\":7,\"output_tokens\":2}}}\n\n";
    let expected = [Event::Preamble, Event::Preamble, Event::Output, Event::Completed(Some(usage(7, 2)))]
        .map(|event| tell(&event));
    assert_eq!(events(stream), expected);
    // The same without event names: the type in the data suffices.
    let unnamed: Vec<&str> = stream.split_inclusive('\n').filter(|line| !line.starts_with("event")).collect();
    assert_eq!(events(&unnamed.concat()), expected);
}

#[test]
fn tells_errors_of_every_form() {
    for data in [
        r#"{"error":{"message":"m"}}"#,
        r#"{"id":"x","choices":[{"delta":{}}],"error":{"code":502}}"#,
        r#"{"type":"error","code":"E","message":"flat"}"#,
        r#"{ "type" : "error" }"#,
        r#"{"error":"text"}"#,
        r#"{"object":"error","message":"The engine died","type":"InternalServerError","code":500}"#,
        r#"[{"error":{"code":503,"status":"UNAVAILABLE"}}]"#,
        r#"{"id":"x","choices":null,"base_resp":{"status_code":1002,"status_msg":"rate limit"}}"#,
        r#"{"base_resp":{"status_msg":"insufficient balance","status_code":"1008"}}"#,
        r#"{"error_code":18,"error_msg":"Open api qps request limit reached"}"#,
        r#"{"code":1302,"msg":"busy","success":false}"#,
        r#"{"detail":"Internal server error"}"#,
        r#"{"choices":[],"error":["busy"]}"#,
    ] {
        let expected = tell(&Event::Error { data: data.as_bytes() });
        assert_eq!(events(&format!("data: {data}\n\n")), std::slice::from_ref(&expected), "{data}");
        assert_eq!(events(&format!("event: error\ndata: {data}\n\n")), [expected], "{data}");
    }
    assert_eq!(events("data: {\"error\":null,\"choices\":[{\"error\":{},\"text\":\"a\"}]}\n\n"), ["Output"]);
    assert_eq!(events("data: {\"choices\":[{\"text\":\"a\"}],\"error\":\"\"}\n\n"), ["Output"]);
    assert_eq!(events("data: {\"message\":{\"content\":\"a\"},\"model\":\"m\"}\n\n"), ["Output"]);
    assert_eq!(events("data: {\"object\":\"chunk\",\"name\":\"error\"}\n\n"), ["Output"]);
    let whole = r#"{"choices":[{"delta":{"content":"a"}}],"base_resp":{"status_code":0,"status_msg":""}}"#;
    assert_eq!(events(&format!("data: {whole}\n\n")), ["Output"]);
    let failed = br#"{"type":"response.failed","response":{"error":{"code":"server_error"},"usage":{"input_tokens":1}}}"#;
    let expected = Event::Failed { data: failed, usage: Some(usage(1, 0)) };
    assert_eq!(
        told(&[b"event: response.failed\ndata: ", &failed[..], b"\n\n"].concat(), []),
        [tell(&expected)]
    );
}

#[test]
fn tells_the_end_of_other_streams() {
    for (stream, expected) in [
        (
            "event: transcript.text.done\ndata: {\"type\":\"transcript.text.done\",\"usage\":{\"type\":\"tokens\",\"input_tokens\":14,\"output_tokens\":45}}\n\n",
            Event::Completed(Some(usage(14, 45))),
        ),
        ("data: {\"type\":\"image_generation.completed\",\"b64_json\":\"\"}\n\n", Event::Completed(None)),
        ("event: done\ndata: [DONE]\n\n", Event::Done),
        ("event: response.incomplete\ndata: {}\n\n", Event::Incomplete(None)),
    ] {
        assert_eq!(events(stream), [tell(&expected)], "{stream}");
    }
}

#[test]
fn an_event_of_many_lines_is_held_in_bounded_memory() {
    let mut scanner = SseScanner::default();
    for _ in 0..50_000 {
        scanner.feed(b"data: a line of many\n", &mut |event| panic!("{event:?}"));
        assert!(scanner.held() <= 4 * (HEAD + 2 * TAIL), "{}", scanner.held());
    }
    let mut ended = 0;
    scanner.feed(b"\n", &mut |_| ended += 1);
    assert_eq!(ended, 1);
}

#[test]
fn a_line_may_end_in_two_bytes() {
    let stream = "event: error\r\ndata: {\"code\":\"E\"}\r\n\r\ndata: [DONE]\r\n\r\n";
    let expected = [tell(&Event::Error { data: br#"{"code":"E"}"# }), tell(&Event::Done)];
    assert_eq!(events(stream), expected);
    assert_eq!(told(stream.as_bytes(), std::iter::repeat_n(1, stream.len())), expected);
}

#[test]
fn a_sign_of_life_is_no_output() {
    assert_eq!(events("event: ping\ndata: {\"type\":\"ping\"}\n\n"), ["Preamble"]);
    assert_eq!(events("data: {\"type\":\"keepalive\",\"sequence_number\":3}\n\n"), ["Preamble"]);
    assert!(events(":\n\n").is_empty());
}

#[test]
fn what_an_event_says_is_not_shown() {
    let secret = br#"{"error":{"message":"secret"}}"#;
    assert_eq!(format!("{:?}", Event::Error { data: secret }), "Error { bytes: 30 }");
    let mut scanner = SseScanner::default();
    scanner.feed(b"data: secret", &mut |_| {});
    assert!(!format!("{scanner:?}").contains("secret"));
}

#[test]
fn follows_the_line_rules_of_the_standard() {
    assert_eq!(events("\u{feff}data:[DONE]\r\n\r\n"), ["Done"]);
    assert_eq!(events("data: [DONE]\r\r"), ["Done"]);
    assert_eq!(events("data\n\n"), ["Output"]);
    assert_eq!(events("event: error\n\n"), Vec::<String>::new());
    assert_eq!(events("id: 1\nretry: 5\nevents: x\n\n"), Vec::<String>::new());
    // Two data lines are one value; an event without its blank line is ignored.
    assert_eq!(events("data: {\"error\":\ndata: {\"a\":1}}\n\ndata: [DONE]\n").len(), 1);
    assert!(events("data: {\"error\":\ndata: {\"a\":1}}\n\n")[0].starts_with("Error"));
}

#[test]
fn knows_where_an_event_may_be_put() {
    let mut scanner = SseScanner::default();
    assert!(scanner.is_at_boundary());
    for (chunk, boundary) in
        [("da", false), ("ta: x\n", false), ("\n", true), ("event: a\n", false), ("\n", true), (":", false)]
    {
        scanner.feed(chunk.as_bytes(), &mut |_| {});
        assert_eq!(scanner.is_at_boundary(), boundary, "{chunk:?}");
    }
}

#[test]
fn a_long_event_keeps_its_ends_in_bounded_memory() {
    let text = "x".repeat(3_000_000);
    let stream = format!(
        "event: response.completed\ndata: {{\"type\":\"response.completed\",\"text\":\"{text}\",\"usage\":{{\"input_tokens\":7,\"output_tokens\":2}}}}\n\n"
    );
    let expected = [tell(&Event::Completed(Some(usage(7, 2))))];
    for size in [1013, TAIL + 7, 100_000] {
        let mut scanner = SseScanner::default();
        let mut told_by_pieces = Vec::new();
        for chunk in stream.as_bytes().chunks(size) {
            scanner.feed(chunk, &mut |event| told_by_pieces.push(tell(&event)));
            assert!(scanner.held() <= 4 * (HEAD + 2 * TAIL), "{}", scanner.held());
        }
        assert_eq!(told_by_pieces, expected);
        assert!(scanner.held() <= 3 * HEAD);
    }
    assert_eq!(told(stream.as_bytes(), []), expected);
}

fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        Just("data: [DONE]".to_owned()),
        Just("event: error".to_owned()),
        Just("event: response.completed".to_owned()),
        Just(": comment".to_owned()),
        Just("data: {\"error\":{\"message\":\"m\"}}".to_owned()),
        Just("data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1}}".to_owned()),
        "[ -~]{0,30}",
        (HEAD - 3..HEAD + 3).prop_map(|size| format!("data: {{\"a\":\"{}\"}}", "y".repeat(size))),
        (HEAD + TAIL - 60..HEAD + TAIL + 60).prop_map(|size| format!(
            "data: {{\"a\":\"{}\",\"usage\":{{\"prompt_tokens\":2}}}}",
            "z".repeat(size)
        )),
    ]
}

proptest! {
    #[test]
    fn chunks_make_no_difference(
        lines in prop::collection::vec((line(), prop::sample::select(vec!["\n", "\r\n", "\r", "\n\n", "\r\n\r\n"])), 0..12),
        sizes in prop::collection::vec(prop_oneof![0_usize..4, 1_usize..9000], 0..60),
    ) {
        let stream = lines.iter().flat_map(|(line, end)| [line.as_str(), end]).collect::<String>();
        let whole = told(stream.as_bytes(), []);
        prop_assert_eq!(&told(stream.as_bytes(), sizes), &whole);
        if stream.len() < 2000 {
            prop_assert_eq!(&told(stream.as_bytes(), std::iter::repeat_n(1, stream.len())), &whole);
        }
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(bytes in any::<Vec<u8>>(), sizes in prop::collection::vec(0_usize..50, 0..20)) {
        prop_assert_eq!(told(&bytes, sizes), told(&bytes, []));
    }
}
