//! The cost of parsing: the request peek, the stream scanner, classification and limit headers.
//!
//! `cargo bench --bench wire`

use std::hint::black_box;
use std::time::SystemTime;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use http::{HeaderMap, HeaderValue, StatusCode};
use weir::internals::classify;
use weir::internals::openai::{Endpoint, SseScanner, limit_headers, request_peek, sse, usage};

fn peek(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("peek");
    for (name, body) in [
        ("chat_1k", chat(4, "The quick brown fox jumps over the lazy dog. ", 5)),
        ("chat_100k", chat(20, "The quick brown fox\\njumps over the \\\"lazy\\\" dog. ", 110)),
        ("chat_100k_cjk", chat(20, "堤防は水を止めず、川が受け入れる速さで流す。\\n", 75)),
        ("image_1m", image(1 << 20)),
        (
            "token_array_100k",
            format!(r#"{{"model":"text-embedding-3-small","input":[{}1]}}"#, "12345,".repeat(17_000)),
        ),
    ] {
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(name, |bencher| bencher.iter(|| request_peek::peek(black_box(body.as_bytes()))));
    }
    group.finish();
}

fn sse(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sse");
    for (name, chunk) in [
        (
            "chat_delta",
            "data: {\"id\":\"chatcmpl-0000000000000000000000000000\",\"object\":\"chat.completion.chunk\",\"created\":1760000000,\
             \"model\":\"gpt-4o-2024-08-06\",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_0000000000\",\"choices\":[{\"index\":0,\
             \"delta\":{\"content\":\" weir\"},\"logprobs\":null,\"finish_reason\":null}],\"usage\":null,\"obfuscation\":\"aBcDeFgHiJ\"}\n\n",
        ),
        (
            "responses_delta",
            "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":17,\
             \"item_id\":\"msg_00000000000000000000000000000000000000000000000000\",\"output_index\":0,\"content_index\":0,\"delta\":\" weir\",\
             \"logprobs\":[],\"obfuscation\":\"aBcDeFgHiJ\"}\n\n",
        ),
        (
            "chat_usage",
            "data: {\"id\":\"chatcmpl-0000000000000000000000000000\",\"object\":\"chat.completion.chunk\",\"choices\":[],\"usage\":\
             {\"prompt_tokens\":19,\"completion_tokens\":10,\"total_tokens\":29,\"prompt_tokens_details\":{\"cached_tokens\":0,\
             \"audio_tokens\":0},\"completion_tokens_details\":{\"reasoning_tokens\":0}}}\n\n",
        ),
    ] {
        group.bench_function(name, |bencher| {
            let mut scanner = SseScanner::default();
            let mut events = 0_u64;
            bencher.iter(|| {
                scanner.feed(black_box(chunk.as_bytes()), &mut |event| {
                    events += u64::from(!matches!(event, sse::Event::Done));
                });
            });
            assert!(events > 0);
        });
        let (first, second) = chunk.split_at(chunk.len() / 2);
        group.bench_function(format!("{name}_in_two_chunks"), |bencher| {
            let mut scanner = SseScanner::default();
            let mut events = 0_u64;
            bencher.iter(|| {
                for half in [first, second] {
                    scanner.feed(black_box(half.as_bytes()), &mut |event| {
                        events += u64::from(!matches!(event, sse::Event::Done));
                    });
                }
            });
            assert!(events > 0);
        });
    }
    group.finish();
}

fn answers(criterion: &mut Criterion) {
    let refusal = br#"{"error":{"message":"Rate limit reached for gpt-4o in organization org-x on tokens per min (TPM): Limit 30000, Used 29937, Requested 385. Please try again in 644ms. Visit https://platform.openai.com/account/rate-limits to learn more.","type":"tokens","param":null,"code":"rate_limit_exceeded"}}"#;
    let headers = limits();
    criterion.bench_function("classify/429", |bencher| {
        let status = StatusCode::TOO_MANY_REQUESTS;
        let wall = SystemTime::UNIX_EPOCH;
        bencher.iter(|| {
            classify::response(Endpoint::ChatCompletions, status, &headers, black_box(refusal), wall)
        });
    });
    criterion.bench_function("limit_headers", |bencher| {
        bencher.iter(|| limit_headers::parse(black_box(&headers), || SystemTime::UNIX_EPOCH));
    });
    let answer = format!(
        r#"{{"id":"x","choices":[{{"message":{{"content":"{}"}}}}],"usage":{{"prompt_tokens":9,"completion_tokens":12,"total_tokens":21}},"service_tier":"default"}}"#,
        "x".repeat(16 << 10)
    );
    criterion
        .bench_function("usage/16k", |bencher| bencher.iter(|| usage::find(black_box(answer.as_bytes()))));
}

fn chat(messages: usize, sentence: &str, times: usize) -> String {
    let message = format!(r#"{{"role":"user","content":"{}"}}"#, sentence.repeat(times));
    let messages = vec![message; messages].join(",");
    format!(
        r#"{{"model":"gpt-4o","messages":[{messages}],"max_tokens":256,"stream":true,"temperature":0.2}}"#
    )
}

fn image(size: usize) -> String {
    format!(
        r#"{{"model":"gpt-4o","messages":[{{"role":"user","content":[{{"type":"text","text":"What is this?"}},{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{}"}}}}]}}]}}"#,
        "iVBORw0KGgo".repeat(size / 11)
    )
}

fn limits() -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("content-type", "application/json"),
        ("x-request-id", "req_00000000000000000000000000000000"),
        ("openai-organization", "org"),
        ("openai-processing-ms", "412"),
        ("openai-version", "2020-10-01"),
        ("x-ratelimit-limit-requests", "10000"),
        ("x-ratelimit-limit-tokens", "30000000"),
        ("x-ratelimit-remaining-requests", "9999"),
        ("x-ratelimit-remaining-tokens", "29999986"),
        ("x-ratelimit-reset-requests", "6ms"),
        ("x-ratelimit-reset-tokens", "0s"),
        ("cf-ray", "0000000000000000-FRA"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
}

criterion_group!(benches, peek, sse, answers);
criterion_main!(benches);
