//! Counting what the length of a string's text is told from.

/// Bytes that are tallied at once: sums of a block fit a byte, so that the vectors are as wide as
/// can be.
const BLOCK: usize = 128;

/// What the length of a text is told from, counted in one pass that the compiler turns into vector
/// instructions.
#[derive(Default)]
pub(super) struct Tally {
    /// Bytes that continue a character; every other byte starts one.
    pub(super) continuations: u64,
    pub(super) backslashes: u64,
    /// Backslashes before another backslash or a `u`: escapes that are longer than two bytes, or
    /// that hide where one starts.
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
