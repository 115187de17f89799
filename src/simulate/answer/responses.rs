//! `/responses`.

use bytes::Bytes;
use serde_json::{Value, json};

use super::super::errors::ApiError;
use super::super::route::{Inference, Route};
use super::super::store::{Shelf, Stored};
use super::{Question, Reply, data_event, missing_parameter, text, word};

pub(super) fn create(question: &Question<'_>, stored: &mut Shelf<Stored>) -> Reply {
    if question.ask.input.is_none() {
        return missing_parameter("input");
    }
    let done = object(question, "completed");
    let background = question.ask.background.unwrap_or_default();
    if question.ask.store.unwrap_or(true) {
        let size = done.to_string().len();
        stored.put(id(question), size, Stored { object: done.clone(), data: Bytes::new() });
    }
    if question.ask.streams() {
        Reply::events(events(question, &done), 1)
    } else if background {
        Reply::object(&object(question, "queued"))
    } else {
        Reply::object(&done)
    }
}

pub(super) fn input_tokens(question: &Question<'_>) -> Reply {
    Reply::object(&json!({ "object": "response.input_tokens", "input_tokens": question.ask.input_tokens() }))
}

/// A stream that turns out to be an error, as recorded: it begins well, then `error` and
/// `response.failed`.
///
/// Streams of other endpoints carry the error alone, in the nested form.
pub(in super::super) fn hidden_error(question: &Question<'_>, error: &ApiError) -> Vec<Bytes> {
    let details = error.object();
    if question.route != Route::Inference(Inference::Responses) {
        return vec![data_event(&json!({ "error": details }).to_string())];
    }
    let begun = object(question, "in_progress");
    let mut failed = object(question, "failed");
    failed["error"] = json!({ "code": details["code"], "message": details["message"] });
    vec![
        event("response.created", 0, json!({ "response": begun })),
        event("response.in_progress", 1, json!({ "response": begun })),
        event("error", 2, json!({ "error": details })),
        event("response.failed", 3, json!({ "response": failed })),
    ]
}

fn id(question: &Question<'_>) -> String {
    format!("resp_{:048x}", question.serial)
}

fn object(question: &Question<'_>, status: &str) -> Value {
    let ask = question.ask;
    let (words, cut) = question.output();
    let complete = status == "completed";
    let (input, output) = (ask.input_tokens(), words as u64);
    let usage = complete.then(|| {
        json!({
            "input_tokens": input, "input_tokens_details": { "cached_tokens": 0 },
            "output_tokens": output, "output_tokens_details": { "reasoning_tokens": 0 },
            "total_tokens": input + output,
        })
    });
    let output = if complete { vec![message(question, "completed", &text(words))] } else { Vec::new() };
    json!({
        "id": id(question), "object": "response", "created_at": question.created,
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

fn message(question: &Question<'_>, status: &str, text: &str) -> Value {
    let content = if text.is_empty() { Vec::new() } else { vec![part(text)] };
    json!({
        "id": format!("msg_{:048x}", question.serial), "type": "message", "status": status,
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

fn events(question: &Question<'_>, done: &Value) -> Vec<Bytes> {
    let (words, cut) = question.output();
    let begun = object(question, "in_progress");
    let item = format!("msg_{:048x}", question.serial);
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
            json!({ "output_index": 0, "item": message(question, "in_progress", "") }),
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
            json!({ "output_index": 0, "item": message(question, "completed", &whole) }),
        ),
        (end, json!({ "response": done })),
    ]);
    named.into_iter().enumerate().map(|(sequence, (name, data))| event(name, sequence, data)).collect()
}
