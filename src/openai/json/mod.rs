//! A cursor over JSON text that skips as fast as memory allows and builds nothing.
//!
//! It is a reader of what it is asked for, not a validator: inside a value that is skipped only
//! strings and brackets are looked at. It never recurses, so the depth of the input costs nothing.

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

/// The text ends early, or is not JSON where it was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Where the reader stands in a JSON text.
#[derive(Clone)]
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
}

/// A string as it stands between its quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Raw<'a> {
    /// The bytes between the quotes, escapes untouched.
    pub(crate) bytes: &'a [u8],
    /// Whether there are escapes among them.
    pub(crate) escaped: bool,
}

/// How much text a string holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TextLength {
    /// Unicode characters.
    pub(crate) chars: u64,
    /// Bytes in UTF-8 once the escapes are resolved.
    pub(crate) bytes: u64,
}

/// A text without the byte order mark that some write before it.
pub(crate) fn without_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text)
}

impl<'a> Cursor<'a> {
    /// A cursor before the first byte.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next byte that is not white space, without taking it.
    pub(crate) fn peek(&mut self) -> Option<u8> {
        while let [byte, rest @ ..] = self.rest {
            if !is_space(*byte) {
                return Some(*byte);
            }
            self.rest = rest;
        }
        None
    }

    /// Takes the byte last peeked.
    pub(crate) fn bump(&mut self) {
        self.rest = self.rest.get(1..).unwrap_or_default();
    }

    /// Takes `byte`, if it is next.
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

    /// The next key of the object that the cursor is in, its colon taken; nothing once the object
    /// has ended.
    ///
    /// The caller takes or skips the value before it asks again.
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

    /// Takes a string.
    #[inline]
    pub(crate) fn string(&mut self) -> Result<Raw<'a>, Malformed> {
        if self.eat(b'"') { self.finish_string() } else { Err(Malformed) }
    }

    /// What is there of a string that does not end: its opening quote was taken by the attempt to
    /// read it.
    pub(crate) fn cut_string(&self) -> Raw<'a> {
        Raw { bytes: self.rest, escaped: true }
    }

    /// Takes a string if one is next, and skips any other value.
    pub(crate) fn string_or_skip(&mut self) -> Result<Option<Raw<'a>>, Malformed> {
        if self.eat(b'"') {
            return self.finish_string().map(Some);
        }
        self.skip()?;
        Ok(None)
    }

    /// Takes a number or a word (`true`, `false`, `null`) as it stands; skips any other value and
    /// returns nothing for it.
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

    /// A whole number that fits, or a fraction rounded down; nothing for any other value, which is
    /// skipped.
    pub(crate) fn whole_number_or_skip(&mut self) -> Result<Option<u64>, Malformed> {
        self.peek();
        // Nearly every number is a few digits.
        if let Some((number, rest)) = decimal::leading(self.rest)
            && let [b',' | b'}' | b']' | b'\n' | b'\r' | b' ', ..] = rest
        {
            self.rest = rest;
            return Ok(Some(number));
        }
        self.any_whole_number_or_skip()
    }

    /// The same for any value. Out of line, so that it costs plain numbers nothing.
    #[inline(never)]
    fn any_whole_number_or_skip(&mut self) -> Result<Option<u64>, Malformed> {
        Ok(whole_number(self.scalar_or_skip()?))
    }

    /// A truth value; nothing for any other value, which is skipped.
    pub(crate) fn truth_or_skip(&mut self) -> Result<Option<bool>, Malformed> {
        Ok(match self.scalar_or_skip()? {
            b"true" => Some(true),
            b"false" => Some(false),
            _ => None,
        })
    }

    /// Skips one value of any kind and depth.
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

    /// Takes one value of any kind and depth as it stands.
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

    /// Skips a number or a word: at least one byte of those that they are made of.
    pub(crate) fn skip_scalar(&mut self) -> Result<(), Malformed> {
        let length = self.rest.iter().position(|byte| !is_scalar(*byte)).unwrap_or(self.rest.len());
        self.rest = &self.rest[length..];
        if length == 0 { Err(Malformed) } else { Ok(()) }
    }

    /// Takes the rest of a string whose opening quote is taken, and its closing quote.
    #[inline]
    fn finish_string(&mut self) -> Result<Raw<'a>, Malformed> {
        // Keys and words are short and plain.
        let (plain, after) = self.rest.split_at(quote::known_plain(self.rest));
        if let [b'"', rest @ ..] = after {
            self.rest = rest;
            return Ok(Raw { bytes: plain, escaped: false });
        }
        self.finish_any_string(plain.len())
    }

    /// The same for any string, of which the first `plain` bytes are known to be plain. Out of
    /// line, so that it costs short ones nothing.
    #[inline(never)]
    fn finish_any_string(&mut self, plain: usize) -> Result<Raw<'a>, Malformed> {
        let end = End::of(self.rest, plain).ok_or(Malformed)?;
        let (bytes, after) = self.rest.split_at(end.at);
        self.rest = &after[1..];
        Ok(Raw { bytes, escaped: end.escaped })
    }

    /// Takes numbers and the commas between them, as in an array of tokens, and tells how many
    /// there are.
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
    /// Whether the string says `text`, escapes resolved.
    pub(crate) fn is(&self, text: &str) -> bool {
        *self.key() == *text.as_bytes()
    }

    /// The key as bytes to match on; escapes are resolved where there are any, which real clients
    /// never write.
    pub(crate) fn key(&self) -> Cow<'a, [u8]> {
        if !self.escaped {
            return Cow::Borrowed(self.bytes);
        }
        // Longer than any key that matters, escapes included.
        Cow::Owned(self.text(MAX_ESCAPED_KEY).into_owned().into_bytes())
    }

    /// The text with its escapes resolved and what is not UTF-8 replaced, at most `bound` bytes of
    /// it.
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

    /// How much text the string holds: an escape is one character, and so is a pair of surrogates.
    pub(crate) fn length(&self) -> TextLength {
        let written = self.bytes.len() as u64;
        // Most text is plain, and this is told several times faster than the counts are taken.
        if !self.escaped && self.bytes.is_ascii() {
            return TextLength { chars: written, bytes: written };
        }
        let tally = Tally::of(self.bytes);
        let mut length = TextLength { chars: written.saturating_sub(tally.continuations), bytes: written };
        if tally.long_escapes == 0 {
            // Each backslash is one more byte, and one more character, than what it stands for.
            length.chars = length.chars.saturating_sub(tally.backslashes);
            length.bytes = length.bytes.saturating_sub(tally.backslashes);
            return length;
        }
        // Every escape was counted byte by byte above: take that back and count what it stands for.
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

/// Reads a whole number from JSON's number syntax; a fraction is rounded down, what is negative or
/// too large is nothing.
pub(crate) fn whole_number(text: &[u8]) -> Option<u64> {
    if let Some(number) = decimal::whole(text) {
        return Some(number);
    }
    let number: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    // Past 2^53 a float names no single whole number; nothing that is counted here comes near.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked")]
    (0.0..=9_007_199_254_740_992.0).contains(&number).then_some(number as u64)
}

/// Text less the white space at its end.
pub(crate) fn without_space_behind(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|byte| !is_space(*byte)).map_or(0, |last| last + 1);
    &text[..end]
}

/// Cuts text to at most `bound` bytes at a character's edge.
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
    // A few bytes more than the bound, so that a character on the edge is cut off rather than
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
