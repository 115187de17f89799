//! Whole decimal numbers in headers and JSON.

/// Number of decimal digits that always fit in 64 bits.
const SURE: usize = 19;

/// Parses digits only: `None` for empty text, a sign, any other byte, or a number beyond 64 bits.
pub(crate) fn whole(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    if text.len() > SURE {
        return text
            .iter()
            .try_fold(0_u64, |number, byte| number.checked_mul(10)?.checked_add(digit(*byte)?));
    }
    let (words, rest) = text.as_chunks();
    let number =
        words.iter().try_fold(0, |number, word| Some(number * 100_000_000 + eight_digits(*word)?))?;
    rest.iter().try_fold(number, |number, byte| Some(number * 10 + digit(*byte)?))
}

/// Parses the digits at the start of a text; `None` if there are none, or the number exceeds 64
/// bits.
pub(crate) fn leading(text: &[u8]) -> Option<(u64, &[u8])> {
    let (mut number, mut rest) = (0_u64, text);
    while let [byte @ b'0'..=b'9', after @ ..] = rest {
        number = number.wrapping_mul(10).wrapping_add(u64::from(byte - b'0'));
        rest = after;
    }
    (1..=SURE).contains(&(text.len() - rest.len())).then_some((number, rest))
}

fn digit(byte: u8) -> Option<u64> {
    let digit = byte.wrapping_sub(b'0');
    (digit < 10).then_some(u64::from(digit))
}

/// Parses eight digits at once: neighbors are combined to numbers of two, four and eight digits.
fn eight_digits(text: [u8; 8]) -> Option<u64> {
    let word = u64::from_le_bytes(text);
    let digits = word.wrapping_sub(u64::from_le_bytes([b'0'; 8]));
    // A byte below '0' borrows into its high bit, and one above '9' carries into it.
    let above = word.wrapping_add(u64::from_le_bytes([0x7F - b'9'; 8]));
    if (digits | above) & u64::from_le_bytes([0x80; 8]) != 0 {
        return None;
    }
    // The first digit is the lowest byte.
    let twos = (digits * 10 + (digits >> 8)) & 0x00FF_00FF_00FF_00FF;
    let fours = (twos * 100 + (twos >> 16)) & 0x0000_FFFF_0000_FFFF;
    Some((fours * 10_000 + (fours >> 32)) & 0xFFFF_FFFF)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn digits_alone_are_a_number() {
        for (text, number) in [
            ("0", Some(0)),
            ("007", Some(7)),
            ("9999999999999999999", Some(9_999_999_999_999_999_999)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("00000000000000000000001", Some(1)),
            ("", None),
            ("12345678", Some(12_345_678)),
            ("0123456789012345678", Some(123_456_789_012_345_678)),
            ("+1", None),
            ("-1", None),
            ("1.0", None),
            ("1 ", None),
            ("/", None),
            (":", None),
        ] {
            assert_eq!(whole(text.as_bytes()), number, "{text}");
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_standard_library(text in "[0-9]{0,24}|[/-:]{0,12}|[ -~]{0,3}", bytes in any::<Vec<u8>>()) {
            // `parse` also accepts a plus sign.
            let expected = text.parse().ok().filter(|_| !text.starts_with('+'));
            prop_assert_eq!(whole(text.as_bytes()), expected);
            whole(&bytes);
        }

        #[test]
        fn what_leads_is_a_whole_number(digits in "[0-9]{0,24}", rest in "([^0-9].{0,3})?") {
            let expected = whole(digits.as_bytes()).filter(|_| digits.len() <= SURE);
            let text = digits + &rest;
            prop_assert_eq!(leading(text.as_bytes()), expected.map(|number| (number, rest.as_bytes())));
        }

        #[test]
        fn eight_at_once_are_as_one_by_one(mut text in prop::array::uniform8(b'0'..=b'9'), at in 0_usize..9, byte in any::<u8>()) {
            if let Some(place) = text.get_mut(at) {
                *place = byte;
            }
            let expected = text.iter().try_fold(0, |number, byte| Some(number * 10 + digit(*byte)?));
            prop_assert_eq!(eight_digits(text), expected);
        }
    }
}
