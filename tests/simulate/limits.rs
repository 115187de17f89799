//! The limits of the simulator, and its limit headers.

use std::time::Duration;

use http::{Method, StatusCode};
use http_body_util::BodyExt;
use serde_json::json;
use weir::internals::clock;
use weir::internals::simulate::limiter::{Depth, Shape};
use weir::internals::simulate::{
    Account, Dialect, ForeignUse, Latency, LimitHeaders, Limits, Settings, Simulator,
};

use super::{Answer, chat, directed, header, json_of, keyed, post, request, rpm, send_within, streamed};

#[tokio::test(start_paused = true)]
async fn a_limit_refuses_in_the_words_of_the_api_and_lets_in_after_the_wait() {
    let simulator = Simulator::new(rpm(3));
    for remaining in ["2", "1", "0"] {
        let answer = send_within(&simulator, chat("gpt-4o")).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(header(&answer, "x-ratelimit-limit-requests"), Some("3"));
        assert_eq!(header(&answer, "x-ratelimit-remaining-requests"), Some(remaining));
        assert_eq!(header(&answer, "x-ratelimit-limit-tokens"), None);
    }
    let refused = send_within(&simulator, chat("gpt-4o")).await.unwrap();
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(header(&refused, "x-ratelimit-limit-requests"), None, "errors bear no limit headers");
    assert_eq!(header(&refused, "retry-after"), Some("20"));
    assert!(header(&refused, "x-request-id").unwrap().starts_with("req_"));
    assert_eq!(
        json_of(refused).await,
        json!({"error": {
            "message": "Rate limit reached for gpt-4o in organization org-simulated on requests per min (RPM): Limit 3, \
                        Used 3, Requested 1. Please try again in 20s. Visit \
                        https://platform.openai.com/account/rate-limits to learn more.",
            "type": "requests", "param": null, "code": "rate_limit_exceeded",
        }})
    );
    clock::sleep(Duration::from_secs(20)).await;
    assert_eq!(send_within(&simulator, chat("gpt-4o")).await.unwrap().status(), StatusCode::OK);
    let stats = simulator.stats();
    assert_eq!((stats.requests, stats.admitted, stats.refused["rpm"]), (5, 4, 1));
    assert_eq!(stats.last_refusal, Some(0.0));
    assert_eq!(stats.history.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn tokens_are_charged_as_measured_and_too_many_never_pass() {
    let limits = Limits { tpm: Some(1_000), ..Limits::NONE };
    let simulator = Simulator::new(Settings { limits, ..Settings::default() });
    let long = |letters: usize| {
        let messages = json!([{ "role": "user", "content": "a".repeat(letters) }]);
        post("/v1/chat/completions", &json!({ "model": "gpt-4o", "messages": messages, "max_tokens": 500 }))
    };
    let answer = send_within(&simulator, long(388)).await.unwrap();
    assert_eq!(header(&answer, "x-ratelimit-remaining-tokens"), Some("900"));
    assert_eq!(header(&answer, "x-ratelimit-reset-tokens"), Some("6s"));
    let refused = send_within(&simulator, long(4_000)).await.unwrap();
    assert_eq!(header(&refused, "retry-after"), None, "waiting does not help");
    let message = json_of(refused).await["error"]["message"].to_string();
    assert!(
        message.contains("Request too large") && message.contains("Limit 1000, Requested 1003."),
        "{message}"
    );
    assert_eq!(simulator.stats().refused["too_large"], 1);
}

#[tokio::test(start_paused = true)]
async fn limits_are_kept_by_account_and_model() {
    let simulator = Simulator::new(Settings {
        keys: vec![
            ("sk-a".into(), Account::new("org-1", "proj_1")),
            ("sk-b".into(), Account::new("org-1", "proj_1")),
            ("sk-c".into(), Account::new("org-1", "proj_2")),
        ],
        models: vec![("gpt-4o-mini".into(), Limits { rpm: Some(2), ..Limits::NONE })],
        ..rpm(1)
    });
    for (key, model, status) in [
        ("sk-a", "gpt-4o", 200),
        ("sk-b", "gpt-4o", 429),
        ("sk-c", "gpt-4o", 200),
        ("sk-a", "gpt-4.1", 200),
        ("sk-a", "gpt-4o-mini", 200),
        ("sk-a", "gpt-4o-mini", 200),
        ("sk-b", "gpt-4o-mini", 429),
    ] {
        let answer = send_within(&simulator, keyed(chat(model), key)).await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{key} {model}");
        if status == 200 {
            assert_eq!(header(&answer, "openai-organization"), Some("org-1"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn streams_of_responses_and_other_endpoints_report_no_limits() {
    let simulator = Simulator::new(Settings::default());
    let responses =
        |stream: bool| post("/v1/responses", &json!({ "model": "gpt-4o", "input": "Hi", "stream": stream }));
    let told = |answer: &Answer| answer.headers().contains_key("x-ratelimit-limit-requests");
    assert!(told(&send_within(&simulator, responses(false)).await.unwrap()));
    assert!(!told(&send_within(&simulator, responses(true)).await.unwrap()));
    assert!(told(&send_within(&simulator, streamed()).await.unwrap()));
    assert!(!told(&send_within(&simulator, directed(streamed(), "headers=none")).await.unwrap()));
    assert!(!told(&send_within(&simulator, request(Method::GET, "/v1/models", "")).await.unwrap()));
    let silent = Simulator::new(Settings { limit_headers: LimitHeaders::None, ..Settings::default() });
    assert!(!told(&send_within(&silent, chat("gpt-4o")).await.unwrap()));
}

#[tokio::test(start_paused = true)]
async fn the_headers_report_a_daily_limit_first() {
    let limits = Limits { rpm: Some(500), rpd: Some(10_000), ..Limits::NONE };
    let simulator = Simulator::new(Settings { limits, ..Settings::default() });
    let answer = send_within(&simulator, chat("gpt-4o")).await.unwrap();
    assert_eq!(header(&answer, "x-ratelimit-limit-requests"), Some("10000"));
    assert_eq!(header(&answer, "x-ratelimit-reset-requests"), Some("8.64s"));
}

#[tokio::test(start_paused = true)]
async fn only_the_time_after_admission_is_processing() {
    let simulator = Simulator::new(Settings {
        before: Latency::Fixed(Duration::from_secs(3)),
        after: Latency::Fixed(Duration::from_millis(450)),
        ..Settings::default()
    });
    let begun = clock::now();
    let answer = send_within(&simulator, chat("gpt-4o")).await.unwrap();
    assert_eq!(clock::now() - begun, Duration::from_millis(3_450));
    assert_eq!(header(&answer, "openai-processing-ms"), Some("450"));
    assert_eq!(simulator.stats().history.iter().map(|second| second.second).collect::<Vec<_>>(), [0, 3]);
    let answer = send_within(&simulator, directed(chat("gpt-4o"), "before=0s after=60s")).await.unwrap();
    assert_eq!(header(&answer, "openai-processing-ms"), Some("60000"));
}

#[tokio::test(start_paused = true)]
async fn others_use_the_limit_up() {
    let simulator = Simulator::new(Settings { foreign: ForeignUse::parse("0.5").unwrap(), ..rpm(600) });
    let mut admitted = [0; 3];
    for minute in &mut admitted {
        for _ in 0..1_500 {
            clock::sleep(Duration::from_millis(40)).await;
            let answer = send_within(&simulator, chat("gpt-4o")).await.unwrap();
            *minute += u32::from(answer.status() == StatusCode::OK);
        }
    }
    assert!((890..=910).contains(&admitted[0]), "half, and what the bucket held: {admitted:?}");
    assert!((295..=305).contains(&admitted[2]), "half of 600: {admitted:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lying_bucket_refuses_although_its_headers_have_a_rest() {
    let simulator =
        Simulator::new(Settings { shape: Shape::LyingBucket(Depth::Of(Duration::from_secs(1))), ..rpm(120) });
    for remaining in ["119", "118"] {
        let answer = send_within(&simulator, chat("gpt-4o")).await.unwrap();
        assert_eq!(header(&answer, "x-ratelimit-remaining-requests"), Some(remaining));
    }
    let refused = send_within(&simulator, chat("gpt-4o")).await.unwrap();
    assert!(json_of(refused).await["error"]["message"].as_str().unwrap().contains("try again in 500ms"));
}

/// Requests above the slots wait in order; those above the queue are refused.
#[tokio::test(start_paused = true)]
async fn slots_are_taken_in_order_and_the_queue_is_bounded() {
    let after = Latency::Fixed(Duration::from_secs(1));
    let settings = Settings {
        slots: Some(2),
        queue: Some(2),
        after,
        dialect: Some(Dialect::Sglang),
        ..Settings::default()
    };
    let simulator = Simulator::new(settings);
    let began = clock::now();
    let calls: Vec<_> = (0..5)
        .map(|_| {
            let simulator = simulator.clone();
            clock::spawn(async move {
                let answer = send_within(&simulator, chat("gpt-4o")).await.unwrap();
                let status = answer.status().as_u16();
                answer.into_body().collect().await.unwrap();
                (status, clock::now().duration_since(began).as_secs())
            })
        })
        .collect();
    let mut ended = Vec::new();
    for call in calls {
        ended.push(call.await.unwrap());
    }
    ended.sort_unstable();
    assert_eq!(ended, [(200, 1), (200, 1), (200, 2), (200, 2), (503, 0)]);
}
