//! `POST /completions`.

use bytes::Bytes;
use http::HeaderValue;
use serde_json::{Value, json};

use super::{Reply, ReplyInput, data_event, text, word};

pub(super) fn answer(input: &ReplyInput<'_>) -> Reply {
    let (words, cut) = input.output();
    let finish = if cut { "length" } else { "stop" };
    let ask = input.ask;
    let (prompt, output) = (ask.input_tokens(), words as u64 * ask.choices());
    let usage =
        json!({ "prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output });
    let object = |choices: Value, usage: &Value| {
        let mut object = json!({
            "id": format!("cmpl-{:024x}", input.serial), "object": "text_completion",
            "created": input.created, "model": ask.model(), "choices": choices,
        });
        if !usage.is_null() || (ask.streams() && ask.includes_usage()) {
            object["usage"] = usage.clone();
        }
        object
    };
    let choice = |index: u64, text: &str, finish: Option<&str>| json!({ "text": text, "index": index, "logprobs": null, "finish_reason": finish });
    let mut reply = if ask.streams() {
        let mut events = Vec::new();
        for index in 0..ask.choices() {
            for place in 0..words {
                let chunk = object(json!([choice(index, word(place), None)]), &Value::Null);
                events.push(data_event(&chunk.to_string()));
            }
            events.push(data_event(
                &object(json!([choice(index, "", Some(finish))]), &Value::Null).to_string(),
            ));
        }
        if ask.includes_usage() {
            events.push(data_event(&object(json!([]), &usage).to_string()));
        }
        events.push(Bytes::from_static(b"data: [DONE]\n\n"));
        Reply::events(events, 1)
    } else {
        let choices = (0..ask.choices()).map(|index| choice(index, &text(words), Some(finish))).collect();
        Reply::object(&object(choices, &usage))
    };
    if let Ok(model) = HeaderValue::from_str(ask.model()) {
        reply.headers.insert("openai-model", model);
    }
    reply
}
