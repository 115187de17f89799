//! The paths of the admin address, and their responses.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, WWW_AUTHENTICATE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;

use super::Source;
use super::guard::Denied;
use super::page;
use crate::metrics;

/// A response of the admin address: short, and never streamed.
pub(super) type Answer = Response<Full<Bytes>>;

/// The resource that a request addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route<'a> {
    Page,
    Metrics,
    Live,
    Ready,
    Status,
    Reports,
    Report(&'a str),
    Config,
    Runbook,
    Drain,
    Reload,
    /// The path exists, but only for these methods.
    WrongMethod(&'static str),
    Unknown,
}

const READ: &str = "GET, HEAD";
const POST: &str = "POST";

impl<'a> Route<'a> {
    pub(super) fn of(method: &Method, path: &'a str) -> Self {
        let (route, allowed) = match path {
            "/" => (Self::Page, READ),
            "/metrics" => (Self::Metrics, READ),
            "/livez" => (Self::Live, READ),
            "/readyz" => (Self::Ready, READ),
            "/status" => (Self::Status, READ),
            "/reports" => (Self::Reports, READ),
            "/config" => (Self::Config, READ),
            "/runbook" => (Self::Runbook, READ),
            "/drain" => (Self::Drain, POST),
            "/reload" => (Self::Reload, POST),
            _ => match path.strip_prefix("/reports/") {
                Some(id) if !id.is_empty() => (Self::Report(id), READ),
                _ => return Self::Unknown,
            },
        };
        let reads = *method == Method::GET || *method == Method::HEAD;
        let allows = if allowed == READ { reads } else { *method == Method::POST };
        if allows { route } else { Self::WrongMethod(allowed) }
    }

    /// Whether it is a health probe, under any of its names.
    pub(super) fn is_probe(&self) -> bool {
        matches!(self, Self::Live | Self::Ready)
    }

    /// Whether it needs no token off loopback.
    pub(super) fn is_public(&self) -> bool {
        self.is_probe() || matches!(self, Self::Metrics | Self::Runbook)
    }
}

/// Serves an authorized request.
pub(super) async fn answer(request: &Parts, route: Route<'_>, shared: Arc<dyn Source>) -> Answer {
    let source = &*shared;
    match route {
        Route::Page => the_page(request.uri.query() == Some("part=main"), source),
        Route::Metrics => {
            let mut out = Vec::with_capacity(256 * 1024);
            source.metrics(&mut out);
            plain(StatusCode::OK, metrics::CONTENT_TYPE, out)
        }
        Route::Live => text(StatusCode::OK, "ok\n"),
        Route::Ready => ready(source),
        Route::Status => json(&source.status().judged()),
        Route::Reports => json(&source.reports()),
        Route::Report(id) => report(id, &request.headers, source),
        Route::Config => plain(StatusCode::OK, "application/toml", source.config().into_bytes()),
        Route::Runbook => {
            let nonce = page::nonce();
            with_policy(page::runbook(&nonce), &nonce)
        }
        Route::Drain => {
            source.drain();
            text(StatusCode::ACCEPTED, "draining\n")
        }
        Route::Reload => reload(shared).await,
        Route::WrongMethod(allowed) => {
            let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, format!("This takes {allowed}.\n"));
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
            answer
        }
        Route::Unknown => unknown(request.uri.path(), source),
    }
}

/// Reads the configuration again, on its own thread: it may wait for an exchange's token, while
/// probes and scrapes are served.
async fn reload(source: Arc<dyn Source>) -> Answer {
    let reloading = tokio::task::spawn_blocking(move || match source.reload() {
        Ok(()) => reloaded(&source.status().reload.waiting),
        Err(problems) => text(StatusCode::UNPROCESSABLE_ENTITY, problems + "\n"),
    });
    reloading.await.unwrap_or_else(|_| text(StatusCode::INTERNAL_SERVER_ERROR, "the reload broke off\n"))
}

/// The response to a successful reload, with the keys that need a restart.
fn reloaded(waiting: &[String]) -> Answer {
    if waiting.is_empty() {
        return text(StatusCode::OK, "reloaded\n");
    }
    text(
        StatusCode::OK,
        format!("reloaded; these keys take effect only at a restart: {}\n", waiting.join(", ")),
    )
}

/// The response to an unknown path. For a path of the API it has the API's error format, which SDKs
/// show.
fn unknown(path: &str, source: &dyn Source) -> Answer {
    let listen = source.status().listen;
    let says = format!("This is Weir's admin address; requests for the API go to {listen}.");
    if path.contains("/v1") {
        let error = ApiError { message: &says, kind: "weir_error", code: "admin_address", param: None };
        let mut answer = json(&ApiErrorBody { error });
        *answer.status_mut() = StatusCode::NOT_FOUND;
        return answer;
    }
    text(
        StatusCode::NOT_FOUND,
        format!(
            "Not found. {says} Here are /, /status, /metrics, /livez, /readyz, /reports, /reports/ID, /config, /runbook, \
             POST /drain and POST /reload.\n"
        ),
    )
}

#[derive(Serialize)]
struct ApiErrorBody<'a> {
    error: ApiError<'a>,
}

#[derive(Serialize)]
struct ApiError<'a> {
    message: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    code: &'a str,
    param: Option<&'a str>,
}

fn ready(source: &dyn Source) -> Answer {
    let missing = source.not_ready();
    if missing.is_empty() {
        return text(StatusCode::OK, "ready\n");
    }
    text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", missing.join(", ")))
}

fn report(id: &str, headers: &HeaderMap, source: &dyn Source) -> Answer {
    let Some(report) = source.report(id) else {
        return text(StatusCode::NOT_FOUND, "No such report: it never was, or newer ones took its place.\n");
    };
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    if accept.contains("application/json") { json(&report) } else { text(StatusCode::OK, report.to_string()) }
}

fn the_page(main_only: bool, source: &dyn Source) -> Answer {
    let status = source.status().judged();
    if main_only {
        return plain(StatusCode::OK, HTML, page::main(&status).into_bytes());
    }
    let nonce = page::nonce();
    with_policy(page::document(&status, &nonce), &nonce)
}

/// A document with a content security policy: only its own style and script, with the nonce, are
/// allowed.
fn with_policy(document: String, nonce: &str) -> Answer {
    let mut answer = plain(StatusCode::OK, HTML, document.into_bytes());
    let policy = format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    if let Ok(policy) = HeaderValue::try_from(policy) {
        answer.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    }
    answer
}

const HTML: &str = "text/html; charset=utf-8";

pub(super) fn refuse(denied: Denied) -> Answer {
    let mut answer = text(denied.status(), format!("{}\n", denied.says()));
    if denied.status() == StatusCode::UNAUTHORIZED {
        // Basic first: browsers ask their user for it.
        let challenge = HeaderValue::from_static("Basic realm=\"weir admin\", charset=\"UTF-8\", Bearer");
        answer.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    answer
}

pub(super) fn text(status: StatusCode, body: impl Into<String>) -> Answer {
    plain(status, "text/plain; charset=utf-8", body.into().into_bytes())
}

fn json(value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(body) => plain(StatusCode::OK, "application/json", body),
        // Can't happen: all maps in the status have string keys.
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

fn plain(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
    headers.insert(HeaderName::from_static("referrer-policy"), HeaderValue::from_static("no-referrer"));
    answer
}
