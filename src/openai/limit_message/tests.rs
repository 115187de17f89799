use proptest::prelude::*;

use super::*;
use crate::openai::duration;

fn refusal(message: &str, kind: &str) -> LimitRefusal {
    parse(message, Some(kind)).unwrap()
}

#[test]
fn reads_the_grammar_of_today() {
    for (window, unit, dimension, limit, used, requested, wait) in [
        ("tokens per min (TPM)", "tokens", Dimension::TokensPerMinute, 10_000, 8554, 3082, "9.816s"),
        ("tokens per min (TPM)", "tokens", Dimension::TokensPerMinute, 30_000, 29_937, 385, "644ms"),
        ("requests per min (RPM)", "requests", Dimension::RequestsPerMinute, 3, 3, 1, "20s"),
        ("requests per day (RPD)", "requests", Dimension::RequestsPerDay, 1000, 1000, 1, "1m26.4s"),
        ("tokens per day (TPD)", "tokens", Dimension::TokensPerDay, 500, 499, 11, "28m48s"),
        ("images per minute (IPM)", "images", Dimension::ImagesPerMinute, 5, 5, 1, "12s"),
        ("tokens per min (TPM)", "tokens", Dimension::TokensPerMinute, 100_000, 99_918, 2094, "14h29m11.04s"),
    ] {
        let message = format!(
            "Rate limit reached for gpt-4 (gpt-4-long) in organization org-x on {window}: Limit {limit}, Used {used}, \
             Requested {requested}. Please try again in {wait}. Visit https://platform.openai.com/account/rate-limits to learn more."
        );
        let expected = LimitRefusal {
            dimension,
            limit: Some(limit),
            used: Some(used),
            requested: Some(requested),
            wait: duration::parse(wait),
            window: Some(dimension.window()),
            too_large: false,
            long_context: false,
        };
        assert_eq!(refusal(&message, unit), expected, "{message}");
    }
}

#[test]
fn the_limit_of_long_contexts_is_another() {
    for bucket in ["gpt-5.4-long-context", "long context"] {
        let refusal = refusal(
            &format!(
                "Rate limit reached for gpt-5.4 ({bucket}) in organization org-x on tokens per min (TPM): Limit 400000, Used \
                 248785, Requested 312683. Please try again in 24.22s."
            ),
            "tokens",
        );
        assert!(refusal.long_context);
        assert_eq!((refusal.limit, refusal.wait), (Some(400_000), Some(Duration::from_millis(24_220))));
    }
}

#[test]
fn a_request_too_large_can_never_pass() {
    let refusal = refusal(
        "Request too large for gpt-4o in organization org-x on tokens per min (TPM): Limit 30000, Requested 31538. The input \
         or output tokens must be reduced in order to run successfully.",
        "tokens",
    );
    assert!(refusal.too_large);
    assert_eq!((refusal.limit, refusal.requested, refusal.wait), (Some(30_000), Some(31_538), None));
}

#[test]
fn reads_the_dialects_of_2023() {
    let wait = refusal(
        "Rate limit reached for 10KTPM-200RPM in organization org-x on tokens per min. Limit: 10000 / min. Please try again in \
         6ms. Contact us through our help center at help.openai.com if you continue to have issues.",
        "tokens",
    );
    assert_eq!((wait.dimension, wait.limit), (Dimension::TokensPerMinute, Some(10_000)));
    assert_eq!((wait.used, wait.wait), (None, Some(Duration::from_millis(6))));
    let current = refusal(
        "Rate limit reached for default-global-with-image-limits in organization org-x on requests per min. Limit: 60.000000 / \
         min. Current: 100.000000 / min. Contact support@openai.com.",
        "requests",
    );
    assert_eq!((current.dimension, current.limit), (Dimension::RequestsPerMinute, Some(60)));
    assert_eq!((current.used, current.wait, current.too_large), (Some(100), None, false));
}

#[test]
fn reads_azure_and_doubts_a_day_for_a_minute() {
    let azure = |wait| {
        let message = format!(
            "Requests to the ChatCompletions_Create Operation under Azure OpenAI API version 2024-08-01-preview have exceeded \
             token rate limit of your current OpenAI S0 pricing tier. Please retry after {wait} seconds. Please go here."
        );
        refusal(&message, "")
    };
    assert_eq!(azure(55).dimension, Dimension::TokensPerMinute);
    assert_eq!(azure(55).wait, Some(Duration::from_secs(55)));
    assert_eq!(azure(86_400).wait, None);
}

#[test]
fn the_type_tells_what_the_message_does_not() {
    assert_eq!(refusal("Rate limit exceeded", "tokens").dimension, Dimension::TokensPerMinute);
    assert_eq!(refusal("Rate limit exceeded", "rate_limited").dimension, Dimension::Other);
    assert_eq!(parse("You exceeded your current quota", Some("insufficient_quota")), None);
}

#[test]
fn absurd_numbers_are_no_numbers() {
    let refusal = refusal(
        "Rate limit reached: Limit 1000000000000000000000000000000, Used -5, Requested many",
        "tokens",
    );
    assert_eq!((refusal.limit, refusal.used, refusal.requested), (None, None, None));
}

/// Dimension, limit, used, wait in seconds, window in seconds.
type Told = (Dimension, Option<u64>, Option<u64>, Option<u64>, Option<u64>);

#[test]
fn reads_other_vendors_words_in_any_letter_case() {
    use Dimension::{Other, RequestsPerDay, RequestsPerMinute, TokensPerDay, TokensPerMinute};
    let rows: [(&str, Told); 18] = [
        (
            "Your account org-x<ak-y> request reached organization TPD rate limit, current: 1526210, limit: 1500000",
            (TokensPerDay, Some(1_500_000), Some(1_526_210), None, Some(86_400)),
        ),
        (
            "Your account org-x request reached organization max RPM: 20, please try again after 1 seconds",
            (RequestsPerMinute, Some(20), None, Some(1), Some(60)),
        ),
        (
            "RATE LIMIT REACHED ON TOKENS PER MIN (TPM): LIMIT 10,000, USED 9_990, REQUESTED 100. PLEASE TRY AGAIN IN 54S.",
            (TokensPerMinute, Some(10_000), Some(9_990), Some(54), Some(60)),
        ),
        (
            "Rate limit of 150 per 86400s exceeded for UserByModelByDay. Please wait 53216 seconds before retrying.",
            (RequestsPerDay, Some(150), None, Some(53_216), Some(86_400)),
        ),
        (
            "Rate limit exceeded: limit of 5 requests per 10 seconds",
            (RequestsPerMinute, Some(5), None, None, Some(10)),
        ),
        ("Rate limit exceeded: free-models-per-day", (Other, None, None, None, Some(86_400))),
        (
            "You exceeded your current quota. * Quota exceeded for metric: generate_content_free_tier_requests, limit: 20, \
             model: gemini-2.5-flash\nPlease retry in 26.660853464s.",
            (RequestsPerMinute, Some(20), None, Some(26), None),
        ),
        (
            "This request would exceed your organization's rate limit of 80,000 input tokens per minute (org: x)",
            (TokensPerMinute, Some(80_000), None, None, Some(60)),
        ),
        (
            "Rate limit reached for model `x` on requests per day (RPD): Limit 1000, Used 1000, Requested 1. Please try \
             again in 1m26.4s.",
            (RequestsPerDay, Some(1_000), Some(1_000), Some(86), Some(86_400)),
        ),
        ("Hourly request limit: 100/hour", (RequestsPerMinute, Some(100), None, None, Some(3_600))),
        ("max tokens per minute: 6000 exceeded", (TokensPerMinute, Some(6_000), None, None, Some(60))),
        (
            "You are using a Trial key, which is limited to 10 API calls / minute. You can continue to use the Trial key.",
            (RequestsPerMinute, Some(10), None, None, Some(60)),
        ),
        ("At most 5 requests in 10 seconds are taken", (RequestsPerMinute, Some(5), None, None, Some(10))),
        ("You are limited to 100 requests an hour", (RequestsPerMinute, Some(100), None, None, Some(3_600))),
        ("Your plan allows 60 RPM", (RequestsPerMinute, Some(60), None, None, Some(60))),
        (
            "Only 90,000 input tokens per minute; try again in 3 seconds",
            (TokensPerMinute, Some(90_000), None, Some(3), Some(60)),
        ),
        (
            "Too many requests: limit exceeded, you sent 150 requests. Retry in 20 seconds",
            (Other, None, None, Some(20), None),
        ),
        ("Rate limit exceeded. Try again in 2 hours.", (Other, None, None, Some(7_200), None)),
    ];
    for (message, expected) in rows {
        let told = parse(message, None).unwrap_or_else(|| panic!("{message}"));
        let seconds = |time: Option<Duration>| time.map(|time| time.as_secs());
        assert_eq!(
            (told.dimension, told.limit, told.used, seconds(told.wait), seconds(told.window)),
            expected,
            "{message}"
        );
    }
    for message in
        ["max_tokens must be at most 4096", "max organization concurrency: 3", "You sent too much", ""]
    {
        assert_eq!(parse(message, None), None, "{message}");
    }
}

proptest! {
    #[test]
    fn any_message_is_read_without_harm(text in any::<String>(), kind in any::<Option<String>>()) {
        parse(&text, kind.as_deref());
        parse(&format!("Rate limit: Limit {text}, Used {text}. Please try again in {text}"), None);
    }
}
