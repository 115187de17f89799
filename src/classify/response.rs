//! Classifies an error response by its status, headers and body.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, StatusCode};

use super::ErrorClass;
use super::words::{TABLES, Words, by_code};
use crate::openai::limit_message::{self, Unit};
use crate::openai::{Endpoint, ErrorBody, LimitRefusal, limit_headers, retry_hint};

/// Most bytes of an error body that are read: more than any JSON error, less than an HTML page.
pub const MAX_BODY: usize = 64 << 10;

/// A classified error, with its hints for retries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Classified {
    /// The class.
    pub class: ErrorClass,
    /// The response's status, or the status that an error inside a stream represents.
    pub status: StatusCode,
    /// The parsed body.
    pub body: ErrorBody,
    /// The wait that the response asks for, or that its numbers imply.
    pub hint: Option<Duration>,
    /// The limit that refused the request, if the message names it.
    pub refusal: Option<LimitRefusal>,
    /// Whether the upstream, or its edge, refused the request before processing it.
    pub refused: bool,
    /// The upstream's own `x-should-retry`.
    pub should_retry: Option<bool>,
    /// Whether the error was inside a stream whose status was 200.
    pub hidden: bool,
    /// Whether the message is about the account, not about this request ("can only afford 100
    /// tokens") or nothing (a bare 402). Only if [`ErrorClass::is_quota`].
    pub of_account: bool,
}

static SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// Classifies a response with a status of 400 or more by its head and the decoded start of its body
/// (see [`MAX_BODY`]).
///
/// `wall` is the current wall time, for hints that are dates. A status below 400 is classified as
/// malformed.
pub fn response(
    endpoint: Endpoint,
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    wall: SystemTime,
) -> Classified {
    let mut body = ErrorBody::parse(&body[..body.len().min(MAX_BODY)]);
    body.take_type(headers);
    let mut classified = of_body(endpoint, status, body, wall);
    classified.read_hints(headers, wall);
    classified
}

/// Classifies an error without headers: a status and a body.
pub(crate) fn of_body(
    endpoint: Endpoint,
    status: StatusCode,
    body: ErrorBody,
    wall: SystemTime,
) -> Classified {
    let words = Words::of(&body);
    let refusal = limit_message::of_body(&body);
    let class = class(endpoint, status, &body, &words, refusal.as_ref());
    // Messages of other classes contain numbers too ("max_tokens: limit 4096"), which are not a
    // refusal's.
    let refusal = refusal.filter(|_| is_of_a_limit(class));
    let hint = hint(&body, refusal.as_ref(), wall);
    let refused = did_nothing(class, status, &words);
    let of_account = class.is_quota() && is_of_account(&body, &words);
    Classified { class, status, body, hint, refusal, refused, should_retry: None, hidden: false, of_account }
}

/// The wait that the body asks for: by a field, by its words, or by its numbers for a limit of
/// hours or days.
fn hint(body: &ErrorBody, refusal: Option<&LimitRefusal>, wall: SystemTime) -> Option<Duration> {
    let of_hours = refusal.filter(|refusal| refusal.window.is_some_and(|window| window > HOUR));
    // A wait that the grammar rejected as implausible must not be accepted from the other fields.
    let words = match refusal {
        Some(refusal) => refusal.wait,
        None => body.message.as_deref().and_then(limit_message::wait),
    };
    let said = || body.message.as_deref().and_then(limit_message::moment);
    let moment = |at: SystemTime| at.duration_since(wall).unwrap_or_default();
    let told = body.hints.wait.or_else(|| body.hints.reset_at.map(moment)).or(words);
    let told = told.or_else(|| said().map(moment));
    let told = told.filter(|wait| !wait.is_zero() && *wait <= retry_hint::MAX_HINT);
    match (told, of_hours) {
        (told, None) => told,
        // Google states seconds for a quota that returns the next day.
        (Some(told), Some(refusal)) if body.hints.window.is_some() => Some(told.max(some_time_of(refusal))),
        (Some(told), Some(_)) => Some(told),
        (None, Some(refusal)) => Some(refilled_in(refusal).unwrap_or_else(|| some_time_of(refusal))),
    }
}

/// The wait for a spent limit of hours or days without a stated time: a fraction of its window,
/// because no caller waits for hours.
fn some_time_of(refusal: &LimitRefusal) -> Duration {
    (refusal.window.unwrap_or(DAY) / 24).min(HOUR)
}

/// The time until a token bucket refills enough for the request, from the numbers of a refusal
/// without a time.
fn refilled_in(refusal: &LimitRefusal) -> Option<Duration> {
    let (limit, used, window) = (refusal.limit?, refusal.used?, refusal.window?);
    let over = used.saturating_add(refusal.requested.unwrap_or(1)).saturating_sub(limit);
    let wait = window.checked_mul(u32::try_from(over).ok()?)? / u32::try_from(limit).ok()?.max(1);
    Some(wait).filter(|wait| !wait.is_zero() && *wait <= retry_hint::MAX_HINT)
}

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

impl Classified {
    /// Whether the upstream may have processed the request, so that repeating it may do the work
    /// twice.
    pub fn may_have_run(&self) -> bool {
        !self.refused
    }

    /// Applies the hints in the headers, which take precedence over the body's.
    pub(super) fn read_hints(&mut self, headers: &HeaderMap, wall: SystemTime) {
        let spent = limit_headers::spent_window(headers, wall);
        if spent.is_some()
            && self.status == StatusCode::SERVICE_UNAVAILABLE
            && self.class == ErrorClass::BadGateway
        {
            // APISIX refuses with 503, and reports the limit only in headers.
            (self.class, self.refused) = (ErrorClass::RateLimitOther, true);
        }
        let told = retry_hint::in_headers(headers, wall).or(spent.filter(|_| is_of_a_limit(self.class)));
        // An implausible hint in a header is ignored like one in the message.
        let told = told.filter(|told| !(limit_message::is_a_day(*told) && self.is_of_a_minute()));
        self.hint = match (told, self.hint) {
            (Some(told), Some(hint)) if self.is_of_a_day_without_a_time() => Some(told.max(hint)),
            (told, hint) => told.or(hint),
        };
        self.should_retry = match headers.get(&SHOULD_RETRY).map(http::HeaderValue::as_bytes) {
            Some(b"true") => Some(true),
            Some(b"false") => Some(false),
            Some(_) | None => None,
        };
    }

    /// Whether the message says that the limit renews every minute.
    fn is_of_a_minute(&self) -> bool {
        let unnumbered = |refusal: &LimitRefusal| {
            refusal.limit.is_none() && refusal.window.is_none_or(|window| window < DAY)
        };
        self.refusal
            .as_ref()
            .is_some_and(|refusal| unnumbered(refusal) && refusal.dimension.unit() != Unit::Other)
    }

    /// Whether the refusal is of a daily limit with a hint in seconds (Google).
    fn is_of_a_day_without_a_time(&self) -> bool {
        self.body.hints.window.is_some_and(|window| window >= DAY)
    }
}

fn is_of_a_limit(class: ErrorClass) -> bool {
    use ErrorClass as C;
    matches!(
        class,
        C::RateLimitRequests
            | C::RateLimitTokens
            | C::RateLimitOther
            | C::RequestExceedsLimit
            | C::SlowDown
            | C::Overloaded
    )
}

/// Words and codes take precedence over the status: one vendor sends with 429 what another sends
/// with 403 or 503.
fn class(
    endpoint: Endpoint,
    status: StatusCode,
    body: &ErrorBody,
    words: &Words,
    refusal: Option<&LimitRefusal>,
) -> ErrorClass {
    if is_backpressure(status, body, words) {
        return ErrorClass::SlowDown;
    }
    if let Some(class) = quota(status, body, words) {
        return class;
    }
    if body.is_named(&TABLES.overload_codes) {
        return ErrorClass::Overloaded;
    }
    // Groq refuses with 413 requests that can never pass its limit.
    let said = || status == StatusCode::FORBIDDEN && words.say_any(&TABLES.rate_limit_words);
    let named = body.is_named(&TABLES.rate_limit_codes) || said();
    let is_limit = named && status != StatusCode::UNAUTHORIZED;
    if is_limit || status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::PAYLOAD_TOO_LARGE {
        let too_large = refusal.is_some_and(|refusal| refusal.too_large);
        if too_large {
            return ErrorClass::RequestExceedsLimit;
        }
    }
    if is_limit {
        return too_many(body, words, refusal);
    }
    match status.as_u16() {
        400 => bad_request(body, words),
        401 => authentication(body, words).unwrap_or(ErrorClass::AuthenticationOther),
        403 => permission(body, words),
        404 => not_found(endpoint, body, words),
        408 => ErrorClass::RequestTimeout,
        409 => conflict(body),
        413 => ErrorClass::PayloadTooLarge,
        422 => ErrorClass::Unprocessable,
        429 => too_many(body, words, refusal),
        // Groq's flex tier.
        498 => ErrorClass::ResourceUnavailable,
        _ if status.is_client_error() => ErrorClass::OtherClientError,
        500 => ErrorClass::InternalServerError,
        503 if words.say_any(&TABLES.overload_words) => ErrorClass::Overloaded,
        529 => ErrorClass::Overloaded,
        // The edge timed out; the API may still be processing the request.
        504 | 524 => ErrorClass::GatewayTimeout,
        // A 503 counts as overload only if it says so, because overload is retried for any
        // operation.
        502 | 503 | 520..=530 => ErrorClass::BadGateway,
        _ if status.is_server_error() => ErrorClass::OtherServerError,
        _ => ErrorClass::MalformedResponse,
    }
}

/// Whether the server accepts no more requests for now, or no more concurrent ones.
fn is_backpressure(status: StatusCode, body: &ErrorBody, words: &Words) -> bool {
    if body.is_named(&TABLES.slow_down_codes) {
        return true;
    }
    match status.as_u16() {
        // A 400 or 403 is final unless it contains these words.
        400 | 429 | 500 | 502 | 503 | 529 if words.say_any(&TABLES.capacity_words) => true,
        403 => words.say_any(&TABLES.concurrency_words),
        429 | 503 | 529 => {
            // Text Generation Inference responds with 429 "overloaded" when its queue is full.
            words.say_any(&TABLES.concurrency_words)
                || words.say_any(&TABLES.queue_words)
                || (status == StatusCode::TOO_MANY_REQUESTS && body.is_named(&["overloaded"]))
        }
        500 | 502 => words.say_any(&TABLES.queue_words),
        _ => false,
    }
}

/// The class of spent money or usage, by code, words or status 402.
fn quota(status: StatusCode, body: &ErrorBody, words: &Words) -> Option<ErrorClass> {
    let by_words = || words.find(&TABLES.quota_words).filter(|_| status.is_client_error());
    by_code(body, &TABLES.quota_codes)
        .or_else(by_words)
        .or_else(|| (status == StatusCode::PAYMENT_REQUIRED).then_some(ErrorClass::QuotaInsufficient))
}

/// Whether a refusal for money is about the account.
fn is_of_account(body: &ErrorBody, words: &Words) -> bool {
    let says_so = by_code(body, &TABLES.quota_codes).is_some() || words.find(&TABLES.quota_words).is_some();
    says_so && !words.say_any(&TABLES.one_request_words)
}

fn bad_request(body: &ErrorBody, words: &Words) -> ErrorClass {
    if let Some(class) = by_code(body, &TABLES.websocket_codes) {
        class
    } else if body.param.as_deref() == Some("service_tier") || words.say("invalid service_tier") {
        ErrorClass::ServiceTierInvalid
    } else if body.is_named(&["conversation_locked"]) {
        ErrorClass::ConversationLocked
    } else if body.is_named(&TABLES.context_codes) || words.say_any(&TABLES.context_words) {
        ErrorClass::ContextLengthExceeded
    } else if body.is_named(&TABLES.model_codes) {
        // `/responses` responds with 400.
        ErrorClass::ModelNotFound
    } else if is_of_a_region(body, words) {
        // Google.
        ErrorClass::RegionUnsupported
    } else {
        // xAI and Google refuse keys with 400.
        by_code(body, &TABLES.key_codes)
            .or_else(|| words.find(&TABLES.key_words).filter(|_| words.say("api key")))
            .unwrap_or(ErrorClass::BadRequest)
    }
}

fn authentication(body: &ErrorBody, words: &Words) -> Option<ErrorClass> {
    by_code(body, &TABLES.key_codes).or_else(|| words.find(&TABLES.key_words))
}

fn permission(body: &ErrorBody, words: &Words) -> ErrorClass {
    if is_of_a_region(body, words) {
        ErrorClass::RegionUnsupported
    } else if body.is_named(&TABLES.model_codes) || words.say("does not have access to model") {
        ErrorClass::ModelNotFound
    } else {
        by_code(body, &TABLES.key_codes).unwrap_or(ErrorClass::PermissionDenied)
    }
}

fn is_of_a_region(body: &ErrorBody, words: &Words) -> bool {
    body.is_named(&TABLES.region_codes) || words.say_any(&TABLES.region_words)
}

fn not_found(endpoint: Endpoint, body: &ErrorBody, words: &Words) -> ErrorClass {
    // vLLM and Ollama send no code. On other endpoints another object is missing.
    let is_missing =
        endpoint.speaks_json() && words.say_any(&TABLES.missing_words) || endpoint == Endpoint::Models;
    if body.is_named(&TABLES.model_codes) || is_missing && words.say("model") {
        ErrorClass::ModelNotFound
    } else {
        ErrorClass::NotFound
    }
}

fn conflict(body: &ErrorBody) -> ErrorClass {
    if body.is_named(&["conversation_locked"]) {
        ErrorClass::ConversationLocked
    } else {
        ErrorClass::Conflict
    }
}

fn too_many(body: &ErrorBody, words: &Words, refusal: Option<&LimitRefusal>) -> ErrorClass {
    if body.is_named(&["resource_unavailable"]) || words.say("resource unavailable") {
        return ErrorClass::ResourceUnavailable;
    }
    match (refusal.map(|refusal| refusal.dimension.unit()), body.kind.as_deref()) {
        (Some(Unit::Tokens), _) | (None, Some("tokens")) => ErrorClass::RateLimitTokens,
        (Some(Unit::Requests), _) | (None, Some("requests")) => ErrorClass::RateLimitRequests,
        (Some(Unit::Other) | None, _) => ErrorClass::RateLimitOther,
    }
}

/// Whether the response proves that the upstream did not process the request.
fn did_nothing(class: ErrorClass, status: StatusCode, words: &Words) -> bool {
    // The edge reached no server. 521: refused; 522: no connection; 523: unreachable; 525, 526:
    // TLS.
    let unreached = matches!(status.as_u16(), 521 | 522 | 523 | 525 | 526)
        || words.say_any(&[
            "no healthy upstream",
            "reset reason: connection failure",
            "reset reason: remote connection failure",
        ]);
    // 408 and 409 concern a request that is, or was, in progress. Every other 4xx is decided before
    // processing.
    let decided_before_work = status.is_client_error() && !matches!(status.as_u16(), 408 | 409);
    let turned_away = matches!(
        class,
        ErrorClass::Overloaded
            | ErrorClass::SlowDown
            | ErrorClass::RateLimitRequests
            | ErrorClass::RateLimitTokens
            | ErrorClass::RateLimitOther
            | ErrorClass::RequestExceedsLimit
    );
    decided_before_work || turned_away || class.is_quota() || (class == ErrorClass::BadGateway && unreached)
}
