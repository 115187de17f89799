//! Rows of the guide to error codes, and the upstream's hints for retries.

use super::*;

fn envelope(message: &str, kind: &str, code: &str) -> String {
    serde_json::json!({"error": {"message": message, "type": kind, "code": code, "param": null}}).to_string()
}

fn check(rows: impl IntoIterator<Item = (u16, String, ErrorClass)>) {
    for (status, body, class) in rows {
        let status = StatusCode::from_u16(status).unwrap();
        let classified = response(
            Endpoint::ChatCompletions,
            status,
            &HeaderMap::new(),
            body.as_bytes(),
            SystemTime::UNIX_EPOCH,
        );
        assert_eq!(classified.class, class, "{status} {body}");
    }
}

#[test]
fn the_guides_rows_below_500_have_their_class() {
    check([
        (
            400,
            envelope("Invalid service_tier argument", "invalid_request_error", "invalid_value"),
            ServiceTierInvalid,
        ),
        (
            400,
            envelope("The requested model does not exist.", "invalid_request_error", "model_not_found"),
            ModelNotFound,
        ),
        (401, envelope("Invalid Authentication", "invalid_request_error", ""), AuthenticationInvalid),
        (401, envelope("You didn't provide an API key.", "invalid_request_error", ""), AuthenticationInvalid),
        (
            401,
            envelope("Incorrect API key provided", "invalid_request_error", ""),
            AuthenticationIncorrectKey,
        ),
        (
            401,
            envelope("You must be a member of an organization to use the API", "", ""),
            AuthenticationNoOrganization,
        ),
        (
            401,
            envelope(
                "OpenAI-Organization header should match organization for API key",
                "",
                "mismatched_organization",
            ),
            AuthenticationNoOrganization,
        ),
        (401, envelope("IP not authorized", "", ""), AuthenticationIpDenied),
        (401, String::new(), AuthenticationOther),
        (403, envelope("Country, region, or territory not supported", "", ""), RegionUnsupported),
        (
            403,
            envelope(
                "Project `proj_x` does not have access to model `gpt-4`",
                "invalid_request_error",
                "model_not_found",
            ),
            ModelNotFound,
        ),
        (403, String::new(), PermissionDenied),
        (404, envelope("No such File object", "invalid_request_error", ""), NotFound),
        (404, "404 page not found".to_owned(), NotFound),
        (405, String::new(), OtherClientError),
        (408, String::new(), RequestTimeout),
        (409, String::new(), Conflict),
        (413, "<html>".to_owned(), PayloadTooLarge),
        (418, String::new(), OtherClientError),
        (422, String::new(), Unprocessable),
        (429, envelope("Too many requests", "requests", "rate_limit_exceeded"), RateLimitRequests),
        (429, envelope("", "insufficient_quota", "some_new_billing_code"), QuotaInsufficient),
        (429, envelope("", "", "project_spend_limit_exceeded"), QuotaProjectSpend),
        (429, envelope("Slow down", "rate_limit_error", "slow_down"), SlowDown),
        (503, envelope("Slow down", "service_unavailable_error", "slow_down"), SlowDown),
        (429, envelope("Resource unavailable", "resource_unavailable", ""), ResourceUnavailable),
        (
            429,
            envelope(
                "Rate limit reached for images per minute (IPM): Limit 5, Used 5, Requested 1.",
                "",
                "rate_limit_exceeded",
            ),
            RateLimitOther,
        ),
        (429, "slow down, please".to_owned(), SlowDown),
    ]);
}

#[test]
fn the_guides_rows_from_500_on_have_their_class() {
    check([
        (
            500,
            envelope("The server had an error while processing your request", "server_error", ""),
            InternalServerError,
        ),
        (500, String::new(), InternalServerError),
        (501, String::new(), OtherServerError),
        (502, String::new(), BadGateway),
        (
            502,
            r#"{"error":{"code":502,"message":"Bad gateway.","param":null,"type":"cf_bad_gateway"}}"#
                .to_owned(),
            BadGateway,
        ),
        (
            503,
            envelope("The engine is currently overloaded, please try again later", "server_error", ""),
            Overloaded,
        ),
        (503, envelope("Slow Down", "server_error", ""), SlowDown),
        (503, envelope("Too many concurrent requests", "server_error", ""), SlowDown),
        (503, envelope("Service temporarily unavailable", "server_error", ""), BadGateway),
        (503, "{}".to_owned(), BadGateway),
        (503, "<html>503 Service Temporarily Unavailable".to_owned(), BadGateway),
        (504, "error code: 504".to_owned(), GatewayTimeout),
        (521, String::new(), BadGateway),
        (524, "error code: 524".to_owned(), GatewayTimeout),
        (
            529,
            r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#.to_owned(),
            Overloaded,
        ),
        (599, String::new(), OtherServerError),
    ]);
}

#[test]
fn the_upstreams_own_word_on_retries_is_kept() {
    let mut headers = HeaderMap::new();
    let told = |headers: &HeaderMap| {
        response(Endpoint::Responses, StatusCode::TOO_MANY_REQUESTS, headers, b"", SystemTime::UNIX_EPOCH)
            .should_retry
    };
    assert_eq!(told(&headers), None);
    for (value, expected) in [("false", Some(false)), ("true", Some(true)), ("maybe", None)] {
        headers.insert("x-should-retry", HeaderValue::from_static(value));
        assert_eq!(told(&headers), expected);
    }
}
