//! Real responses of the API, and the rows of its guide, each with the expected class.

mod guide;
mod levels;

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use proptest::prelude::*;
use serde_json::Value;

use super::ErrorClass::*;
use super::*;
use crate::openai::{Dimension, Endpoint, Event, LimitHeaders, Part, SseScanner, Unit, limit_headers};
use levels::LEVELS;

const FIXTURES: &str = include_str!("../../../tests/fixtures/openai_responses.json");
const DIALECTS: &str = include_str!("../../../tests/fixtures/dialects.json");
const PROVIDERS: &str = include_str!("../../../tests/fixtures/providers.json");

/// The class of every sample that is an error.
const CLASSES: [(&str, ErrorClass); 64] = [
    ("rec_01_404_model_not_found", ModelNotFound),
    ("rec_02_401_invalid_api_key", AuthenticationIncorrectKey),
    ("rec_03_404_model_not_found", ModelNotFound),
    ("rec_04_401_invalid_api_key", AuthenticationIncorrectKey),
    ("rec_06_404_model_not_found", ModelNotFound),
    ("rec_07_400_unknown_parameter", BadRequest),
    ("rec_08_404_DeploymentNotFound", ModelNotFound),
    ("rec_10_400_invalid_image_url", BadRequest),
    ("rec_11_400_invalid_value", BadRequest),
    ("rec_13_400_invalid_value", BadRequest),
    ("rec_14_400_invalid_value", BadRequest),
    ("rec_15_400_unsupported_value", BadRequest),
    ("rec_16_400_nocode", BadRequest),
    ("rec_18_400_nocode", BadRequest),
    ("rec_19_401_invalid_api_key", AuthenticationIncorrectKey),
    ("rec_20_401_invalid_api_key", AuthenticationIncorrectKey),
    ("rec_21_401_invalid_api_key", AuthenticationIncorrectKey),
    ("429_tpm_gpt4", RateLimitTokens),
    ("429_tpm_gpt4o_644ms", RateLimitTokens),
    ("429_tpm_gpt4o_18s", RateLimitTokens),
    ("429_tpm_gpt41_3890ms", RateLimitTokens),
    ("429_tpm_long_context_family", RateLimitTokens),
    ("429_too_large_tpm", RequestExceedsLimit),
    ("429_too_large_tpm_2", RequestExceedsLimit),
    ("429_rpm_3", RateLimitRequests),
    ("429_rpm_3_embeddings", RateLimitRequests),
    ("429_rpd_200", RateLimitRequests),
    ("429_rpd_50", RateLimitRequests),
    ("429_rpd_2000", RateLimitRequests),
    ("429_2023_family_name", RateLimitTokens),
    ("429_2023_current", RateLimitRequests),
    ("429_headers_only_responses", RateLimitOther),
    ("429_insufficient_quota", QuotaInsufficient),
    ("429_billing_not_active", QuotaBillingInactive),
    ("429_credit_balance_exhausted", QuotaCredit),
    ("429_organization_spend_limit_exceeded", QuotaOrganizationSpend),
    ("429_project_spend_limit_exceeded", QuotaProjectSpend),
    ("429_organization_usage_limit_exceeded", QuotaUsageLimit),
    ("503_server_is_overloaded", Overloaded),
    ("401_no_organization", AuthenticationNoOrganization),
    ("401_missing_scopes", AuthenticationMissingScope),
    ("401_incorrect_key", AuthenticationIncorrectKey),
    ("401_textplain_status_field", AuthenticationIncorrectKey),
    ("401_ip_not_authorized", AuthenticationIpDenied),
    ("403_country", RegionUnsupported),
    ("400_context_length", ContextLengthExceeded),
    ("400_context_length_completion", ContextLengthExceeded),
    ("400_conversation_locked", ConversationLocked),
    ("500_server_error_2025", InternalServerError),
    ("503_model_overloaded_2023", Overloaded),
    ("503_cf_service_unavailable_json", BadGateway),
    ("502_html_short", BadGateway),
    ("520_html_text", BadGateway),
    ("503_envoy_connect_error", BadGateway),
    ("503_no_healthy_upstream", BadGateway),
    ("sse200_insufficient_quota", QuotaInsufficient),
    ("sse200_rate_limit_tokens", RateLimitTokens),
    ("sse200_spec_flat_error", StreamError),
    ("azure_429_tpm", RateLimitTokens),
    ("azure_429_headers", RateLimitOther),
    ("groq_413_tpm", RequestExceedsLimit),
    ("mistral_429", RateLimitOther),
    ("moonshot_429_overloaded", Overloaded),
    ("deepseek_401_plain", AuthenticationOther),
];

struct Sample {
    id: String,
    status: StatusCode,
    endpoint: Endpoint,
    headers: HeaderMap,
    body: Vec<u8>,
}

fn samples() -> Vec<Sample> {
    let samples: Vec<Value> = serde_json::from_str(FIXTURES).unwrap();
    samples.iter().map(Sample::of).collect()
}

impl Sample {
    fn of(sample: &Value) -> Self {
        let headers = sample["headers"].as_object().unwrap().iter().map(|(name, value)| {
            let name = HeaderName::from_bytes(name.to_lowercase().as_bytes()).unwrap();
            (name, HeaderValue::from_str(value.as_str().unwrap()).unwrap())
        });
        let body = match &sample["body"] {
            Value::Null => Vec::new(),
            Value::String(text) => text.clone().into_bytes(),
            object @ (Value::Object(_) | Value::Array(_) | Value::Bool(_) | Value::Number(_)) => {
                serde_json::to_vec(object).unwrap()
            }
        };
        let path = sample["endpoint"].as_str().unwrap_or("/v1/chat/completions");
        Self {
            id: sample["id"].as_str().unwrap().to_owned(),
            status: StatusCode::from_u16(u16::try_from(sample["status"].as_u64().unwrap()).unwrap()).unwrap(),
            endpoint: Endpoint::of(&Method::POST, path),
            headers: headers.collect(),
            body,
        }
    }

    fn classified(&self) -> Option<Classified> {
        if self.status.as_u16() >= 400 {
            return Some(response(
                self.endpoint,
                self.status,
                &self.headers,
                &self.body,
                SystemTime::UNIX_EPOCH,
            ));
        }
        let mut hidden = None;
        SseScanner::default().feed(&self.body, &mut |event| match event {
            Event::Error { data } | Event::Failed { data, .. } => {
                hidden.get_or_insert_with(|| stream_error(self.endpoint, data, SystemTime::UNIX_EPOCH));
            }
            Event::Done
            | Event::Preamble
            | Event::Output
            | Event::Usage(_)
            | Event::Completed(_)
            | Event::Incomplete(_) => {}
        });
        hidden
    }
}

#[test]
fn every_sample_has_its_class() {
    let samples = samples();
    assert_eq!(samples.len(), CLASSES.len() + LEVELS.len());
    for sample in samples {
        let class = CLASSES.iter().find(|(id, _)| *id == sample.id).map(|(_, class)| *class);
        assert!(
            class.is_some() || LEVELS.iter().any(|(id, ..)| *id == sample.id),
            "{} has no row",
            sample.id
        );
        assert_eq!(sample.classified().map(|classified| classified.class), class, "{}", sample.id);
    }
}

/// Errors of many providers, gateways and servers, and similar texts that are not such errors.
#[test]
fn every_provider_is_understood() {
    let rows: Vec<Value> = serde_json::from_str(PROVIDERS).unwrap();
    let wrong: Vec<String> = rows
        .iter()
        .filter_map(|row| {
            let sample = Sample::of(row);
            let found = sample.classified()?.class.as_str();
            let expected = &row["expected"]["class"];
            (found != expected).then(|| format!("{}: {found}, not {expected}", sample.id))
        })
        .collect();
    assert!(rows.len() >= 100 && wrong.is_empty(), "{} rows:\n{}", rows.len(), wrong.join("\n"));
}

/// Errors of other vendors' servers: the class, the wait and the numbers of each.
#[test]
fn every_dialect_is_understood() {
    let rows: Vec<Value> = serde_json::from_str(DIALECTS).unwrap();
    let wrong: Vec<String> = rows.iter().flat_map(misread).collect();
    assert!(rows.len() >= 160 && wrong.is_empty(), "{} rows:\n{}", rows.len(), wrong.join("\n"));
}

/// The differences between a parsed row and its expectation.
fn misread(row: &Value) -> Vec<String> {
    let sample = Sample::of(row);
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_743_239_584);
    let classified = if row["status"] == 200 {
        stream_error(sample.endpoint, &sample.body, wall)
    } else {
        response(sample.endpoint, sample.status, &sample.headers, &sample.body, wall)
    };
    let expected = &row["expected"];
    let refusal = classified.refusal.unwrap_or_default();
    let seconds = |time: Option<Duration>| time.map_or(Value::Null, |time| time.as_secs_f64().into());
    let mut found = vec![
        ("class", classified.class.as_str().into(), &expected["class"]),
        ("hint", seconds(classified.hint), &expected["hint"]),
    ];
    if !expected["of_account"].is_null() {
        found.push(("of_account", classified.of_account.into(), &expected["of_account"]));
    }
    if !expected["message"].is_null() {
        found.push(("message", classified.body.message.as_deref().into(), &expected["message"]));
    }
    if let Some(numbers) = expected["refusal"].as_object() {
        let window = refusal.window.map(|window| window.as_secs());
        found.extend([
            ("dimension", Dimension::as_str(refusal.dimension).into(), &numbers["dimension"]),
            ("limit", refusal.limit.into(), &numbers["limit"]),
            ("used", refusal.used.into(), &numbers["used"]),
            ("window", window.into(), &numbers["window"]),
        ]);
    }
    let differs = |(_, found, expected): &(&str, Value, &Value)| match (found.as_f64(), expected.as_f64()) {
        (Some(found), Some(expected)) => (found - expected).abs() > 1e-9,
        _ => found != *expected,
    };
    let of_row = |(what, found, expected)| format!("{}: {what} {found}, not {expected}", sample.id);
    found.into_iter().filter(differs).map(of_row).collect()
}

/// The limiter is a token bucket: the wait in a refusal follows from its numbers.
#[test]
fn the_numbers_of_every_refusal_agree_with_its_wait() {
    let mut agreed = 0;
    for sample in samples() {
        let Some(refusal) = sample.classified().and_then(|classified| classified.refusal) else { continue };
        let (Some(limit), Some(used), Some(requested), Some(wait)) =
            (refusal.limit, refusal.used, refusal.requested, refusal.wait)
        else {
            continue;
        };
        let window = u64::try_from(refusal.dimension.window().as_millis()).unwrap();
        let expected = (used + requested - limit) * window / limit;
        let wait = u64::try_from(wait.as_millis()).unwrap();
        assert!(wait.abs_diff(expected) <= 1, "{}: {wait} {expected}", sample.id);
        agreed += 1;
    }
    assert_eq!(agreed, 11);
}

#[test]
fn hints_of_the_samples_are_found() {
    for (id, hint) in [
        ("429_tpm_gpt4", Some(9_816)),
        ("429_rpd_50", Some(1_728_000)),
        ("429_2023_family_name", Some(6)),
        ("429_2023_current", None),
        ("429_too_large_tpm", None),
        ("429_insufficient_quota", None),
        ("429_headers_only_responses", None),
        ("azure_429_headers", Some(55_000)),
        ("azure_429_tpm", None),
        ("sse200_rate_limit_tokens", Some(1_574)),
    ] {
        let sample = samples().into_iter().find(|sample| sample.id == id).unwrap();
        assert_eq!(sample.classified().unwrap().hint, hint.map(Duration::from_millis), "{id}");
    }
}

#[test]
fn an_edge_that_reached_nobody_says_so() {
    for (id, refused) in [
        ("503_no_healthy_upstream", true),
        ("503_envoy_connect_error", true),
        ("503_server_is_overloaded", true),
        ("moonshot_429_overloaded", true),
        ("502_html_short", false),
        ("520_html_text", false),
        ("503_cf_service_unavailable_json", false),
        ("500_server_error_2025", false),
    ] {
        let sample = samples().into_iter().find(|sample| sample.id == id).unwrap();
        assert_eq!(sample.classified().unwrap().refused, refused, "{id}");
    }
}

#[test]
fn a_status_alone_tells_whether_anything_was_done() {
    for (status, refused) in [
        (400, true),
        (401, true),
        (408, false),
        (409, false),
        (429, true),
        (500, false),
        (502, false),
        (503, false),
        (504, false),
        (520, false),
        (521, true),
        (522, true),
        (523, true),
        (524, false),
        (525, true),
        (526, true),
        (529, true),
    ] {
        let code = StatusCode::from_u16(status).unwrap();
        let classified = response(Endpoint::Files, code, &HeaderMap::new(), b"", SystemTime::UNIX_EPOCH);
        assert_eq!(!classified.may_have_run(), refused, "{status}");
    }
}

#[test]
fn keys_in_the_samples_are_masked() {
    for sample in samples() {
        let Some(masked) = sample.classified().and_then(|classified| classified.body.masked()) else {
            continue;
        };
        for secret in
            ["sk-", "DEADBEEF", "bad-key", "https://", "not-a-r", "does-not-exist", "input[3]", "rs_68c"]
        {
            assert!(!masked.contains(secret), "{masked}");
        }
    }
}

// The rows of the API's guide, and the rules of the class table without a sample.

proptest! {
    #[test]
    fn any_answer_has_a_class_of_the_upstreams(status in 100_u16..1000, body in any::<Vec<u8>>(), text in any::<String>()) {
        let status = StatusCode::from_u16(status).unwrap();
        for body in [&body[..], text.as_bytes()] {
            let classified = response(Endpoint::Other, status, &HeaderMap::new(), body, SystemTime::UNIX_EPOCH);
            prop_assert!(!classified.class.is_own());
            prop_assert!(!stream_error(Endpoint::Other, body, SystemTime::UNIX_EPOCH).class.is_own());
        }
    }
}
