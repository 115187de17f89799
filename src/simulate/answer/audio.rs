//! `POST /audio/...`.

use bytes::Bytes;
use serde_json::json;

use super::super::multipart::field;
use super::{Reply, ReplyInput, data_event, text, word};

/// The size of a speech response, in bytes. Its content covers the byte values but is no audio.
const SPEECH: usize = 24 << 10;

pub(super) fn speech() -> Reply {
    let data: Vec<u8> = (0..SPEECH).map(|place| (place * 31 % 251).to_le_bytes()[0]).collect();
    Reply::binary("audio/mpeg", Bytes::from(data))
}

pub(super) fn transcription(input: &ReplyInput<'_>) -> Reply {
    let words = input.words as usize;
    let spoken = text(words);
    let usage = json!({
        "type": "tokens", "input_tokens": 14, "output_tokens": words, "total_tokens": 14 + words,
        "input_token_details": { "text_tokens": 0, "audio_tokens": 14 },
    });
    if field(input.form, "stream") == Some("true") {
        let mut events: Vec<Bytes> = (0..words)
            .map(|place| {
                data_event(&json!({ "type": "transcript.text.delta", "delta": word(place) }).to_string())
            })
            .collect();
        let done = json!({ "type": "transcript.text.done", "text": spoken, "usage": usage });
        events.push(data_event(&done.to_string()));
        return Reply::events(events, 1);
    }
    match field(input.form, "response_format") {
        Some("text") => Reply::binary("text/plain; charset=utf-8", Bytes::from(spoken + "\n")),
        Some(_) | None => Reply::object(&json!({ "text": spoken, "usage": usage })),
    }
}
