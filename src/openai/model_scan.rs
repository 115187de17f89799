//! Detects when the model of a request body has arrived, while the body is read.

use memchr::{memchr2, memmem};

use super::json::without_mark;

/// Searches for the end of the top-level `model` of a JSON body, or of the form field `model`, in
/// pieces of any size.
///
/// It keeps a few bytes, never the body, and skips strings (megabytes of base64) at memory speed.
#[derive(Debug, Default)]
pub struct ModelScan {
    state: State,
}

/// The format in which to search for the model of a body that is too large to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelSearch {
    /// No search: the format can't be parsed incrementally, or nothing is to be read ahead.
    Skip,
    /// The top-level `model` of a JSON object.
    Json,
    /// The field `model` of a multipart form.
    Form,
}

#[derive(Debug, Default)]
enum State {
    /// Only white space has arrived.
    #[default]
    Before,
    Json(Json),
    /// A form: its last bytes, which may contain the start of the field's name; after the name, the
    /// number of bytes still needed.
    Form(Box<Form>),
    /// The model has arrived, or can't any more.
    Done,
}

#[derive(Debug, Default)]
struct Form {
    tail: Vec<u8>,
    wanted: Option<usize>,
}

#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is an independent fact about the place in the text")]
struct Json {
    depth: u32,
    in_string: bool,
    escaped: bool,
    /// Whether the string is a key of the top-level object.
    is_key: bool,
    /// Whether a key of the top-level object comes next.
    expects_key: bool,
    /// The start of a key; one byte more than `model` suffices to distinguish any other key.
    key: [u8; KEY.len() + 1],
    key_length: u8,
    /// Whether the next value is the model.
    is_model: bool,
}

/// The field's name in the headers of its part.
const NAME: &[u8] = b"name=\"model\"";
const KEY: &[u8] = b"model";
/// Bytes after the field's name that contain its value and the next delimiter.
const VALUE: usize = 1024;

impl ModelScan {
    /// A scan at the start of a body.
    pub fn new(model_search: ModelSearch) -> Self {
        let state = match model_search {
            ModelSearch::Skip => State::Done,
            ModelSearch::Json => State::Before,
            ModelSearch::Form => State::Form(Box::default()),
        };
        Self { state }
    }

    /// Whether nothing more needs to be read to find the model.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Scans the next piece.
    pub fn feed(&mut self, piece: &[u8]) {
        let mut rest = piece;
        if matches!(self.state, State::Before) {
            rest = without_mark(piece).trim_ascii_start();
            self.state = match rest.first() {
                None => State::Before,
                Some(b'{') => State::Json(Json::default()),
                // Not a JSON object.
                Some(_) => State::Done,
            };
        }
        let done = match &mut self.state {
            State::Before | State::Done => return,
            State::Json(json) => json.feed(rest),
            State::Form(form) => {
                let Form { tail, wanted } = &mut **form;
                let found = wanted.is_none().then(|| {
                    tail.extend_from_slice(rest);
                    memmem::find(tail, NAME).map(|at| tail.len() - at - NAME.len())
                });
                match (found, &wanted) {
                    (Some(Some(behind)), _) => *wanted = Some(VALUE.saturating_sub(behind)),
                    (Some(None), _) => {
                        let keep = tail.len().min(NAME.len() - 1);
                        tail.drain(..tail.len() - keep);
                    }
                    (None, Some(left)) => *wanted = Some(left.saturating_sub(rest.len())),
                    (None, None) => {}
                }
                *wanted == Some(0)
            }
        };
        if done {
            self.state = State::Done;
        }
    }
}

impl Json {
    /// Scans the next bytes. Returns whether the model, or the object, has ended.
    fn feed(&mut self, mut rest: &[u8]) -> bool {
        while let [byte, after @ ..] = rest {
            if !self.in_string {
                rest = after;
                match byte {
                    b'"' => {
                        self.in_string = true;
                        self.is_key = self.depth == 1 && self.expects_key;
                        self.key_length = 0;
                    }
                    b'{' | b'[' => {
                        self.depth += 1;
                        self.expects_key = self.depth == 1;
                    }
                    b'}' | b']' => {
                        self.depth = self.depth.saturating_sub(1);
                        if self.depth == 0 {
                            return true;
                        }
                    }
                    b':' if self.depth == 1 => self.expects_key = false,
                    b',' if self.depth == 1 => (self.expects_key, self.is_model) = (true, false),
                    _ => {}
                }
                continue;
            }
            if std::mem::take(&mut self.escaped) {
                self.note(&[*byte]);
                rest = after;
                continue;
            }
            let end = memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
            self.note(&rest[..end]);
            match rest.get(end) {
                None => return false,
                Some(b'\\') => self.escaped = true,
                Some(_) => {
                    self.in_string = false;
                    if self.is_key {
                        self.is_model = self.key[..usize::from(self.key_length)] == *KEY;
                    } else if self.depth == 1 && self.is_model {
                        return true;
                    }
                }
            }
            rest = &rest[end + 1..];
        }
        false
    }

    /// Stores the start of a key.
    fn note(&mut self, bytes: &[u8]) {
        if self.is_key {
            for (place, byte) in self.key.iter_mut().skip(usize::from(self.key_length)).zip(bytes) {
                *place = *byte;
                self.key_length += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The number of bytes, in pieces of this size, after which the scan is done.
    fn done_after(mut scan: ModelScan, body: &[u8], size: usize) -> Option<usize> {
        let mut read = 0;
        for piece in body.chunks(size) {
            scan.feed(piece);
            read += piece.len();
            if scan.is_done() {
                return Some(read);
            }
        }
        None
    }

    #[test]
    fn the_model_is_found_wherever_it_stands() {
        let image = "A".repeat(10_000);
        for (json, end) in [
            (r#"{"model":"m","messages":[]}"#.to_owned(), r#"{"model":"m""#),
            (
                format!(r#"{{"messages":[{{"model":"no","x":"{image}"}}],"model":"m","n":1}}"#),
                r#","model":"m""#,
            ),
            (r#"{"input":"a \"model\":\"x\"","model" : "m\"m" }"#.to_owned(), r#""m\"m""#),
            (r#"{"a":"model","model":"m"}"#.to_owned(), r#""m""#),
            (r#"{"a":1}"#.to_owned(), "}"),
            ("  [1]".to_owned(), "["),
        ] {
            for size in [1, 7, 4_096, 100_000] {
                let until = json.find(end).unwrap() + end.len();
                let done = done_after(ModelScan::new(ModelSearch::Json), json.as_bytes(), size).unwrap();
                assert!(done >= until && done < until + size, "{json:.40} {size}: {done}");
            }
        }
        assert_eq!(done_after(ModelScan::new(ModelSearch::Json), br#"{"a":"model","b":["model"#, 3), None);
    }

    #[test]
    fn the_field_of_a_form_is_found_across_pieces() {
        let file = "\0".repeat(5_000);
        let form = format!(
            "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n{file}\r\n--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n--b--\r\n{file}"
        );
        let at = form.find("whisper").unwrap();
        for size in [1, 5, 777, 100_000] {
            let done = done_after(ModelScan::new(ModelSearch::Form), form.as_bytes(), size).unwrap();
            assert!(done > at + 9, "{size}: {done}");
        }
    }

    proptest! {
        #[test]
        fn pieces_change_nothing(value in any::<String>(), bytes in any::<Vec<u8>>(), size in 1_usize..9) {
            let json = serde_json::json!({ "x": [value, {"model": value}], "model": value, "z": value }).to_string();
            for body in [json.as_bytes(), &bytes] {
                let whole = done_after(ModelScan::new(ModelSearch::Json), body, body.len().max(1)).is_some();
                prop_assert_eq!(done_after(ModelScan::new(ModelSearch::Json), body, size).is_some(), whole);
            }
        }
    }
}
