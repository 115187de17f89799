//! How many tokens an answer took, from the end of its body or from an event of its stream.

use std::sync::LazyLock;

use memchr::memmem;

use super::json::{Cursor, Malformed};

/// The tokens that the upstream says a request took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the input, cached ones included.
    pub input: u64,
    /// Tokens of the input that were read from the cache.
    pub cached_input: u64,
    /// Tokens of the answer.
    pub output: u64,
    /// Both.
    pub total: u64,
}

/// How many places are looked at before the search ends: schemas can have a property of this name.
const MAX_PLACES: usize = 8;

/// Finds the last `usage` object in JSON text, which may be whole, the end of a body, or one event's data.
///
/// It parses nothing but what follows the key. Text inside strings cannot deceive it: there, quotes are
/// escaped. Audio that is measured by duration has no tokens: nothing.
pub fn find(json: &[u8]) -> Option<Usage> {
    // Forward, because that search is the one that uses vectors; the last places are the ones that count.
    let mut places = [0; MAX_PLACES];
    let mut count = 0;
    for place in KEY_FINDER.find_iter(json) {
        places[count % MAX_PLACES] = place + KEY.len();
        count += 1;
    }
    (count.saturating_sub(MAX_PLACES)..count).rev().find_map(|number| {
        let mut cursor = Cursor::new(&json[places[number % MAX_PLACES]..]);
        if !cursor.eat(b':') || cursor.peek() != Some(b'{') {
            return None;
        }
        read(&mut cursor).ok().flatten()
    })
}

const KEY: &[u8] = b"\"usage\"";
/// Made once: to prepare a search costs more than the search.
static KEY_FINDER: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new(KEY));

/// Reads a usage object; nothing if it counts no tokens.
fn read(cursor: &mut Cursor<'_>) -> Result<Option<Usage>, Malformed> {
    let mut usage = Usage::default();
    let mut total = None;
    let mut counted = false;
    cursor.object()?;
    while let Some(key) = cursor.key()? {
        match key.bytes {
            b"prompt_tokens" | b"input_tokens" => {
                usage.input = count(cursor, &mut counted)?;
            }
            b"completion_tokens" | b"output_tokens" => {
                usage.output = count(cursor, &mut counted)?;
            }
            b"total_tokens" => total = Some(count(cursor, &mut counted)?),
            b"prompt_tokens_details" | b"input_tokens_details" => usage.cached_input = cached(cursor)?,
            _ => cursor.skip()?,
        }
    }
    usage.cached_input = usage.cached_input.min(usage.input);
    usage.total = total.unwrap_or(usage.input.saturating_add(usage.output));
    Ok(counted.then_some(usage))
}

fn count(cursor: &mut Cursor<'_>, counted: &mut bool) -> Result<u64, Malformed> {
    let count = cursor.whole_number_or_skip()?;
    *counted |= count.is_some();
    // More than any answer takes is a mistake, and sums of it would overflow.
    Ok(count.unwrap_or(0).min(MAX_TOKENS))
}

const MAX_TOKENS: u64 = 1_000_000_000_000;

fn cached(cursor: &mut Cursor<'_>) -> Result<u64, Malformed> {
    let mut tokens = 0;
    if cursor.peek() != Some(b'{') {
        cursor.skip()?;
        return Ok(0);
    }
    cursor.object()?;
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

    proptest! {
        #[test]
        fn arbitrary_bytes_do_no_harm(bytes in any::<Vec<u8>>(), text in r#"[{}":,0-9a]{0,60}"#) {
            find(&bytes);
            find(format!(r#"{{"usage":{text}"#).as_bytes());
        }
    }
}
