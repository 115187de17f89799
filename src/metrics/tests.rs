use std::time::UNIX_EPOCH;

use super::*;
use crate::classify::ErrorClass;

fn settings(callers: &[&str]) -> Settings {
    Settings {
        callers: callers.iter().map(|name| Arc::from(*name)).collect(),
        version: "0.0.0",
        revision: "abc",
        started: UNIX_EPOCH,
        ..Settings::default()
    }
}

fn text(metrics: &Metrics, gathered: &Gathered) -> String {
    let mut out = Vec::new();
    metrics.encode(gathered, &mut out);
    String::from_utf8(out).unwrap()
}

fn series(text: &str) -> usize {
    text.lines().filter(|line| !line.starts_with('#')).count()
}

#[test]
fn every_family_is_there_from_the_first_scrape() {
    let text = text(&Metrics::new(&settings(&["batch"])), &Gathered::default());
    let dimensioned = [
        &families::LIMIT,
        &families::LIMIT_LEVEL,
        &families::LIMIT_WINDOW,
        &families::FOREIGN_USE,
        &families::LIMIT_HOLDS,
        &families::PACER_BURST,
        &families::CREDENTIAL_EXPIRES,
        &families::ISSUER_KEYS_AGE,
        &families::ISSUER_FAILURES,
        &families::UPSTREAM_LIMIT,
        &families::UPSTREAM_LIMIT_LEVEL,
    ];
    for family in FAMILIES {
        let exposed = text.contains(&format!("# HELP {family} "));
        // A limit is unknown before the upstream or the configuration states it, and a credential
        // without an exchange does not expire: any value would be wrong.
        assert_eq!(exposed, !dimensioned.iter().any(|limit| limit.name == family.name), "{family}");
    }
    for class in ErrorClass::ALL {
        assert!(text.contains(&format!("weir_errors_total{{class=\"{}\"}} 0\n", class.as_str())));
        assert!(text.contains(&format!("weir_attempt_errors_total{{class=\"{}\"}} 0\n", class.as_str())));
    }
    for endpoint in Endpoint::ALL {
        let endpoint = endpoint.as_str();
        for outcome in Outcome::ALL {
            let outcome = outcome.name();
            let line = format!(
                "weir_requests_total{{caller=\"batch\",endpoint=\"{endpoint}\",outcome=\"{outcome}\"}} 0\n"
            );
            assert!(text.contains(&line), "{line}");
        }
    }
}

#[test]
fn worst_case_is_what_the_plan_says() {
    let names: Vec<String> = (0..100).map(|index| format!("caller-{index}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let metrics = Metrics::new(&settings(&names));
    for index in 0..100_000 {
        metrics.model(&format!("model-{index}"), true);
    }
    for (caller, model) in (0..100).flat_map(|caller| (0..50).map(move |model| (caller, model))) {
        let model = metrics.model(&format!("model-{model}"), true);
        metrics.tokens(CallerId(caller), Some(model)).add(TokenKind::Input, 1);
    }
    let upstream = |index: u32| {
        let limit = DimensionGauges { dimension: "tokens_per_minute", ..DimensionGauges::default() };
        let limits = (0..4).map(|scope| (scope.to_string(), limit.clone())).collect();
        UpstreamGauges { name: format!("u{index}"), limits, ..UpstreamGauges::default() }
    };
    let gathered = Gathered {
        scopes: (0..1_000).map(full_scope).collect(),
        upstreams: (0..1_000).map(upstream).collect(),
        credentials: (0..16).map(|index| (index.to_string(), 1.0)).collect(),
        issuers: (0..16).map(|index| (index.to_string(), Some(1.0), 1)).collect(),
        ..Gathered::default()
    };
    let text = text(&metrics, &gathered);
    assert_eq!(series(&text), metrics.plan().worst);
    assert!(metrics.plan().worst <= 20_000);
    assert_eq!(
        metrics.labels_overflowed.count(Bounded::Model),
        100_000 - 50 + 5_000 - metrics.plan().pairs as u64
    );
    assert_eq!(metrics.labels_overflowed.count(Bounded::Scope), 1_000 - metrics.plan().scopes as u64);
}

#[test]
fn callers_beyond_the_bound_are_other() {
    let names: Vec<Arc<str>> = (0..1_000).map(|index| Arc::from(format!("caller-{index}"))).collect();
    let metrics = Metrics::new(&Settings { callers: names, max_series: 3_000, ..settings(&[]) });
    let fitting = metrics.plan().callers;
    assert!(fitting < 1_000);
    assert_eq!(metrics.labels_overflowed.count(Bounded::Caller), (1_000 - fitting) as u64);
    let last = CallerId(999);
    metrics.caller(last).at(Endpoint::Files).requests.inc(Outcome::Success);
    let text = text(&metrics, &Gathered::default());
    assert!(
        text.contains("weir_requests_total{caller=\"other\",endpoint=\"other\",outcome=\"success\"} 1\n")
    );
    assert!(series(&text) <= 3_000);
}

#[test]
fn a_reload_names_new_callers_within_the_bound() {
    let metrics = Metrics::new(&settings(&["first"]));
    metrics.name_caller(CallerId(1), "second");
    metrics.caller(CallerId(1)).sdk_retries.inc();
    let text = text(&metrics, &Gathered::default());
    assert!(text.contains("weir_sdk_retries_seen_total{caller=\"second\"} 1\n"));
    assert!(text.contains("weir_sdk_retries_seen_total{caller=\"first\"} 0\n"));
}

#[test]
fn a_model_takes_a_name_with_its_first_success_only() {
    let metrics = Metrics::new(&settings(&[]));
    metrics.model("gpt-nonsense", false).requests.inc(Outcome::UpstreamError);
    metrics.model("gpt-5", true).requests.inc(Outcome::Success);
    metrics.model("gpt-5", false).requests.inc(Outcome::UpstreamError);
    metrics.model(&"x".repeat(1 << 20), true).requests.inc(Outcome::Success);
    metrics.model("two words", true).requests.inc(Outcome::Success);
    let text = text(&metrics, &Gathered::default());
    assert!(text.contains("weir_model_requests_total{model=\"gpt-5\",outcome=\"success\"} 1\n"));
    assert!(text.contains("weir_model_requests_total{model=\"gpt-5\",outcome=\"upstream_error\"} 1\n"));
    assert!(text.contains("weir_model_requests_total{model=\"other\",outcome=\"upstream_error\"} 1\n"));
    assert!(text.contains("weir_model_requests_total{model=\"other\",outcome=\"success\"} 2\n"));
    assert!(!text.contains("nonsense") && !text.contains("two words"));
    assert!(text.len() < 1 << 20);
}

#[test]
fn queue_depths_that_are_not_gathered_any_more_are_0() {
    let metrics = Metrics::new(&settings(&["batch"]));
    let waiting = Gathered {
        queue_depth: vec![(CallerId(0), Lane::Background, 3), (CallerId(7), Lane::Interactive, 2)],
        ..Gathered::default()
    };
    let first = text(&metrics, &waiting);
    assert!(first.contains("weir_queue_depth{caller=\"batch\",lane=\"background\"} 3\n"));
    assert!(first.contains("weir_queue_depth{caller=\"other\",lane=\"interactive\"} 2\n"));
    let second = text(&metrics, &Gathered::default());
    assert!(second.contains("weir_queue_depth{caller=\"batch\",lane=\"background\"} 0\n"));
    assert!(second.contains("weir_queue_depth{caller=\"other\",lane=\"interactive\"} 0\n"));
}

#[test]
fn scopes_keep_their_names_and_the_rest_adds_up() {
    let metrics = Metrics::new(&Settings { max_scopes: 2, ..settings(&[]) });
    let gathered = |scopes: &[usize]| Gathered {
        scopes: scopes.iter().copied().map(full_scope).collect(),
        ..Gathered::default()
    };
    let first = text(&metrics, &gathered(&[3, 4]));
    assert!(first.contains("weir_permits_in_flight{scope=\"scope-3\"} 5\n"));
    let second = text(&metrics, &gathered(&[1, 2, 3, 4]));
    assert!(second.contains("weir_permits_in_flight{scope=\"scope-4\"} 5\n"));
    assert!(second.contains("weir_permits_in_flight{scope=\"other\"} 10\n"));
    assert!(second.contains("weir_limit{dimension=\"d0\",scope=\"other\"} 1000\n"));
    assert!(second.contains("weir_scopes 4\n"));
    assert!(!second.contains("scope-1\"") && !second.contains("scope-2\""));
    let third = text(&metrics, &gathered(&[1, 4]));
    assert!(
        third.contains("weir_permits_in_flight{scope=\"scope-1\"} 5\n"),
        "a name that is free again is given on"
    );
}

#[test]
fn hostile_names_are_escaped() {
    let metrics = Metrics::new(&settings(&["a\"b\\c\nd"]));
    let text = text(&metrics, &Gathered::default());
    assert!(text.contains(r#"weir_requests_in_flight{caller="a\"b\\c\nd"} 0"#));
}

/// Dashboards, alerts and scripts rely on every name, label and help text here.
///
/// After an intended change: `BLESS=1 cargo test --lib golden`, and read the difference.
#[test]
fn golden_exposition() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/metrics.txt");
    let actual = fixed_scenario();
    if option_env!("BLESS").is_some() {
        std::fs::write(path, &actual).unwrap();
    }
    let golden = std::fs::read_to_string(path).unwrap();
    for (number, (actual, golden)) in (1..).zip(actual.lines().zip(golden.lines())) {
        assert_eq!(actual, golden, "{path}:{number}");
    }
    assert_eq!(actual.lines().count(), golden.lines().count());
}

/// A scenario with some data in every family.
fn fixed_scenario() -> String {
    let metrics = Metrics::new(&Settings { workers: 2, ..settings(&["batch"]) });
    let batch = metrics.caller(CallerId(0));
    batch.in_flight.inc();
    batch.queue_wait.observe(1.5);
    metrics.tokens(CallerId(0), None).add(TokenKind::Input, 90);
    batch.sdk_retries.inc();
    let chat = batch.at(Endpoint::ChatCompletions);
    chat.requests.inc(Outcome::Success);
    chat.duration.observe(2.5);
    metrics.time_to_first_byte.observe(Endpoint::ChatCompletions, 0.75);
    metrics.overhead.observe(0.000_042);
    metrics.attempts(Endpoint::ChatCompletions).inc(AttemptOutcome::Error);
    metrics.attempts(Endpoint::ChatCompletions).inc(AttemptOutcome::Success);
    metrics.attempt_errors.inc(ErrorClass::Overloaded);
    metrics.errors.inc(ErrorClass::BadRequest);
    metrics.retries.inc(ErrorClass::Overloaded);
    metrics.retries_stopped.inc(RetryStop::Budget);
    metrics.queue_refusals.inc(QueueRefusal::PredictedDeadline);
    metrics.queue_prediction.observe(1.02);
    metrics.estimate_error.observe(1.5);
    metrics.tokens_estimated.inc_by(150);
    let model = metrics.model("gpt-5", true);
    metrics.tokens(CallerId(0), Some(model)).add(TokenKind::Output, 10);
    model.first_event.observe(0.4);
    model.per_token.observe(0.012);
    metrics.stream_outcomes.inc(StreamOutcome::Cut);
    metrics.upstream_connections.set(ConnectionState::Idle, 4);
    metrics.connections.add(ConnectionState::Active, 2);
    metrics.limits_reached.inc(Bound::BufferedBytes);
    metrics.worker_requests[1].inc();
    metrics.reloaded(false, UNIX_EPOCH);
    let limit = DimensionGauges {
        dimension: "tokens_per_minute",
        limit: 2e6,
        level: 388_120.0,
        window_seconds: 60.0,
        foreign_use_ratio: 0.25,
        pacer_burst: 66_667.0,
        holds: true,
    };
    let scope = ScopeGauges {
        name: "acme/gpt-5".to_owned(),
        dimensions: vec![limit],
        retry_budget_tokens: 12.5,
        permits_in_flight: 3,
        breaker_state: 2,
        breaker_opened: 1,
        ..ScopeGauges::default()
    };
    let gathered = Gathered {
        scopes: vec![scope],
        queue_depth: vec![(CallerId(0), Lane::Interactive, 7)],
        budgets: vec![(CallerId(0), BudgetPeriod::Day, 0.4), (CallerId(0), BudgetPeriod::Day, 0.9)],
        ceilings: vec![(CallerId(0), 3)],
        queue_bytes: 4_096,
        replay_bytes: 1_024,
        log_lines_dropped: 5,
        ..Gathered::default()
    };
    text(&metrics, &gathered)
}

fn full_scope(index: usize) -> ScopeGauges {
    let dimension = |dimension| DimensionGauges { dimension, limit: 500.0, ..DimensionGauges::default() };
    ScopeGauges {
        name: format!("scope-{index}"),
        permits_in_flight: 5,
        dimensions: ["d0", "d1", "d2", "d3"].map(dimension).to_vec(),
        ..ScopeGauges::default()
    }
}
