//! From an error answer's status, headers and body to its class.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, StatusCode};

use super::ErrorClass;
use crate::openai::limit_message::{self, Unit};
use crate::openai::{Endpoint, ErrorBody, LimitRefusal, retry_hint};

/// How much of an error body is worth reading: more than any envelope, less than a page.
pub const MAX_BODY: usize = 64 << 10;

/// What an error means, and what it says of another try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Classified {
    /// The class.
    pub class: ErrorClass,
    /// The status that came, or the one that an error inside a stream stands for.
    pub status: StatusCode,
    /// What the body says.
    pub body: ErrorBody,
    /// How long the answer asks to wait.
    pub hint: Option<Duration>,
    /// The limit that refused the request, where the message tells.
    pub refusal: Option<LimitRefusal>,
    /// The upstream did nothing: it, or the edge before it, refused the request before working on it.
    pub refused: bool,
    /// The upstream's own `x-should-retry`.
    pub should_retry: Option<bool>,
    /// The error came inside a stream whose status was 200.
    pub hidden: bool,
}

static SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// Classifies an answer with a status of 400 or more by its head and the start of its body (see [`MAX_BODY`]), decoded.
///
/// `wall` is the wall time now, for hints that are dates. A lower status is classified as malformed.
pub fn response(
    endpoint: Endpoint,
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    wall: SystemTime,
) -> Classified {
    let body = ErrorBody::parse(&body[..body.len().min(MAX_BODY)]);
    let mut classified = of_body(endpoint, status, body);
    classified.hint = retry_hint::in_headers(headers, wall).or(classified.hint);
    classified.should_retry = should_retry(headers);
    classified
}

/// What the upstream itself says of another try.
pub(super) fn should_retry(headers: &HeaderMap) -> Option<bool> {
    match headers.get(&SHOULD_RETRY).map(http::HeaderValue::as_bytes) {
        Some(b"true") => Some(true),
        Some(b"false") => Some(false),
        Some(_) | None => None,
    }
}

/// Classifies what is known without headers: a status, and a body that was read.
pub(crate) fn of_body(endpoint: Endpoint, status: StatusCode, body: ErrorBody) -> Classified {
    let refusal = body
        .message
        .as_deref()
        .filter(|_| matches!(status.as_u16(), 413 | 429))
        .and_then(|message| limit_message::parse(message, body.kind.as_deref()));
    let class = class(endpoint, status, &body, refusal.as_ref());
    // A wait that the grammar has judged implausible is not let in again by another door.
    let wait = match &refusal {
        Some(refusal) => refusal.wait,
        None => body.message.as_deref().and_then(limit_message::wait),
    };
    let hint = wait.filter(|wait| !wait.is_zero() && *wait <= retry_hint::MAX_HINT);
    let refused = did_nothing(class, status, &body);
    Classified { class, status, body, hint, refusal, refused, should_retry: None, hidden: false }
}

impl Classified {
    /// Whether the upstream may have worked on the request, so that a repeat may do it twice.
    pub fn may_have_run(&self) -> bool {
        !self.refused
    }
}

/// Codes and types of spent money or usage, each with its class. The newer codes keep the old type `insufficient_quota` beside
/// them, so that it stands last.
pub(crate) const QUOTA_CODES: [(ErrorClass, &[&str]); 6] = [
    (ErrorClass::QuotaCredit, &["credit_balance_exhausted"]),
    (
        ErrorClass::QuotaOrganizationSpend,
        &["organization_spend_limit_exceeded", "billing_hard_limit_reached"],
    ),
    (ErrorClass::QuotaProjectSpend, &["project_spend_limit_exceeded"]),
    (ErrorClass::QuotaUsageLimit, &["organization_usage_limit_exceeded"]),
    (ErrorClass::QuotaBillingInactive, &["billing_not_active", "Arrearage", "AccountOverdueError"]),
    (ErrorClass::QuotaInsufficient, &["insufficient_quota", "exceeded_current_quota_error"]),
];
/// Words of spent money where no code says it, each with its class. Gemini says "exceeded your current quota" of a limit by
/// the minute: those words alone are none of these.
const QUOTA_WORDS: [(&str, ErrorClass); 12] = [
    ("insufficient balance", ErrorClass::QuotaCredit),
    ("insufficient credit", ErrorClass::QuotaCredit),
    ("not enough credit", ErrorClass::QuotaCredit),
    ("out of credits", ErrorClass::QuotaCredit),
    ("requires more credits", ErrorClass::QuotaCredit),
    ("exhausted all your credits", ErrorClass::QuotaCredit),
    ("used all available credits", ErrorClass::QuotaCredit),
    ("credit balance is too low", ErrorClass::QuotaCredit),
    ("credit limit exceeded", ErrorClass::QuotaCredit),
    ("billing hard limit", ErrorClass::QuotaOrganizationSpend),
    ("monthly spending limit", ErrorClass::QuotaOrganizationSpend),
    ("account is suspended", ErrorClass::QuotaBillingInactive),
];
/// Words of a server that takes no more at once, or of a bound on requests at once. Waiting cures it, and it proves that the
/// server lives.
const BACKPRESSURE_WORDS: [&str; 9] = [
    "slow down",
    "concurrent request",
    "concurrency",
    "queue is full",
    "queue full",
    "server busy",
    "server is busy",
    "maximum pending requests",
    "no slot available",
];
/// Codes and types that say: too much at once for the servers, whoever asks.
pub(crate) const OVERLOAD_CODES: [&str; 4] =
    ["server_is_overloaded", "service_unavailable_error", "engine_overloaded_error", "overloaded_error"];
/// Codes that say: this caller speeds up too fast.
pub(crate) const SLOW_DOWN_CODES: [&str; 1] = ["slow_down"];
/// Codes of a model that is not there, or not for this project.
pub(crate) const MODEL_CODES: [&str; 3] = ["model_not_found", "DeploymentNotFound", "model_not_available"];

fn class(
    endpoint: Endpoint,
    status: StatusCode,
    body: &ErrorBody,
    refusal: Option<&LimitRefusal>,
) -> ErrorClass {
    // Words and codes decide before the status does.
    if status.is_client_error()
        && let Some(class) = quota(status, body)
    {
        return class;
    }
    if matches!(status.as_u16(), 403 | 429 | 503) && is_backpressure(status, body) {
        return ErrorClass::SlowDown;
    }
    match status.as_u16() {
        400 => bad_request(body),
        401 => authentication(body),
        403 => permission(body),
        404 => not_found(endpoint, body),
        408 => ErrorClass::RequestTimeout,
        409 => ErrorClass::Conflict,
        // Groq refuses with 413 what can never pass its limit.
        413 if refusal.is_some_and(|refusal| refusal.too_large) => ErrorClass::RequestExceedsLimit,
        413 => ErrorClass::PayloadTooLarge,
        422 => ErrorClass::Unprocessable,
        429 => too_many(body, refusal),
        _ if status.is_client_error() => ErrorClass::OtherClientError,
        500 => server_error(body),
        503 => unavailable(body),
        529 => ErrorClass::Overloaded,
        502 | 504 | 520..=530 => gateway(status, body),
        _ if status.is_server_error() => ErrorClass::OtherServerError,
        _ => ErrorClass::MalformedResponse,
    }
}

/// The class of spent money or usage, where a code or the words say so; 402 says it by itself.
fn quota(status: StatusCode, body: &ErrorBody) -> Option<ErrorClass> {
    let by_code = QUOTA_CODES.iter().find(|(_, codes)| body.is_named(codes)).map(|(class, _)| *class);
    let by_words = || QUOTA_WORDS.iter().find(|(words, _)| body.says(words)).map(|(_, class)| *class);
    by_code
        .or_else(by_words)
        .or_else(|| (status == StatusCode::PAYMENT_REQUIRED).then_some(ErrorClass::QuotaInsufficient))
}

fn is_backpressure(status: StatusCode, body: &ErrorBody) -> bool {
    match status.as_u16() {
        // A 403 is a refusal for good but for these words.
        403 => body.says("concurrent request"),
        _ => body.is_named(&SLOW_DOWN_CODES) || BACKPRESSURE_WORDS.iter().any(|words| body.says(words)),
    }
}

fn bad_request(body: &ErrorBody) -> ErrorClass {
    let websocket = [
        ("previous_response_not_found", ErrorClass::WebsocketPreviousResponseNotFound),
        ("websocket_connection_limit_reached", ErrorClass::WebsocketConnectionLimit),
        ("websocket_stream_limit_reached", ErrorClass::WebsocketStreamLimit),
    ];
    if let Some((_, class)) = websocket.into_iter().find(|(code, _)| body.is_named(&[code])) {
        return class;
    }
    if body.param.as_deref() == Some("service_tier") || body.says("invalid service_tier") {
        return ErrorClass::ServiceTierInvalid;
    }
    if body.is_named(&["conversation_locked"]) {
        ErrorClass::ConversationLocked
    } else if body.is_named(&["context_length_exceeded"]) || body.says("maximum context length") {
        ErrorClass::ContextLengthExceeded
    } else if body.is_named(&MODEL_CODES) {
        // `/responses` says so with 400.
        ErrorClass::ModelNotFound
    } else {
        ErrorClass::BadRequest
    }
}

fn authentication(body: &ErrorBody) -> ErrorClass {
    if body.is_named(&["ip_not_authorized"])
        || body.says("IP is not authorized")
        || body.says("IP not authorized")
    {
        ErrorClass::AuthenticationIpDenied
    } else if body.is_named(&["no_organization", "mismatched_organization", "mismatched_project"])
        || body.says("member of an organization")
    {
        ErrorClass::AuthenticationNoOrganization
    } else if body.is_named(&["missing_scope", "insufficient_permissions"]) || body.says("Missing scopes") {
        ErrorClass::AuthenticationMissingScope
    } else if body.is_named(&["invalid_api_key"]) || body.says("Incorrect API key") {
        ErrorClass::AuthenticationIncorrectKey
    } else if body.is_named(&["invalid_authentication"])
        || body.says("Invalid Authentication")
        || body.says("didn't provide an API key")
        || body.says("provide an API key")
    {
        ErrorClass::AuthenticationInvalid
    } else {
        ErrorClass::AuthenticationOther
    }
}

fn permission(body: &ErrorBody) -> ErrorClass {
    if body.is_named(&["unsupported_country_region_territory"])
        || body.says("region, or territory not supported")
    {
        ErrorClass::RegionUnsupported
    } else if body.is_named(&MODEL_CODES) || body.says("does not have access to model") {
        ErrorClass::ModelNotFound
    } else {
        ErrorClass::PermissionDenied
    }
}

fn not_found(endpoint: Endpoint, body: &ErrorBody) -> ErrorClass {
    if body.is_named(&MODEL_CODES) || (endpoint == Endpoint::Models && body.says("model")) {
        ErrorClass::ModelNotFound
    } else {
        ErrorClass::NotFound
    }
}

fn too_many(body: &ErrorBody, refusal: Option<&LimitRefusal>) -> ErrorClass {
    if body.is_named(&OVERLOAD_CODES) {
        return ErrorClass::Overloaded;
    }
    if body.is_named(&["resource_unavailable"]) || body.says("resource unavailable") {
        return ErrorClass::ResourceUnavailable;
    }
    if refusal.is_some_and(|refusal| refusal.too_large) {
        return ErrorClass::RequestExceedsLimit;
    }
    match (refusal.map(|refusal| refusal.dimension.unit()), body.kind.as_deref()) {
        (Some(Unit::Tokens), _) | (None, Some("tokens")) => ErrorClass::RateLimitTokens,
        (Some(Unit::Requests), _) | (None, Some("requests")) => ErrorClass::RateLimitRequests,
        (Some(Unit::Other) | None, _) => ErrorClass::RateLimitOther,
    }
}

fn server_error(body: &ErrorBody) -> ErrorClass {
    if body.is_named(&OVERLOAD_CODES) { ErrorClass::Overloaded } else { ErrorClass::InternalServerError }
}

fn unavailable(body: &ErrorBody) -> ErrorClass {
    if body.is_named(&OVERLOAD_CODES) || body.says("overloaded") {
        ErrorClass::Overloaded
    } else {
        // It must say so: an overload is repeated whatever the operation, as nothing was done.
        ErrorClass::BadGateway
    }
}

fn gateway(status: StatusCode, body: &ErrorBody) -> ErrorClass {
    if body.is_named(&OVERLOAD_CODES) {
        ErrorClass::Overloaded
    } else if matches!(status.as_u16(), 504 | 524) {
        // The edge stopped waiting; the API may still be at work.
        ErrorClass::GatewayTimeout
    } else {
        ErrorClass::BadGateway
    }
}

/// Whether the answer proves that the upstream did nothing for the request.
fn did_nothing(class: ErrorClass, status: StatusCode, body: &ErrorBody) -> bool {
    // The edge never reached a server. 521: refused; 522: no connection; 523: unreachable; 525, 526: TLS.
    let unreached = matches!(status.as_u16(), 521 | 522 | 523 | 525 | 526)
        || body.says("no healthy upstream")
        || body.says("reset reason: connection failure")
        || body.says("reset reason: remote connection failure");
    // 408 and 409 tell of a request that is, or was, under way. Every other 4xx is decided before any work.
    let decided_before_work = status.is_client_error() && !matches!(status.as_u16(), 408 | 409);
    let turned_away = matches!(class, ErrorClass::Overloaded | ErrorClass::SlowDown);
    decided_before_work || turned_away || (class == ErrorClass::BadGateway && unreached)
}
