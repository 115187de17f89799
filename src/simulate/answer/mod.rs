//! The API's successful responses: realistic in format, without meaningful content.

mod audio;
mod chat;
mod completions;
mod embeddings;
mod images;
mod models;
mod moderations;
mod objects;
mod responses;

use std::sync::Mutex;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::{Value, json};

use super::ask::Ask;
use super::errors::ApiError;
use super::multipart::Part;
use super::route::{Inference, Kind, Route};
use super::store::Store;

pub(super) use responses::hidden_error;

/// The input of a response.
pub(super) struct ReplyInput<'a> {
    pub(super) route: Route<'a>,
    pub(super) query: &'a str,
    pub(super) ask: &'a Ask,
    pub(super) form: &'a [Part],
    /// The unique number of the response.
    pub(super) serial: u64,
    /// Seconds since the epoch.
    pub(super) created: u64,
    /// The number of words to generate.
    pub(super) words: u32,
}

impl ReplyInput<'_> {
    /// The number of words in the response, and whether `max_tokens` cut it.
    fn output(&self) -> (usize, bool) {
        let wanted = usize::try_from(self.words).unwrap_or(usize::MAX);
        match self.ask.max_output().and_then(|max| usize::try_from(max).ok()) {
            Some(max) if max < wanted => (max.max(1), true),
            Some(_) | None => (wanted, false),
        }
    }
}

/// A response before encoding and faults.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) content: Content,
}

/// The body of a response.
#[derive(Debug)]
pub(super) enum Content {
    /// One piece.
    Whole(Bytes),
    /// Server-sent events. The last `closing` events mark the stream as complete.
    Events { events: Vec<Bytes>, closing: usize },
}

const CONTENT_TYPE: HeaderName = http::header::CONTENT_TYPE;

impl Reply {
    pub(super) fn new(status: StatusCode, content_type: HeaderValue, data: Bytes) -> Self {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, content_type)]);
        Self { status, headers, content: Content::Whole(data) }
    }

    pub(super) fn json(data: impl Into<Bytes>) -> Self {
        Self::new(StatusCode::OK, HeaderValue::from_static("application/json"), data.into())
    }

    pub(super) fn object(value: &Value) -> Self {
        Self::json(value.to_string())
    }

    pub(super) fn binary(content_type: &'static str, data: Bytes) -> Self {
        Self::new(StatusCode::OK, HeaderValue::from_static(content_type), data)
    }

    pub(super) fn events(events: Vec<Bytes>, closing: usize) -> Self {
        let content_type = HeaderValue::from_static("text/event-stream; charset=utf-8");
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, content_type)]);
        Self { status: StatusCode::OK, headers, content: Content::Events { events, closing } }
    }

    pub(super) fn error(error: &ApiError) -> Self {
        Self::new(error.status, error.content_type(), error.body())
    }

    /// An error whose message depends on the request.
    pub(super) fn refuse(status: StatusCode, code: Option<&str>, param: Option<&str>, message: &str) -> Self {
        let error =
            json!({ "message": message, "type": "invalid_request_error", "param": param, "code": code });
        let body = Bytes::from(json!({ "error": error }).to_string());
        Self::new(status, HeaderValue::from_static("application/json; charset=utf-8"), body)
    }
}

/// Creates the reply to an operation.
pub(super) fn answer(input: &ReplyInput<'_>, store: &Mutex<Store>) -> Reply {
    // No code panics while it holds the lock, so a poisoned lock still guards valid state.
    let store = || store.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    match input.route {
        Route::Inference(Inference::Chat) => chat::answer(input),
        Route::Inference(Inference::Completions) => completions::answer(input),
        Route::Inference(Inference::Embeddings) => embeddings::answer(input),
        Route::Inference(Inference::Moderations) => moderations::answer(input),
        Route::Inference(Inference::Responses) => responses::create(input, store().of(Kind::Response)),
        Route::ResponseInputTokens => responses::input_tokens(input),
        Route::Inference(Inference::Speech) => audio::speech(),
        Route::Inference(Inference::Transcription) => audio::transcription(input),
        Route::Inference(Inference::Images) => images::answer(input),
        Route::Models => models::list(),
        Route::Model(id) => models::retrieve(id),
        Route::Object(kind, action) => objects::answer(input, kind, action, &mut store()),
        Route::WrongMethod => ApiError::named("method_not_supported").map_or_else(unknown, Reply::error),
        // The caller handles echo requests.
        Route::Echo | Route::Unknown => unknown(),
    }
}

fn unknown() -> Reply {
    Reply::refuse(
        StatusCode::NOT_FOUND,
        Some("unknown_url"),
        None,
        "Unknown request URL. Please check the URL for typos, or see the docs at https://platform.openai.com/docs/api-reference/.",
    )
}

fn missing_parameter(name: &str) -> Reply {
    let message = format!("Missing required parameter: '{name}'.");
    Reply::refuse(StatusCode::BAD_REQUEST, Some("missing_required_parameter"), Some(name), &message)
}

/// A server-sent event without a name.
fn data_event(data: &str) -> Bytes {
    Bytes::from(format!("data: {data}\n\n"))
}

const WORDS: [&str; 12] = [
    "This ",
    "answer ",
    "is ",
    "simulated: ",
    "it ",
    "has ",
    "the ",
    "right ",
    "shape ",
    "and ",
    "no ",
    "meaning. ",
];

/// The word at this index of a response.
fn word(place: usize) -> &'static str {
    WORDS[place % WORDS.len()]
}

/// The first `words` words of a response.
fn text(words: usize) -> String {
    (0..words).map(word).collect()
}
