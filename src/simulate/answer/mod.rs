//! What the API answers when all goes well: realistic in shape, empty of meaning.

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

/// What an answer is made from.
pub(super) struct Question<'a> {
    pub(super) route: Route<'a>,
    pub(super) query: &'a str,
    pub(super) ask: &'a Ask,
    pub(super) form: &'a [Part],
    /// A number that no other answer has.
    pub(super) serial: u64,
    /// Seconds since the epoch.
    pub(super) created: u64,
    /// Words wanted.
    pub(super) words: u32,
}

impl Question<'_> {
    /// Words to answer with, and whether `max_tokens` cut them off.
    fn output(&self) -> (usize, bool) {
        let wanted = usize::try_from(self.words).unwrap_or(usize::MAX);
        match self.ask.max_output().and_then(|max| usize::try_from(max).ok()) {
            Some(max) if max < wanted => (max.max(1), true),
            Some(_) | None => (wanted, false),
        }
    }
}

/// An answer before it meets encodings and faults.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) content: Content,
}

/// The body of an answer.
#[derive(Debug)]
pub(super) enum Content {
    /// One piece.
    Whole(Bytes),
    /// Events, and how many of the last say that the stream is complete.
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

    /// An error of the envelope whose words depend on the request.
    pub(super) fn refuse(status: StatusCode, code: Option<&str>, param: Option<&str>, message: &str) -> Self {
        let error =
            json!({ "message": message, "type": "invalid_request_error", "param": param, "code": code });
        let body = Bytes::from(json!({ "error": error }).to_string());
        Self::new(status, HeaderValue::from_static("application/json; charset=utf-8"), body)
    }
}

/// Answers an operation.
pub(super) fn answer(question: &Question<'_>, store: &Mutex<Store>) -> Reply {
    // Nothing panics while it holds the lock, so that a poisoned one is as good as any.
    let store = || store.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    match question.route {
        Route::Inference(Inference::Chat) => chat::answer(question),
        Route::Inference(Inference::Completions) => completions::answer(question),
        Route::Inference(Inference::Embeddings) => embeddings::answer(question),
        Route::Inference(Inference::Moderations) => moderations::answer(question),
        Route::Inference(Inference::Responses) => responses::create(question, store().of(Kind::Response)),
        Route::ResponseInputTokens => responses::input_tokens(question),
        Route::Inference(Inference::Speech) => audio::speech(),
        Route::Inference(Inference::Transcription) => audio::transcription(question),
        Route::Inference(Inference::Images) => images::answer(question),
        Route::Models => models::list(),
        Route::Model(id) => models::retrieve(id),
        Route::Object(kind, action) => objects::answer(question, kind, action, &mut store()),
        Route::WrongMethod => ApiError::named("method_not_supported").map_or_else(unknown, Reply::error),
        // The caller answers an echo: it is made of what the other operations never see.
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

/// One event of a stream without a name.
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

/// The word at this place of every answer.
fn word(place: usize) -> &'static str {
    WORDS[place % WORDS.len()]
}

/// The first words of every answer.
fn text(words: usize) -> String {
    (0..words).map(word).collect()
}
