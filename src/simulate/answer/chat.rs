//! `POST /chat/completions`.

use std::fmt::Write as _;

use bytes::Bytes;
use serde_json::Value;

use super::{Reply, ReplyInput, data_event, missing_parameter, text, word};

pub(super) fn answer(input: &ReplyInput<'_>) -> Reply {
    if input.ask.message_count() == 0 {
        return missing_parameter("messages");
    }
    if input.ask.streams() { stream(input) } else { whole(input) }
}

/// The prompt tokens in `usage`: the input, 3 per message, and 3 for the start of the reply.
fn prompt_tokens(input: &ReplyInput<'_>) -> u64 {
    input.ask.input_tokens() + 3 * input.ask.message_count() + 3
}

fn usage(input: &ReplyInput<'_>, words: usize) -> String {
    let (prompt, output) = (prompt_tokens(input), words as u64 * input.ask.choices());
    format!(
        r#"{{"prompt_tokens":{prompt},"completion_tokens":{output},"total_tokens":{},"prompt_tokens_details":{{"cached_tokens":0,"audio_tokens":0}},"completion_tokens_details":{{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}}"#,
        prompt + output
    )
}

/// The first members of a response or a chunk.
fn head(input: &ReplyInput<'_>, object: &str) -> String {
    format!(
        r#"{{"id":"chatcmpl-{:024x}","object":"{object}","created":{},"model":{},"service_tier":"default","system_fingerprint":"fp_simulated","#,
        input.serial,
        input.created,
        Value::from(input.ask.model())
    )
}

// Formatted by hand instead of with `json!`, because load tests use this response.
fn whole(input: &ReplyInput<'_>) -> Reply {
    let (words, cut) = input.output();
    let (content, finish) = (Value::from(text(words).trim_end()), if cut { "length" } else { "stop" });
    let mut json = head(input, "chat.completion");
    json.push_str(r#""choices":["#);
    for index in 0..input.ask.choices() {
        let comma = if index == 0 { "" } else { "," };
        // Writing to a string cannot fail.
        write!(
            json,
            r#"{comma}{{"index":{index},"message":{{"role":"assistant","content":{content},"refusal":null,"annotations":[]}},"logprobs":null,"finish_reason":"{finish}"}}"#
        )
        .ok();
    }
    write!(json, r#"],"usage":{}}}"#, usage(input, words)).ok();
    Reply::json(json)
}

fn stream(input: &ReplyInput<'_>) -> Reply {
    let (words, cut) = input.output();
    let head = head(input, "chat.completion.chunk");
    let with_usage = input.ask.includes_usage();
    let tail = if with_usage { r#","usage":null}"# } else { "}" };
    let choices = input.ask.choices();
    let mut events: Vec<Bytes> = Vec::with_capacity(words + 4);
    let mut chunk = |index: u64, delta: &str, finish: &str| {
        events.push(data_event(&format!(
            r#"{head}"choices":[{{"index":{index},"delta":{delta},"logprobs":null,"finish_reason":{finish}}}]{tail}"#
        )));
    };
    for index in 0..choices {
        chunk(index, r#"{"role":"assistant","content":"","refusal":null}"#, "null");
        for place in 0..words {
            chunk(index, &format!(r#"{{"content":"{}"}}"#, word(place)), "null");
        }
        chunk(index, "{}", if cut { r#""length""# } else { r#""stop""# });
    }
    if with_usage {
        events.push(data_event(&format!(r#"{head}"choices":[],"usage":{}}}"#, usage(input, words))));
    }
    events.push(Bytes::from_static(b"data: [DONE]\n\n"));
    Reply::events(events, 1)
}
