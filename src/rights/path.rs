//! Detects ambiguous paths.

use http::HeaderMap;

use crate::openai::endpoint::{Named, has_dot_segments, usual};

/// Headers that override the method at some servers.
const OVERRIDES: [&str; 3] = ["x-http-method-override", "x-http-method", "x-method-override"];

/// Why the upstream could interpret the request differently from Weir; `None` if it can't.
///
/// Servers differ in what they decode, merge and resolve (RFC 3986, section 6.2.2). Unusual forms,
/// which normal clients never send, are refused.
pub(super) fn ambiguity(path: &str, headers: &HeaderMap) -> Option<&'static str> {
    let of_path = if usual(path).is_some() || is_plain(path) { None } else { of_path(path) };
    // One pass over the headers: a lookup of each name would be slower.
    let overrides = || headers.keys().any(|name| OVERRIDES.contains(&name.as_str()));
    of_path.or_else(|| overrides().then_some("a header names another method"))
}

/// Whether a path has only lower-case letters, digits, `-`, `_` and single slashes: it is
/// unambiguous.
fn is_plain(path: &str) -> bool {
    let mut before = 0;
    path.bytes().all(|byte| {
        let after = std::mem::replace(&mut before, byte);
        byte.is_ascii_lowercase()
            || byte.is_ascii_digit()
            || matches!(byte, b'-' | b'_')
            || byte == b'/' && after != b'/'
    })
}

/// Why a path is ambiguous.
fn of_path(path: &str) -> Option<&'static str> {
    if has_dot_segments(path) {
        return Some("its path has dot segments");
    }
    // Byte by byte: for a pattern this short, creating a searcher costs more than the search.
    if path.as_bytes().windows(2).any(|pair| pair == b"//") {
        return Some("its path has empty segments");
    }
    if path.bytes().any(|byte| matches!(byte, b'\\' | b';') || !byte.is_ascii_graphic()) {
        return Some("its path has a backslash, a semicolon or a raw byte");
    }
    if !escapes(path).all(is_needed) {
        return Some("its path has unnecessary escapes, or escaped separators");
    }
    // `/v1/FILES`, `/V1/files`: unknown to Weir, but files to a server that ignores the case.
    let has_capitals = path.bytes().any(|byte| byte.is_ascii_uppercase());
    let is_another =
        has_capitals && Named::by(&path.to_ascii_lowercase()).endpoint != Named::by(path).endpoint;
    is_another.then_some("its path names an endpoint in capital letters")
}

/// The bytes that a path escapes; `None` for an invalid escape.
fn escapes(path: &str) -> impl Iterator<Item = Option<u8>> {
    path.split('%').skip(1).map(escaped)
}

/// The byte of an escape, from the text after its percent sign.
fn escaped(behind: &str) -> Option<u8> {
    let digits = behind.get(..2).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
    u8::from_str_radix(digits, 16).ok()
}

/// Whether a byte must be escaped in a path, or may be by a careful client. Bytes that a second
/// decoding or another server treats as separators are excluded.
fn is_needed(escaped: Option<u8>) -> bool {
    escaped.is_some_and(|byte| {
        let unreserved = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
        !unreserved && !byte.is_ascii_control() && !matches!(byte, b'/' | b'\\' | b'%' | b';' | b'?' | b'#')
    })
}

/// Text with its percent escapes decoded; `None` if they are invalid or do not give UTF-8.
pub(super) fn decoded(text: &str, plus_is_space: bool) -> Option<String> {
    let bytes = text.as_bytes();
    let (mut plain, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'%' => {
                plain.push(escaped(text.get(at + 1..)?)?);
                at += 2;
            }
            b'+' if plus_is_space => plain.push(b' '),
            _ => plain.push(byte),
        }
        at += 1;
    }
    String::from_utf8(plain).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tidy_paths_have_one_reading() {
        for path in [
            "/v1/chat/completions",
            "/v1/chat/completions/",
            "/openai/deployments/gpt-4o/chat/completions",
            "/v1/models/ft:gpt-4o:acme::abc",
            "/v1/models/ft%3Agpt-4o%3Aacme%3A%3Aabc",
            "/v1/models/meta-llama/Llama-3.3-70B",
            "/v1/files/file-AbC",
            "/v1/models/%C3%A9",
        ] {
            assert_eq!(ambiguity(path, &HeaderMap::new()), None, "{path}");
        }
    }

    proptest! {
        #[test]
        fn a_plain_path_has_one_reading(path in "(/|//|[a-z0-9_-]{1,3}|[.%A;\\\\ ]|\\.\\.){0,12}") {
            prop_assert!(!is_plain(&path) || of_path(&path).is_none(), "{path}");
        }
    }

    #[test]
    fn another_method_in_a_header_is_a_second_reading() {
        for name in OVERRIDES {
            let headers =
                HeaderMap::from_iter([(name.parse().unwrap(), http::HeaderValue::from_static("GET"))]);
            assert!(ambiguity("/v1/files", &headers).is_some(), "{name}");
        }
    }

    #[test]
    fn escapes_are_decoded_once() {
        assert_eq!(decoded("gpt%2D5", false).as_deref(), Some("gpt-5"));
        assert_eq!(decoded("a+b%2Bc", true).as_deref(), Some("a b+c"));
        assert_eq!(decoded("%252e", false).as_deref(), Some("%2e"));
        for broken in ["%", "%2", "%zz", "%ff", "%+1"] {
            assert_eq!(decoded(broken, false), None, "{broken}");
        }
    }
}
