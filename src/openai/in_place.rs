//! Detects errors in 200 responses, by the members of the JSON and never by words in text.

use super::json::{Cursor, Malformed, without_mark};

/// The classification of an object's members.
#[derive(Default)]
struct Members {
    kind: Kind,
    has_message: bool,
    /// Whether it has a code or status of a failure, or `success` is false.
    has_failed: bool,
    /// Whether it has other members.
    has_others: bool,
}

/// The kind of an object by its members; the highest kind found counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    #[default]
    Unknown,
    Error,
    /// It has a member that results have and errors don't.
    Answer,
}

/// Whether a complete JSON body is an error, or a list whose first object is one (Google).
///
/// Known forms: an `error` or `errors`; a message with a code, a status, or `success: false`;
/// `object: "error"` (vLLM); a `base_resp` (`MiniMax`); a `detail` alone (`FastAPI`). A body with a
/// result's members, or a truncated one, is not an error.
pub(crate) fn is_error(body: &[u8]) -> bool {
    let mut cursor = Cursor::new(without_mark(body));
    let is_list = cursor.eat(b'[');
    let mut members = Members::default();
    let is_whole = members.read(&mut cursor).is_ok();
    let says_so = members.has_message && (members.has_failed || !members.has_others);
    is_whole
        && match members.kind {
            Kind::Unknown => says_so && !is_list,
            Kind::Error => true,
            Kind::Answer => false,
        }
}

/// Whether an event's data starts like an error without an `error` member, so that all its members
/// must be checked.
pub(crate) fn begins_as_error(data: &[u8]) -> bool {
    const FIRST: [&[u8]; 6] = [b"code", b"detail", b"message", b"msg", b"status", b"success"];
    let key = Cursor::new(data.strip_prefix(b"{").unwrap_or_default()).key();
    key.is_ok_and(|key| key.is_some_and(|key| FIRST.contains(&key.bytes)))
}

/// Whether the next value is an error: an object, a non-empty list or a non-empty string.
pub(crate) fn is_error_value(cursor: &mut Cursor<'_>) -> Result<bool, Malformed> {
    Ok(match cursor.peek() {
        Some(b'{') => true,
        Some(b'"') => !cursor.clone().string()?.bytes.is_empty(),
        Some(b'[') => {
            let mut list = cursor.clone();
            list.bump();
            list.peek() != Some(b']')
        }
        _ => false,
    })
}

/// Whether a `base_resp` has a code other than 0.
pub(crate) fn has_failed_base(cursor: &mut Cursor<'_>) -> Result<bool, Malformed> {
    let mut has_failed = false;
    cursor.object()?;
    while let Some(key) = cursor.key()? {
        let value = cursor.raw_value()?;
        has_failed |= key.is("status_code") && is_failure(value);
    }
    Ok(has_failed)
}

/// Whether a code means failure: a number other than 0 and 200, or a word.
fn is_failure(code: &[u8]) -> bool {
    !matches!(code, b"0" | b"200" | b"null" | b"\"\"" | b"\"0\"" | b"\"200\"")
}

/// Whether a status means failure: a number from 400 on.
fn is_failed_status(status: &[u8]) -> bool {
    matches!(status, [b'4' | b'5', b'0'..=b'9', b'0'..=b'9'])
}

impl Members {
    fn read(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Malformed> {
        cursor.object()?;
        // Most responses show their kind in their first members.
        while self.kind < Kind::Answer
            && let Some(key) = cursor.key()?
        {
            match key.bytes {
                b"error" | b"errors" if is_error_value(cursor)? => self.is(Kind::Error),
                b"base_resp" if cursor.peek() == Some(b'{') => {
                    if has_failed_base(cursor)? {
                        self.is(Kind::Error);
                    }
                    continue;
                }
                b"object" if cursor.peek() == Some(b'"') => {
                    self.is(if cursor.string()?.is("error") { Kind::Error } else { Kind::Answer });
                    continue;
                }
                b"error" | b"errors" => {}
                b"object" | b"choices" | b"output" | b"data" | b"results" => {
                    // A null value shows nothing.
                    if cursor.peek() != Some(b'n') {
                        self.is(Kind::Answer);
                    }
                }
                b"message" | b"msg" | b"error_msg" => self.has_message |= cursor.peek() == Some(b'"'),
                b"detail" => self.has_message |= cursor.peek() != Some(b'n'),
                b"code" | b"error_code" => {
                    self.ended(is_failure(cursor.raw_value()?));
                    continue;
                }
                b"status" | b"statusCode" | b"status_code" => {
                    self.ended(is_failed_status(cursor.raw_value()?));
                    continue;
                }
                b"success" => self.ended(cursor.peek() == Some(b'f')),
                _ => self.has_others = true,
            }
            cursor.skip()?;
        }
        Ok(())
    }

    fn is(&mut self, kind: Kind) {
        self.kind = self.kind.max(kind);
    }

    /// Records an outcome. With a success, a message is not an error.
    fn ended(&mut self, has_failed: bool) {
        self.has_failed |= has_failed;
        self.has_others |= !has_failed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_from_an_answer_by_its_members() {
        for body in [
            r#"{"error":{"message":"busy","code":502}}"#,
            r#"{"error":"busy","user_id":"u"}"#,
            "\u{feff}{\"error\":[\"busy\"]}",
            r#"{"errors":[{"code":3040,"message":"m"}],"success":false,"result":null}"#,
            r#"[{"error":{"code":503,"status":"UNAVAILABLE"}}]"#,
            r#"{"object":"error","message":"m","code":40303}"#,
            r#"{"choices":null,"base_resp":{"status_msg":"m","status_code":1008}}"#,
            r#"{"code":50603,"message":"busy","data":null}"#,
            r#"{"msg":"busy","code":"1302","id":"x"}"#,
            r#"{"success":false,"msg":"busy","trace":"x"}"#,
            r#"{"statusCode":503,"message":"busy","trace":"x"}"#,
            r#"{"detail":"Internal server error"}"#,
            r#"{"message":"Service temporarily unavailable"}"#,
        ] {
            assert!(is_error(body.as_bytes()), "{body}");
        }
        for body in [
            r#"{"object":"chat.completion","choices":[]}"#,
            r#"{"object":"response","error":{"code":"server_error"},"status":"failed"}"#,
            r#"{"error":null,"choices":[]}"#,
            r#"{"error":"","id":"x"}"#,
            r#"{"choices":[{"message":"x"}],"error":{}}"#,
            r#"{"success":true,"errors":[],"messages":[],"result":{"response":"x"}}"#,
            r#"{"code":0,"message":"ok"}"#,
            r#"{"success":true,"message":"ok"}"#,
            r#"{"message":{"role":"assistant","content":"Hi"}}"#,
            r#"{"status":"completed","message":"done","id":"x"}"#,
            r#"{"id":"x","message":{"role":"assistant","content":[{"type":"text","text":"Hi"}]}}"#,
            r#"[{"embedding":[0.1]}]"#,
            r#"[{"message":"a"}]"#,
            "[[0.1,0.2]]",
            r#"{"text":"error","segments":[]}"#,
            r#"{"error":{"message":"cut"#,
            "text",
            "",
        ] {
            assert!(!is_error(body.as_bytes()), "{body}");
        }
    }
}
