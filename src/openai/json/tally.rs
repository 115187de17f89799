//! Counts bytes to determine the length of a string's text.

/// Bytes per block: the counts of a block fit in a byte, which allows the widest vectors.
const BLOCK: usize = 128;

/// The counts that determine a text's length, from one pass that the compiler vectorizes.
#[derive(Default)]
pub(super) struct Tally {
    /// UTF-8 continuation bytes; every other byte starts a character.
    pub(super) continuations: u64,
    pub(super) backslashes: u64,
    /// Backslashes before another backslash or a `u`: escapes longer than two bytes, or ambiguous
    /// starts.
    pub(super) long_escapes: u64,
}

impl Tally {
    pub(super) fn of(bytes: &[u8]) -> Self {
        let Some((&last, most)) = bytes.split_last() else { return Self::default() };
        let mut tally = Self {
            continuations: u64::from(continues(last)),
            backslashes: u64::from(last == b'\\'),
            long_escapes: 0,
        };
        for (block, next) in most.chunks(BLOCK).zip(bytes[1..].chunks(BLOCK)) {
            let (mut continuations, mut backslashes, mut long_escapes) = (0_u8, 0_u8, 0_u8);
            for (&byte, &after) in block.iter().zip(next) {
                let backslash = byte == b'\\';
                continuations += u8::from(continues(byte));
                backslashes += u8::from(backslash);
                long_escapes += u8::from(backslash && (after == b'\\' || after == b'u'));
            }
            tally.continuations += u64::from(continuations);
            tally.backslashes += u64::from(backslashes);
            tally.long_escapes += u64::from(long_escapes);
        }
        tally
    }
}

fn continues(byte: u8) -> bool {
    byte & 0xC0 == 0x80
}
