//! The token usage of a response, from the end of its body or from an event of its stream.

use memchr::memrchr_iter;

use super::json::{Cursor, Malformed, without_space_behind};

/// The upstream's report of a request's tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Input tokens, including cached ones.
    pub input: u64,
    /// Input tokens that were read from the cache.
    pub cached_input: u64,
    /// Output tokens.
    pub output: u64,
    /// Input and output tokens.
    pub total: u64,
}

/// Most objects that are parsed: schemas can have a property with this name.
const MAX_PLACES: usize = 8;

/// Finds the last `usage` object in JSON text: a complete body, its end, or one event's data.
///
/// Only the value after the key is parsed. Text in strings can't be mistaken for the key, because
/// quotes are escaped there. Audio measured by duration has no tokens and gives `None`.
pub fn find(json: &[u8]) -> Option<Usage> {
    // From the end: the last usage counts, and only its own nested objects follow it.
    memrchr_iter(b'{', json)
        .filter(|brace| follows_key(&json[..*brace]))
        .take(MAX_PLACES)
        .find_map(|brace| read(&mut Cursor::new(&json[brace..])).ok().flatten())
}

/// Whether text ends in the key and its colon.
fn follows_key(text: &[u8]) -> bool {
    without_space_behind(text)
        .strip_suffix(b":")
        .is_some_and(|text| without_space_behind(text).ends_with(b"\"usage\""))
}

// The names in chat completions and in responses.
const INPUT: [&[u8]; 2] = [b"prompt_tokens", b"input_tokens"];
const OUTPUT: [&[u8]; 2] = [b"completion_tokens", b"output_tokens"];
const INPUT_DETAILS: [&[u8]; 2] = [b"prompt_tokens_details", b"input_tokens_details"];

/// Parses a usage object; `None` if it counts no tokens.
fn read(cursor: &mut Cursor<'_>) -> Result<Option<Usage>, Malformed> {
    let mut usage = Usage::default();
    let (mut total, mut cached_input) = (None, None);
    let mut counted = false;
    cursor.object()?;
    while let Some(key) = cursor.key()? {
        if INPUT.contains(&key.bytes) {
            usage.input = count(cursor, &mut counted)?;
        } else if OUTPUT.contains(&key.bytes) {
            usage.output = count(cursor, &mut counted)?;
        } else if key.bytes == b"total_tokens" {
            total = Some(count(cursor, &mut counted)?);
        } else if INPUT_DETAILS.contains(&key.bytes) {
            cached_input = Some(cached(cursor)?);
        } else {
            cursor.skip()?;
        }
        // The remaining members, such as kinds of output tokens, are not needed.
        if usage.input > 0 && usage.output > 0 && total.is_some() && cached_input.is_some() {
            break;
        }
    }
    usage.cached_input = cached_input.unwrap_or(0).min(usage.input);
    usage.total = total.unwrap_or(usage.input.saturating_add(usage.output));
    Ok(counted.then_some(usage))
}

fn count(cursor: &mut Cursor<'_>, counted: &mut bool) -> Result<u64, Malformed> {
    let count = cursor.whole_number_or_skip()?;
    *counted |= count.is_some();
    // Larger numbers are mistakes, and their sums could overflow.
    Ok(count.unwrap_or(0).min(MAX_TOKENS))
}

const MAX_TOKENS: u64 = 1_000_000_000_000;

fn cached(cursor: &mut Cursor<'_>) -> Result<u64, Malformed> {
    let mut tokens = 0;
    if !cursor.eat(b'{') {
        cursor.skip()?;
        return Ok(0);
    }
    while let Some(key) = cursor.key()? {
        if key.bytes == b"cached_tokens" {
            tokens = cursor.whole_number_or_skip()?.unwrap_or(0);
        } else {
            cursor.skip()?;
        }
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_every_endpoints_form() {
        for (json, input, cached_input, output, total) in [
            (
                r#"{"id":"x","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":12,"total_tokens":21,
                "prompt_tokens_details":{"cached_tokens":4,"audio_tokens":0}},"service_tier":"default"}"#,
                9,
                4,
                12,
                21,
            ),
            (
                r#"{"usage":{"input_tokens":75,"input_tokens_details":{"cached_tokens":0},"output_tokens":1186,
                "output_tokens_details":{"reasoning_tokens":1024},"total_tokens":1261},"user":null,"metadata":{}}"#,
                75,
                0,
                1186,
                1261,
            ),
            (r#"{"data":[],"usage":{"prompt_tokens":8,"total_tokens":8}}"#, 8, 0, 0, 8),
            (
                r#"{"text":"hi","usage":{"type":"tokens","input_tokens":14,"output_tokens":101,"total_tokens":115}}"#,
                14,
                0,
                101,
                115,
            ),
            (r#"{"usage" : {"input_tokens": 5, "output_tokens": 6}}"#, 5, 0, 6, 11),
            (
                r#"{"usage":{"prompt_tokens":3,"prompt_tokens_details":{"cached_tokens":9},"total_tokens":3}}"#,
                3,
                3,
                0,
                3,
            ),
            (
                r#"{"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11,"prompt_tokens_details":{"cached_tokens":4},
                "completion_tokens_details":{"reason"#,
                9,
                4,
                2,
                11,
            ),
            (r#"half a body","usage":{"prompt_tokens":1,"total_tokens":1}}"#, 1, 0, 0, 1),
        ] {
            assert_eq!(find(json.as_bytes()), Some(Usage { input, cached_input, output, total }), "{json}");
        }
    }

    #[test]
    fn finds_nothing_where_nothing_is() {
        for json in [
            "",
            r#"{"usage":null}"#,
            r#"{"usage":{}}"#,
            r#"{"text":"hi","usage":{"type":"duration","seconds":12}}"#,
            r#"{"content":"usage"}"#,
            r#"{"content":"\"usage\":{\"prompt_tokens\":5}"}"#,
            r#"{"usage":{"prompt_tokens":5"#,
            r#"{"usage":{"prompt_tokens":-5}}"#,
        ] {
            assert_eq!(find(json.as_bytes()), None, "{json}");
        }
    }

    #[test]
    fn a_property_of_the_same_name_does_not_hide_it() {
        let json = r#"{"usage":{"prompt_tokens":3,"total_tokens":3},"tools":[{"properties":{"usage":{"type":"string"}}}]}"#;
        assert_eq!(find(json.as_bytes()).unwrap().input, 3);
    }

    /// The same, by searching every position for the key.
    fn find_anywhere(json: &[u8]) -> Option<Usage> {
        (0..json.len()).rev().find_map(|at| {
            let mut cursor = Cursor::new(json[at..].strip_prefix(b"\"usage\"")?);
            if cursor.eat(b':') && cursor.peek() == Some(b'{') {
                read(&mut cursor).ok().flatten()
            } else {
                None
            }
        })
    }

    proptest! {
        #[test]
        fn agrees_with_looking_everywhere(
            pieces in prop::collection::vec(
                prop::sample::select(vec![
                    r#""usage""#, r#""usage":{"#, r#""usage" : {"#, r#""prompt_tokens":3"#, r#""total_tokens": 5"#, r#""cached_tokens":1"#,
                    r#""prompt_tokens_details":{"#, r#""content":"usage""#, r#""content":"\"usage\":{}""#, "{", "}", "}", "[", "]", ":", ",",
                    ",", " ", "\n", "null", "7",
                ]),
                0..24,
            ),
            cut in any::<prop::sample::Index>(),
        ) {
            let json = pieces.concat();
            // Also with only the end of the body.
            for json in [json.as_bytes(), &json.as_bytes()[cut.index(json.len() + 1)..]] {
                prop_assert_eq!(find(json), find_anywhere(json), "{}", String::from_utf8_lossy(json));
            }
        }

        #[test]
        fn arbitrary_bytes_do_no_harm(bytes in any::<Vec<u8>>(), text in r#"[{}":,0-9a]{0,60}"#) {
            find(&bytes);
            find(format!(r#"{{"usage":{text}"#).as_bytes());
        }
    }
}
