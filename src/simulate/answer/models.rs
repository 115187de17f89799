//! `GET /models`.

use serde_json::{Value, json};

use super::Reply;

const MODELS: [&str; 10] = [
    "gpt-4o",
    "gpt-4o-mini",
    "gpt-4.1",
    "gpt-3.5-turbo",
    "gpt-3.5-turbo-instruct",
    "text-embedding-3-small",
    "text-embedding-3-large",
    "omni-moderation-latest",
    "whisper-1",
    "tts-1",
];

fn object(id: &str) -> Value {
    json!({ "id": id, "object": "model", "created": 1_715_367_049, "owned_by": "system" })
}

pub(super) fn list() -> Reply {
    let data: Vec<Value> = MODELS.iter().map(|id| object(id)).collect();
    Reply::object(&json!({ "object": "list", "data": data }))
}

pub(super) fn retrieve(id: &str) -> Reply {
    Reply::object(&object(id))
}
