//! Masks the parts of an error message that may echo a prompt, a key or an address.

/// The maximum length of a message, in characters.
pub const MAX_MESSAGE: usize = 512;

/// Replaces masked text.
const MASK: char = '…';

/// Hosts of links in the API's own messages, which reveal nothing about a caller.
const KNOWN_HOSTS: [&str; 4] =
    ["platform.openai.com", "help.openai.com", "status.openai.com", "developers.openai.com"];

/// The message with quoted parts, keys and unknown links masked, on one line, at most
/// [`MAX_MESSAGE`] characters.
///
/// An unclosed quote masks the rest. An apostrophe inside a word opens no quote.
pub fn masked(message: &str) -> String {
    redacted(message, true)
}

/// The message with keys and unknown links masked, but not quoted parts; for operators who allow
/// error texts in the log. Bounded and on one line like [`masked`].
pub fn without_keys(message: &str) -> String {
    redacted(message, false)
}

/// Text that `Debug` does not show.
#[derive(Clone)]
pub struct Hidden(String);

impl Hidden {
    /// Hides `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(super) fn into_inner(self) -> String {
        self.0
    }
}

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(hidden)")
    }
}

fn redacted(message: &str, quotes: bool) -> String {
    let mut out = String::with_capacity(message.len().min(MAX_MESSAGE));
    let mut length = 0;
    let mut rest = message;
    let mut before = ' ';
    while let Some(first) = rest.chars().next() {
        if length >= MAX_MESSAGE {
            out.push(MASK);
            break;
        }
        let kept = match first {
            '"' | '`' | '\'' if quotes && opens_quote(first, before) => {
                let inner = &rest[first.len_utf8()..];
                out.extend([first, MASK]);
                length += 2;
                let Some(end) = closing(first, inner) else { break };
                out.push(first);
                length += 1;
                before = first;
                rest = &inner[end + first.len_utf8()..];
                continue;
            }
            '“' | '‘' if quotes => {
                let close = if first == '“' { '”' } else { '’' };
                let inner = &rest[first.len_utf8()..];
                out.extend([first, MASK]);
                length += 2;
                let Some(end) = inner.find(close) else { break };
                out.push(close);
                length += 1;
                before = close;
                rest = &inner[end + close.len_utf8()..];
                continue;
            }
            _ if !before.is_alphanumeric() => {
                let word = &rest[..rest.find(ends_word).unwrap_or(rest.len())];
                if is_secret(word) {
                    out.push(MASK);
                    length += 1;
                    before = MASK;
                    rest = &rest[word.len()..];
                    continue;
                }
                first
            }
            _ => first,
        };
        out.push(if kept.is_control() { ' ' } else { kept });
        length += 1;
        before = kept;
        rest = &rest[first.len_utf8()..];
    }
    out
}

fn opens_quote(quote: char, before: char) -> bool {
    quote != '\'' || !before.is_alphanumeric()
}

/// The end of the quote in `inner`; an apostrophe before a letter is part of a word.
fn closing(quote: char, inner: &str) -> Option<usize> {
    inner.match_indices(quote).map(|(at, _)| at).find(|at| {
        let after = inner[at + quote.len_utf8()..].chars().next();
        quote != '\'' || !after.is_some_and(char::is_alphanumeric)
    })
}

fn ends_word(character: char) -> bool {
    character.is_whitespace() || matches!(character, '"' | '`' | ',' | ';' | ')' | ']' | '}' | '<' | '>')
}

fn is_secret(word: &str) -> bool {
    let keys = ["sk-", "sess-", "rk-", "pk-", "ek_", "eyJ", "weir-key-"];
    if keys.iter().any(|key| word.starts_with(key)) {
        return true;
    }
    if word.starts_with("data:") {
        return true;
    }
    let Some(link) = word.strip_prefix("https://").or_else(|| word.strip_prefix("http://")) else {
        return false;
    };
    let host = link.split(['/', '?', '#', ':']).next().unwrap_or_default();
    !KNOWN_HOSTS.contains(&host.trim_end_matches('.')) || link.contains(['?', '#', '@'])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn takes_out_what_echoes() {
        for (message, expected) in [
            ("Invalid value: 'my secret prompt'.", "Invalid value: '…'."),
            ("You've sent \"a\\\"b\" and it's wrong", "You've sent \"…\"b\"…"),
            ("don't keep 'it's mine' here", "don't keep '…' here"),
            ("The model `gpt-9` does not exist", "The model `…` does not exist"),
            ("Incorrect API key provided: sk-abcd****wxyz. You can", "Incorrect API key provided: … You can"),
            (
                "find it at https://platform.openai.com/account/api-keys.",
                "find it at https://platform.openai.com/account/api-keys.",
            ),
            ("Failed to download https://intern.example/x?token=1", "Failed to download …"),
            ("see https://platform.openai.com/x?prompt=hello now", "see … now"),
            ("unterminated 'secret until the end", "unterminated '…"),
            ("“smart” and ‘curly’", "“…” and ‘…’"),
            ("two\nlines\u{1b}[31m", "two lines [31m"),
            ("image data:image/png;base64,AAAA", "image …;base64,AAAA"),
        ] {
            assert_eq!(masked(message), expected, "{message}");
        }
    }

    #[test]
    fn unmasked_messages_still_hold_no_key() {
        assert_eq!(
            without_keys("The model 'gpt-9' and \"sk-abcdef\" or sk-abcdef\n"),
            "The model 'gpt-9' and \"…\" or … "
        );
    }

    #[test]
    fn is_bounded() {
        assert_eq!(masked(&"é".repeat(10_000)).chars().count(), MAX_MESSAGE + 1);
    }

    proptest! {
        #[test]
        fn nothing_between_quotes_survives(before in "[a-z ]{0,20}", secret in "[A-Z]{4,20}", quote in "[\"`]") {
            let out = masked(&format!("{before} {quote}{secret}{quote} after"));
            prop_assert!(!out.contains(&secret), "{out}");
            prop_assert!(out.ends_with(" after"));
        }

        #[test]
        fn any_message_is_one_bounded_line(message in any::<String>()) {
            let out = masked(&message);
            prop_assert!(out.chars().count() <= MAX_MESSAGE + 3);
            prop_assert!(!out.contains(char::is_control));
        }
    }
}
