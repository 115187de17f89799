//! Requests with other codings, sizes and paths.

use std::io::Write;
use std::time::Duration;

use crate::process::Weir;
use crate::scripted::{CHAT, answering, chat, good, json, limit, post, scope_names, scripted};

const PATH: &str = "/v1/chat/completions";
const LEVELS: &str = "x-ratelimit-limit-tokens: 1000000\r\nx-ratelimit-remaining-tokens: 999000\r\nx-ratelimit-reset-tokens: 60ms\r\n";

pub(crate) fn coded(coding: &str, plain: &[u8]) -> Vec<u8> {
    match coding {
        "gzip" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(plain).unwrap();
            encoder.finish().unwrap()
        }
        "deflate" => {
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(plain).unwrap();
            encoder.finish().unwrap()
        }
        "zstd" => ruzstd::encoding::compress_to_vec(plain, ruzstd::encoding::CompressionLevel::Fastest),
        // One uncompressed meta-block, window 16, then an empty last one.
        _ => {
            let bits = ((u32::try_from(plain.len()).unwrap() - 1) << 4) | (1 << 20);
            [&bits.to_le_bytes()[..3], plain, &[3]].concat()
        }
    }
}

#[test]
fn r01_a_compressed_body_is_priced_as_its_plain_twin() {
    let body =
        format!(r#"{{"model":"gpt-4o","messages":[{{"role":"user","content":"{}"}}]}}"#, "x".repeat(40_000));
    let mut priced = Vec::new();
    for coding in ["identity", "zstd", "gzip", "deflate", "br"] {
        let (upstream, seen) = answering(|_| json("200 OK", LEVELS, super::scripted::GOOD));
        let weir = Weir::before(upstream, "");
        assert_eq!(chat(&weir, 60, CHAT).status(), 200);
        let before = limit(&weir, "gpt-4o", "tokens per minute", "admitted_last_minute").unwrap();
        let sent =
            if coding == "identity" { body.clone().into_bytes() } else { coded(coding, body.as_bytes()) };
        let field = format!("content-encoding: {coding}\r\n");
        let got = post(&weir, PATH, if coding == "identity" { "" } else { &field }, &sent);
        assert_eq!(got.status(), 200, "{coding}");
        assert_eq!(seen.request(1).body, sent, "{coding}: the bytes go on as they came");
        assert_eq!(scope_names(&weir), ["gpt-4o"], "{coding}");
        let after = limit(&weir, "gpt-4o", "tokens per minute", "admitted_last_minute").unwrap();
        priced.push(after - before);
    }
    assert!(priced[0] > 9_000.0, "{priced:?}");
    assert!(priced.iter().all(|tokens| (tokens - priced[0]).abs() < 200.0), "{priced:?}");
}

#[test]
fn r01_what_is_stored_by_a_compressed_body_is_made_once() {
    let store = r#"{"model":"gpt-4o","store":true,"messages":[{"role":"user","content":"Hello"}]}"#;
    for (coding, body, attempts) in [
        ("zstd", store, 1),
        ("gzip", store, 1),
        ("zstd", CHAT, 2),
        // It can't be parsed, so it is not retried.
        ("x-unknown", CHAT, 1),
    ] {
        let (upstream, seen) = scripted(vec![json("500 Internal Server Error", "", "{}"), good()]);
        let weir = Weir::before(upstream, "");
        let body =
            if coding == "x-unknown" { body.as_bytes().to_vec() } else { coded(coding, body.as_bytes()) };
        let got = post(&weir, PATH, &format!("content-encoding: {coding}\r\n"), body);
        assert_eq!((got.attempts(), seen.count()), (attempts, attempts as usize), "{coding}");
    }
}

#[test]
fn r02_a_large_body_has_its_model_and_price() {
    let image = "A".repeat(9 << 20);
    let content = format!(
        r#"[{{"type":"text","text":"what"}},{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{image}"}}}}]"#
    );
    let messages = format!(r#""messages":[{{"role":"user","content":{content}}}]"#);
    for body in [format!(r#"{{"model":"gpt-4o",{messages}}}"#), format!(r#"{{{messages},"model":"gpt-4o"}}"#)]
    {
        let (upstream, seen) = answering(|_| json("200 OK", LEVELS, super::scripted::GOOD));
        let weir = Weir::before(upstream, "");
        let got = post(&weir, PATH, "", &body);
        assert_eq!(got.status(), 200);
        assert!(seen.request(0).whole && seen.request(0).body.len() == body.len());
        assert_eq!(scope_names(&weir), ["gpt-4o"]);
        let tokens = limit(&weir, "gpt-4o", "tokens per minute", "admitted_last_minute").unwrap();
        assert!((700.0..20_000.0).contains(&tokens), "{tokens}");
    }
}

#[test]
fn r02_bodies_beyond_what_is_kept_have_their_model_too() {
    let text = "word ".repeat(40 << 10);
    let body = format!(r#"{{"messages":[{{"role":"user","content":"{text}"}}],"model":"gpt-4o"}}"#);
    for keep in ["replay.max_body = \"16KiB\"\nreplay.prefix = \"4KiB\"\n", "replay.max_total = \"64KiB\"\n"]
    {
        let (upstream, seen) = answering(|_| json("200 OK", LEVELS, super::scripted::GOOD));
        let weir = Weir::before(upstream, keep);
        let got = post(&weir, PATH, "", &body);
        assert_eq!(got.status(), 200, "{keep}");
        assert_eq!(seen.request(0).body, body.as_bytes(), "{keep}");
        assert_eq!(scope_names(&weir), ["gpt-4o"], "{keep}");
    }
}

#[test]
fn r11_each_deployment_of_azure_has_its_limits() {
    let (upstream, _seen) = answering(|request| {
        let limit = if request.start.contains("/slow/") { 10 } else { 6_000 };
        let fields = format!(
            "x-ratelimit-limit-requests: {limit}\r\nx-ratelimit-remaining-requests: {}\r\nx-ratelimit-reset-requests: 6s\r\n",
            limit - 1
        );
        json("200 OK", &fields, super::scripted::GOOD)
    });
    let weir = Weir::before(upstream, "");
    let body = r#"{"messages":[{"role":"user","content":"Hello"}]}"#;
    let path = |name: &str| format!("/openai/deployments/{name}/chat/completions?api-version=2024-10-21");
    for _ in 0..3 {
        for name in ["slow", "fast"] {
            assert_eq!(post(&weir, &path(name), "api-key: k\r\n", body).status(), 200);
        }
    }
    for (name, requests) in [("slow", 10.0), ("fast", 6_000.0)] {
        assert_eq!(limit(&weir, name, "requests per minute", "limit"), Some(requests), "{name}");
    }
    for _ in 0..40 {
        let got = post(&weir, &path("fast"), "api-key: k\r\n", body);
        assert!(got.status() == 200 && got.took < Duration::from_secs(2), "{:?}", got.took);
    }
}

#[test]
fn r17_an_operation_is_known_behind_every_prefix() {
    for prefix in [
        "/engines/v1",
        "/v1/openai",
        "/api/v1",
        "/inference/v1",
        "/compatible-mode/v1",
        "/api/paas/v4",
        "/v1/projects/p/locations/l/endpoints/openapi",
        "/models",
        "/openai/v1",
        "/v1beta/openai",
        "",
    ] {
        let (upstream, seen) = scripted(vec![json("500 Internal Server Error", "", "{}"), good()]);
        let weir = Weir::before(upstream, "");
        let got = post(&weir, &format!("{prefix}/chat/completions"), "", CHAT);
        assert_eq!((got.status(), got.attempts(), seen.count()), (200, 2, 2), "{prefix}");
        let series =
            "weir_requests_total{caller=\"default\",endpoint=\"chat_completions\",outcome=\"success\"}";
        weir.wait_for(series, 1.0);
        let input = "weir_tokens_total{caller=\"default\",kind=\"input\",model=\"gpt-4o\"}";
        weir.wait_for(input, 12.0);
        assert_eq!(scope_names(&weir), ["gpt-4o"], "{prefix}");
    }
}
