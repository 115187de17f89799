//! The errors of the API, word for word where they were recorded.

use http::StatusCode;

use super::errors::{ApiError, Code, Form};

const REQUEST: &str = "invalid_request_error";

const fn row(
    name: &'static str,
    status: StatusCode,
    kind: &'static str,
    code: Code,
    param: Option<&'static str>,
    message: &'static str,
) -> ApiError {
    ApiError { name, status, form: Form::Envelope { message, kind, code, param } }
}

/// An error whose code is its name.
const fn coded(
    name: &'static str,
    status: StatusCode,
    kind: &'static str,
    param: Option<&'static str>,
    message: &'static str,
) -> ApiError {
    row(name, status, kind, Code::Name(name), param, message)
}

/// An error without a code.
const fn plain(
    name: &'static str,
    status: StatusCode,
    kind: &'static str,
    message: &'static str,
) -> ApiError {
    row(name, status, kind, Code::Null, None, message)
}

const S529: StatusCode = match StatusCode::from_u16(529) {
    Ok(status) => status,
    Err(_) => panic!("529 is in range"),
};
const S520: StatusCode = match StatusCode::from_u16(520) {
    Ok(status) => status,
    Err(_) => panic!("520 is in range"),
};

/// Every error, the usual one of each status first.
pub(super) const TABLE: &[ApiError] = &[
    coded(
        "invalid_value",
        StatusCode::BAD_REQUEST,
        REQUEST,
        Some("messages[3]"),
        "Invalid 'messages[3]'. Content blocks are expected to be either text or image_url type.",
    ),
    coded(
        "unknown_parameter",
        StatusCode::BAD_REQUEST,
        REQUEST,
        Some("quality"),
        "Unknown parameter: 'quality'.",
    ),
    coded(
        "context_length_exceeded",
        StatusCode::BAD_REQUEST,
        REQUEST,
        Some("messages"),
        "This model's maximum context length is 8192 tokens. However, your messages resulted in 8227 tokens. Please reduce the length of the messages.",
    ),
    coded(
        "conversation_locked",
        StatusCode::BAD_REQUEST,
        REQUEST,
        Some("conversation"),
        "Another process is currently operating on this conversation. Please retry in a few seconds.",
    ),
    row(
        "model_not_found_400",
        StatusCode::BAD_REQUEST,
        REQUEST,
        Code::Name("model_not_found"),
        Some("model"),
        "The requested model 'does-not-exist' does not exist.",
    ),
    coded(
        "invalid_api_key",
        StatusCode::UNAUTHORIZED,
        REQUEST,
        None,
        "Incorrect API key provided: sk-wrong****-key. You can find your API key at https://platform.openai.com/account/api-keys.",
    ),
    plain("invalid_authentication", StatusCode::UNAUTHORIZED, REQUEST, "Invalid Authentication"),
    plain(
        "missing_key",
        StatusCode::UNAUTHORIZED,
        REQUEST,
        "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY). You can obtain an API key from https://platform.openai.com/account/api-keys.",
    ),
    coded(
        "no_organization",
        StatusCode::UNAUTHORIZED,
        REQUEST,
        None,
        "You must be a member of an organization to use the API. Please contact us through our help center at help.openai.com.",
    ),
    coded(
        "mismatched_organization",
        StatusCode::UNAUTHORIZED,
        REQUEST,
        None,
        "OpenAI-Organization header should match organization for API key.",
    ),
    coded(
        "ip_not_authorized",
        StatusCode::UNAUTHORIZED,
        "ip_not_authorized",
        None,
        "Your IP is not authorized to access this organization.",
    ),
    plain(
        "missing_scope",
        StatusCode::UNAUTHORIZED,
        REQUEST,
        "You have insufficient permissions for this operation. Missing scopes: api.responses.write. Check that you have the correct role in your organization (Reader, Writer, Owner) and project (Member, Owner), and if you're using a restricted API key, that it has the necessary scopes.",
    ),
    plain(
        "permission_denied",
        StatusCode::FORBIDDEN,
        REQUEST,
        "You are not allowed to sample from this model.",
    ),
    row(
        "model_access_denied",
        StatusCode::FORBIDDEN,
        REQUEST,
        Code::Name("model_not_found"),
        None,
        "Project `proj_simulated` does not have access to model `gpt-4o`.",
    ),
    coded(
        "unsupported_country_region_territory",
        StatusCode::FORBIDDEN,
        "request_forbidden",
        None,
        "Country, region, or territory not supported",
    ),
    plain("not_found", StatusCode::NOT_FOUND, REQUEST, "No such object."),
    coded(
        "model_not_found",
        StatusCode::NOT_FOUND,
        REQUEST,
        None,
        "The model `does-not-exist` does not exist or you do not have access to it.",
    ),
    coded(
        "unknown_url",
        StatusCode::NOT_FOUND,
        REQUEST,
        None,
        "Unknown request URL. Please check the URL for typos, or see the docs at https://platform.openai.com/docs/api-reference/.",
    ),
    coded(
        "method_not_supported",
        StatusCode::METHOD_NOT_ALLOWED,
        REQUEST,
        None,
        "Not allowed to use this method here. (HINT: Perhaps you meant to use a different HTTP method?)",
    ),
    plain("request_timeout", StatusCode::REQUEST_TIMEOUT, "timeout", "Request timed out."),
    plain(
        "conflict",
        StatusCode::CONFLICT,
        REQUEST,
        "The resource was updated by another request. Please try again.",
    ),
    plain(
        "payload_too_large",
        StatusCode::PAYLOAD_TOO_LARGE,
        REQUEST,
        "The request body is larger than this endpoint accepts.",
    ),
    plain("unprocessable", StatusCode::UNPROCESSABLE_ENTITY, REQUEST, "The request could not be processed."),
    row(
        "rate_limit_requests",
        StatusCode::TOO_MANY_REQUESTS,
        "requests",
        Code::Name("rate_limit_exceeded"),
        None,
        "Rate limit reached for gpt-4o-mini in organization org-simulated on requests per min (RPM): Limit 3, Used 3, Requested 1. Please try again in 20s. Visit https://platform.openai.com/account/rate-limits to learn more.",
    ),
    row(
        "rate_limit_tokens",
        StatusCode::TOO_MANY_REQUESTS,
        "tokens",
        Code::Name("rate_limit_exceeded"),
        None,
        "Rate limit reached for gpt-4o-mini in organization org-simulated on tokens per min (TPM): Limit 30000, Used 29937, Requested 385. Please try again in 644ms. Visit https://platform.openai.com/account/rate-limits to learn more.",
    ),
    row(
        "rate_limit_plain",
        StatusCode::TOO_MANY_REQUESTS,
        "requests",
        Code::Name("rate_limit_exceeded"),
        None,
        "Rate limit reached for requests",
    ),
    row(
        "request_too_large",
        StatusCode::TOO_MANY_REQUESTS,
        "tokens",
        Code::Name("rate_limit_exceeded"),
        None,
        "Request too large for gpt-4o-mini in organization org-simulated on tokens per min (TPM): Limit 30000, Requested 31538. The input or output tokens must be reduced in order to run successfully. Visit https://platform.openai.com/account/rate-limits to learn more.",
    ),
    coded(
        "insufficient_quota",
        StatusCode::TOO_MANY_REQUESTS,
        "insufficient_quota",
        None,
        "You exceeded your current quota, please check your plan and billing details. For more information on this error, read the docs: https://platform.openai.com/docs/guides/error-codes/api-errors.",
    ),
    coded(
        "billing_not_active",
        StatusCode::TOO_MANY_REQUESTS,
        "billing_not_active",
        None,
        "Your account is not active, please check your billing details on our website.",
    ),
    coded(
        "credit_balance_exhausted",
        StatusCode::TOO_MANY_REQUESTS,
        "insufficient_quota",
        None,
        "Your organization has no prepaid credits remaining.",
    ),
    coded(
        "organization_spend_limit_exceeded",
        StatusCode::TOO_MANY_REQUESTS,
        "insufficient_quota",
        None,
        "Your organization reached its enforced monthly spend limit.",
    ),
    coded(
        "project_spend_limit_exceeded",
        StatusCode::TOO_MANY_REQUESTS,
        "insufficient_quota",
        None,
        "Your project reached its enforced monthly spend limit.",
    ),
    coded(
        "organization_usage_limit_exceeded",
        StatusCode::TOO_MANY_REQUESTS,
        "insufficient_quota",
        None,
        "Your organization reached its monthly usage limit.",
    ),
    coded(
        "slow_down",
        StatusCode::TOO_MANY_REQUESTS,
        "rate_limit_error",
        None,
        "Your request rate increased too quickly. Please slow down and increase it gradually.",
    ),
    row(
        "resource_unavailable",
        StatusCode::TOO_MANY_REQUESTS,
        "rate_limit_error",
        Code::Name("resource_unavailable"),
        None,
        "Resource unavailable: there is not enough capacity for the flex tier now. Please try again later.",
    ),
    plain(
        "engine_overloaded_error",
        StatusCode::TOO_MANY_REQUESTS,
        "engine_overloaded_error",
        "The engine is currently overloaded, please try again later",
    ),
    plain(
        "server_error",
        StatusCode::INTERNAL_SERVER_ERROR,
        "server_error",
        "The server had an error processing your request. Sorry about that! You can retry your request, or contact us through our help center at help.openai.com if you keep seeing this error. (Please include the request ID in your email.)",
    ),
    ApiError {
        name: "html-502",
        status: StatusCode::BAD_GATEWAY,
        form: Form::Html(
            "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n<hr><center>cloudflare</center>\r\n</body>\r\n</html>\r\n",
        ),
    },
    row("cf_bad_gateway", StatusCode::BAD_GATEWAY, "cf_bad_gateway", Code::Number(502), None, "Bad gateway."),
    coded(
        "server_is_overloaded",
        StatusCode::SERVICE_UNAVAILABLE,
        "service_unavailable_error",
        None,
        "Our servers are currently overloaded. Please try again later.",
    ),
    plain(
        "model_overloaded",
        StatusCode::SERVICE_UNAVAILABLE,
        "server_error",
        "That model is currently overloaded with other requests. You can retry your request, or contact us through our help center at help.openai.com if the error persists.",
    ),
    row(
        "slow_down_503",
        StatusCode::SERVICE_UNAVAILABLE,
        "service_unavailable_error",
        Code::Name("slow_down"),
        None,
        "Slow down: reduce your request rate to its original level, keep it for at least 15 minutes, and then increase it gradually.",
    ),
    row(
        "cf_service_unavailable",
        StatusCode::SERVICE_UNAVAILABLE,
        "cf_service_unavailable",
        Code::Number(503),
        None,
        "Service Unavailable.",
    ),
    ApiError {
        name: "envoy_connect_error",
        status: StatusCode::SERVICE_UNAVAILABLE,
        form: Form::Text(
            "upstream connect error or disconnect/reset before headers. reset reason: connection failure, transport failure reason: delayed connect error: 111",
        ),
    },
    ApiError {
        name: "no_healthy_upstream",
        status: StatusCode::SERVICE_UNAVAILABLE,
        form: Form::Text("no healthy upstream"),
    },
    ApiError {
        name: "html-504",
        status: StatusCode::GATEWAY_TIMEOUT,
        form: Form::Html(
            "<html>\r\n<head><title>504 Gateway Time-out</title></head>\r\n<body>\r\n<center><h1>504 Gateway Time-out</h1></center>\r\n</body>\r\n</html>\r\n",
        ),
    },
    ApiError {
        name: "html-520",
        status: S520,
        form: Form::Html(
            "<html><head><title>api.openai.com | 520: Web server is returning an unknown error</title></head><body>Error code 520</body></html>\n",
        ),
    },
    plain("overloaded_error", S529, "overloaded_error", "Overloaded"),
    plain("teapot", StatusCode::IM_A_TEAPOT, REQUEST, "An error of a status that nobody expects."),
    plain("not_implemented", StatusCode::NOT_IMPLEMENTED, "server_error", "Not implemented."),
];
