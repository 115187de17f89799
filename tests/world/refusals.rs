//! Refusals with other messages, statuses and formats.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::process::Weir;
use crate::scripted::{
    CHAT, answer, answering, at_once, chat, each_at_once, good, json, limit, post, scripted,
};

fn too_many(fields: &str, body: &str) -> Vec<u8> {
    json("429 Too Many Requests", fields, body)
}

fn envelope(message: &str, kind: &str, code: &str) -> String {
    serde_json::json!({"error": {"message": message, "type": kind, "param": null, "code": code}}).to_string()
}

/// All waiting and new requests get the upstream's refusal at once; one request a minute probes.
#[test]
fn r03_a_limit_that_comes_back_in_hours_is_told_to_all_at_once() {
    let soon = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let epoch = soon + 7_200_000;
    let day = r#"{"error":{"code":"RateLimitReached","message":"Rate limit of 150 per 86400s exceeded. Please wait 53216 seconds before retrying."}}"#;
    let router = format!(
        r#"{{"error":{{"message":"Rate limit exceeded: free-models-per-day","code":429,"metadata":{{"headers":{{"X-RateLimit-Limit":"200","X-RateLimit-Remaining":"0","X-RateLimit-Reset":"{epoch}"}}}}}}}}"#
    );
    for (fields, body, least) in [("Retry-After: 53216\r\n", day, 53_000), ("", router.as_str(), 7_000)] {
        let (upstream, seen) = scripted(vec![too_many(fields, body)]);
        let weir = Weir::before(upstream, "");
        for round in 0..2 {
            for got in at_once(20, |_| chat(&weir, 180, CHAT)) {
                assert_eq!(got.status(), 429, "{}", got.text());
                assert_eq!(got.text(), body, "the upstream's own words");
                assert_eq!(got.message.header("content-type"), Some("application/json"));
                assert_eq!(got.message.header("x-should-retry"), Some("false"));
                assert!(got.took < Duration::from_secs(2), "{round}: {:?}", got.took);
                if let Some(after) = got.message.header("retry-after") {
                    assert!(after.parse::<u64>().unwrap() >= least, "{after}");
                }
            }
        }
        // The first, concurrent requests were all sent; later ones are refused without a request.
        assert!(seen.count() <= 20, "{} requests upstream", seen.count());
        let before = seen.count();
        assert_eq!(chat(&weir, 600, CHAT).status(), 429);
        assert_eq!(seen.count(), before, "asked once a minute");
    }
}

/// A wait within the deadline is waited for; one that the SDK would obey is left to it.
#[test]
fn r03_a_short_wait_is_no_end() {
    let body = envelope("Slow.", "requests", "rate_limit_exceeded");
    let (upstream, _seen) = scripted(vec![too_many("Retry-After: 1\r\n", &body), good()]);
    let weir = Weir::before(upstream, "");
    let got = chat(&weir, 60, CHAT);
    assert_eq!((got.status(), got.attempts()), (200, 2));
    assert!(got.took >= Duration::from_secs(1), "{:?}", got.took);
    let (upstream, _seen) = scripted(vec![too_many("Retry-After: 40\r\n", &body)]);
    let weir = Weir::before(upstream, "");
    for _ in 0..3 {
        let got = chat(&weir, 20, CHAT);
        assert_eq!((got.status(), got.text()), (429, body.clone()));
        assert_eq!(
            got.message.header("x-should-retry"),
            None,
            "direct, the SDK waits for 40 s and tries again"
        );
        assert!(got.took < Duration::from_secs(2), "{:?}", got.took);
    }
}

#[test]
fn r07_an_edge_that_gave_up_is_asked_once() {
    for gave_up in [
        answer(
            "504 Gateway Time-out",
            "text/html",
            "Server: nginx\r\n",
            "<html><title>504 Gateway Time-out</title>",
        ),
        b"HTTP/1.1 524 A Timeout Occurred\r\nContent-Length: 0\r\n\r\n".to_vec(),
    ] {
        let (upstream, seen) = scripted(vec![gave_up]);
        let weir = Weir::before(upstream, "");
        let got = chat(&weir, 60, CHAT);
        assert_eq!((got.class(), got.attempts(), seen.count()), (Some("gateway_timeout"), 1, 1));
        assert_eq!(got.message.header("x-should-retry"), None, "never more generations than direct");
    }
}

/// A burst is refused with the code of a spent quota; another model of the same key is unaffected.
#[test]
fn r08_a_burst_that_calls_itself_a_spent_quota_concerns_its_model_alone() {
    let blocked_until = Arc::new(Mutex::new(None::<Instant>));
    let burst = AtomicU32::new(0);
    let words = envelope(
        "You exceeded your current quota, please check your plan and billing details.",
        "insufficient_quota",
        "insufficient_quota",
    );
    let until = Arc::clone(&blocked_until);
    let (upstream, _seen) = answering(move |request| {
        if String::from_utf8_lossy(&request.body).contains("qwen-turbo") {
            return good();
        }
        let mut until = until.lock().unwrap();
        let now = Instant::now();
        if until.is_none() && burst.fetch_add(1, Ordering::Relaxed) >= 3 {
            *until = Some(now + Duration::from_secs(5));
        }
        if until.is_some_and(|until| now < until) { too_many("", &words) } else { good() }
    });
    let weir = Weir::before(upstream, "");
    let of = |model: &str| CHAT.replace("gpt-4o", model);
    for _ in 0..4 {
        chat(&weir, 30, &of("qwen-plus"));
    }
    let began = Instant::now();
    let back = loop {
        let other = chat(&weir, 30, &of("qwen-turbo"));
        assert_eq!((other.status(), other.attempts()), (200, 1), "{}", other.text());
        let got = chat(&weir, 30, &of("qwen-plus"));
        if got.status() == 200 {
            break began.elapsed();
        }
        assert_eq!(got.text(), envelope_of_quota());
        assert!(began.elapsed() < Duration::from_secs(20), "never back");
        std::thread::sleep(Duration::from_millis(200));
    };
    assert!(back < Duration::from_secs(5 + 6), "back after {back:?}");
}

fn envelope_of_quota() -> String {
    envelope(
        "You exceeded your current quota, please check your plan and billing details.",
        "insufficient_quota",
        "insufficient_quota",
    )
}

/// A truly spent quota is refused at once for all models of the credential, after a few requests.
#[test]
fn r08_a_quota_that_is_spent_for_two_models_is_spent_for_all() {
    let (upstream, seen) = scripted(vec![too_many("", &envelope_of_quota())]);
    let weir = Weir::before(upstream, "");
    for model in ["one", "two"] {
        assert_eq!(chat(&weir, 30, &CHAT.replace("gpt-4o", model)).class(), Some("quota_insufficient"));
    }
    for model in ["one", "two", "three", "four", "five"] {
        let got = chat(&weir, 30, &CHAT.replace("gpt-4o", model));
        assert_eq!((got.status(), got.class()), (429, Some("weir_billing_block")), "{model}");
        assert_eq!((got.text(), got.message.header("x-should-retry")), (envelope_of_quota(), Some("false")));
    }
    assert_eq!(seen.count(), 2);
}

/// Scaleway's message for a limit of concurrent requests.
#[test]
fn r08_a_message_beside_an_error_in_words_is_kept() {
    let body = r#"{"status":429,"error":"INSUFFICIENT QUOTA","message":"You exceeded your current limit of concurrent requests."}"#;
    let (upstream, _seen) = scripted(vec![too_many("", body), good()]);
    let weir = Weir::before(upstream, "");
    assert_eq!(chat(&weir, 30, CHAT).status(), 200);
    assert!(weir.metric("weir_attempt_errors_total{class=\"slow_down\"}") >= 1.0);
}

#[test]
fn r13_spent_money_is_known_under_every_status() {
    for (status, body) in [
        (
            "402 Payment Required",
            r#"{"error":{"message":"Insufficient Balance","type":"unknown_error","param":null,"code":"invalid_request_error"}}"#,
        ),
        (
            "402 Payment Required",
            r#"{"error":{"code":402,"message":"Insufficient credits. Add more using https://openrouter.ai/credits"}}"#,
        ),
        ("403 Forbidden", r#"{"detail":"You've exhausted all your credits. Please add more."}"#),
        ("403 Forbidden", r#"{"code":"x","error":"You have run out of credits."}"#),
        (
            "400 Bad Request",
            r#"{"error":{"message":"Billing hard limit has been reached","type":"invalid_request_error","param":null,"code":"billing_hard_limit_reached"}}"#,
        ),
    ] {
        let (upstream, seen) = scripted(vec![json(status, "", body)]);
        let weir = Weir::before(upstream, "");
        let first = chat(&weir, 30, CHAT);
        assert!(
            first.class().is_some_and(|class| class.starts_with("quota_")),
            "{body}: {:?}",
            first.class()
        );
        assert_eq!(first.message.header("x-should-retry"), Some("false"));
        for _ in 0..5 {
            let got = chat(&weir, 30, CHAT);
            assert_eq!((got.status(), got.text()), (first.status(), body.to_owned()), "in its own words");
        }
        assert_eq!(seen.count(), 1, "{body}");
    }
}

/// "Can only afford 1421" concerns one request, and a bare 402 is ambiguous.
#[test]
fn r13_what_lacks_for_one_request_blocks_no_other() {
    for body in [
        r#"{"error":{"message":"This request requires more credits, or fewer max_tokens. You requested up to 65536 tokens, but can only afford 1421.","code":402}}"#,
        "",
    ] {
        let (upstream, seen) = scripted(vec![json("402 Payment Required", "", body), good()]);
        let weir = Weir::before(upstream, "");
        assert_eq!(chat(&weir, 30, CHAT).status(), 402);
        assert_eq!((chat(&weir, 30, CHAT).status(), seen.count()), (200, 2), "{body}");
    }
}

/// Workers with a short queue refuse further requests with this message.
fn busy(workers: u32, status: &'static str, body: &'static str) -> std::net::SocketAddr {
    let under_way = AtomicU32::new(0);
    answering(move |_| {
        if under_way.fetch_add(1, Ordering::SeqCst) >= workers {
            under_way.fetch_sub(1, Ordering::SeqCst);
            return json(status, "", body);
        }
        std::thread::sleep(Duration::from_millis(100));
        under_way.fetch_sub(1, Ordering::SeqCst);
        good()
    })
    .0
}

#[test]
fn r14_a_full_queue_is_no_outage() {
    for (status, body) in [
        (
            "503 Service Unavailable",
            r#"{"error":"server busy, please try again.  maximum pending requests exceeded"}"#,
        ),
        (
            "503 Service Unavailable",
            r#"{"object":"error","message":"The request queue is full.","type":"SERVICE_UNAVAILABLE","code":503}"#,
        ),
        ("429 Too Many Requests", r#"{"error":"Model is overloaded","error_type":"overloaded"}"#),
    ] {
        let weir = Weir::before(busy(4, status, body), "");
        let got = at_once(40, |_| chat(&weir, 60, CHAT).status());
        assert!(got.iter().all(|status| *status == 200), "{body}: {got:?}");
        assert!(weir.metric("weir_attempt_errors_total{class=\"slow_down\"}") >= 1.0, "{body}");
        assert!(weir.metric("weir_attempt_errors_total{class=\"bad_gateway\"}") < 1.0, "{body}");
        assert!(!weir.printed().contains("breaker_open"), "{body}");
    }
}

#[test]
fn r19_an_error_in_the_form_of_an_event_is_read() {
    let spent = "id:1\nevent:error\n:HTTP_STATUS/429\ndata:{\"error\":{\"code\":\"insufficient_quota\",\"type\":\"insufficient_quota\",\"message\":\"You exceeded your current quota\"}}\n\n";
    let (upstream, seen) = scripted(vec![answer("429 Too Many Requests", "text/event-stream", "", spent)]);
    let weir = Weir::before(upstream, "");
    let got = chat(&weir, 60, CHAT);
    assert_eq!((got.class(), got.attempts(), seen.count()), (Some("quota_insufficient"), 1, 1));
    assert_eq!(got.text(), spent);
    let tokens = "id:1\nevent:error\ndata:{\"error\":{\"type\":\"tokens\",\"code\":\"rate_limit_exceeded\",\"message\":\"Rate limit reached on tokens per min (TPM): Limit 10000, Used 9990, Requested 100. Please try again in 540ms.\"}}\n\n";
    let (upstream, seen) =
        scripted(vec![answer("429 Too Many Requests", "text/event-stream", "", tokens), good()]);
    let weir = Weir::before(upstream, "");
    assert_eq!(chat(&weir, 60, CHAT).status(), 200);
    assert!(seen.between(0, 1) >= Duration::from_millis(540), "{:?}", seen.between(0, 1));
    assert!(weir.metric("weir_attempt_errors_total{class=\"rate_limit_tokens\"}") >= 1.0);
    assert_eq!(limit(&weir, "gpt-4o", "tokens per minute", "limit"), Some(10_000.0));
}

#[test]
fn r20_moonshots_grammar_is_read() {
    let day = r#"{"error":{"message":"Your account org-x request reached organization TPD rate limit, current: 1526210, limit: 1500000","type":"rate_limit_reached_error"}}"#;
    let (upstream, _seen) = scripted(vec![too_many("", day)]);
    let weir = Weir::before(upstream, "");
    for _ in 0..5 {
        let got = chat(&weir, 30, CHAT);
        assert_eq!((got.status(), got.text()), (429, day.to_owned()));
        assert_eq!(got.message.header("x-should-retry"), Some("false"));
        assert!(got.took < Duration::from_secs(2), "{:?}", got.took);
    }
    assert!(weir.metric("weir_attempt_errors_total{class=\"rate_limit_tokens\"}") >= 1.0);
    let minute = r#"{"error":{"message":"Your account org-x request reached organization max RPM: 20, please try again after 1 seconds","type":"rate_limit_reached_error"}}"#;
    let (upstream, _seen) = scripted(vec![too_many("", minute), good()]);
    let weir = Weir::before(upstream, "");
    assert_eq!(chat(&weir, 30, CHAT).status(), 200);
    assert!(weir.metric("weir_attempt_errors_total{class=\"rate_limit_requests\"}") >= 1.0);
    assert_eq!(limit(&weir, "gpt-4o", "requests per minute", "limit"), Some(20.0));
}

#[test]
fn r21_a_hint_that_stands_in_the_body_alone_is_kept() {
    let google = |quota: &str| {
        format!(
            r#"{{"error":{{"code":429,"message":"Resource exhausted. Please try again later.","status":"RESOURCE_EXHAUSTED","details":[{{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{{"quotaId":"{quota}","quotaValue":"10"}}]}},{{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"1.5s"}}]}}}}"#
        )
    };
    let minute = google("GenerateRequestsPerMinutePerProjectPerModel");
    each_at_once([format!("[{minute}]"), minute], |body| {
        let (upstream, seen) = scripted(vec![too_many("", &body), good()]);
        let weir = Weir::before(upstream, "");
        assert_eq!(chat(&weir, 60, CHAT).status(), 200);
        assert!(seen.between(0, 1) >= Duration::from_millis(1_500), "{:?}", seen.between(0, 1));
    });
    let day = google("GenerateRequestsPerDayPerProjectPerModel-FreeTier");
    let (upstream, seen) = scripted(vec![too_many("", &day)]);
    let weir = Weir::before(upstream, "");
    let got = chat(&weir, 60, CHAT);
    assert_eq!((got.status(), got.text(), seen.count()), (429, day, 1));
    assert!(got.took < Duration::from_secs(2), "{:?}", got.took);
}

#[test]
fn r25_a_403_about_requests_at_once_is_waited_out_and_no_other() {
    let body = r#"{"error":{"message":"You have reached the concurrent request limit, please try again later","type":"access_denied"}}"#;
    let weir = Weir::before(busy(3, "403 Forbidden", body), "");
    let got = at_once(30, |_| chat(&weir, 60, CHAT).status());
    assert!(got.iter().all(|status| *status == 200), "{got:?}");
    let plain = envelope("You are not allowed to sample from this model.", "invalid_request_error", "");
    let (upstream, seen) = scripted(vec![json("403 Forbidden", "", &plain)]);
    let weir = Weir::before(upstream, "");
    let got = post(&weir, "/v1/chat/completions", "", CHAT);
    assert_eq!((got.status(), got.class(), seen.count()), (403, Some("permission_denied"), 1));
}
