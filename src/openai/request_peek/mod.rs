//! What a request body says that pricing and retrying need, read in one pass over its bytes.

#[cfg(test)]
mod tests;

use super::json::{Cursor, Malformed, TextLength, without_mark};

/// The longest model name that is kept, in bytes.
pub const MAX_MODEL: usize = 256;

/// What a request body says of its price and of what a repeat would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "they are the body's own independent flags")]
pub struct RequestPeek {
    /// The model, at most [`MAX_MODEL`] bytes.
    pub model: Option<Box<str>>,
    /// Whether the answer is to be a stream.
    pub stream: bool,
    /// Whether the answer is to be kept upstream, where the body says so.
    pub store: Option<bool>,
    /// Whether the work goes on without the client.
    pub background: bool,
    /// Whether the body names a conversation, which the answer is added to.
    pub conversation: bool,
    /// The largest of `max_tokens`, `max_completion_tokens` and `max_output_tokens`.
    pub max_tokens: Option<u64>,
    /// `n`, how many answers are asked for.
    pub n: Option<u64>,
    /// `best_of`, how many are computed to choose from.
    pub best_of: Option<u64>,
    /// Whether there are tools or functions.
    pub has_tools: bool,
    /// Whether there is a tool that acts on a third system (`mcp`) while the answer is made.
    pub has_remote_tools: bool,
    /// Messages, or items of the input or prompt.
    pub messages: u32,
    /// Characters of text in messages, input, prompt and instructions; an escape is one.
    pub text_chars: u64,
    /// The same text in bytes of UTF-8.
    pub text_bytes: u64,
    /// How many tokens the input or prompt consists of where it is given as tokens.
    pub token_array_len: u64,
    /// Images in the input.
    pub images: u32,
    /// The tier that the body asks for.
    pub service_tier: Option<ServiceTier>,
}

/// The processing tier that a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ServiceTier {
    /// The project's setting.
    Auto,
    /// Standard.
    Default,
    /// Cheap and slow, refused with 429 while capacity is short.
    Flex,
    /// Fast; shares the standard limits.
    Priority,
    /// One that the list does not know.
    Other,
}

/// What was read of a body that may have been cut short.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scanned {
    /// What the part that is there says.
    pub peek: RequestPeek,
    /// Whether the whole body was read: what a cut body does not say may still stand in the rest of
    /// it.
    pub whole: bool,
}

/// The bytes are not a JSON object, or end early: the request is priced as one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body is not a JSON object")]
pub struct NotJson;

impl RequestPeek {
    /// How many answers the upstream computes for each prompt: at least 1.
    pub fn completions(&self) -> u64 {
        self.n.max(self.best_of).unwrap_or(1).max(1)
    }
}

/// Reads a request body in one pass: no tree, no recursion, no allocation but the model's name.
///
/// It reads what it needs and does not validate the rest: a body that passes here may still be
/// refused upstream. Of a key that comes twice the last counts, as it does upstream.
pub fn peek(body: &[u8]) -> Result<RequestPeek, NotJson> {
    let mut peek = RequestPeek::default();
    let mut cursor = Cursor::new(body);
    peek.root(&mut cursor).map_err(|Malformed| NotJson)?;
    // What follows the object would make it something else.
    if cursor.peek().is_some() { Err(NotJson) } else { Ok(peek) }
}

/// The same for a body that may have been cut short: what was read until then counts, the text of a
/// string that is cut too. Nothing for what does not begin as a JSON object.
pub fn scan(body: &[u8]) -> Option<Scanned> {
    let mut scanned = Scanned::default();
    let mut cursor = Cursor::new(without_mark(body));
    if cursor.peek() != Some(b'{') {
        return None;
    }
    scanned.whole = scanned.peek.root(&mut cursor).is_ok() && cursor.peek().is_none();
    Some(scanned)
}

/// The names of the bound on an answer's tokens: each endpoint, and each of its ages, has its own.
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
    /// Text is what stands directly in the value, in arrays in it, or under a key that holds text
    /// wherever it is. Images, audio and files (megabytes of base64) stand under other keys and are
    /// skipped.
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

    /// Counts what stands directly in the list: a message, an item, one of several prompts.
    fn item(&mut self, nesting: &Nesting) {
        self.messages = self.messages.saturating_add(u32::from(nesting.depth == 1));
    }

    fn add(&mut self, text: TextLength) {
        self.text_chars += text.chars;
        self.text_bytes += text.bytes;
    }
}

/// Whether text stands under a key of a message or an input item; anything else is a name, an
/// identifier or data.
fn holds_text(key: &[u8]) -> bool {
    matches!(key, b"content" | b"text" | b"arguments" | b"output" | b"input" | b"refusal")
}

/// For each level of brackets, whether the strings directly in it are text; a stack of bits.
#[derive(Default)]
struct Nesting {
    depth: u32,
    /// The innermost level is the lowest bit; level 0, the value itself, is text.
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

    /// Behind a comma: in an object a key follows, which is no text.
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
