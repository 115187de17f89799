//! `POST /embeddings`.

use std::fmt::Write as _;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use http::{HeaderValue, StatusCode};
use serde_json::Value;

use super::{Reply, ReplyInput, missing_parameter};

/// The dimensions of the largest model.
const LARGEST: usize = 3_072;

/// The vector of every input, as little-endian 32-bit floats.
static VECTOR: LazyLock<Vec<u8>> =
    LazyLock::new(|| (0..LARGEST).flat_map(|place| component(place).to_le_bytes()).collect());

/// The vector in decimal, and the end of each component.
static DECIMAL: LazyLock<(String, Vec<usize>)> = LazyLock::new(|| {
    let (mut text, mut ends) = (String::new(), Vec::with_capacity(LARGEST));
    for place in 0..LARGEST {
        let comma = if place == 0 { "" } else { "," };
        // Writing to a string cannot fail.
        write!(text, "{comma}{}", component(place)).ok();
        ends.push(text.len());
    }
    (text, ends)
});

/// A component in ±0.05, as in real vectors.
fn component(place: usize) -> f32 {
    let step = u16::try_from(place * 7_919 % 1_000).unwrap_or_default();
    (f32::from(step) - 499.5) / 10_000.0
}

pub(super) fn answer(input: &ReplyInput<'_>) -> Reply {
    let ask = input.ask;
    let inputs = ask.input_count();
    if inputs == 0 {
        return missing_parameter("input");
    }
    if inputs > 2_048 {
        let message = "Invalid 'input': array too long. Expected an array with maximum length 2048.";
        return Reply::refuse(
            StatusCode::BAD_REQUEST,
            Some("array_above_max_length"),
            Some("input"),
            message,
        );
    }
    let usual = if ask.model().contains("large") { LARGEST } else { 1_536 };
    let dimensions = ask.dimensions.unwrap_or(usual).clamp(1, LARGEST);
    let vector = if ask.encoding_format.as_deref() == Some("base64") {
        format!("\"{}\"", BASE64.encode(&VECTOR[..dimensions * 4]))
    } else {
        let (text, ends) = &*DECIMAL;
        format!("[{}]", &text[..ends[dimensions - 1]])
    };
    let mut json = String::from(r#"{"object":"list","data":["#);
    for index in 0..inputs {
        let comma = if index == 0 { "" } else { "," };
        // Writing to a string cannot fail.
        write!(json, r#"{comma}{{"object":"embedding","index":{index},"embedding":{vector}}}"#).ok();
    }
    let (model, tokens) = (Value::from(ask.model()), ask.input_tokens());
    write!(json, r#"],"model":{model},"usage":{{"prompt_tokens":{tokens},"total_tokens":{tokens}}}}}"#).ok();
    let mut reply = Reply::json(json);
    if let Ok(model) = HeaderValue::from_str(ask.model()) {
        reply.headers.insert("openai-model", model);
    }
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_hold_the_same_numbers() {
        let (text, ends) = &*DECIMAL;
        let first: Vec<f32> = text[..ends[9]].split(',').map(|number| number.parse().unwrap()).collect();
        let bytes: Vec<f32> =
            VECTOR.chunks(4).take(10).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();
        assert_eq!(first, bytes);
    }
}
