//! Requests and responses of token endpoints, by RFC 8693, RFC 6749 and OpenAI's workload identity.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Method, Request, Response};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::Value as Json;
use tower::Service;

use super::token::{DEFAULT_LIFETIME, Token};
use crate::caller::Secret;
use crate::clock;
use crate::config::exchanges::Exchange;
use crate::config::sources::PROCESS;
use crate::http_client::{self, Failed};
use crate::openai::masking::masked;
use crate::upstream::{Connector, Destination, Progress, Target};

/// The timeout of a whole exchange, including the DNS lookup.
pub(in crate::app) const TIMEOUT: Duration = Duration::from_secs(10);
/// The most bytes of a response; a token takes a few thousand.
const MAX_RESPONSE: usize = 256 * 1024;
/// The most characters of an endpoint's error message that are logged.
const MAX_MESSAGE: usize = 300;

/// Why there is no token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NoToken {
    /// The problem, without a secret.
    pub(super) problem: String,
    /// Whether repeating the request can't help, as the endpoint or the subject token shows.
    pub(super) lasting: bool,
}

#[derive(Deserialize)]
struct Answer {
    access_token: Option<String>,
    expires_in: Option<Json>,
    error: Option<Json>,
    error_description: Option<String>,
}

/// Requests a token from the endpoint.
pub(super) async fn ask(of: &Exchange, connector: Connector) -> Result<Token, NoToken> {
    let asked = clock::now();
    let subject = of.subject_token.source.resolve(&PROCESS);
    let subject =
        subject.map_err(|problem| NoToken { problem: format!("subject_token: {problem}"), lasting: true })?;
    let temporary = |error: Failed| NoToken { problem: error.to_string(), lasting: false };
    let request = request(of, &subject).map_err(temporary)?;
    let url = of.url.to_string();
    let answering = send(&url, request, connector);
    let answer = clock::timeout_at(asked + TIMEOUT, answering).await;
    let answer = answer.unwrap_or_else(|_| Err("no response in time".into())).map_err(temporary)?;
    let (secret, life) = read(&answer)?;
    Ok(Token { secret, asked, life })
}

/// Sends a request on a new connection.
pub(in crate::app) async fn send(
    url: &str,
    request: Request<Bytes>,
    mut connector: Connector,
) -> Result<Response<Bytes>, Failed> {
    let target = Arc::new(Target::parse(url)?);
    let to = Destination { target, only_http1: true, progress: Progress::default() };
    let connected = connector.call(to).await.map_err(|failure| failure.to_string())?;
    http_client::exchange(connected.io, request, MAX_RESPONSE).await
}

fn request(of: &Exchange, subject: &Secret) -> Result<Request<Bytes>, Failed> {
    let fields = of.fields().into_iter().chain([(of.subject_field(), subject.expose())]);
    let (kind, body) = if of.identity_provider_id.is_some() {
        let object: serde_json::Map<String, Json> =
            fields.map(|(name, value)| (name.to_owned(), value.into())).collect();
        ("application/json", serde_json::to_string(&object)?)
    } else {
        let escaped = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
        let pairs: Vec<String> = fields.map(|(name, value)| format!("{name}={}", escaped(value))).collect();
        ("application/x-www-form-urlencoded", pairs.join("&"))
    };
    let request = Request::builder().method(Method::POST).uri(of.url.to_string());
    let request = request.header(CONTENT_TYPE, kind).header(ACCEPT, "application/json");
    Ok(request.body(body.into())?)
}

/// Reads the token and its lifetime from a response.
fn read(answer: &Response<Bytes>) -> Result<(Secret, Duration), NoToken> {
    let status = answer.status();
    let body: Option<Answer> = serde_json::from_slice(answer.body()).ok();
    let refused = |why: String, lasting| Err(NoToken { problem: format!("{status}{why}"), lasting });
    let Some(body) = body else {
        return refused(
            ": the response is not the JSON of a token endpoint".to_owned(),
            status.is_client_error(),
        );
    };
    if !status.is_success() {
        // OpenAI's envelope has an object where RFC 6749 has a string.
        let word = |error: &Json| {
            let error = error.as_str().or_else(|| error.get("code")?.as_str());
            error.unwrap_or_default().to_owned()
        };
        let words = [body.error.as_ref().map(word), body.error_description];
        let words: Vec<String> = words.into_iter().flatten().filter(|words| !words.is_empty()).collect();
        let words: String = masked(&words.join(": ")).chars().take(MAX_MESSAGE).collect();
        let words: String = words.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let again = status.as_u16() == 429 || status.as_u16() == 408;
        return refused(format!(": {words}"), status.is_client_error() && !again);
    }
    let token =
        body.access_token.filter(|token| !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic()));
    let Some(token) = token else {
        return refused(": the response has no access_token that is valid in a header".to_owned(), true);
    };
    // Some endpoints send the number as a string.
    let seconds = body.expires_in.and_then(|life| life.as_f64().or_else(|| life.as_str()?.parse().ok()));
    let life = seconds.and_then(|life| Duration::try_from_secs_f64(life).ok()).unwrap_or(DEFAULT_LIFETIME);
    if life.is_zero() {
        return refused(": the token's life is over".to_owned(), false);
    }
    Ok((Secret::new(token), life.min(Duration::from_hours(24 * 30))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, sources::Nothing};

    fn exchange(more: &str) -> Exchange {
        let text = format!(
            "[[exchanges]]\nname = \"x\"\nurl = \"https://auth.test/oauth/token\"\nsubject_token = \"env:JWT\"\n{more}"
        );
        config::parse("", &text, &[], &Nothing).unwrap().exchanges.remove(0)
    }

    fn asked(more: &str) -> (String, String) {
        let request = request(&exchange(more), &"a.b&c".into()).unwrap();
        assert_eq!((request.method(), request.uri().path()), (&Method::POST, "/oauth/token"));
        let kind = request.headers()[CONTENT_TYPE].to_str().unwrap().to_owned();
        (kind, String::from_utf8(request.into_body().to_vec()).unwrap())
    }

    #[test]
    fn openai_gets_json_and_entra_a_form() {
        let (kind, body) = asked("identity_provider_id = \"idp_1\"\nservice_account_id = \"sa_1\"\n");
        let body: Json = serde_json::from_str(&body).unwrap();
        let expected = serde_json::json!({
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "subject_token": "a.b&c", "identity_provider_id": "idp_1", "service_account_id": "sa_1",
        });
        assert_eq!((kind.as_str(), body), ("application/json", expected));
        let (kind, body) = asked(
            "grant = \"client-credentials\"\nclient_id = \"11-22\"\nscope = \"https://cognitiveservices.azure.com/.default\"\n",
        );
        assert_eq!(kind, "application/x-www-form-urlencoded");
        assert_eq!(
            body,
            "grant_type=client%5Fcredentials\
             &client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient%2Dassertion%2Dtype%3Ajwt%2Dbearer\
             &client_id=11%2D22&scope=https%3A%2F%2Fcognitiveservices%2Eazure%2Ecom%2F%2Edefault\
             &client_assertion=a%2Eb%26c"
        );
    }

    #[test]
    fn an_answer_is_a_token_or_says_why_it_is_none() {
        let answer = |status: u16, body: &str| {
            let answer = Response::builder().status(status).body(Bytes::copy_from_slice(body.as_bytes()));
            read(&answer.unwrap()).map(|(token, life)| (token.expose().to_owned(), life.as_secs()))
        };
        for (life, expected) in [("", 300), (",\"expires_in\":3599", 3_599), (",\"expires_in\":\"60\"", 60)] {
            let body = format!("{{\"access_token\":\"t-1\",\"token_type\":\"Bearer\"{life}}}");
            assert_eq!(answer(200, &body), Ok(("t-1".to_owned(), expected)));
        }
        for (status, body, problem, lasting) in [
            (
                400,
                r#"{"error":"invalid_grant","error_description":"AADSTS700024: not valid 'eyJhbGciOi.x.y'"}"#,
                "400 Bad Request: invalid_grant: AADSTS700024: not valid '…'",
                true,
            ),
            (401, r#"{"error":{"code":"no_mapping"}}"#, "401 Unauthorized: no_mapping", true),
            (
                503,
                r#"{"error":"temporarily_unavailable"}"#,
                "503 Service Unavailable: temporarily_unavailable",
                false,
            ),
            (502, "<html>", "502 Bad Gateway: the response is not the JSON of a token endpoint", false),
            (200, "{}", "200 OK: the response has no access_token that is valid in a header", true),
            (
                200,
                "{\"access_token\":\"a b\"}",
                "200 OK: the response has no access_token that is valid in a header",
                true,
            ),
            (200, "{\"access_token\":\"t\",\"expires_in\":0}", "200 OK: the token's life is over", false),
        ] {
            assert_eq!(answer(status, body), Err(NoToken { problem: problem.to_owned(), lasting }));
        }
    }
}
