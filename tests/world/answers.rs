//! Errors in responses with status 200, responses that only mention errors, and the framings of
//! other servers.

use std::time::Duration;

use crate::process::Weir;
use crate::requests::coded;
use crate::scripted::{
    CHAT, END, GOOD, STREAM, answer, chat, each_at_once, events, failed, good, json, scripted,
};
use crate::wire;

/// Bodies in place of a JSON response, and their classes.
const IN_PLACE: [(&str, &str); 13] = [
    // saberjack/SHTUCodeProxy#4: vLLM and FastChat.
    (
        r#"{"object":"error","message":"The model is overloaded.","type":"ServerError","code":503}"#,
        "overloaded",
    ),
    (
        r#"{"object":"error","message":"Out of memory","type":"InternalServerError","code":50005}"#,
        "stream_error",
    ),
    // FastAPI.
    (r#"{"detail":"Internal server error"}"#, "stream_error"),
    (r#"{"detail":{"error":"Rate limit exceeded: 10 per 1 minute"}}"#, "rate_limit_requests"),
    // Cloudflare.
    (
        r#"{"errors":[{"code":3040,"message":"AiError: Capacity temporarily exceeded"}],"success":false,"result":{}}"#,
        "slow_down",
    ),
    // GLM, one-api, MiniMax.
    (r#"{"code":1302,"msg":"您的账户已达到速率限制，请您控制请求频率","success":false}"#, "rate_limit_other"),
    (r#"{"success":false,"message":"请求过于频繁"}"#, "rate_limit_other"),
    (
        r#"{"id":"x","choices":null,"base_resp":{"status_code":2056,"status_msg":"usage limit exceeded"}}"#,
        "rate_limit_other",
    ),
    // Gateways in Node and in Java.
    (r#"{"statusCode":503,"message":"Service Unavailable","path":"/v1/chat/completions"}"#, "bad_gateway"),
    (r#"{"error":["upstream timed out"]}"#, "stream_error"),
    (r#"{"error":{"message":"m","status":"UNAVAILABLE"}}"#, "bad_gateway"),
    // OpenRouter.
    (
        r#"{"error":{"code":529,"message":"Provider returned error","metadata":{"raw":"{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}"}},"user_id":"u"}"#,
        "overloaded",
    ),
    (r#"{"error":{"code":408,"message":"Timed out waiting for the provider"}}"#, "request_timeout"),
];

#[test]
fn an_error_in_place_of_an_answer_is_known_by_its_members() {
    for (body, class) in IN_PLACE {
        let (upstream, seen) = scripted(vec![json("200 OK", "", body), good()]);
        let weir = Weir::before(upstream, "");
        let got = chat(&weir, 60, CHAT);
        assert_eq!(failed(&weir), [class], "{body}");
        // A 408 is left to the SDK's retry.
        let (text, attempts) = if class == "request_timeout" { (body, 1) } else { (GOOD, 2) };
        assert_eq!((got.text().as_str(), seen.count()), (text, attempts), "{body}");
    }
}

/// Responses that only mention limits and errors.
#[test]
fn a_response_that_mentions_limits_is_no_error() {
    for body in [
        GOOD.replace("\"Hi\"", r#""Rate limit exceeded: you sent too many requests, the queue is full.""#),
        GOOD.replace("\"object\"", r#""error":null,"object""#),
        GOOD.replace("\"object\"", r#""error":"","object""#),
        GOOD.replace("\"object\"", r#""error":{},"object""#),
        GOOD.replace("\"object\"", r#""status":"error","code":500,"message":"of a tool","object""#),
        GOOD.replace("\"Hi\"", r#""{\"object\":\"error\",\"message\":\"quota exceeded\"}""#),
        r#"{"id":"resp_1","object":"response","status":"failed","error":{"code":"server_error","message":"m"},"output":[]}"#.to_owned(),
        r#"{"success":true,"errors":[],"messages":[],"result":{"response":"Hi"}}"#.to_owned(),
        r#"{"id":"x","message":"Hi"}"#.to_owned(),
        "[[0.1,0.2]]".to_owned(),
    ] {
        let (upstream, seen) = scripted(vec![json("200 OK", "", &body)]);
        let weir = Weir::before(upstream, "");
        let got = chat(&weir, 60, CHAT);
        assert_eq!((got.text(), got.class(), seen.count()), (body, None, 1));
    }
}

const WORD: &str = r#"{"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}]}"#;
const STOP: &str = r#"{"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;

/// A chunked stream of these bytes as they are.
fn stream(body: &str) -> Vec<u8> {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    format!("{head}{:x}\r\n{body}\r\n{END}", body.len()).into_bytes()
}

#[test]
fn an_error_in_place_of_a_stream_is_known_in_every_form() {
    let whole = events(&[WORD, STOP, "[DONE]"], END);
    let overloaded = r#"{"error":{"type":"overloaded_error","message":"Overloaded"}}"#;
    for (body, class) in [
        // OpenRouter ends a stream with an error beside an empty choice.
        (
            r#"data: {"id":"g","object":"chat.completion.chunk","error":{"code":502,"message":"Provider disconnected"},"choices":[{"index":0,"delta":{"content":""},"finish_reason":"error"}]}"#.to_owned() + "\n\n",
            "bad_gateway",
        ),
        (format!("\u{feff}event: error\r\ndata: {overloaded}\r\n\r\n"), "overloaded"),
        (format!(": OPENROUTER PROCESSING\n\n: OPENROUTER PROCESSING\n\ndata: {overloaded}\n\ndata: [DONE]\n\n"), "overloaded"),
        (format!("retry: 1000\nid: 7\nevent: error\ndata: {overloaded}\n\n"), "overloaded"),
        ("data: {\"object\":\"error\",\"message\":\"CUDA out of memory\",\"code\":50002}\n\n".to_owned(), "stream_error"),
        ("data: {\"code\":1302,\"msg\":\"请求过于频繁\",\"success\":false}\n\n".to_owned(), "rate_limit_other"),
        ("data: {\"detail\":\"Service Unavailable\"}\n\n".to_owned(), "stream_error"),
        ("event: error\ndata: Too many requests\n\n".to_owned(), "rate_limit_other"),
        // XiaomiMiMo/MiMo-Code#2083.
        (
            "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"service_unavailable_error\",\"code\":\"server_is_overloaded\",\"message\":\"m\"}}\n\n".to_owned(),
            "overloaded",
        ),
        // JSON with the content type of a stream, after keep-alives.
        (format!("\n\n\n{overloaded}"), "overloaded"),
    ] {
        let (upstream, seen) = scripted(vec![stream(&body), whole.clone()]);
        let weir = Weir::before(upstream, "");
        let got = chat(&weir, 60, STREAM);
        assert!(got.text().contains("[DONE]") && !got.text().contains("error"), "{body}: {}", got.text());
        assert_eq!((got.attempts(), seen.count()), (2, 2), "{body}");
        assert_eq!(failed(&weir), [class], "{body}");
    }
}

#[test]
fn a_stream_that_mentions_errors_is_no_error() {
    let talks = r#"{"choices":[{"index":0,"delta":{"content":"\"error\": rate limit exceeded"}}]}"#;
    for first in [
        talks.to_owned(),
        WORD.replace("\"object\"", r#""error":null,"object""#),
        WORD.replace("\"object\"", r#""error":"","object""#),
        WORD.replace("{\"id\"", r#"{"code":0,"message":"","id""#),
        WORD.replace("{\"id\"", r#"{"message":"ok","id""#),
        WORD.replace("{\"id\"", r#"{"status":"error","id""#),
    ] {
        let (upstream, seen) = scripted(vec![events(&[&first, STOP, "[DONE]"], END)]);
        let weir = Weir::before(upstream, "");
        let got = chat(&weir, 60, STREAM);
        assert!(got.text().contains(&first) && got.message.whole, "{first}");
        assert_eq!((got.class(), seen.count()), (None, 1), "{first}");
    }
}

/// `DeepSeek` and `OpenRouter` keep a JSON answer alive with empty lines.
#[test]
fn empty_lines_before_a_json_answer_keep_it_alive() {
    for (tail, class) in [(GOOD, None), (r#"{"error":{"message":"busy","code":502}}"#, Some("bad_gateway"))] {
        let body = format!("\n\n   \r\n\n{tail}");
        let (upstream, seen) = scripted(vec![json("200 OK", "", &body), good()]);
        let weir = Weir::before(upstream, "");
        let got = chat(&weir, 60, CHAT);
        match class {
            None => assert_eq!((got.text(), seen.count()), (body, 1)),
            Some(class) => {
                assert_eq!((got.text().as_str(), seen.count()), (GOOD, 2));
                assert_eq!(failed(&weir), [class]);
            }
        }
    }
}

/// The encoded bytes are forwarded unchanged, and classified.
#[test]
fn an_error_is_read_in_every_coding() {
    let refusal = r#"{"error":{"message":"Rate limit reached on tokens per min (TPM): Limit 10000, Used 9990, Requested 100. Please try again in 540ms.","type":"tokens","code":"rate_limit_exceeded"}}"#;
    let wrong = r#"{"error":{"message":"This model's maximum context length is 4096 tokens.","type":"invalid_request_error","code":"context_length_exceeded"}}"#;
    let framed = |status: &str, coding: &str, body: &[u8]| {
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Encoding: {coding}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        [head.as_bytes(), body].concat()
    };
    for (name, of) in [
        ("gzip", "gzip"),
        ("GZIP", "gzip"),
        ("x-gzip", "gzip"),
        ("deflate", "deflate"),
        ("deflate", "raw deflate"),
        ("br", "br"),
        ("zstd", "zstd"),
        // A gateway that decoded the body but kept the header.
        ("gzip", "identity"),
    ] {
        let pack = |plain: &str| match of {
            "identity" => plain.as_bytes().to_vec(),
            "raw deflate" => {
                // Without zlib's header of two bytes and its checksum of four.
                let packed = coded("deflate", plain.as_bytes());
                packed[2..packed.len() - 4].to_vec()
            }
            of => coded(of, plain.as_bytes()),
        };
        let (upstream, seen) = scripted(vec![
            framed("429 Too Many Requests", name, &pack(refusal)),
            framed("400 Bad Request", name, &pack(wrong)),
        ]);
        let weir = Weir::before(upstream, "");
        let got = chat(&weir, 60, CHAT);
        assert_eq!(failed(&weir), ["context_length_exceeded", "rate_limit_tokens"], "{of}");
        assert!(seen.between(0, 1) >= Duration::from_millis(540), "{of}: {:?}", seen.between(0, 1));
        assert_eq!((got.status(), got.class()), (400, Some("context_length_exceeded")), "{of}");
        assert_eq!(got.message.header("content-encoding"), Some(name), "{of}");
        assert_eq!(got.message.body, pack(wrong), "{of}: the bytes as they came");
    }
}

/// The wait is obeyed in every notation: the second attempt comes after it.
#[test]
fn a_wait_is_kept_in_every_notation() {
    let soon = std::time::SystemTime::now() + Duration::from_secs(4);
    let epoch = soon.duration_since(std::time::UNIX_EPOCH).unwrap();
    let date = httpdate::fmt_http_date(soon);
    // The same moment in RFC 5322, with a zone of digits.
    let mail = date.replace("GMT", "+0000");
    let cases = [
        "Retry-After: 1.2s".to_owned(),
        "Retry-After: 1200ms".to_owned(),
        "Retry-After-Ms: 1200".to_owned(),
        format!("Retry-After: {date}"),
        format!("Retry-After: {mail}"),
        format!("Retry-After: {}", epoch.as_secs()),
        format!("Retry-After: {}", epoch.as_millis()),
        "X-RateLimit-Reset-After: 1.2".to_owned(),
        "X-Retry-In: 1.2s".to_owned(),
        "X-Rate-Limit-Retry-After-Seconds: 2".to_owned(),
        format!(
            "Anthropic-Ratelimit-Unified-Status: rejected\r\nAnthropic-Ratelimit-Unified-Reset: {}",
            epoch.as_secs()
        ),
        "X-AI-RateLimit-Limit-i: 10\r\nX-AI-RateLimit-Remaining-i: 0\r\nX-AI-RateLimit-Reset-i: 2".to_owned(),
        "RateLimit: \"api\";r=0;t=2\r\nRateLimit-Policy: \"fixed window\";\"api\";q=500;w=300".to_owned(),
    ];
    // All cases concurrently, because the date passes.
    each_at_once(cases, |field| {
        let refusal = json("429 Too Many Requests", &format!("{field}\r\n"), r#"{"error":"slow"}"#);
        let (upstream, seen) = scripted(vec![refusal, good()]);
        let weir = Weir::before(upstream, "");
        let asked = std::time::SystemTime::now();
        let got = chat(&weir, 60, CHAT);
        assert_eq!((got.status(), got.attempts()), (200, 2), "{field}");
        let is_moment = field.contains(&epoch.as_secs().to_string()) || field.contains(&date[..16]);
        let least = if is_moment {
            // The header has whole seconds.
            soon.duration_since(asked).unwrap_or_default().saturating_sub(Duration::from_millis(1_050))
        } else {
            Duration::from_millis(1_190)
        };
        assert!(seen.between(0, 1) >= least, "{field}: {:?}, not {least:?}", seen.between(0, 1));
    });
}

/// Framings that clients accept.
#[test]
fn answers_arrive_in_every_framing_that_servers_use() {
    let length = GOOD.len();
    let halves = GOOD.split_at(40);
    let chunked = |coding: &str, one: &str, other: &str, last: &str| {
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{coding}\r\n\r\n{one}\r\n{}\r\n{other}\r\n{}\r\n{last}\r\n\r\n",
            halves.0, halves.1
        )
    };
    let (one, other) = (format!("{:x}", halves.0.len()), format!("{:x}", halves.1.len()));
    let many = fields(99);
    for (name, answer) in [
        ("no reason", format!("HTTP/1.1 200\r\nContent-Length: {length}\r\n\r\n{GOOD}")),
        ("an empty reason", format!("HTTP/1.1 200 \r\nContent-Length: {length}\r\n\r\n{GOOD}")),
        ("no length", format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{GOOD}")),
        ("HTTP/1.0", format!("HTTP/1.0 200 OK\r\nContent-Length: {length}\r\n\r\n{GOOD}")),
        ("HTTP/1.0 without a length", format!("HTTP/1.0 200 OK\r\n\r\n{GOOD}")),
        (
            "two equal lengths",
            format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nContent-Length: {length}\r\n\r\n{GOOD}"),
        ),
        ("bare line feeds", format!("HTTP/1.1 200 OK\nContent-Length: {length}\n\n{GOOD}")),
        ("a capital coding", chunked("Transfer-Encoding: Chunked", &one, &other, "0")),
        (
            "extensions",
            chunked(
                "Transfer-Encoding: chunked",
                &format!("{one};a=b"),
                &format!("{other} ; c=\"d\""),
                "0;last",
            ),
        ),
        (
            "zeros and capitals",
            chunked(
                "Transfer-Encoding: chunked",
                &format!("000{}", one.to_uppercase()),
                &other.to_uppercase(),
                "000",
            ),
        ),
        (
            "interim answers",
            format!(
                "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{GOOD}"
            ),
        ),
        ("a hundred fields", format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n{many}\r\n{GOOD}")),
        (
            "a field of 48 KB",
            format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nX-Long: {}\r\n\r\n{GOOD}",
                "a".repeat(48 << 10)
            ),
        ),
        (
            "empty fields and tabs",
            format!(
                "HTTP/1.1 200 OK\r\nX-Empty:\r\nX-Tab:\t a\tb \t\r\nContent-Length: \t{length} \r\n\r\n{GOOD}"
            ),
        ),
        (
            "fields that close",
            format!(
                "HTTP/1.1 200 OK\r\nConnection: close, X-Mine\r\nX-Mine: 1\r\nContent-Length: {length}\r\n\r\n{GOOD}"
            ),
        ),
    ] {
        let upstream = wire::upstream(move |mut stream| {
            use std::io::Write as _;
            let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
            let Some(mut request) = wire::read_head(&mut reader) else { return };
            wire::read_body(&mut reader, &mut request, false);
            drop(stream.write_all(answer.as_bytes()));
        });
        let weir = Weir::before(upstream, "retry.max_attempts = 1\n");
        let got = chat(&weir, 60, CHAT);
        assert_eq!(
            (got.status(), got.text().as_str(), got.message.whole),
            (200, GOOD, true),
            "{name}: {:?}",
            got.message
        );
        assert_eq!(got.class(), None, "{name}");
    }
}

/// Header fields, each ended by a line's end.
fn fields(count: usize) -> String {
    let field = |number| format!("llm_provider-x-{number}: {number}\r\n");
    (0..count).map(field).collect::<Vec<_>>().concat()
}

/// A head above the limits has its own error.
#[test]
fn a_head_that_is_too_large_says_so() {
    let many = fields(101);
    let long = format!("X-Long: {}\r\n", "a".repeat(80 << 10));
    for fields in [many, long] {
        let (upstream, _seen) = scripted(vec![answer("200 OK", "application/json", &fields, GOOD)]);
        let weir = Weir::before(upstream, "retry.max_attempts = 1\n");
        let got = chat(&weir, 60, CHAT);
        assert_eq!((got.status(), got.class()), (502, Some("malformed_response")), "{}", got.text());
        assert!(got.text().contains("upstream.header_bytes"), "{}", got.text());
        assert!(weir.metric("weir_limits_reached_total{limit=\"answer_headers\"}") >= 1.0);
    }
}
