use std::time::SystemTime;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::*;
use crate::classify::ErrorClass;
use crate::clock;
use crate::metrics::{self, Gathered, Outcome};
use crate::openai::Endpoint;
use crate::telemetry;

fn account() -> Arc<Account> {
    account_with(Settings::default())
}

fn account_with(settings: Settings) -> Arc<Account> {
    let callers: Vec<Arc<str>> = vec!["batch".into(), "web".into()];
    let metrics =
        Metrics::new(&metrics::Settings { callers: callers.clone(), ..metrics::Settings::default() });
    Account::new(settings, metrics, Registry::with(&callers), clock::now())
}

fn begin(account: &Arc<Account>) -> Box<Record> {
    let id = RequestId::new(&mut fastrand::Rng::with_seed(7));
    let begin =
        Begin { id, caller: CallerId(0), endpoint: Endpoint::ChatCompletions, sdk_retries: 0, trace: None };
    account.begin(&begin, clock::now())
}

fn sample(account: &Account, line: &str) -> String {
    let mut text = Vec::new();
    account.metrics().encode(&Gathered::default(), &mut text);
    let text = String::from_utf8(text).unwrap();
    let found = text.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' '));
    found.unwrap_or_else(|| panic!("no series {line}")).to_owned()
}

async fn pass(millis: u64) {
    tokio::time::advance(Duration::from_millis(millis)).await;
}

#[tokio::test(start_paused = true)]
async fn a_success_counts_once_with_what_weir_added() {
    let account = account();
    let mut record = begin(&account);
    assert_eq!(account.metrics().caller(CallerId(0)).in_flight.get(), 1);
    record.set_model("gpt-5");
    record.set_estimate(150);
    pass(3).await;
    record.waited(Wait::Client, Duration::from_millis(3));
    pass(500).await;
    record.waited(Wait::Queue, Duration::from_millis(500));
    pass(2).await;
    record.attempt(Duration::ZERO, false, clock::now());
    pass(800).await;
    record.attempt_answered(StatusCode::OK, None, clock::now());
    pass(1).await;
    record.answered(StatusCode::OK, clock::now());
    assert_eq!(record.overhead(), Some(Duration::from_millis(3)));
    pass(10_000).await;
    record.used(Usage { input: 90, cached: 40, output: 10 }, 100);
    record.finish(clock::now());

    let series = account.metrics().caller(CallerId(0));
    assert_eq!(series.in_flight.get(), 0);
    assert_eq!(series.at(Endpoint::ChatCompletions).requests.count(Outcome::Success), 1);
    assert_eq!(
        sample(&account, "weir_attempts_total{endpoint=\"chat_completions\",outcome=\"success\"}"),
        "1"
    );
    assert_eq!(sample(&account, "weir_tokens_total{caller=\"batch\",kind=\"cached\",model=\"gpt-5\"}"), "40");
    assert_eq!(sample(&account, "weir_estimate_error_ratio_sum"), "1.5");
    assert_eq!(sample(&account, "weir_queue_wait_seconds_sum{caller=\"batch\"}"), "0.5");
    assert_eq!(
        sample(&account, "weir_time_to_first_byte_seconds_sum{endpoint=\"chat_completions\"}"),
        "1.306"
    );
    assert_eq!(sample(&account, "weir_overhead_seconds_sum"), "0.003");
    assert!(account.reports().is_empty());
    assert!(account.history().classes(clock::now()).is_empty());
}

#[tokio::test(start_paused = true)]
async fn retries_and_the_error_in_the_end_are_told_apart() {
    let account = account();
    let mut record = begin(&account);
    record.set_model("gpt-5");
    record.attempt(Duration::ZERO, false, clock::now());
    pass(100).await;
    record.attempt_answered(
        StatusCode::SERVICE_UNAVAILABLE,
        Some(HeaderValue::from_static("req_1")),
        clock::now(),
    );
    record.attempt_failed(ErrorClass::Overloaded, clock::now());
    pass(400).await;
    record.attempt(Duration::from_millis(400), false, clock::now());
    pass(50).await;
    record.attempt_failed(ErrorClass::ConnectionReset, clock::now());
    record.failed(
        ErrorClass::ConnectionReset,
        Some(ErrorDetail::masked(Some("reset by 'peer'"), None, None, None)),
    );
    record.answered(StatusCode::BAD_GATEWAY, clock::now());
    assert_eq!(record.overhead(), Some(Duration::ZERO));
    record.finish(clock::now());

    let metrics = account.metrics();
    assert_eq!(metrics.attempt_errors.count(ErrorClass::Overloaded), 1);
    assert_eq!(metrics.attempt_errors.count(ErrorClass::ConnectionReset), 1);
    assert_eq!(metrics.errors.count(ErrorClass::Overloaded), 0);
    assert_eq!(metrics.errors.count(ErrorClass::ConnectionReset), 1);
    assert_eq!(metrics.retries.count(ErrorClass::Overloaded), 1);
    let series = metrics.caller(CallerId(0)).at(Endpoint::ChatCompletions);
    assert_eq!(series.requests.count(Outcome::NoResponse), 1);
    let classes = account.history().classes(clock::now());
    let told: Vec<_> = classes.iter().map(|seen| (seen.class, seen.attempts, seen.requests)).collect();
    assert_eq!(told, [(ErrorClass::Overloaded, 1, 0), (ErrorClass::ConnectionReset, 1, 1)]);
    let report = account.reports().find("w-000001").unwrap();
    assert_eq!(report.message, "reset by '…'");
    assert_eq!(report.attempts[0].upstream_request_id.as_deref(), Some("req_1"));
    assert_eq!(report.attempts.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn dropped_means_that_the_client_left() {
    let account = account();
    let mut record = begin(&account);
    record.attempt(Duration::ZERO, false, clock::now());
    drop(record);
    let metrics = account.metrics();
    assert_eq!(metrics.errors.count(ErrorClass::WeirClientClosed), 1);
    assert_eq!(metrics.attempt_errors.count(ErrorClass::WeirClientClosed), 0, "not the upstream's doing");
    assert_eq!(
        sample(&account, "weir_attempts_total{endpoint=\"chat_completions\",outcome=\"client_closed\"}"),
        "1"
    );
    assert_eq!(metrics.caller(CallerId(0)).in_flight.get(), 0);
    assert!(account.reports().is_empty(), "nothing failed");
    let mut passed_on = begin(&account);
    passed_on.failed(ErrorClass::BadRequest, None);
    drop(passed_on);
    assert_eq!(metrics.errors.count(ErrorClass::BadRequest), 1, "an error passed on stays that error");
}

#[tokio::test(start_paused = true)]
async fn attempts_of_one_request_are_bounded_and_counted() {
    let account = account();
    let mut record = begin(&account);
    for _ in 0..100 {
        record.attempt(Duration::ZERO, false, clock::now());
        record.attempt_failed(ErrorClass::SlowDown, clock::now());
    }
    assert_eq!((record.attempts().count(), record.attempts().iter().count()), (100, 16));
    record.failed(ErrorClass::SlowDown, None);
    record.finish(clock::now());
    assert_eq!(account.metrics().attempt_errors.count(ErrorClass::SlowDown), 100);
    assert_eq!(account.metrics().retries.count(ErrorClass::SlowDown), 99);
    assert!(account.reports().find("last").unwrap().to_string().contains("84 between are left out"));
}

fn fail(account: &Arc<Account>, class: ErrorClass, model: &str, code: Option<&str>) {
    let mut record = begin(account);
    record.set_model(model);
    record.failed(class, Some(ErrorDetail::masked(Some("Something went wrong"), None, code, None)));
    record.answered(StatusCode::BAD_REQUEST, clock::now());
    record.finish(clock::now());
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_one_failure_does_not_push_out_the_rest() {
    let account = account_with(Settings { reports: 10, ..Settings::default() });
    fail(&account, ErrorClass::InternalServerError, "gpt-5", None);
    for _ in 0..1_000 {
        fail(&account, ErrorClass::BadRequest, "gpt-5", Some("invalid_value"));
    }
    fail(&account, ErrorClass::BadRequest, "gpt-4", Some("invalid_value"));
    let list = account.reports().list();
    assert_eq!(list.len(), 10);
    assert_eq!(list[0].model.as_deref(), Some("gpt-4"));
    assert_eq!((list[0].occurrences, list[1].occurrences), (1, 1_000));
    assert_eq!(list[9].id, "w-000001", "the one that differs is kept");
    assert_eq!(account.reports().find("w-000002").map(|report| report.id), None);
    assert_eq!(account.reports().find("w-001001").map(|report| report.occurrences), Some(1_000));
}

#[tokio::test(start_paused = true)]
async fn a_code_that_the_catalog_lacks_is_named_and_said_to_be_new() {
    let account = account();
    fail(&account, ErrorClass::BadRequest, "gpt-5", Some("a_code_of_next_year"));
    let text = account.reports().find("last").unwrap().to_string();
    assert!(
        text.contains(
            "Code      a_code_of_next_year (not in the catalog: the guide may be newer than this Weir)"
        ),
        "{text}"
    );
    fail(&account, ErrorClass::SlowDown, "gpt-5", Some("slow_down"));
    assert!(account.reports().find("last").unwrap().to_string().contains("Code      slow_down\n"));
}

#[tokio::test(start_paused = true)]
async fn kinds_of_failure_are_bounded() {
    let account = account();
    for index in 0..2_000 {
        fail(&account, ErrorClass::ModelNotFound, &format!("model-{index}"), None);
    }
    fail(&account, ErrorClass::ModelNotFound, "model-1999", None);
    assert_eq!(account.reports().find("last").unwrap().occurrences, 2);
    assert_eq!(account.reports().len(), 256);
}

#[tokio::test(start_paused = true)]
async fn a_report_reads_as_support_asks_for_it() {
    let account = account();
    let mut record = begin(&account);
    record.set_model("gpt-5\nForged: line");
    let mut headers = HeaderMap::new();
    headers.insert("user-agent", HeaderValue::from_static("OpenAI/Python 2.1.0"));
    headers.insert("authorization", HeaderValue::from_static("Bearer sk-secret"));
    let mut sensitive = HeaderValue::from_static("secret");
    sensitive.set_sensitive(true);
    headers.insert("x-api-key", sensitive);
    let list = ["user-agent", "x-api-key", "x-stainless-lang"].map(HeaderName::from_static);
    record.keep_headers(&headers, &list);
    record.attempt(Duration::ZERO, false, clock::now());
    pass(1_204).await;
    let id = HeaderValue::from_static("req_0123456789abcdef");
    record.attempt_answered(StatusCode::INTERNAL_SERVER_ERROR, Some(id), clock::now());
    record.attempt_failed(ErrorClass::InternalServerError, clock::now());
    record.failed(
        ErrorClass::InternalServerError,
        Some(ErrorDetail::masked(
            Some("The server had an error processing 'my prompt'"),
            Some("server_error"),
            None,
            None,
        )),
    );
    record.answered(StatusCode::INTERNAL_SERVER_ERROR, clock::now());
    record.finish(clock::now());
    let mut report = account.reports().find("last").unwrap();
    report.time = Rfc3339(SystemTime::UNIX_EPOCH);
    let expected = "\
Weir report w-000001
Time      1970-01-01T00:00:00.000Z (UTC)
Model     gpt-5\\nForged: line
Endpoint  chat_completions
Error     500 internal_server_error
Code      none
Type      server_error
Param     none
Message   The server had an error processing '…'
Occurred  once
Caller    batch
Request   REQUEST
Took      1.204 s, 0.000 s of it in the queue
Attempts  1
  1. at 0.000 s: 500 internal_server_error after 1.204 s, x-request-id req_0123456789abcdef
Headers
  user-agent: OpenAI/Python 2.1.0
Request data is not kept (report.request_data).
";
    assert_eq!(report.to_string(), expected.replace("REQUEST", &report.request_id));
    let json = serde_json::to_string(&report).unwrap();
    assert!(
        json.contains("\"type\":\"server_error\"") && !json.contains("secret") && !json.contains("my prompt")
    );
}

/// Runs `log` with a subscriber, and returns the output.
fn logged(log: impl FnOnce()) -> String {
    let (sender, lines) = std::sync::mpsc::channel::<Vec<u8>>();
    let writer = move || Line(sender.clone());
    let (subscriber, _) = telemetry::subscriber(&telemetry::Settings::default(), writer);
    telemetry::with_own_log(subscriber, log);
    lines.try_iter().map(|line| String::from_utf8(line).unwrap()).collect()
}

struct Line(std::sync::mpsc::Sender<Vec<u8>>);

impl std::io::Write for Line {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.0.send(line.to_vec()).unwrap();
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A request that succeeded with its second attempt.
fn retried(account: &Arc<Account>) {
    let start = clock::now();
    let at = |millis| start + Duration::from_millis(millis);
    let mut record = begin(account);
    record.set_model("gpt-5");
    record.set_estimate(150);
    record.set_bytes_in(497);
    record.set_deadline(at(60_000));
    record.waited(Wait::Queue, Duration::from_millis(300));
    record.attempt(Duration::ZERO, false, at(300));
    record.attempt_answered(
        StatusCode::SERVICE_UNAVAILABLE,
        Some(HeaderValue::from_static("req_1")),
        at(350),
    );
    record.attempt_failed(ErrorClass::Overloaded, at(350));
    record.attempt(Duration::from_millis(500), false, at(850));
    record.attempt_answered(StatusCode::OK, Some(HeaderValue::from_static("req_2")), at(1_250));
    record.answered(StatusCode::OK, at(1_250));
    record.sent(937);
    record.used(Usage { input: 90, cached: 0, output: 10 }, 100);
    record.finish(at(1_260));
}

#[tokio::test(start_paused = true)]
async fn the_access_log_tells_it_in_one_json_line() {
    let account = account();
    let text = logged(|| retried(&account));
    assert_eq!(text.lines().count(), 1);
    let mut line: serde_json::Value = serde_json::from_str(&text).unwrap();
    let line = line.as_object_mut().unwrap();
    assert!(line.remove("timestamp").unwrap().as_str().unwrap().ends_with('Z'));
    let expected = serde_json::json!({
        "level": "INFO", "target": "weir::access",
        "request_id": RequestId::new(&mut fastrand::Rng::with_seed(7)).to_string(),
        "caller": "batch", "endpoint": "chat_completions", "model": "gpt-5", "outcome": "success", "status": 200,
        "duration_ms": 1260.0, "queue_ms": 300.0, "overhead_ms": 0.0, "deadline_left_ms": 58750.0,
        "stream": false, "bytes_in": 497, "bytes_out": 937,
        "tokens_estimated": 150, "tokens_charged": 100, "tokens_input": 90, "tokens_cached": 0, "tokens_output": 10,
        "attempt_count": 2,
        "attempts": [
            {"outcome": "overloaded", "status": 503, "delay_ms": 0.0, "start_ms": 300.0, "time_to_head_ms": 50.0,
             "upstream_request_id": "req_1"},
            {"outcome": "success", "status": 200, "delay_ms": 500.0, "start_ms": 850.0, "time_to_head_ms": 400.0,
             "upstream_request_id": "req_2"},
        ],
    });
    assert_eq!(&serde_json::Value::Object(line.clone()), &expected);
}

#[tokio::test(start_paused = true)]
async fn on_a_terminal_it_is_text() {
    let account = account_with(Settings { log_text: true, ..Settings::default() });
    let text = logged(|| retried(&account));
    let told =
        "200 success batch chat_completions gpt-5 1.260 s (waited 0.300 s) 2 attempts: overloaded success";
    assert!(text.contains(told), "{text}");
    let text = logged(|| fail(&account, ErrorClass::BadRequest, "gpt\u{1b}[31m", Some("x")));
    assert!(
        text.contains("400 refused batch") && text.contains("[bad_request] Something went wrong"),
        "{text}"
    );
    assert!(!text.contains('\u{1b}'), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_sample_never_leaves_out_an_error() {
    let account = account_with(Settings { log_sample: 0.25, ..Settings::default() });
    let mut rng = fastrand::Rng::with_seed(3);
    let text = logged(|| {
        for _ in 0..1_000 {
            let id = RequestId::new(&mut rng);
            let begin =
                Begin { id, caller: CallerId(1), endpoint: Endpoint::Models, sdk_retries: 0, trace: None };
            account.begin(&begin, clock::now()).finish(clock::now());
        }
    });
    let told = text.lines().count();
    assert!((200..300).contains(&told), "{told}");
    let text = logged(|| (0..50).for_each(|_| fail(&account, ErrorClass::BadRequest, "gpt-5", None)));
    assert_eq!(text.lines().count(), 50);
}

#[tokio::test(start_paused = true)]
async fn a_minute_in_which_nothing_known_came_is_noticed() {
    let account = account();
    let request = |endpoint| {
        let id = RequestId::new(&mut fastrand::Rng::with_seed(7));
        let begin = Begin { id, caller: CallerId(0), endpoint, sdk_retries: 0, trace: None };
        account.begin(&begin, clock::now()).finish(clock::now());
    };
    request(Endpoint::Other);
    pass(59_000).await;
    assert_eq!(account.unknown_last_minute(clock::now()), None, "the first minute is not over");
    request(Endpoint::Other);
    pass(2_000).await;
    assert_eq!(account.unknown_last_minute(clock::now()), Some(1));
    request(Endpoint::Models);
    assert_eq!(account.unknown_last_minute(clock::now()), None);
    pass(90_000).await;
    assert_eq!(account.unknown_last_minute(clock::now()), None, "nothing came at all");
}
