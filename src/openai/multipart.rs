//! The fields of a multipart body that pricing and retrying need; files are skipped.

use http::{HeaderMap, header};
use memchr::memmem;

use super::request_peek::{MAX_MODEL, RequestPeek};

/// Most parts that are parsed.
const MAX_PARTS: usize = 64;
/// The longest part header that is parsed.
const MAX_PART_HEAD: usize = 1024;
/// The longest boundary that RFC 2046 allows.
const MAX_BOUNDARY: usize = 70;

/// The boundary of a multipart body, from its content type; `None` for other content types.
pub fn boundary(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::CONTENT_TYPE)?;
    // The most common content type.
    if value == "application/json" {
        return None;
    }
    let value = value.to_str().ok()?;
    let (kind, parameters) = value.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let boundary = parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("boundary").then(|| value.trim().trim_matches('"'))
    })?;
    (1..=MAX_BOUNDARY).contains(&boundary.len()).then_some(boundary)
}

/// Parses `model`, `stream`, `n` and `prompt` of a multipart body, which may be truncated.
pub fn peek(body: &[u8], boundary: &str) -> RequestPeek {
    let mut peek = RequestPeek::default();
    fields(body, boundary, |name, value| peek.field(name, value));
    peek
}

/// The unparsed values of `model` in a multipart body.
pub fn models<'a>(body: &'a [u8], boundary: &str) -> Vec<&'a [u8]> {
    let mut models = Vec::new();
    fields(body, boundary, |name, value| {
        if name == "model" {
            models.push(value.trim_ascii());
        }
    });
    models
}

/// Calls `tell` with each plain field of a multipart body, which may be truncated.
fn fields<'a>(body: &'a [u8], boundary: &str, mut tell: impl FnMut(&'a str, &'a [u8])) {
    let delimiter = [b"--", boundary.as_bytes()].concat();
    let finder = memmem::Finder::new(&delimiter);
    let Some(first) = finder.find(body) else { return };
    let mut rest = &body[first + delimiter.len()..];
    for _ in 0..MAX_PARTS {
        let end = finder.find(rest);
        let part = &rest[..end.unwrap_or(rest.len())];
        // A truncated part has no complete value.
        if let (Some(_), Some((name, value))) = (end, field(part)) {
            tell(name, value);
        }
        let Some(end) = end else { break };
        rest = &rest[end + delimiter.len()..];
        if rest.starts_with(b"--") {
            break;
        }
    }
}

impl RequestPeek {
    fn field(&mut self, name: &str, value: &[u8]) {
        let text = || str::from_utf8(&value[..value.len().min(MAX_MODEL)]).unwrap_or_default().trim();
        match name {
            "model" => self.model = Some(text()).filter(|model| !model.is_empty()).map(Into::into),
            "stream" => self.stream = matches!(text(), "true" | "True" | "1"),
            "n" => self.n = text().parse().ok(),
            "prompt" => {
                let text = String::from_utf8_lossy(value);
                self.text_chars += text.chars().count() as u64;
                self.text_bytes += value.len() as u64;
            }
            _ => {}
        }
    }
}

/// The name and value of a part that is a plain field; `None` for a file.
fn field(part: &[u8]) -> Option<(&str, &[u8])> {
    let near = &part[..part.len().min(MAX_PART_HEAD)];
    let blank = memmem::find(near, b"\r\n\r\n")?;
    let head = str::from_utf8(&part[..blank]).ok()?;
    let disposition = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim().eq_ignore_ascii_case("content-disposition").then_some(value)
    })?;
    let mut field = None;
    for parameter in disposition.split(';') {
        match parameter.trim().split_once('=') {
            Some(("name", value)) => field = Some(value.trim_matches('"')),
            Some(("filename" | "filename*", _)) => return None,
            Some(_) | None => {}
        }
    }
    let value = &part[blank + 4..];
    Some((field?, value.strip_suffix(b"\r\n").unwrap_or(value)))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const BODY: &[u8] = b"--b0und\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\nContent-Type: audio/wav\r\n\r\n\
        RIFF\x00\xff model\r\n--b0und\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n--b0und\r\n\
        content-disposition: form-data; name=\"stream\"\r\n\r\ntrue\r\n--b0und--\r\n";

    fn content_type(value: &'static str) -> HeaderMap {
        [(header::CONTENT_TYPE, HeaderValue::from_static(value))].into_iter().collect()
    }

    #[test]
    fn reads_fields_behind_a_file() {
        let peek = peek(BODY, "b0und");
        assert_eq!((peek.model.as_deref(), peek.stream), (Some("whisper-1"), true));
    }

    #[test]
    fn a_file_is_no_field_whatever_its_name() {
        let body =
            b"--b\r\nContent-Disposition: form-data; name=\"model\"; filename=\"m\"\r\n\r\nx\r\n--b--\r\n";
        assert_eq!(peek(body, "b"), RequestPeek::default());
    }

    #[test]
    fn a_body_cut_short_gives_what_is_whole() {
        let peek = peek(&BODY[..BODY.len() - 12], "b0und");
        assert_eq!((peek.model.as_deref(), peek.stream), (Some("whisper-1"), false));
        assert_eq!(super::peek(b"", "b0und"), RequestPeek::default());
    }

    #[test]
    fn reads_the_boundary() {
        for (value, expected) in [
            ("multipart/form-data; boundary=abc", Some("abc")),
            ("Multipart/Form-Data; charset=x; Boundary=\"a b\"", Some("a b")),
            ("multipart/form-data", None),
            ("multipart/form-data; boundary=", None),
            ("application/json; boundary=x", None),
        ] {
            assert_eq!(boundary(&content_type(value)), expected, "{value}");
        }
        assert_eq!(boundary(&HeaderMap::new()), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_no_harm(bytes in any::<Vec<u8>>(), text in "(--b|\r\n|[a-z=;:\" -]){0,60}") {
            peek(&bytes, "b");
            peek(text.as_bytes(), "b");
        }
    }
}
