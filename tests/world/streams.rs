//! Streams that start, end and fail in unusual ways.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use crate::process::Weir;
use crate::scripted::{
    CHAT, END, GOOD, STREAM, answer, chat, each_at_once, events, good, json, post, request, scripted,
};
use crate::wire;

const WORD: &str = r#"{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":"Hi"},"finish_reason":null}]}"#;
const STOP: &str = r#"{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
const ROLE: &str =
    r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#;
const FILTER: &str = r#"{"choices":[],"id":"","model":"","object":"","prompt_filter_results":[{"prompt_index":0,"content_filter_results":{}}]}"#;

fn outcomes(weir: &Weir, outcome: &str) -> f64 {
    weir.metric(&format!("weir_stream_outcomes_total{{outcome=\"{outcome}\"}}"))
}

#[test]
fn r06_a_stream_without_done_is_whole_after_every_finish_reason() {
    for mode in ["enforce", "observe", "bypass"] {
        let (upstream, _seen) = scripted(vec![events(&[WORD, STOP], END)]);
        let weir = Weir::before(upstream, &format!("mode = \"{mode}\"\n"));
        let got = chat(&weir, 60, STREAM);
        assert!(got.status() == 200 && got.message.whole, "{mode}");
        assert!(got.text().contains("\"stop\""), "{mode}");
        weir.wait_for("weir_stream_outcomes_total{outcome=\"complete\"}", 1.0);
    }
    // A clean end without one is a cut, which would be hidden without Weir. Bypass never aborts.
    for (mode, whole) in [("enforce", false), ("bypass", true)] {
        let (upstream, _seen) = scripted(vec![events(&[WORD], END)]);
        let weir = Weir::before(upstream, &format!("mode = \"{mode}\"\n"));
        assert_eq!(chat(&weir, 60, STREAM).message.whole, whole, "{mode}");
    }
}

#[test]
fn a_clean_end_is_the_end_where_no_last_event_is_known() {
    let anthropic = [
        r#"{"type":"message_start","message":{"id":"m","usage":{"input_tokens":3,"output_tokens":1}}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hi"}}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":2}}"#,
        r#"{"type":"message_stop"}"#,
    ];
    // Not a chunk size: the body is truncated there.
    let broken = "no size\r\n";
    let gemini = [r#"{"candidates":[{"content":{"parts":[{"text":"Hi"}]},"finishReason":"STOP"}]}"#];
    for (path, stream, end, is_whole) in [
        ("/v1/messages", &anthropic[..], END, true),
        ("/v1beta/models/g:streamGenerateContent", &gemini, END, true),
        // It sent an error event, and then the connection broke.
        ("/v1/messages", &anthropic, broken, true),
        ("/v1/messages", &anthropic[..2], broken, false),
        ("/v1/other/completions", &[WORD], END, false),
    ] {
        let (upstream, _seen) = scripted(vec![events(stream, end)]);
        let weir = Weir::before(upstream, "");
        post(&weir, path, "", STREAM);
        let cut = "weir_attempt_errors_total{class=\"stream_cut\"}";
        if is_whole {
            weir.wait_for("weir_stream_outcomes_total{outcome=\"complete\"}", 1.0);
            assert!(weir.metric(cut) < 0.5, "{path}");
        } else {
            weir.wait_for(cut, 1.0);
        }
    }
}

#[test]
fn r09_an_error_in_a_200_is_counted_and_repeated() {
    for (code, class) in [(429, "rate_limit_other"), (502, "bad_gateway")] {
        let body = format!(
            r#"{{"error":{{"message":"Provider returned error","code":{code},"metadata":{{"raw":"temporarily rate-limited upstream","provider_name":"X"}}}},"user_id":"u"}}"#
        );
        let (upstream, seen) = scripted(vec![json("200 OK", "", &body), good()]);
        let weir = Weir::before(upstream, "");
        let got = chat(&weir, 60, CHAT);
        assert_eq!((got.text().as_str(), got.attempts(), seen.count()), (GOOD, 2, 2));
        assert!(weir.metric(&format!("weir_attempt_errors_total{{class=\"{class}\"}}")) >= 1.0);
    }
    // The structure decides, never a word in the text.
    let talks = GOOD.replace("\"Hi\"", r#""{\"error\":{\"code\":429}}""#);
    let (upstream, seen) = scripted(vec![json("200 OK", "", &talks)]);
    let weir = Weir::before(upstream, "");
    assert_eq!((chat(&weir, 60, CHAT).text(), seen.count()), (talks, 1));
}

/// An upstream that sends the parts of its response with pauses, and leaves the connection open.
fn slow(parts: Vec<Vec<u8>>, pause: Duration) -> SocketAddr {
    wire::upstream(move |mut stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut head = wire::read_head(&mut reader).unwrap();
        wire::read_body(&mut reader, &mut head, false);
        for (number, part) in parts.iter().enumerate() {
            if number > 0 {
                std::thread::sleep(pause);
            }
            if stream.write_all(part).is_err() {
                return;
            }
        }
        // Until Weir closes.
        drop(stream.read_to_end(&mut Vec::new()));
    })
}

#[test]
fn r10_a_stream_may_be_silent_for_as_long_as_its_caller_waits() {
    let whole = events(&[WORD, STOP, "[DONE]"], END);
    let at = whole.len() / 2;
    // Without its own timeout a caller has the configured one.
    each_at_once([("x-stainless-read-timeout: 20\r\n", true), ("", false)], |(fields, is_whole)| {
        let upstream = slow(vec![whole[..at].to_vec(), whole[at..].to_vec()], Duration::from_millis(2_500));
        let weir = Weir::before(upstream, "upstream.idle_timeout = \"1s\"\n");
        let got = post(&weir, "/v1/chat/completions", fields, STREAM);
        assert_eq!(got.message.whole, is_whole, "{fields}");
    });
}

#[test]
fn r18_an_error_before_any_output_is_repeated() {
    let error =
        r#"{"error":{"message":"The server had an error","type":"server_error","param":null,"code":null}}"#;
    for preamble in [FILTER, ROLE] {
        let (upstream, seen) = scripted(vec![
            events(&[preamble, error, "[DONE]"], END),
            events(&[ROLE, WORD, STOP, "[DONE]"], END),
        ]);
        let weir = Weir::before(upstream, "");
        let got = chat(&weir, 60, STREAM);
        assert_eq!((got.attempts(), seen.count()), (2, 2));
        assert!(got.message.whole && !got.text().contains("had an error"), "{}", got.text());
    }
    // After output it is not retried.
    let (upstream, seen) = scripted(vec![events(&[WORD, error, "[DONE]"], END)]);
    let weir = Weir::before(upstream, "");
    let got = chat(&weir, 60, STREAM);
    assert!(got.text().contains("had an error") && seen.count() == 1, "{}", got.text());
}

#[test]
fn r22_a_finished_stream_is_a_success_whoever_closes_first() {
    // The client closes after the last event; the upstream has not ended the body.
    let upstream = slow(vec![events(&[WORD, STOP, "[DONE]"], "")], Duration::ZERO);
    let weir = Weir::before(upstream, "");
    for _ in 0..5 {
        let mut client = wire::connect(weir.address);
        client.write_all(&request("/v1/chat/completions", "", STREAM)).unwrap();
        let mut reader = BufReader::new(client);
        let mut line = String::new();
        while !line.contains("[DONE]") {
            line.clear();
            assert!(reader.read_line(&mut line).unwrap() > 0, "it ended before its last event");
        }
    }
    weir.wait_for("weir_stream_outcomes_total{outcome=\"complete\"}", 5.0);
    let ended = "weir_requests_total{caller=\"default\",endpoint=\"chat_completions\",outcome=";
    weir.wait_for(&format!("{ended}\"success\"}}"), 5.0);
    assert!(weir.metric(&format!("{ended}\"client_closed\"}}")) < 1.0);
    // The upstream breaks off after it.
    let broken = wire::upstream(|mut stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut head = wire::read_head(&mut reader).unwrap();
        wire::read_body(&mut reader, &mut head, false);
        drop(stream.write_all(&events(&[WORD, STOP, "[DONE]"], "")));
    });
    let weir = Weir::before(broken, "");
    assert!(chat(&weir, 60, STREAM).text().contains("[DONE]"));
    weir.wait_for("weir_stream_outcomes_total{outcome=\"complete\"}", 1.0);
    assert!(outcomes(&weir, "cut") < 1.0);
}

#[test]
fn r24_a_200_without_an_answer_is_no_success() {
    let failed = r#"{"id":"x","choices":null,"error_type":"BadRequestError","error_message":"maximum context length"}"#;
    for (body, name, bad) in [
        (CHAT, "blank lines", json("200 OK", "", "\n\n\n\n\n")),
        (CHAT, "a page", answer("200 OK", "text/html", "", "<!doctype html><title>Blocked</title>")),
        (
            STREAM,
            "a page for a stream",
            answer("200 OK", "text/html", "", "<!doctype html><title>Blocked</title>"),
        ),
        (STREAM, "[DONE] alone", events(&["[DONE]"], END)),
        (STREAM, "an error of a kind", events(&[failed], END)),
    ] {
        let (upstream, _seen) = scripted(vec![bad]);
        let weir = Weir::before(upstream, "retry.max_attempts = 1\n");
        let got = chat(&weir, 60, body);
        assert!(got.class().is_some(), "{name}");
        let series =
            "weir_requests_total{caller=\"default\",endpoint=\"chat_completions\",outcome=\"success\"}";
        assert!(weir.metric(series) < 1.0, "{name}");
    }
}

/// A body that does not match its content type is classified by its content, and retried by that.
#[test]
fn r24_what_is_called_a_stream_and_has_no_event_is_classified_by_its_body() {
    let called_a_stream = |body: &str| answer("200 OK", "text/event-stream", "", body);
    let refused =
        r#"{"error":{"message":"Rate limit reached","type":"tokens","code":"rate_limit_exceeded"}}"#;
    for (body, class) in [
        (refused, "rate_limit_tokens"),
        ("<html><body>Blocked</body></html>", "malformed_response"),
        ("", "empty_response"),
        (": ping\n\n", "stream_cut"),
    ] {
        let (upstream, seen) = scripted(vec![called_a_stream(body), events(&[WORD, STOP, "[DONE]"], END)]);
        let weir = Weir::before(upstream, "");
        let got = chat(&weir, 60, STREAM);
        assert!(got.text().contains("[DONE]"), "{class}");
        assert_eq!((got.attempts(), seen.count()), (2, 2), "{class}");
        assert!(weir.metric(&format!("weir_attempt_errors_total{{class=\"{class}\"}}")) >= 1.0, "{class}");
    }
}

/// Ten legal forms of one stream are forwarded unchanged and parsed equally.
#[test]
fn x05_a_stream_may_have_any_legal_form() {
    let usage = r#"{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2,"total_tokens":9}}"#;
    let plain = |end: &str, colon: &str| {
        [WORD, STOP, usage, "[DONE]"]
            .iter()
            .map(|data| format!("data:{colon}{data}{end}{end}"))
            .collect::<Vec<_>>()
            .concat()
    };
    let (before, after) = WORD.split_once(",\"created\"").unwrap();
    for (name, body) in [
        ("lf", plain("\n", " ")),
        ("crlf", plain("\r\n", " ")),
        ("cr", plain("\r", " ")),
        ("no space", plain("\n", "")),
        ("bom", format!("\u{feff}{}", plain("\n", " "))),
        ("comments", format!(": ping\n\n{}: bye\n\n", plain("\n", " "))),
        ("ids", plain("\n", " ").replace("data:", "id: 1\nevent: message\ndata:")),
        ("two data lines", plain("\n", " ").replace(WORD, &format!("{before}\ndata: ,\"created\"{after}"))),
    ] {
        for piece in [1, 7, 4096] {
            let chunks: Vec<u8> = body
                .as_bytes()
                .chunks(piece)
                .flat_map(|piece| [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat())
                .collect();
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n";
            let (upstream, _seen) = scripted(vec![[head.as_bytes(), &chunks, END.as_bytes()].concat()]);
            let weir = Weir::before(upstream, "");
            let got = chat(&weir, 60, STREAM);
            assert!(got.message.whole, "{name} by {piece}");
            assert_eq!(got.text(), body, "{name} by {piece}");
            weir.wait_for("weir_tokens_total{caller=\"default\",kind=\"input\",model=\"gpt-4o\"}", 7.0);
            assert!(outcomes(&weir, "complete") >= 1.0, "{name} by {piece}");
            if piece == 1 && name != "lf" {
                break;
            }
        }
    }
}
