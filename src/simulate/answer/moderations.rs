//! `POST /moderations`.

use serde_json::{Map, Value, json};

use super::{Reply, ReplyInput};

const CATEGORIES: [&str; 13] = [
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
];

pub(super) fn answer(input: &ReplyInput<'_>) -> Reply {
    let all = |value: Value| -> Map<String, Value> {
        CATEGORIES.iter().map(|name| ((*name).to_owned(), value.clone())).collect()
    };
    let result = json!({
        "flagged": false,
        "categories": all(json!(false)),
        "category_scores": all(json!(0.000_01)),
        "category_applied_input_types": all(json!(["text"])),
    });
    let results: Vec<&Value> = (0..input.ask.input_count().clamp(1, 2_048)).map(|_| &result).collect();
    let model = match input.ask.model() {
        "" => "omni-moderation-latest",
        model => model,
    };
    Reply::object(&json!({ "id": format!("modr-{:024x}", input.serial), "model": model, "results": results }))
}
