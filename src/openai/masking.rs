//! Masks the parts of a message that may come from a prompt, a key or a URL, so that it can be
//! logged and shown.

/// Replaces quoted text.
const QUOTED: &str = "…";
/// Replaces a key.
const KEY: &str = "(key)";
/// Replaces a URL.
const URL: &str = "(url)";

/// The text with quoted parts, keys and URLs replaced.
///
/// An unclosed quote masks the rest. Masking too much is acceptable, because the caller has the
/// original.
pub fn masked(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    let mut before = ' ';
    while let Some(next) = rest.chars().next() {
        if !before.is_alphanumeric() {
            if let Some(after) = skip_url(rest) {
                kept.push_str(URL);
                (rest, before) = (after, ')');
                continue;
            }
            if let Some(after) = skip_key(rest, &kept) {
                kept.push_str(KEY);
                (rest, before) = (after, ')');
                continue;
            }
        }
        rest = &rest[next.len_utf8()..];
        kept.push(next);
        if let Some(close) = closing(next, before) {
            let (after, closed) = skip_quoted(rest, close);
            kept.push_str(QUOTED);
            if closed {
                kept.push(close);
            }
            rest = after;
            before = close;
        } else {
            before = next;
        }
    }
    kept
}

/// The quote that closes `open`. An apostrophe inside a word ("model's", "don't") opens no quote.
fn closing(open: char, before: char) -> Option<char> {
    match open {
        '"' | '`' => Some(open),
        '\'' if !before.is_alphanumeric() => Some(open),
        '“' => Some('”'),
        '„' => Some('“'),
        '‘' => Some('’'),
        '«' => Some('»'),
        _ => None,
    }
}

/// Skips to the text after the closing quote. Returns it, and whether there was one.
fn skip_quoted(text: &str, close: char) -> (&str, bool) {
    let mut from = 0;
    while let Some(found) = text[from..].find(close) {
        let after = &text[from + found + close.len_utf8()..];
        // An apostrophe inside a word closes no quote either.
        if close == '\'' && after.chars().next().is_some_and(char::is_alphanumeric) {
            from += found + close.len_utf8();
            continue;
        }
        return (after, true);
    }
    ("", false)
}

fn skip_url(text: &str) -> Option<&str> {
    let after_scheme = ["https://", "http://", "data:", "wss://", "ws://"].iter().find_map(|scheme| {
        text.get(..scheme.len()).filter(|start| start.eq_ignore_ascii_case(scheme))?;
        Some(&text[scheme.len()..])
    })?;
    let length = after_scheme
        .find(|letter: char| letter.is_whitespace() || matches!(letter, '"' | '\'' | '`' | '>' | ')' | '<'))
        .unwrap_or(after_scheme.len());
    // A final full stop belongs to the sentence.
    let length = after_scheme[..length].trim_end_matches(['.', ',', ';']).len();
    (length > 0).then(|| &after_scheme[length..])
}

/// Skips a word that is or may be a key: `sk-...`, a word that the API masked with stars, and the
/// word after "key provided:".
fn skip_key<'a>(text: &'a str, kept: &str) -> Option<&'a str> {
    let end = text.find(|letter: char| letter.is_whitespace() || is_quote(letter)).unwrap_or(text.len());
    let word = text[..end].trim_end_matches(['.', ',', ';', ')', ':']);
    let secret = ["sk-", "sess-", "Bearer"].iter().any(|prefix| word.starts_with(prefix))
        || word.contains("***")
        || kept.ends_with("key provided: ");
    if !secret || word.is_empty() {
        return None;
    }
    let after = &text[word.len()..];
    // The key is the word after "Bearer".
    if word == "Bearer" {
        return skip_word(after.trim_start());
    }
    Some(after)
}

fn skip_word(text: &str) -> Option<&str> {
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    (end > 0).then(|| &text[end..])
}

fn is_quote(letter: char) -> bool {
    matches!(letter, '"' | '\'' | '`' | '“' | '”' | '‘' | '’' | '«' | '»')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn masks_quotes_keys_and_urls_and_leaves_the_rest() {
        for (message, expected) in [
            (
                "Incorrect API key provided: sk-XXXX***XXXX. You can find your API key at https://platform.openai.com/account/api-keys.",
                "Incorrect API key provided: (key). You can find your API key at (url).",
            ),
            ("Incorrect API key provided: DEADBEEF. You", "Incorrect API key provided: (key). You"),
            ("Incorrect API key provided: bad-key-****test. You", "Incorrect API key provided: (key). You"),
            ("The model `my-secret` does not exist", "The model `…` does not exist"),
            ("This model's maximum isn't 5", "This model's maximum isn't 5"),
            ("Invalid 'messages[3]'. Content", "Invalid '…'. Content"),
            ("Invalid 'don't say' here", "Invalid '…' here"),
            ("Got \"never closed", "Got \"…"),
            ("see (https://x.example/a?b=c) or http://y.example", "see ((url)) or (url)"),
            ("got unsupported 'data:text/plain;base64,SGVs' now", "got unsupported '…' now"),
            ("with Bearer abc.def-123 there", "with (key) there"),
            ("„gesagt“ “said so” ok", "„…“ “…” ok"),
            (
                "Limit 30000, Used 29937, Requested 385. Please try again in 644ms.",
                "Limit 30000, Used 29937, Requested 385. Please try again in 644ms.",
            ),
            ("task-force", "task-force"),
            ("", ""),
        ] {
            assert_eq!(masked(message), expected);
        }
    }

    proptest! {
        #[test]
        fn nothing_quoted_and_no_key_survives(
            before in "[a-z ]{0,10}",
            secret in "[A-Za-z0-9]{24}",
            quote in prop::sample::select(vec!["'{}'", "\"{}\"", "`{}`", "sk-{}", "https://{}", "“{}”"]),
            after in any::<String>(),
        ) {
            let message = format!("{before} {} {after}", quote.replace("{}", &secret));
            prop_assert!(!masked(&message).contains(&secret), "{}", masked(&message));
        }

        #[test]
        fn any_text_is_masked_without_harm(text in any::<String>()) {
            masked(&text);
        }
    }
}
