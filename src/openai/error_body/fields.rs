//! The fields of an error object during parsing.

use super::{BodyForm, BodyHints, ErrorBody, MAX_FIELD, MAX_MESSAGE, keep};
use crate::openai::decimal;
use crate::openai::json::{Cursor, Malformed, Raw};

/// The unparsed fields of an error object.
#[derive(Default)]
pub(super) struct Fields<'a> {
    /// The fields at the top level.
    bare: Inner<'a>,
    /// The fields of `error`, or of the `error` of a response object.
    wrapped: Option<Inner<'a>>,
    /// The value of `error`, if it is a string.
    text: Option<Raw<'a>>,
    /// Another server's body, which a router passes on in `metadata.raw`.
    raw: Option<Raw<'a>>,
    hints: BodyHints,
}

#[derive(Clone, Copy, Default)]
struct Inner<'a> {
    message: Option<Raw<'a>>,
    kind: Option<Raw<'a>>,
    code: Option<Raw<'a>>,
    param: Option<Raw<'a>>,
    status: Option<u64>,
    /// A status in words (`RESOURCE_EXHAUSTED`): Google's error type.
    status_name: Option<Raw<'a>>,
}

impl<'a> Fields<'a> {
    /// Reads the object at the cursor. In a truncated body, the fields read so far count.
    pub(super) fn read(cursor: &mut Cursor<'a>) -> Self {
        let mut fields = Self::default();
        let _cut_short = fields.root(cursor).is_err();
        fields
    }

    /// The error body with these fields.
    pub(super) fn body(&self) -> ErrorBody {
        let bare = self.bare;
        let mut fields = match self.wrapped {
            Some(wrapped) => {
                Inner { status: bare.status.or(wrapped.status), code: wrapped.code.or(bare.code), ..wrapped }
            }
            None => bare,
        };
        if let Some(text) = self.text {
            match fields.message {
                None => fields.message = Some(text),
                // Beside a message, the string is a code if it is one word, else a type.
                Some(_) if !text.bytes.contains(&b' ') => fields.code = fields.code.or(Some(text)),
                Some(_) => fields.kind = Some(text),
            }
        }
        // The name of an event is not the type of an error.
        let kind = fields.kind.filter(|kind| !(kind.is("error") || kind.bytes.starts_with(b"response.")));
        let field = |raw: Option<Raw<'_>>| raw.and_then(|raw| keep(&raw.text(MAX_FIELD), MAX_FIELD));
        ErrorBody {
            message: fields.message.and_then(|raw| keep(&raw.text(MAX_MESSAGE), MAX_MESSAGE)),
            kind: field(kind.or(fields.status_name)),
            code: field(fields.code),
            param: field(fields.param),
            status: fields.status.and_then(|status| u16::try_from(status).ok()),
            form: BodyForm::Json,
            hints: self.hints,
        }
    }

    /// Bodies quoted in the message or the metadata.
    pub(super) fn nested(&self, message: Option<&str>) -> [Option<String>; 2] {
        let is_json = |text: &str| text.trim_start().starts_with(['{', '[']);
        let raw = self.raw.map(|raw| raw.text(MAX_MESSAGE * 4).into_owned()).filter(|raw| is_json(raw));
        [message.filter(|message| is_json(message)).map(str::to_owned), raw]
    }

    fn root(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Malformed> {
        cursor.object()?;
        while let Some(key) = cursor.key()? {
            match &*key.key() {
                b"error" | b"errors" | b"last_error" | b"fault" | b"base_resp" => self.wrapper(cursor)?,
                b"detail" if matches!(cursor.peek(), Some(b'{' | b'[')) => self.wrapper(cursor)?,
                // `response.failed` contains the whole response with its error.
                b"response" if cursor.peek() == Some(b'{') => self.response(cursor)?,
                _ => {
                    let mut bare = self.bare;
                    let read = self.field(&mut bare, &key, cursor);
                    self.bare = bare;
                    read?;
                }
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

    /// An object, the first object of a list, or a string. Wrappers may be nested once.
    fn wrapper(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Malformed> {
        let is_list = cursor.eat(b'[');
        match cursor.peek() {
            Some(b'"') => self.text = Some(cursor.string()?),
            Some(b'{') => {
                cursor.object()?;
                // Stored field by field, so that a truncated object still yields something.
                let mut inner = self.wrapped.unwrap_or_default();
                loop {
                    let key = cursor.key();
                    let Ok(Some(key)) = key else {
                        self.wrapped = Some(inner);
                        key?;
                        break;
                    };
                    let read = match cursor.peek() {
                        Some(b'{') if key.is("error") => self.innermost(&mut inner, cursor),
                        // FastAPI's `{"detail":{"error":"…"}}`.
                        Some(b'"') if key.is("error") && inner.message.is_none() => {
                            cursor.string().map(|text| inner.message = Some(text))
                        }
                        _ => self.field(&mut inner, &key, cursor),
                    };
                    self.wrapped = Some(inner);
                    read?;
                }
            }
            Some(b']') if is_list => {}
            _ => cursor.skip()?,
        }
        while is_list && !cursor.eat(b']') {
            cursor.eat(b',');
            cursor.skip()?;
        }
        Ok(())
    }

    fn innermost(&mut self, inner: &mut Inner<'a>, cursor: &mut Cursor<'a>) -> Result<(), Malformed> {
        cursor.object()?;
        while let Some(key) = cursor.key()? {
            self.field(inner, &key, cursor)?;
        }
        Ok(())
    }

    fn field(
        &mut self,
        inner: &mut Inner<'a>,
        key: &Raw<'a>,
        cursor: &mut Cursor<'a>,
    ) -> Result<(), Malformed> {
        match &*key.key() {
            b"message" => inner.message = cursor.string_or_skip()?.or(inner.message),
            b"detail" | b"msg" | b"error_message" | b"error_description" | b"faultstring" | b"title"
            | b"status_msg" | b"error_msg" | b"err_msg" | b"errorMessage"
                if inner.message.is_none() =>
            {
                inner.message = cursor.string_or_skip()?;
            }
            // AWS's `__type`: a name, or `com.amazon.coral.service#ThrottlingException`.
            b"type" | b"__type" => inner.kind = word(cursor)?.or(inner.kind),
            // The word in `reason` is more specific than the number in `code`.
            b"error_type" | b"reason" => inner.kind = inner.kind.or(word(cursor)?),
            b"code" => inner.code = word(cursor)?.or(inner.code),
            b"error_code" | b"errorCode" | b"errorcode" => inner.code = inner.code.or(word(cursor)?),
            b"param" => inner.param = cursor.string_or_skip()?,
            b"status" | b"status_code" | b"statusCode" | b"http_status" | b"httpStatus" | b"http_code"
            | b"httpCode" => {
                let word = word(cursor)?;
                match word.and_then(|word| decimal::whole(word.bytes)) {
                    Some(status) => inner.status = Some(status),
                    None => inner.status_name = word.or(inner.status_name),
                }
            }
            b"metadata" if cursor.peek() == Some(b'{') => self.metadata(cursor)?,
            key => {
                if !self.hints.field(key, cursor)? {
                    cursor.skip()?;
                }
            }
        }
        Ok(())
    }

    fn metadata(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Malformed> {
        cursor.object()?;
        while let Some(key) = cursor.key()? {
            match &*key.key() {
                b"raw" => self.raw = cursor.string_or_skip()?,
                b"headers" if cursor.peek() == Some(b'{') => self.hints.headers(cursor)?,
                key => {
                    if !self.hints.field(key, cursor)? {
                        cursor.skip()?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// A string, or a number as its digits; of a list the first element.
fn word<'a>(cursor: &mut Cursor<'a>) -> Result<Option<Raw<'a>>, Malformed> {
    let is_list = cursor.eat(b'[');
    let word = match cursor.peek() {
        Some(b'"') => Some(cursor.string()?),
        Some(b']') if is_list => None,
        _ => {
            let bytes = cursor.scalar_or_skip()?;
            bytes.first().is_some_and(u8::is_ascii_digit).then_some(Raw { bytes, escaped: false })
        }
    };
    while is_list && !cursor.eat(b']') {
        cursor.eat(b',');
        cursor.skip()?;
    }
    Ok(word)
}
