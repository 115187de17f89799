//! A parser for the subset of `multipart/form-data` (RFC 7578) that uploads use.

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use memchr::memmem;

/// One part of a form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) name: String,
    pub(super) filename: Option<String>,
    pub(super) data: Bytes,
}

/// The maximum number of parts; requests of the API have fewer.
const MAX_PARTS: usize = 256;

/// Splits a body into its parts. `None` if it is not a complete form.
pub(super) fn parts(headers: &HeaderMap, body: &Bytes) -> Option<Vec<Part>> {
    let content_type = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    if !content_type.trim_start().to_ascii_lowercase().starts_with("multipart/form-data") {
        return None;
    }
    let boundary = parameter(content_type, "boundary").filter(|boundary| !boundary.is_empty())?;
    let delimiter = format!("\r\n--{boundary}");
    let finder = memmem::Finder::new(delimiter.as_bytes());
    let first = format!("--{boundary}");
    let mut at = memmem::find(body, first.as_bytes())? + first.len();
    let mut parts = Vec::new();
    while parts.len() < MAX_PARTS {
        let rest = body.get(at..)?;
        if rest.starts_with(b"--") {
            return Some(parts);
        }
        let start = at + memmem::find(rest, b"\r\n")? + 2;
        let head = start.checked_sub(2)? + memmem::find(body.get(start - 2..)?, b"\r\n\r\n")?;
        let data = head + 4;
        let end = data.checked_sub(2)? + finder.find(body.get(data - 2..)?)?;
        parts.push(part(body.get(start..head.max(start))?, body.slice(data.min(end)..end))?);
        at = end + delimiter.len();
    }
    None
}

/// The text of the part with this name.
pub(super) fn field<'a>(parts: &'a [Part], name: &str) -> Option<&'a str> {
    let part = parts.iter().find(|part| part.name == name)?;
    std::str::from_utf8(&part.data).ok()
}

fn part(head: &[u8], data: Bytes) -> Option<Part> {
    let head = std::str::from_utf8(head).ok()?;
    let disposition = head.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-disposition").then_some(value)
    })?;
    Some(Part { name: parameter(disposition, "name")?, filename: parameter(disposition, "filename"), data })
}

/// The value of the parameter `; name=value` or `; name="value"`.
fn parameter(text: &str, name: &str) -> Option<String> {
    for item in text.split(';').skip(1) {
        let Some((key, value)) = item.trim().split_once('=') else { continue };
        if key.eq_ignore_ascii_case(name) {
            return Some(value.trim_matches('"').to_owned());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn read(body: &[u8]) -> Option<Vec<Part>> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("multipart/form-data; boundary=\"xYz\""));
        parts(&headers, &Bytes::copy_from_slice(body))
    }

    #[test]
    fn fields_and_files_come_apart() {
        let form = read(
            b"--xYz\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n\
              --xYz\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.jsonl\"\r\nContent-Type: x/y\r\n\r\n\
              {\"a\":1}\r\n--xY\r\n\r\n--xYz\r\nContent-Disposition: form-data; name=\"empty\"\r\n\r\n\r\n--xYz--\r\n",
        )
        .unwrap();
        assert_eq!(field(&form, "purpose"), Some("batch"));
        assert_eq!(form[1].filename.as_deref(), Some("a.jsonl"));
        assert_eq!(&form[1].data[..], b"{\"a\":1}\r\n--xY\r\n");
        assert_eq!(field(&form, "empty"), Some(""));
        assert_eq!(form.len(), 3);
    }

    #[test]
    fn a_torn_form_is_none() {
        for body in [
            &b""[..],
            b"--xYz",
            b"--xYz\r\n",
            b"--xYz\r\n\r\n",
            b"--xYz\r\nA: b\r\n\r\nc\r\n--xYz--",
            b"--xY--",
        ] {
            assert_eq!(read(body), None, "{}", String::from_utf8_lossy(body));
        }
        assert_eq!(read(b"--xYz--\r\n"), Some(Vec::new()));
    }
}
