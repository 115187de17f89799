//! The codes and words by which upstreams say what is wrong, in every dialect seen. Codes are
//! compared without regard to letter case; words are looked for outside quotes, keys and URLs,
//! which may echo a prompt.

use super::ErrorClass;
use crate::openai::ErrorBody;

/// A message's words, lower case, with what it quotes left out.
pub(super) struct Words(String);

impl Words {
    pub(super) fn of(body: &ErrorBody) -> Self {
        let mut text = body.masked().unwrap_or_default();
        // A type that is a phrase ("INSUFFICIENT QUOTA") says as much as a message.
        if let Some(kind) = body.kind.as_deref().filter(|kind| kind.contains(' ')) {
            text.push_str(". ");
            text.push_str(kind);
        }
        text.make_ascii_lowercase();
        Self(text)
    }

    /// Whether the message says this; `text` is lower case.
    pub(super) fn say(&self, text: &str) -> bool {
        self.0.contains(text)
    }

    pub(super) fn say_any(&self, texts: &[&str]) -> bool {
        texts.iter().any(|text| self.say(text))
    }

    /// The class of the first row whose words are said.
    pub(super) fn find(&self, rows: &[(&str, ErrorClass)]) -> Option<ErrorClass> {
        rows.iter().find(|(words, _)| self.say(words)).map(|(_, class)| *class)
    }
}

/// The class of the first row of which a code or type is one.
pub(super) fn by_code(body: &ErrorBody, rows: &[(ErrorClass, &[&str])]) -> Option<ErrorClass> {
    rows.iter().find(|(_, codes)| body.is_named(codes)).map(|(class, _)| *class)
}

/// Codes and types of spent money or usage, each with its class. The newer codes keep the old type
/// `insufficient_quota` beside them, so that it stands last.
pub(super) const QUOTA_CODES: [(ErrorClass, &[&str]); 6] = [
    (
        ErrorClass::QuotaCredit,
        &["credit_balance_exhausted", "insufficient_balance", "insufficient_credits", "not_enough_balance"],
    ),
    (
        ErrorClass::QuotaOrganizationSpend,
        &["organization_spend_limit_exceeded", "billing_hard_limit_reached"],
    ),
    (ErrorClass::QuotaProjectSpend, &["project_spend_limit_exceeded"]),
    (ErrorClass::QuotaUsageLimit, &["organization_usage_limit_exceeded"]),
    // Alibaba, Volcengine.
    (ErrorClass::QuotaBillingInactive, &["billing_not_active", "Arrearage", "AccountOverdueError"]),
    // Moonshot, one-api, LiteLLM.
    (
        ErrorClass::QuotaInsufficient,
        &["insufficient_quota", "exceeded_current_quota_error", "insufficient_user_quota", "budget_exceeded"],
    ),
];

/// Words of spent money where no code says it. Gemini says "exceeded your current quota" of a limit
/// by the minute: those words alone are none of these.
pub(super) const QUOTA_WORDS: [(&str, ErrorClass); 26] = [
    ("insufficient balance", ErrorClass::QuotaCredit),
    ("balance is insufficient", ErrorClass::QuotaCredit),
    ("insufficient account balance", ErrorClass::QuotaCredit),
    ("insufficient credit", ErrorClass::QuotaCredit),
    ("not enough balance", ErrorClass::QuotaCredit),
    ("not enough credit", ErrorClass::QuotaCredit),
    ("have any credits", ErrorClass::QuotaCredit),
    ("credits expired", ErrorClass::QuotaCredit),
    ("monthly included credits", ErrorClass::QuotaCredit),
    ("余额不足", ErrorClass::QuotaCredit),
    ("额度不足", ErrorClass::QuotaCredit),
    ("out of credit", ErrorClass::QuotaCredit),
    ("no credits left", ErrorClass::QuotaCredit),
    ("requires more credits", ErrorClass::QuotaCredit),
    ("exhausted all your credit", ErrorClass::QuotaCredit),
    ("used all available credits", ErrorClass::QuotaCredit),
    ("credit balance is too low", ErrorClass::QuotaCredit),
    ("credit limit exceeded", ErrorClass::QuotaCredit),
    ("billing hard limit", ErrorClass::QuotaOrganizationSpend),
    ("monthly spending limit", ErrorClass::QuotaOrganizationSpend),
    ("account is in arrears", ErrorClass::QuotaBillingInactive),
    ("billing is not active", ErrorClass::QuotaBillingInactive),
    ("欠费", ErrorClass::QuotaBillingInactive),
    ("budget has been exceeded", ErrorClass::QuotaInsufficient),
    // OpenRouter's own limit of a key, and other gateways'.
    ("key limit exceeded", ErrorClass::QuotaInsufficient),
    ("key budget exceeded", ErrorClass::QuotaInsufficient),
];

/// Words that make a lack of credit one of this request alone: a smaller one may pass.
pub(super) const ONE_REQUEST_WORDS: [&str; 3] = ["can only afford", "fewer max_tokens", "fewer tokens"];

/// Codes that say: this caller speeds up too fast, or the server takes no more at once.
pub(super) const SLOW_DOWN_CODES: [&str; 7] = [
    "slow_down",
    "queue_full",
    "queue_exceeded",
    "NoCapacity",
    "too_many_concurrent_requests",
    "concurrency_limit_exceeded",
    "max_concurrency",
];
/// Words of a bound on requests at once.
pub(super) const CONCURRENCY_WORDS: [&str; 7] = [
    "concurrent request",
    "requests at once",
    "requests at the same time",
    "simultaneous request",
    "max organization concurrency",
    "concurrency limit",
    "并发数过高",
];
/// Words of a server that takes no more for now. Waiting cures it, and it proves that the server
/// lives.
pub(super) const QUEUE_WORDS: [&str; 16] = [
    "slow down",
    "too many concurrent",
    "queue is full",
    "queue full",
    "queue is at capacity",
    "queue limit",
    "server busy",
    "server is busy",
    "server is too busy",
    "system is really busy",
    "experiencing high traffic",
    "experiencing high demand",
    "maximum pending requests",
    "maximum number of queued",
    "no slot available",
    "at maximum capacity",
];

/// Codes and types that say: too much at once for the servers, whoever asks.
pub(super) const OVERLOAD_CODES: [&str; 7] = [
    "server_is_overloaded",
    "service_unavailable_error",
    "engine_overloaded_error",
    "engine_overloaded",
    "overloaded_error",
    "model_overloaded",
    // llama.cpp, while it loads the model.
    "unavailable_error",
];
/// Words of a 503 that did nothing.
pub(super) const OVERLOAD_WORDS: [&str; 3] = ["overloaded", "loading model", "currently loading"];

/// Codes and types of a rate limit.
pub(super) const RATE_LIMIT_CODES: [&str; 16] = [
    "rate_limit_exceeded",
    "rate_limit_error",
    "rate_limit_reached_error",
    "rate_limit_reached",
    "RateLimitReached",
    "RateLimitExceeded",
    "rate_limited",
    "too_many_requests",
    "TooManyRequests",
    "RESOURCE_EXHAUSTED",
    "ThrottlingException",
    "Throttling",
    "Throttling.RateQuota",
    "Throttling.AllocationQuota",
    // Cerebras, Databricks.
    "token_quota_exceeded",
    "REQUEST_LIMIT_EXCEEDED",
];
/// Words of a limit that comes back, which some say with 403 and no code: GitHub, and Azure API
/// Management.
pub(super) const RATE_LIMIT_WORDS: [&str; 5] = [
    "rate limit exceeded",
    "exceeded a secondary rate limit",
    "rate limit is exceeded",
    "out of call volume quota",
    "out of bandwidth quota",
];

/// Codes of a model that is not there, or not for this project.
pub(super) const MODEL_CODES: [&str; 4] =
    ["model_not_found", "DeploymentNotFound", "model_not_available", "invalid_model"];

/// Words of a model that is not there: after "model", what it quotes left out.
pub(super) const MISSING_WORDS: [&str; 3] = ["does not exist", "not found", "not exist"];

/// Codes and words of a prompt that is longer than the model takes.
pub(super) const CONTEXT_CODES: [&str; 2] = ["context_length_exceeded", "exceed_context_size_error"];
pub(super) const CONTEXT_WORDS: [&str; 5] = [
    "maximum context length",
    "exceeds the available context size",
    "exceeds the context window",
    "exceed context limit",
    "prompt is too long:",
];

/// Codes of WebSocket mode.
pub(super) const WEBSOCKET_CODES: [(ErrorClass, &[&str]); 3] = [
    (ErrorClass::WebsocketPreviousResponseNotFound, &["previous_response_not_found"]),
    (ErrorClass::WebsocketConnectionLimit, &["websocket_connection_limit_reached"]),
    (ErrorClass::WebsocketStreamLimit, &["websocket_stream_limit_reached"]),
];

/// Codes of refused keys, which some vendors send with 400 or 403.
pub(super) const KEY_CODES: [(ErrorClass, &[&str]); 5] = [
    (ErrorClass::AuthenticationIpDenied, &["ip_not_authorized"]),
    (
        ErrorClass::AuthenticationNoOrganization,
        &["no_organization", "mismatched_organization", "mismatched_project"],
    ),
    (ErrorClass::AuthenticationMissingScope, &["missing_scope", "insufficient_permissions"]),
    (ErrorClass::AuthenticationIncorrectKey, &["invalid_api_key", "API_KEY_INVALID"]),
    (ErrorClass::AuthenticationInvalid, &["invalid_authentication"]),
];

/// Words of refused keys.
pub(super) const KEY_WORDS: [(&str, ErrorClass); 9] = [
    ("ip is not authorized", ErrorClass::AuthenticationIpDenied),
    ("ip not authorized", ErrorClass::AuthenticationIpDenied),
    ("member of an organization", ErrorClass::AuthenticationNoOrganization),
    ("missing scopes", ErrorClass::AuthenticationMissingScope),
    ("incorrect api key", ErrorClass::AuthenticationIncorrectKey),
    ("api key not valid", ErrorClass::AuthenticationIncorrectKey),
    ("invalid subscription key", ErrorClass::AuthenticationIncorrectKey),
    ("invalid authentication", ErrorClass::AuthenticationInvalid),
    ("provide an api key", ErrorClass::AuthenticationInvalid),
];
