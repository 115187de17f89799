//! `/responses`.

use bytes::Bytes;
use serde_json::{Value, json};

use super::super::errors::ApiError;
use super::super::route::{Inference, Route};
use super::super::store::{BoundedMap, Stored};
use super::{Reply, ReplyInput, data_event, missing_parameter, text, word};

pub(super) fn create(input: &ReplyInput<'_>, stored: &mut BoundedMap<Stored>) -> Reply {
    if input.ask.input.is_none() {
        return missing_parameter("input");
    }
    let done = object(input, "completed");
    let background = input.ask.background.unwrap_or_default();
    if input.ask.store.unwrap_or(true) {
        let size = done.to_string().len();
        stored.put(id(input), size, Stored { object: done.clone(), data: Bytes::new() });
    }
    if input.ask.streams() {
        Reply::events(events(input, &done), 1)
    } else if background {
        Reply::object(&object(input, "queued"))
    } else {
        Reply::object(&done)
    }
}

pub(super) fn input_tokens(input: &ReplyInput<'_>) -> Reply {
    Reply::object(&json!({ "object": "response.input_tokens", "input_tokens": input.ask.input_tokens() }))
}

/// The events of a stream that fails, as recorded: regular events, then `error` and
/// `response.failed`.
///
/// Streams of other endpoints contain only the error, in its nested form.
pub(in super::super) fn hidden_error(input: &ReplyInput<'_>, error: &ApiError) -> Vec<Bytes> {
    let details = error.object();
    if input.route != Route::Inference(Inference::Responses) {
        return vec![data_event(&json!({ "error": details }).to_string())];
    }
    let begun = object(input, "in_progress");
    let mut failed = object(input, "failed");
    failed["error"] = json!({ "code": details["code"], "message": details["message"] });
    vec![
        event("response.created", 0, json!({ "response": begun })),
        event("response.in_progress", 1, json!({ "response": begun })),
        event("error", 2, json!({ "error": details })),
        event("response.failed", 3, json!({ "response": failed })),
    ]
}

fn id(input: &ReplyInput<'_>) -> String {
    format!("resp_{:048x}", input.serial)
}

fn object(input: &ReplyInput<'_>, status: &str) -> Value {
    let ask = input.ask;
    let (words, cut) = input.output();
    let complete = status == "completed";
    let (input_tokens, output_tokens) = (ask.input_tokens(), words as u64);
    let usage = complete.then(|| {
        json!({
            "input_tokens": input_tokens, "input_tokens_details": { "cached_tokens": 0 },
            "output_tokens": output_tokens, "output_tokens_details": { "reasoning_tokens": 0 },
            "total_tokens": input_tokens + output_tokens,
        })
    });
    let output = if complete { vec![message(input, "completed", &text(words))] } else { Vec::new() };
    json!({
        "id": id(input), "object": "response", "created_at": input.created,
        "status": if complete && cut { "incomplete" } else { status },
        "background": ask.background.unwrap_or_default(), "error": null,
        "incomplete_details": (complete && cut).then(|| json!({ "reason": "max_output_tokens" })),
        "instructions": null, "max_output_tokens": ask.max_output(), "model": ask.model(), "output": output,
        "parallel_tool_calls": true, "previous_response_id": null,
        "reasoning": { "effort": null, "summary": null }, "service_tier": "default",
        "store": ask.store.unwrap_or(true), "temperature": 1.0, "text": { "format": { "type": "text" } },
        "tool_choice": "auto", "tools": [], "top_p": 1.0, "truncation": "disabled", "usage": usage,
        "user": null, "metadata": {},
    })
}

fn message(input: &ReplyInput<'_>, status: &str, text: &str) -> Value {
    let content = if text.is_empty() { Vec::new() } else { vec![part(text)] };
    json!({
        "id": format!("msg_{:048x}", input.serial), "type": "message", "status": status,
        "role": "assistant", "content": content,
    })
}

fn part(text: &str) -> Value {
    json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": [] })
}

fn event(name: &str, sequence: usize, mut data: Value) -> Bytes {
    data["type"] = json!(name);
    data["sequence_number"] = json!(sequence);
    Bytes::from(format!("event: {name}\ndata: {data}\n\n"))
}

fn events(input: &ReplyInput<'_>, done: &Value) -> Vec<Bytes> {
    let (words, cut) = input.output();
    let begun = object(input, "in_progress");
    let item = format!("msg_{:048x}", input.serial);
    let spot = |mut data: Value| {
        data["item_id"] = json!(item);
        data["output_index"] = json!(0);
        data["content_index"] = json!(0);
        data
    };
    let whole = text(words);
    let mut named: Vec<(&str, Value)> = vec![
        ("response.created", json!({ "response": begun })),
        ("response.in_progress", json!({ "response": begun })),
        (
            "response.output_item.added",
            json!({ "output_index": 0, "item": message(input, "in_progress", "") }),
        ),
        ("response.content_part.added", spot(json!({ "part": part("") }))),
    ];
    named.extend(
        (0..words).map(|place| {
            ("response.output_text.delta", spot(json!({ "delta": word(place), "logprobs": [] })))
        }),
    );
    let end = if cut { "response.incomplete" } else { "response.completed" };
    named.extend([
        ("response.output_text.done", spot(json!({ "text": whole, "logprobs": [] }))),
        ("response.content_part.done", spot(json!({ "part": part(&whole) }))),
        (
            "response.output_item.done",
            json!({ "output_index": 0, "item": message(input, "completed", &whole) }),
        ),
        (end, json!({ "response": done })),
    ]);
    named.into_iter().enumerate().map(|(sequence, (name, data))| event(name, sequence, data)).collect()
}
