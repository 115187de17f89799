//! Secret text: keys and passwords.

use std::fmt;
use std::sync::Arc;

use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize, Zeroizing};

/// A secret. It has no readable `Debug`, and its memory is overwritten when the last clone is
/// dropped.
#[derive(Clone)]
pub struct Secret(Arc<Zeroizing<String>>);

impl Secret {
    /// Creates a secret.
    pub fn new(text: String) -> Self {
        Self(Arc::new(Zeroizing::new(text)))
    }

    /// The secret text, for the code that sends or compares it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Removes surrounding white space, such as a file's final line break.
    #[must_use]
    pub fn trimmed(self) -> Self {
        if self.0.trim().len() == self.0.len() {
            return self;
        }
        Self::new(self.0.trim().to_owned())
    }

    /// Whether it equals this text, in a time that depends only on the lengths.
    pub fn is(&self, text: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(text).into()
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.is(other.0.as_bytes())
    }
}

impl Eq for Secret {}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Overwrites a buffer that contained a secret.
pub(super) fn wipe(mut buffer: Vec<u8>) {
    buffer.zeroize();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_and_the_length_count() {
        let text: Vec<u8> = (b'0'..).take(35).collect();
        for length in 0..text.len() {
            let secret = Secret::from(std::str::from_utf8(&text[..length]).unwrap_or_default());
            for shown in 0..text.len() {
                assert_eq!(secret.is(&text[..shown]), shown == length, "{length} {shown}");
            }
            for place in 0..length {
                let mut other = text[..length].to_vec();
                other[place] ^= 1;
                assert!(!secret.is(&other), "{length} {place}");
            }
        }
    }

    #[test]
    fn a_secret_never_shows_and_compares_by_its_text() {
        let secret = Secret::from("sk-weir-1234567890");
        assert_eq!(format!("{secret:?}"), "Secret(..)");
        assert!(secret.is(b"sk-weir-1234567890"));
        for other in ["sk-weir-1234567891", "sk-weir-123456789", "sk-weir-12345678900", ""] {
            assert!(!secret.is(other.as_bytes()), "{other}");
        }
        assert_eq!(Secret::from(" key \n").trimmed(), Secret::from("key"));
    }
}
