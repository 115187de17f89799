//! The fields of a request body that pricing and retrying need, parsed in one pass.

#[cfg(test)]
mod tests;

use super::json::{Cursor, Malformed, TextLength, without_mark};

/// The longest model name that is kept, in bytes.
pub const MAX_MODEL: usize = 256;

/// The fields of a request body that decide its price and whether it may be repeated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "they are the body's own independent flags")]
pub struct RequestPeek {
    /// The model, at most [`MAX_MODEL`] bytes.
    pub model: Option<Box<str>>,
    /// Whether a stream is requested.
    pub stream: bool,
    /// Whether the response is to be stored upstream, if the body says so.
    pub store: Option<bool>,
    /// Whether the work continues without the client.
    pub background: bool,
    /// Whether the response is added to a conversation.
    pub conversation: bool,
    /// The largest of `max_tokens`, `max_completion_tokens` and `max_output_tokens`.
    pub max_tokens: Option<u64>,
    /// `n`, the number of completions requested.
    pub n: Option<u64>,
    /// `best_of`, the number of completions computed.
    pub best_of: Option<u64>,
    /// Whether there are tools or functions.
    pub has_tools: bool,
    /// Whether there is a tool (`mcp`) that acts on a third system while the response is computed.
    pub has_remote_tools: bool,
    /// Number of messages, or items of the input or prompt.
    pub messages: u32,
    /// Characters of text in messages, input, prompt and instructions; an escape counts as one.
    pub text_chars: u64,
    /// Length of that text in UTF-8 bytes.
    pub text_bytes: u64,
    /// Number of tokens, if the input or prompt is an array of tokens.
    pub token_array_len: u64,
    /// Images in the input.
    pub images: u32,
    /// The requested service tier.
    pub service_tier: Option<ServiceTier>,
}

/// The service tier of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ServiceTier {
    /// The project's setting.
    Auto,
    /// Standard.
    Default,
    /// Cheap and slow; refused with 429 while capacity is short.
    Flex,
    /// Fast; shares the standard limits.
    Priority,
    /// An unknown tier.
    Other,
}

/// The result of scanning a body that may be truncated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scanned {
    /// The fields of the available part.
    pub peek: RequestPeek,
    /// Whether the whole body was scanned; otherwise fields may be missing.
    pub whole: bool,
}

/// The body is not a JSON object, or is truncated; it is priced as one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body is not a JSON object")]
pub struct NotJson;

impl RequestPeek {
    /// The number of completions computed for each prompt, at least 1.
    pub fn completions(&self) -> u64 {
        self.n.max(self.best_of).unwrap_or(1).max(1)
    }
}

/// Parses a request body in one pass: no tree, no recursion, no allocation except for the model's
/// name.
///
/// It parses the fields it needs and does not validate the rest, so the upstream may still refuse
/// the body. Of repeated keys the last counts, as it does upstream.
pub fn peek(body: &[u8]) -> Result<RequestPeek, NotJson> {
    let mut peek = RequestPeek::default();
    let mut cursor = Cursor::new(body);
    peek.root(&mut cursor).map_err(|Malformed| NotJson)?;
    // Text after the object makes the body invalid.
    if cursor.peek().is_some() { Err(NotJson) } else { Ok(peek) }
}

/// Parses a request body that may be truncated: all that was scanned counts, including the text of
/// a truncated string. `None` if the body does not start as a JSON object.
pub fn scan(body: &[u8]) -> Option<Scanned> {
    let mut scanned = Scanned::default();
    let mut cursor = Cursor::new(without_mark(body));
    if cursor.peek() != Some(b'{') {
        return None;
    }
    scanned.whole = scanned.peek.root(&mut cursor).is_ok() && cursor.peek().is_none();
    Some(scanned)
}

/// The names of the limit on output tokens, which differ by endpoint and API version.
const TOKEN_LIMITS: [&[u8]; 3] = [b"max_tokens", b"max_completion_tokens", b"max_output_tokens"];

impl RequestPeek {
    fn root(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Malformed> {
        cursor.object()?;
        while let Some(key) = cursor.key()? {
            match &*key.key() {
                b"model" => self.model = cursor.string_or_skip()?.map(|model| model.text(MAX_MODEL).into()),
                b"stream" => self.stream = cursor.truth_or_skip()?.unwrap_or(false),
                b"store" => self.store = cursor.truth_or_skip()?,
                b"background" => self.background = cursor.truth_or_skip()?.unwrap_or(false),
                b"conversation" => {
                    self.conversation = cursor.peek() != Some(b'n');
                    cursor.skip()?;
                }
                key if TOKEN_LIMITS.contains(&key) => {
                    self.max_tokens = self.max_tokens.max(cursor.whole_number_or_skip()?);
                }
                b"n" => self.n = cursor.whole_number_or_skip()?,
                b"best_of" => self.best_of = cursor.whole_number_or_skip()?,
                b"tools" | b"functions" => self.tools(cursor)?,
                b"messages" | b"input" | b"prompt" => self.input(cursor)?,
                b"instructions" => {
                    if let Some(text) = cursor.string_or_skip()? {
                        self.add(text.length());
                    }
                }
                b"service_tier" => {
                    self.service_tier = cursor.string_or_skip()?.map(|tier| ServiceTier::named(&tier.key()));
                }
                _ => cursor.skip()?,
            }
        }
        Ok(())
    }

    fn tools(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Malformed> {
        if !cursor.eat(b'[') {
            return cursor.skip();
        }
        loop {
            cursor.eat(b',');
            match cursor.peek().ok_or(Malformed)? {
                b']' => {
                    cursor.bump();
                    return Ok(());
                }
                b'{' => self.tool(cursor)?,
                _ => cursor.skip()?,
            }
            self.has_tools = true;
        }
    }

    fn tool(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Malformed> {
        cursor.object()?;
        while let Some(key) = cursor.key()? {
            if key.bytes == b"type" {
                self.has_remote_tools |= cursor.string_or_skip()?.is_some_and(|kind| kind.is("mcp"));
            } else {
                cursor.skip()?;
            }
        }
        Ok(())
    }

    /// Counts text, tokens, items and images of messages, input or prompt.
    ///
    /// Text is a string that is the value itself, in arrays in it, or under a key for text at any
    /// depth. Images, audio and files (megabytes of base64) have other keys and are skipped.
    fn input(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Malformed> {
        let mut nesting = Nesting::default();
        loop {
            match cursor.peek().ok_or(Malformed)? {
                b'"' => {
                    let Ok(text) = cursor.string() else {
                        if nesting.counts() {
                            self.add(cursor.cut_string().length());
                        }
                        return Err(Malformed);
                    };
                    // Only a key is followed by a colon.
                    if nesting.depth > 0 && cursor.eat(b':') {
                        nesting.set(holds_text(text.bytes));
                        self.images = self.images.saturating_add(u32::from(text.bytes == b"image_url"));
                        continue;
                    }
                    self.item(&nesting);
                    if nesting.counts() {
                        self.add(text.length());
                    }
                }
                b'{' | b'[' if nesting.is_full() => cursor.skip()?,
                b'{' => {
                    self.item(&nesting);
                    cursor.bump();
                    nesting.enter(false);
                    nesting.objects |= 1;
                    continue;
                }
                b'[' => {
                    self.item(&nesting);
                    cursor.bump();
                    nesting.enter(nesting.counts());
                    continue;
                }
                b'}' | b']' if nesting.depth > 0 => {
                    cursor.bump();
                    nesting.leave();
                }
                b',' if nesting.depth > 0 => {
                    cursor.bump();
                    nesting.next();
                    continue;
                }
                b'0'..=b'9' if nesting.depth > 0 && nesting.counts() => {
                    self.token_array_len += cursor.numbers();
                }
                _ => {
                    cursor.skip_scalar()?;
                    self.token_array_len += u64::from(nesting.depth > 0 && nesting.counts());
                }
            }
            if nesting.depth == 0 {
                return Ok(());
            }
        }
    }

    /// Counts an element of the list: a message, an item, one of several prompts.
    fn item(&mut self, nesting: &Nesting) {
        self.messages = self.messages.saturating_add(u32::from(nesting.depth == 1));
    }

    fn add(&mut self, text: TextLength) {
        self.text_chars += text.chars;
        self.text_bytes += text.bytes;
    }
}

/// Whether a key of a message or input item contains text; other keys contain names, ids or data.
fn holds_text(key: &[u8]) -> bool {
    matches!(key, b"content" | b"text" | b"arguments" | b"output" | b"input" | b"refusal")
}

/// For each level of brackets, whether strings directly in it are text; a stack of bits.
#[derive(Default)]
struct Nesting {
    depth: u32,
    /// The lowest bit is the innermost level; level 0, the value itself, is text.
    text: u64,
    /// Which levels are objects, in the same order.
    objects: u64,
}

impl Nesting {
    fn is_full(&self) -> bool {
        self.depth == u64::BITS
    }

    fn counts(&self) -> bool {
        self.depth == 0 || self.text & 1 == 1
    }

    fn set(&mut self, text: bool) {
        self.text = self.text & !1 | u64::from(text);
    }

    /// After a comma in an object a key follows, which is not text.
    fn next(&mut self) {
        self.text &= !(self.objects & 1);
    }

    fn enter(&mut self, text: bool) {
        self.text = self.text << 1 | u64::from(text);
        self.objects <<= 1;
        self.depth += 1;
    }

    fn leave(&mut self) {
        self.text >>= 1;
        self.objects >>= 1;
        self.depth -= 1;
    }
}

impl ServiceTier {
    fn named(name: &[u8]) -> Self {
        match name {
            b"auto" => Self::Auto,
            b"default" => Self::Default,
            b"flex" => Self::Flex,
            b"priority" => Self::Priority,
            _ => Self::Other,
        }
    }
}
