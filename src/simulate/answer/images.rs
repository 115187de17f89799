//! `POST /images/...`.

use serde_json::json;

use super::{Reply, ReplyInput};

/// One gray pixel, as PNG.
const PIXEL: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg==";

pub(super) fn answer(input: &ReplyInput<'_>) -> Reply {
    let images: Vec<_> = (0..input.ask.choices().min(10)).map(|_| json!({ "b64_json": PIXEL })).collect();
    let tokens = input.ask.input_tokens();
    Reply::object(&json!({
        "created": input.created, "data": images, "output_format": "png", "quality": "low", "size": "1024x1024",
        "usage": {
            "input_tokens": tokens, "output_tokens": 272, "total_tokens": tokens + 272,
            "input_tokens_details": { "image_tokens": 0, "text_tokens": tokens },
        },
    }))
}
