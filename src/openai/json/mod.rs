//! A cursor over JSON text that skips values fast and builds nothing.
//!
//! It reads the requested values and does not validate the rest: in a skipped value only strings
//! and brackets are parsed. It never recurses, so deep nesting costs nothing.

mod escape;
mod quote;
mod tally;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use memchr::memchr;

use super::decimal;
use escape::Escape;
use quote::End;
use tally::Tally;

/// The text ends early, or is not JSON where it was parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// A position in a JSON text.
#[derive(Clone)]
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
}

/// An unparsed string, without its quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Raw<'a> {
    /// The bytes between the quotes, with escapes.
    pub(crate) bytes: &'a [u8],
    /// Whether it contains escapes.
    pub(crate) escaped: bool,
}

/// The length of a string's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TextLength {
    /// Unicode characters.
    pub(crate) chars: u64,
    /// UTF-8 bytes after resolving escapes.
    pub(crate) bytes: u64,
}

/// The text without a byte order mark.
pub(crate) fn without_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text)
}

impl<'a> Cursor<'a> {
    /// A cursor before the first byte.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next byte that is not white space, without consuming it.
    pub(crate) fn peek(&mut self) -> Option<u8> {
        while let [byte, rest @ ..] = self.rest {
            if !is_space(*byte) {
                return Some(*byte);
            }
            self.rest = rest;
        }
        None
    }

    /// Consumes the byte last peeked.
    pub(crate) fn bump(&mut self) {
        self.rest = self.rest.get(1..).unwrap_or_default();
    }

    /// Consumes `byte`, if it is next.
    pub(crate) fn eat(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        if there {
            self.bump();
        }
        there
    }

    /// Enters an object, if one is next.
    pub(crate) fn object(&mut self) -> Result<(), Malformed> {
        if self.eat(b'{') { Ok(()) } else { Err(Malformed) }
    }

    /// The next key of the current object, with its colon consumed; `None` at the end of the
    /// object.
    ///
    /// The caller must consume or skip the value before the next call.
    #[inline(always)]
    #[expect(
        clippy::inline_always,
        reason = "a reader's loop is mostly this; a call would move it all through memory"
    )]
    pub(crate) fn key(&mut self) -> Result<Option<Raw<'a>>, Malformed> {
        self.eat(b',');
        if self.eat(b'"') {
            let key = self.finish_string()?;
            return if self.eat(b':') { Ok(Some(key)) } else { Err(Malformed) };
        }
        if self.eat(b'}') { Ok(None) } else { Err(Malformed) }
    }

    /// Consumes a string.
    #[inline]
    pub(crate) fn string(&mut self) -> Result<Raw<'a>, Malformed> {
        if self.eat(b'"') { self.finish_string() } else { Err(Malformed) }
    }

    /// The available part of a truncated string, after the attempt to read it consumed its opening
    /// quote.
    pub(crate) fn cut_string(&self) -> Raw<'a> {
        Raw { bytes: self.rest, escaped: true }
    }

    /// Consumes a string if one is next; skips any other value.
    pub(crate) fn string_or_skip(&mut self) -> Result<Option<Raw<'a>>, Malformed> {
        if self.eat(b'"') {
            return self.finish_string().map(Some);
        }
        self.skip()?;
        Ok(None)
    }

    /// Consumes an unparsed number or literal (`true`, `false`, `null`); skips any other value and
    /// returns an empty slice.
    #[inline]
    pub(crate) fn scalar_or_skip(&mut self) -> Result<&'a [u8], Malformed> {
        match self.peek() {
            None => Err(Malformed),
            Some(b'"' | b'{' | b'[') => self.skip().map(|()| &[][..]),
            Some(_) => {
                let start = self.rest;
                self.skip_scalar()?;
                Ok(&start[..start.len() - self.rest.len()])
            }
        }
    }

    /// A whole number, or a fraction rounded down; `None` for any other value, which is skipped.
    pub(crate) fn whole_number_or_skip(&mut self) -> Result<Option<u64>, Malformed> {
        self.peek();
        // Most numbers have few digits.
        if let Some((number, rest)) = decimal::leading(self.rest)
            && let [b',' | b'}' | b']' | b'\n' | b'\r' | b' ', ..] = rest
        {
            self.rest = rest;
            return Ok(Some(number));
        }
        self.any_whole_number_or_skip()
    }

    /// Parses a whole number of any length. Not inlined, to keep the common case fast.
    #[inline(never)]
    fn any_whole_number_or_skip(&mut self) -> Result<Option<u64>, Malformed> {
        Ok(whole_number(self.scalar_or_skip()?))
    }

    /// A boolean; `None` for any other value, which is skipped.
    pub(crate) fn truth_or_skip(&mut self) -> Result<Option<bool>, Malformed> {
        Ok(match self.scalar_or_skip()? {
            b"true" => Some(true),
            b"false" => Some(false),
            _ => None,
        })
    }

    /// Skips one value of any type and depth.
    pub(crate) fn skip(&mut self) -> Result<(), Malformed> {
        match self.peek().ok_or(Malformed)? {
            b'"' => {
                self.bump();
                self.finish_string().map(drop)
            }
            b'{' | b'[' => self.skip_container(),
            _ => self.skip_scalar(),
        }
    }

    /// Consumes one unparsed value of any type and depth.
    pub(crate) fn raw_value(&mut self) -> Result<&'a [u8], Malformed> {
        self.peek();
        let start = self.rest;
        self.skip()?;
        Ok(&start[..start.len() - self.rest.len()])
    }

    fn skip_container(&mut self) -> Result<(), Malformed> {
        let mut depth = 0_usize;
        let mut rest = self.rest;
        while let [byte, after @ ..] = rest {
            rest = after;
            match byte {
                b'"' => {
                    self.rest = rest;
                    self.finish_string()?;
                    rest = self.rest;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => {
                    depth -= 1;
                    if depth == 0 {
                        self.rest = rest;
                        return Ok(());
                    }
                }
                _ => {}
            }
        }
        Err(Malformed)
    }

    /// Skips a number or a literal, at least one byte.
    pub(crate) fn skip_scalar(&mut self) -> Result<(), Malformed> {
        let length = self.rest.iter().position(|byte| !is_scalar(*byte)).unwrap_or(self.rest.len());
        self.rest = &self.rest[length..];
        if length == 0 { Err(Malformed) } else { Ok(()) }
    }

    /// Consumes the rest of a string, after its opening quote.
    #[inline]
    fn finish_string(&mut self) -> Result<Raw<'a>, Malformed> {
        // Most strings are short, without escapes.
        let (plain, after) = self.rest.split_at(quote::known_plain(self.rest));
        if let [b'"', rest @ ..] = after {
            self.rest = rest;
            return Ok(Raw { bytes: plain, escaped: false });
        }
        self.finish_any_string(plain.len())
    }

    /// Consumes the rest of any string, whose first `plain` bytes are known to be plain. Not
    /// inlined, to keep the common case fast.
    #[inline(never)]
    fn finish_any_string(&mut self, plain: usize) -> Result<Raw<'a>, Malformed> {
        let end = End::of(self.rest, plain).ok_or(Malformed)?;
        let (bytes, after) = self.rest.split_at(end.at);
        self.rest = &after[1..];
        Ok(Raw { bytes, escaped: end.escaped })
    }

    /// Consumes comma-separated numbers, as in an array of tokens. Returns their count.
    pub(crate) fn numbers(&mut self) -> u64 {
        let mut count = 0;
        let mut inside = false;
        while let [byte, rest @ ..] = self.rest {
            let part = matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
            if !part && !matches!(byte, b',' | b' ' | b'\n' | b'\r' | b'\t') {
                break;
            }
            count += u64::from(part && !inside);
            inside = part;
            self.rest = rest;
        }
        count
    }
}

impl<'a> Raw<'a> {
    /// Whether the string equals `text` after resolving escapes.
    pub(crate) fn is(&self, text: &str) -> bool {
        *self.key() == *text.as_bytes()
    }

    /// The key as bytes to match on. Escapes are resolved; real clients never use them in keys.
    pub(crate) fn key(&self) -> Cow<'a, [u8]> {
        if !self.escaped {
            return Cow::Borrowed(self.bytes);
        }
        // Longer than any relevant key, with escapes.
        Cow::Owned(self.text(MAX_ESCAPED_KEY).into_owned().into_bytes())
    }

    /// The text with escapes resolved and invalid UTF-8 replaced, at most `bound` bytes.
    pub(crate) fn text(&self, bound: usize) -> Cow<'a, str> {
        if !self.escaped {
            return bounded_text(self.bytes, bound).0;
        }
        let mut text = String::new();
        let mut rest = self.bytes;
        loop {
            let plain = memchr(b'\\', rest).unwrap_or(rest.len());
            let (piece, whole) = bounded_text(&rest[..plain], bound - text.len());
            text.push_str(&piece);
            let Some((escape, after)) = Escape::take(&rest[plain..]) else { break };
            if !whole || text.len() + escape.character.len_utf8() > bound {
                break;
            }
            text.push(escape.character);
            rest = after;
        }
        Cow::Owned(text)
    }

    /// The length of the string's text: an escape is one character, and so is a surrogate pair.
    pub(crate) fn length(&self) -> TextLength {
        let written = self.bytes.len() as u64;
        // Most text is plain; checking that is several times faster than counting.
        if !self.escaped && self.bytes.is_ascii() {
            return TextLength { chars: written, bytes: written };
        }
        let tally = Tally::of(self.bytes);
        let mut length = TextLength { chars: written.saturating_sub(tally.continuations), bytes: written };
        if tally.long_escapes == 0 {
            // Each escape has a backslash more than its character.
            length.chars = length.chars.saturating_sub(tally.backslashes);
            length.bytes = length.bytes.saturating_sub(tally.backslashes);
            return length;
        }
        // The escapes were counted byte by byte above: subtract that, and add their characters.
        let mut rest = self.bytes;
        while let Some(found) = memchr(b'\\', rest) {
            let Some((escape, after)) = Escape::take(&rest[found..]) else { break };
            let written = (rest.len() - found - after.len()) as u64;
            length.chars = (length.chars + 1).saturating_sub(escape.written_chars);
            length.bytes = (length.bytes + escape.character.len_utf8() as u64).saturating_sub(written);
            rest = after;
        }
        length
    }
}

/// Parses a whole number in JSON's syntax. A fraction is rounded down; negative and too large
/// numbers give `None`.
pub(crate) fn whole_number(text: &[u8]) -> Option<u64> {
    if let Some(number) = decimal::whole(text) {
        return Some(number);
    }
    let number: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    // Floats beyond 2^53 are not exact; no count comes near.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked")]
    (0.0..=9_007_199_254_740_992.0).contains(&number).then_some(number as u64)
}

/// The text without trailing white space.
pub(crate) fn without_space_behind(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|byte| !is_space(*byte)).map_or(0, |last| last + 1);
    &text[..end]
}

/// Cuts text to at most `bound` bytes at a character boundary.
pub(crate) fn cut(text: &str, bound: usize) -> &str {
    &text[..text.floor_char_boundary(bound)]
}

const MAX_ESCAPED_KEY: usize = 64;

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

fn is_scalar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.')
}

/// At most `bound` bytes of text, and whether that is all of it.
fn bounded_text(bytes: &[u8], bound: usize) -> (Cow<'_, str>, bool) {
    if bytes.len() <= bound
        && let Ok(text) = str::from_utf8(bytes)
    {
        return (Cow::Borrowed(text), true);
    }
    // A few bytes beyond the bound, so that a character at the boundary is cut off rather than
    // replaced.
    let near = &bytes[..bytes.len().min(bound.saturating_add(4))];
    match String::from_utf8_lossy(near) {
        Cow::Borrowed(text) => {
            let kept = cut(text, bound);
            (Cow::Borrowed(kept), kept.len() == bytes.len())
        }
        Cow::Owned(text) => {
            let kept = cut(&text, bound);
            (Cow::Owned(kept.to_owned()), kept.len() == text.len() && near.len() == bytes.len())
        }
    }
}
