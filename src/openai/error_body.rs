//! The body of an error answer, in every dialect seen: the API's envelope, its deviations, and what edges send instead.

use std::borrow::Cow;
use std::fmt;

use super::json::{Cursor, Malformed, Raw, cut};
use super::masking;

/// The longest message that is kept, in bytes.
pub const MAX_MESSAGE: usize = 2048;
/// The longest type, code or param that is kept, in bytes.
pub const MAX_FIELD: usize = 128;

/// What an error body says of itself; every field bounded.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ErrorBody {
    /// The message as written, at most [`MAX_MESSAGE`] bytes. It can echo prompts and keys: see [`ErrorBody::masked`].
    pub message: Option<Box<str>>,
    /// The field `type`, at most [`MAX_FIELD`] bytes.
    pub kind: Option<Box<str>>,
    /// The field `code`, at most [`MAX_FIELD`] bytes; a number is kept as its digits.
    pub code: Option<Box<str>>,
    /// The field `param`, at most [`MAX_FIELD`] bytes.
    pub param: Option<Box<str>>,
    /// The status that the body itself names, as frames of a stream do.
    pub status: Option<u16>,
    /// What kind of text the body is.
    pub form: BodyForm,
}

/// What kind of text an error body is: the API answers in JSON, the edges before it in the other two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyForm {
    /// Nothing, or white space.
    #[default]
    Empty,
    /// A JSON object, possibly cut short.
    Json,
    /// A page.
    Html,
    /// Anything else.
    Text,
}

impl ErrorBody {
    /// Reads an error body. It always answers: what is not understood is left out.
    ///
    /// Known dialects: `{"error":{..}}`, `{"error":"text"}`, fields without a wrapper, `code` as an integer, `detail`
    /// instead of a message, extra fields anywhere, plain text and HTML under any content type, and a body cut short.
    pub fn parse(body: &[u8]) -> Self {
        let trimmed = body.trim_ascii();
        match trimmed.first() {
            None => Self::default(),
            Some(b'{') => Self::json(trimmed),
            Some(b'<') => Self { form: BodyForm::Html, message: title(trimmed), ..Self::default() },
            Some(_) => {
                Self { form: BodyForm::Text, message: keep(&text(trimmed), MAX_MESSAGE), ..Self::default() }
            }
        }
    }

    /// The message with everything masked that may come from a prompt, a key or a URL; for logs, reports and pages.
    pub fn masked(&self) -> Option<String> {
        self.message.as_deref().map(masking::masked)
    }

    /// Whether `code` or `type` is one of `names`.
    pub fn is_named(&self, names: &[&str]) -> bool {
        [&self.code, &self.kind].into_iter().flatten().any(|name| names.contains(&&**name))
    }

    /// Whether the message contains `text`, letter case aside.
    pub fn says(&self, text: &str) -> bool {
        self.message.as_deref().is_some_and(|message| contains_ignoring_case(message, text))
    }

    fn json(body: &[u8]) -> Self {
        let mut fields = Fields::default();
        // A body cut short ends in an error: what was read until then counts.
        let mut cursor = Cursor::new(body);
        let _cut_short = fields.root(&mut cursor).is_err();
        let fields = match fields.wrapped {
            Some(wrapped) => Inner { status: fields.bare.status, ..wrapped },
            None => fields.bare,
        };
        // The name of an event is not the type of an error.
        let kind = fields.kind.filter(|kind| !(kind.is("error") || kind.bytes.starts_with(b"response.")));
        Self {
            message: fields.message.and_then(|raw| keep(&raw.text(MAX_MESSAGE), MAX_MESSAGE)),
            kind: kind.and_then(|raw| keep(&raw.text(MAX_FIELD), MAX_FIELD)),
            code: fields.code.and_then(|raw| keep(&raw.text(MAX_FIELD), MAX_FIELD)),
            param: fields.param.and_then(|raw| keep(&raw.text(MAX_FIELD), MAX_FIELD)),
            status: fields.status.and_then(|status| u16::try_from(status).ok()),
            form: BodyForm::Json,
        }
    }
}

/// Shows the message masked, so that what is logged by accident echoes no prompt.
impl fmt::Debug for ErrorBody {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("ErrorBody")
            .field("message", &self.masked())
            .field("kind", &self.kind)
            .field("code", &self.code)
            .field("param", &self.param)
            .field("status", &self.status)
            .field("form", &self.form)
            .finish()
    }
}

/// The fields of an error object while it is read.
#[derive(Clone, Copy, Default)]
struct Inner<'a> {
    message: Option<Raw<'a>>,
    kind: Option<Raw<'a>>,
    code: Option<Raw<'a>>,
    param: Option<Raw<'a>>,
    status: Option<u64>,
}

#[derive(Default)]
struct Fields<'a> {
    /// What stands at the top.
    bare: Inner<'a>,
    /// What stands in `error`, or in the `error` of a response object.
    wrapped: Option<Inner<'a>>,
}

impl<'a> Fields<'a> {
    fn root(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Malformed> {
        cursor.object()?;
        while let Some(key) = cursor.key()? {
            match &*key.key() {
                b"error" | b"last_error" => self.wrapper(cursor)?,
                // `response.failed` carries the whole response, and its error within.
                b"response" if cursor.peek() == Some(b'{') => self.response(cursor)?,
                _ => self.bare.field(&key, cursor)?,
            }
        }
        Ok(())
    }

    fn response(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Malformed> {
        cursor.object()?;
        while let Some(key) = cursor.key()? {
            if key.is("error") {
                self.wrapper(cursor)?;
            } else {
                cursor.skip()?;
            }
        }
        Ok(())
    }

    fn wrapper(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Malformed> {
        match cursor.peek() {
            Some(b'"') => {
                let message = cursor.string()?;
                self.wrapped = Some(Inner { message: Some(message), ..Inner::default() });
                Ok(())
            }
            Some(b'{') => {
                cursor.object()?;
                // Kept field by field, so that a body cut short within the object still says something.
                let inner = self.wrapped.insert(Inner::default());
                while let Some(key) = cursor.key()? {
                    inner.field(&key, cursor)?;
                }
                Ok(())
            }
            _ => cursor.skip(),
        }
    }
}

impl<'a> Inner<'a> {
    fn field(&mut self, key: &Raw<'a>, cursor: &mut Cursor<'a>) -> Result<(), Malformed> {
        match &*key.key() {
            b"message" => self.message = cursor.string_or_skip()?.or(self.message),
            b"detail" if self.message.is_none() => self.message = cursor.string_or_skip()?,
            b"type" => self.kind = cursor.string_or_skip()?,
            b"code" => self.code = word_or_skip(cursor)?,
            b"param" => self.param = cursor.string_or_skip()?,
            b"status" | b"status_code" => self.status = cursor.whole_number_or_skip()?,
            _ => cursor.skip()?,
        }
        Ok(())
    }
}

/// A string, or a number as its digits.
fn word_or_skip<'a>(cursor: &mut Cursor<'a>) -> Result<Option<Raw<'a>>, Malformed> {
    if cursor.peek() == Some(b'"') {
        return cursor.string().map(Some);
    }
    let bytes = cursor.scalar_or_skip()?;
    Ok(bytes.first().is_some_and(u8::is_ascii_digit).then_some(Raw { bytes, escaped: false }))
}

/// The title of a page: all that is worth keeping of it.
fn title(page: &[u8]) -> Option<Box<str>> {
    let page = text(page);
    let (_, rest) = page.split_once("<title>")?;
    let (title, _) = rest.split_once("</title>")?;
    keep(title.trim(), MAX_MESSAGE)
}

fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_MESSAGE + 4)])
}

fn keep(text: &str, bound: usize) -> Option<Box<str>> {
    (!text.is_empty()).then(|| cut(text, bound).into())
}

fn contains_ignoring_case(haystack: &str, needle: &str) -> bool {
    haystack.as_bytes().windows(needle.len().max(1)).any(|part| part.eq_ignore_ascii_case(needle.as_bytes()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fields(body: &ErrorBody) -> [Option<&str>; 4] {
        [body.message.as_deref(), body.kind.as_deref(), body.code.as_deref(), body.param.as_deref()]
    }

    #[test]
    fn reads_every_dialect() {
        for (body, expected) in [
            (
                r#"{"error":{"message":"m","type":"t","param":"p","code":"c"}}"#,
                [Some("m"), Some("t"), Some("c"), Some("p")],
            ),
            (
                r#"{"error":{"code":503,"message":"Service Unavailable.","param":null,"type":"cf_service_unavailable"}}"#,
                [Some("Service Unavailable."), Some("cf_service_unavailable"), Some("503"), None],
            ),
            (r#"{"error":"no such thing"}"#, [Some("no such thing"), None, None, None]),
            (
                r#"{"object":"error","message":"Rate limit exceeded","type":"rate_limited","param":null,"code":"1300"}"#,
                [Some("Rate limit exceeded"), Some("rate_limited"), Some("1300"), None],
            ),
            (r#"{"detail":"Not Found"}"#, [Some("Not Found"), None, None, None]),
            (
                r#"{"type":"error","code":"E","message":"flat","param":null}"#,
                [Some("flat"), None, Some("E"), None],
            ),
            (
                r#"{"type":"response.failed","response":{"id":"r","error":{"code":"server_error","message":"m"}}}"#,
                [Some("m"), None, Some("server_error"), None],
            ),
            (r#"{"error":{"message":"cut here","type":"tok"#, [Some("cut here"), None, None, None]),
            (r#"{"error":null}"#, [None; 4]),
            (r#"{"error":[1,2]}"#, [None; 4]),
            ("no healthy upstream", [Some("no healthy upstream"), None, None, None]),
            ("<html>\n<head><title>502 Bad Gateway</title>", [Some("502 Bad Gateway"), None, None, None]),
            ("<html>", [None; 4]),
            ("", [None; 4]),
            ("[]", [Some("[]"), None, None, None]),
        ] {
            assert_eq!(fields(&ErrorBody::parse(body.as_bytes())), expected, "{body}");
        }
    }

    #[test]
    fn a_status_is_read_inside_and_outside() {
        let outside = ErrorBody::parse(br#"{"error":{"message":"m"},"status":401}"#);
        assert_eq!(outside.status, Some(401));
        let frame = ErrorBody::parse(br#"{"type":"error","status":400,"error":{"code":"x","message":"m"}}"#);
        assert_eq!((frame.status, frame.code.as_deref()), (Some(400), Some("x")));
    }

    #[test]
    fn debug_shows_no_prompt() {
        let body =
            ErrorBody::parse(br#"{"error":{"message":"Invalid value: 'my secret'","code":"invalid_value"}}"#);
        let shown = format!("{body:?}");
        assert!(shown.contains("invalid_value") && !shown.contains("secret"), "{shown}");
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let body =
            format!(r#"{{"error":{{"message":"{0}","type":"{0}","code":"{0}"}}}}"#, "é".repeat(10_000));
        let body = ErrorBody::parse(body.as_bytes());
        assert_eq!(body.message.unwrap().len(), MAX_MESSAGE);
        assert_eq!(body.kind.unwrap().len(), MAX_FIELD);
        let text = ErrorBody::parse("é".repeat(10_000).as_bytes());
        assert_eq!(text.message.unwrap().len(), MAX_MESSAGE);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_no_harm(bytes in any::<Vec<u8>>(), tail in any::<String>()) {
            ErrorBody::parse(&bytes).masked();
            let mut json = br#"{"error":{"message":"#.to_vec();
            json.extend(bytes);
            ErrorBody::parse(&json).masked();
            ErrorBody::parse(tail.as_bytes()).masked();
        }
    }
}
