//! How other providers and servers that speak the API word their limits: one row each, after
//! recorded answers.

use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::answer::Reply;
use super::limit_headers::Levels;
use super::limiter::{JointRefusal, Unit};
use crate::account::Rfc3339;
use crate::clock;
use crate::openai::duration;

/// Whose words the stand-in uses. Answers that succeed are the same in all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Dialect {
    /// The API itself: its paths begin with /v1, and its keys are bearer tokens.
    Openai,
    /// Azure OpenAI: remainders without limits, and the region in a header.
    Azure,
    /// OpenRouter.
    Openrouter,
    /// Gemini behind its compatible paths.
    Gemini,
    /// Anthropic behind its compatible paths.
    Anthropic,
    /// Groq.
    Groq,
    /// Mistral.
    Mistral,
    /// vLLM: slots and a queue, and no limits by the minute, as all that follow.
    Vllm,
    /// `SGLang`.
    Sglang,
    /// Text Generation Inference.
    Tgi,
    /// Ollama.
    Ollama,
}

/// How a header tells when a limit is whole again.
#[derive(Clone, Copy, Debug)]
enum Reset {
    /// `6m0s`.
    Span,
    /// RFC 3339.
    Date,
}

/// One dialect's words. In a body `{limit}`, `{used}`, `{requested}`, `{wait}`, `{seconds}`,
/// `{epoch}`, `{unit}`, `{phrase}`, `{model}` and `{organization}` stand for those of the refusal.
#[derive(Clone, Copy, Debug)]
struct Words {
    /// The headers of limit, remainder and reset: of requests, then of tokens; "" for those that
    /// are not sent.
    headers: [[&'static str; 3]; 2],
    reset: Reset,
    /// Fields that every answer bears.
    fixed: &'static [(&'static str, &'static str)],
    /// The refusals of a limit of requests and one of tokens.
    refused: [&'static str; 2],
    /// The status and the body of a refusal for what is under way and waits.
    full: (u16, &'static str),
}

const NONE: [[&str; 3]; 2] = [[""; 3]; 2];
const USUAL: [[&str; 3]; 2] = [
    ["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"],
    ["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"],
];
const OPENAI: Words = Words {
    headers: USUAL,
    reset: Reset::Span,
    fixed: &[],
    refused: [
        r#"{"error":{"message":"Rate limit reached for {model} in organization {organization} on {phrase}: Limit {limit}, Used {used}, Requested {requested}. Please try again in {wait}.","type":"requests","param":null,"code":"rate_limit_exceeded"}}"#,
        r#"{"error":{"message":"Rate limit reached for {model} in organization {organization} on {phrase}: Limit {limit}, Used {used}, Requested {requested}. Please try again in {wait}.","type":"tokens","param":null,"code":"rate_limit_exceeded"}}"#,
    ],
    full: (
        503,
        r#"{"error":{"message":"Slow down. Your request rate increased too quickly.","type":"server_error","param":null,"code":"slow_down"}}"#,
    ),
};
const SERVER: Words = Words { headers: NONE, ..OPENAI };

impl Dialect {
    #[expect(clippy::too_many_lines, reason = "it is a table")]
    fn words(self) -> Words {
        match self {
            Self::Openai => OPENAI,
            Self::Azure => Words {
                headers: [
                    ["", "x-ratelimit-remaining-requests", ""],
                    ["", "x-ratelimit-remaining-tokens", ""],
                ],
                fixed: &[("x-ms-region", "Sweden Central"), ("azureml-model-session", "d20260901-1")],
                refused: [
                    r#"{"error":{"code":"429","message":"Requests to the ChatCompletions_Create Operation under Azure OpenAI API version 2024-10-21 have exceeded call rate limit of your current OpenAI S0 pricing tier. Please retry after {seconds} seconds."}}"#,
                    r#"{"error":{"code":"429","message":"Requests to the ChatCompletions_Create Operation under Azure OpenAI API version 2024-10-21 have exceeded token rate limit of your current OpenAI S0 pricing tier. Please retry after {seconds} seconds."}}"#,
                ],
                full: (
                    429,
                    r#"{"error":{"code":"NoCapacity","message":"The system is currently experiencing high demand and cannot process your request: the queue is full."}}"#,
                ),
                ..OPENAI
            },
            Self::Openrouter => Words {
                headers: NONE,
                refused: [r#"{"error":{"message":"Rate limit exceeded: free-models-per-min","code":429,"metadata":{"headers":{"X-RateLimit-Limit":"{limit}","X-RateLimit-Remaining":"0","X-RateLimit-Reset":"{epoch}"}}}}"#;
                    2],
                full: (
                    503,
                    r#"{"error":{"message":"Provider returned error","code":503,"metadata":{"raw":"temporarily unavailable upstream","provider_name":"Simulated"}}}"#,
                ),
                ..OPENAI
            },
            Self::Gemini => Words {
                headers: NONE,
                refused: [
                    r#"[{"error":{"code":429,"message":"You exceeded your current quota, please check your plan and billing details.","status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{"quotaMetric":"generativelanguage.googleapis.com/generate_content_free_tier_requests","quotaId":"GenerateRequestsPerMinutePerProjectPerModel-FreeTier","quotaValue":"{limit}"}]},{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"{seconds}s"}]}}]"#,
                    r#"[{"error":{"code":429,"message":"You exceeded your current quota, please check your plan and billing details.","status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{"quotaMetric":"generativelanguage.googleapis.com/generate_content_free_tier_input_token_count","quotaId":"GenerateContentInputTokensPerModelPerMinute-FreeTier","quotaValue":"{limit}"}]},{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"{seconds}s"}]}}]"#,
                ],
                full: (
                    503,
                    r#"[{"error":{"code":503,"message":"The model is overloaded. Please try again later.","status":"UNAVAILABLE"}}]"#,
                ),
                ..OPENAI
            },
            Self::Anthropic => Words {
                headers: [
                    [
                        "anthropic-ratelimit-requests-limit",
                        "anthropic-ratelimit-requests-remaining",
                        "anthropic-ratelimit-requests-reset",
                    ],
                    [
                        "anthropic-ratelimit-tokens-limit",
                        "anthropic-ratelimit-tokens-remaining",
                        "anthropic-ratelimit-tokens-reset",
                    ],
                ],
                reset: Reset::Date,
                refused: [r#"{"type":"error","error":{"type":"rate_limit_error","message":"This request would exceed your organization's rate limit of {limit} {unit} per minute (org: {organization}, model: {model})."}}"#;
                    2],
                full: (529, r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#),
                ..OPENAI
            },
            Self::Groq => Words {
                refused: [
                    r#"{"error":{"message":"Rate limit reached for model `{model}` in organization `{organization}` service tier `on_demand` on {phrase}: Limit {limit}, Used {used}, Requested {requested}. Please try again in {wait}. Need more tokens?","type":"requests","code":"rate_limit_exceeded"}}"#,
                    r#"{"error":{"message":"Rate limit reached for model `{model}` in organization `{organization}` service tier `on_demand` on {phrase}: Limit {limit}, Used {used}, Requested {requested}. Please try again in {wait}. Need more tokens?","type":"tokens","code":"rate_limit_exceeded"}}"#,
                ],
                full: (498, r#"{"error":{"message":"capacity exceeded","type":"capacity_exceeded"}}"#),
                ..OPENAI
            },
            Self::Mistral => Words {
                headers: [
                    ["x-ratelimit-limit-req-minute", "x-ratelimit-remaining-req-minute", ""],
                    ["x-ratelimit-limit-tokens-minute", "x-ratelimit-remaining-tokens-minute", ""],
                ],
                refused: [
                    r#"{"object":"error","message":"Requests rate limit exceeded","type":"rate_limited","param":null,"code":"1300"}"#,
                    r#"{"object":"error","message":"Tokens rate limit exceeded","type":"rate_limited","param":null,"code":"1300"}"#,
                ],
                full: (
                    503,
                    r#"{"object":"error","message":"Service unavailable: the queue is full.","type":"service_unavailable","param":null,"code":"3505"}"#,
                ),
                ..OPENAI
            },
            Self::Vllm => Words {
                full: (
                    503,
                    r#"{"error":{"message":"The engine's request queue is full.","type":"ServiceUnavailableError","param":null,"code":503}}"#,
                ),
                ..SERVER
            },
            Self::Sglang => Words {
                full: (
                    503,
                    r#"{"object":"error","message":"The request queue is full.","type":"SERVICE_UNAVAILABLE","param":null,"code":503}"#,
                ),
                ..SERVER
            },
            Self::Tgi => Words {
                full: (429, r#"{"error":"Model is overloaded","error_type":"overloaded"}"#),
                ..SERVER
            },
            Self::Ollama => Words {
                full: (
                    503,
                    r#"{"error":"server busy, please try again.  maximum pending requests exceeded"}"#,
                ),
                ..SERVER
            },
        }
    }

    /// Whether it is a server that knows no limits by the minute.
    pub(super) fn is_server(self) -> bool {
        matches!(self, Self::Vllm | Self::Sglang | Self::Tgi | Self::Ollama)
    }

    /// Whether a path is one of its own.
    pub(super) fn knows(self, path: &str) -> bool {
        self != Self::Openai || path.starts_with("/v1/")
    }

    /// Writes what it tells of the limits, and the fields that every answer bears.
    pub(super) fn write(self, levels: Option<Levels>, headers: &mut HeaderMap) {
        let words = self.words();
        for (name, value) in words.fixed {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let Some(levels) = levels else { return };
        for (names, level) in words.headers.into_iter().zip([levels.requests, levels.tokens]) {
            let Some(level) = level else { continue };
            let reset = match words.reset {
                Reset::Span => duration::format(level.reset),
                Reset::Date => Rfc3339(clock::wall() + level.reset).to_string(),
            };
            let values = [level.limit.to_string(), level.remaining.to_string(), reset];
            for (name, value) in names.into_iter().zip(values).filter(|(name, _)| !name.is_empty()) {
                if let Ok(value) = HeaderValue::try_from(value) {
                    headers.insert(HeaderName::from_static(name), value);
                }
            }
        }
    }

    /// The body of a refusal.
    pub(super) fn refusal(self, refused: &JointRefusal, model: &str, organization: &str) -> Bytes {
        let JointRefusal { dimension, refusal } = refused;
        let (place, unit) = match dimension.unit() {
            Unit::Requests => (0, "requests"),
            Unit::Tokens => (1, "input tokens"),
        };
        let epoch = clock::wall().duration_since(UNIX_EPOCH).unwrap_or_default() + refusal.wait;
        let seconds = refusal.wait.max(Duration::from_secs(1)).as_millis().div_ceil(1000);
        let values = [
            ("{limit}", refusal.limit.to_string()),
            ("{used}", refusal.used.to_string()),
            ("{requested}", refusal.requested.to_string()),
            ("{wait}", duration::format(refusal.wait)),
            ("{seconds}", seconds.to_string()),
            ("{epoch}", epoch.as_millis().to_string()),
            ("{unit}", unit.to_owned()),
            ("{phrase}", dimension.phrase().to_owned()),
            ("{model}", quoted(model)),
            ("{organization}", quoted(organization)),
        ];
        let template = self.words().refused[place].to_owned();
        let body = values.iter().fold(template, |body, (name, value)| body.replace(name, value));
        Bytes::from(body)
    }

    /// The refusal of what finds neither a slot nor a place to wait.
    pub(super) fn full(self) -> Reply {
        let (status, body) = self.words().full;
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
        Reply::new(status, HeaderValue::from_static("application/json"), Bytes::from_static(body.as_bytes()))
    }
}

/// Text as it stands within the quotation marks of JSON.
fn quoted(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}
