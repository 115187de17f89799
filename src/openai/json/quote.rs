//! Finds the end of a JSON string.

use memchr::{memchr, memchr2};

/// Words of eight bytes that are checked before a `memchr` search is set up, which costs about as
/// much.
const NEAR: usize = 8;

/// The end of a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// The position of its closing quote.
    pub(super) at: usize,
    /// Whether there are escapes before it.
    pub(super) escaped: bool,
}

impl End {
    /// Finds the end of a string in the text after its opening quote; the first `plain` bytes are
    /// known to be plain.
    pub(super) fn of(text: &[u8], plain: usize) -> Option<Self> {
        let mut at = plain + memchr2(b'"', b'\\', text.get(plain..)?)?;
        if text[at] == b'"' {
            return Some(Self { at, escaped: false });
        }
        loop {
            at += memchr(b'"', &text[at..])?;
            // A quote after an odd number of backslashes is escaped.
            if text[..at].iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 0 {
                return Some(Self { at, escaped: true });
            }
            at += 1;
        }
    }
}

/// The number of bytes at the start of a text that are known to be plain: ASCII, neither quotes nor
/// backslashes.
///
/// It stops at the first other byte, or after a few words, where a `memchr` search is faster. Not
/// inlined, because its constants would occupy the caller's registers.
#[inline(never)]
pub(super) fn known_plain(text: &[u8]) -> usize {
    let (words, _) = text.get(..8 * NEAR).unwrap_or(text).as_chunks();
    let mut plain = 0;
    for word in words {
        let found = not_plain(u64::from_le_bytes(*word));
        if found != 0 {
            return plain + found.trailing_zeros() as usize / 8;
        }
        plain += 8;
    }
    plain
}

/// Marks bytes that are not plain in their high bits. Only the lowest mark is reliable.
fn not_plain(word: u64) -> u64 {
    const ONES: u64 = u64::from_le_bytes([0x01; 8]);
    const HIGHS: u64 = u64::from_le_bytes([0x80; 8]);
    // A byte of 0 borrows into its high bit. For non-ASCII bytes at least one of the two keeps the
    // high bit.
    let quotes = (word ^ u64::from_le_bytes([b'"'; 8])).wrapping_sub(ONES);
    let backslashes = (word ^ u64::from_le_bytes([b'\\'; 8])).wrapping_sub(ONES);
    (quotes | backslashes) & HIGHS
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same, byte by byte.
    fn end(text: &[u8]) -> Option<End> {
        let (mut at, mut escaped) = (0, false);
        while *text.get(at)? != b'"' {
            escaped |= text[at] == b'\\';
            at += if text[at] == b'\\' { 2 } else { 1 };
        }
        Some(End { at, escaped })
    }

    proptest! {
        #[test]
        fn agrees_with_looking_at_each_byte(
            plain in r"[a-c\x00-\x03\x20-\x23\x5b-\x5d\x7e-\xff]{0,80}",
            text in r"[a-c\x22\\\x00-\x03\x7e-\xff]{0,80}",
            bytes in any::<Vec<u8>>(),
        ) {
            for text in [plain.as_bytes(), text.as_bytes(), (plain.clone() + &text).as_bytes(), &bytes] {
                prop_assert_eq!(End::of(text, known_plain(text)), end(text), "{:?}", text);
            }
        }

        #[test]
        fn what_is_known_to_be_plain_is(
            text in r"[a-c\x22\\\x00-\x03\x7e-\xff]{0,80}",
            plain in "[ !#-\\[\\]-~]{0,40}",
            byte in any::<u8>(),
        ) {
            for text in [text.into_bytes(), [plain.as_bytes(), &[byte], plain.as_bytes()].concat()] {
                let plain = text.iter().take_while(|byte| byte.is_ascii() && !matches!(byte, b'"' | b'\\')).count();
                // The last bytes are too few for a word.
                prop_assert_eq!(known_plain(&text), plain.min(text.len() / 8 * 8).min(NEAR * 8));
            }
        }
    }
}
