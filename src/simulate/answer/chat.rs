//! `POST /chat/completions`.

use std::fmt::Write as _;

use bytes::Bytes;
use serde_json::Value;

use super::{Question, Reply, data_event, missing_parameter, text, word};

pub(super) fn answer(question: &Question<'_>) -> Reply {
    if question.ask.message_count() == 0 {
        return missing_parameter("messages");
    }
    if question.ask.streams() { stream(question) } else { whole(question) }
}

/// Tokens of the prompt as usage counts them: 3 a message and 3 for the answer's start.
fn prompt_tokens(question: &Question<'_>) -> u64 {
    question.ask.input_tokens() + 3 * question.ask.message_count() + 3
}

fn usage(question: &Question<'_>, words: usize) -> String {
    let (prompt, output) = (prompt_tokens(question), words as u64 * question.ask.choices());
    format!(
        r#"{{"prompt_tokens":{prompt},"completion_tokens":{output},"total_tokens":{},"prompt_tokens_details":{{"cached_tokens":0,"audio_tokens":0}},"completion_tokens_details":{{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}}"#,
        prompt + output
    )
}

/// What all chunks and the whole answer begin with.
fn head(question: &Question<'_>, object: &str) -> String {
    format!(
        r#"{{"id":"chatcmpl-{:024x}","object":"{object}","created":{},"model":{},"service_tier":"default","system_fingerprint":"fp_simulated","#,
        question.serial,
        question.created,
        Value::from(question.ask.model())
    )
}

// Written by hand, not through a tree of values: this is the answer that load is measured with.
fn whole(question: &Question<'_>) -> Reply {
    let (words, cut) = question.output();
    let (content, finish) = (Value::from(text(words).trim_end()), if cut { "length" } else { "stop" });
    let mut json = head(question, "chat.completion");
    json.push_str(r#""choices":["#);
    for index in 0..question.ask.choices() {
        let comma = if index == 0 { "" } else { "," };
        // Writing to a string cannot fail.
        write!(
            json,
            r#"{comma}{{"index":{index},"message":{{"role":"assistant","content":{content},"refusal":null,"annotations":[]}},"logprobs":null,"finish_reason":"{finish}"}}"#
        )
        .ok();
    }
    write!(json, r#"],"usage":{}}}"#, usage(question, words)).ok();
    Reply::json(json)
}

fn stream(question: &Question<'_>) -> Reply {
    let (words, cut) = question.output();
    let head = head(question, "chat.completion.chunk");
    let with_usage = question.ask.includes_usage();
    let tail = if with_usage { r#","usage":null}"# } else { "}" };
    let choices = question.ask.choices();
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
        events.push(data_event(&format!(r#"{head}"choices":[],"usage":{}}}"#, usage(question, words))));
    }
    events.push(Bytes::from_static(b"data: [DONE]\n\n"));
    Reply::events(events, 1)
}
