//! Escape sequences of JSON strings.

/// An escape sequence and its character.
pub(super) struct Escape {
    pub(super) character: char,
    /// Its length in the unparsed text, in characters.
    pub(super) written_chars: u64,
}

impl Escape {
    /// Parses the escape sequence at the start of `bytes`; an unknown one stands for the character
    /// after the backslash.
    pub(super) fn take(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let [b'\\', kind, rest @ ..] = bytes else { return None };
        let character = match kind {
            b'n' => '\n',
            b't' => '\t',
            b'r' => '\r',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'u' => return Some(Self::unicode(rest)),
            ascii if ascii.is_ascii() => char::from(*ascii),
            _ => return Some((Self { character: char::REPLACEMENT_CHARACTER, written_chars: 2 }, rest)),
        };
        Some((Self { character, written_chars: 2 }, rest))
    }

    fn unicode(rest: &[u8]) -> (Self, &[u8]) {
        let Some((unit, after)) = code_unit(rest) else {
            return (Self { character: char::REPLACEMENT_CHARACTER, written_chars: 2 }, rest);
        };
        if (0xD800..0xDC00).contains(&unit)
            && let [b'\\', b'u', tail @ ..] = after
            && let Some((low @ 0xDC00..0xE000, after)) = code_unit(tail)
        {
            let scalar = 0x1_0000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
            let character = char::from_u32(scalar).unwrap_or(char::REPLACEMENT_CHARACTER);
            return (Self { character, written_chars: 12 }, after);
        }
        let character = char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER);
        (Self { character, written_chars: 6 }, after)
    }
}

fn code_unit(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (digits, rest) = bytes.split_at_checked(4)?;
    let mut unit = 0;
    for digit in digits {
        unit = unit * 16 + char::from(*digit).to_digit(16)?;
    }
    Some((unit, rest))
}
