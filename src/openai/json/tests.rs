//! Values of every type, complete and in pieces.

use proptest::prelude::*;

use super::*;

fn raw(json: &str) -> Raw<'_> {
    Cursor::new(json.as_bytes()).string().unwrap()
}

#[test]
fn escapes_count_one_character() {
    for (json, text) in [
        (r#""plain""#, "plain"),
        (r#""a\nb""#, "a\nb"),
        (r#""\"\\\/""#, "\"\\/"),
        (r#""\u00e9\u4e2d""#, "é中"),
        (r#""\ud83d\ude00!""#, "😀!"),
        (r#""\ud83d alone""#, "\u{FFFD} alone"),
        (r#""grün 中 😀""#, "grün 中 😀"),
    ] {
        let raw = raw(json);
        assert_eq!(raw.text(1000), text, "{json}");
        let length = TextLength { chars: text.chars().count() as u64, bytes: text.len() as u64 };
        assert_eq!(raw.length(), length, "{json}");
    }
}

#[test]
fn a_bound_cuts_at_a_character_and_skips_nothing() {
    assert_eq!(raw(r#""ab𝋀\"c""#).text(4), "ab");
    assert_eq!(raw(r#""ab\u4e2dc""#).text(4), "ab");
    assert_eq!(raw(r#""ab\u4e2dc""#).text(5), "ab中");
}

#[test]
fn skips_deep_input_without_recursion() {
    let deep = format!("{}1{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
    let mut cursor = Cursor::new(deep.as_bytes());
    assert_eq!(cursor.skip(), Ok(()));
    assert_eq!(cursor.peek(), None);
    assert_eq!(Cursor::new(&deep.as_bytes()[..1_500_000]).skip(), Err(Malformed));
}

#[test]
fn whole_numbers_are_bounded() {
    for (text, number) in [
        ("0", Some(0)),
        ("18446744073709551615", Some(u64::MAX)),
        ("18446744073709551616", None),
        ("1e3", Some(1000)),
        ("12.9", Some(12)),
        ("-1", None),
        ("1e400", None),
        ("null", None),
        ("", None),
    ] {
        assert_eq!(whole_number(text.as_bytes()), number, "{text}");
    }
}

proptest! {
    #[test]
    fn text_agrees_with_a_full_parser(text in any::<String>(), bound in 0_usize..40) {
        let json = serde_json::to_string(&text).unwrap();
        let raw = raw(&json);
        prop_assert_eq!(raw.text(usize::MAX), text.as_str());
        prop_assert_eq!(raw.text(bound), cut(&text, bound));
        let length = TextLength { chars: text.chars().count() as u64, bytes: text.len() as u64 };
        prop_assert_eq!(raw.length(), length);
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(bytes in any::<Vec<u8>>()) {
        let mut cursor = Cursor::new(&bytes);
        while cursor.peek().is_some() && cursor.skip().is_ok() {}
        let raw = Raw { bytes: &bytes, escaped: bytes.contains(&b'\\') };
        prop_assert!(raw.text(16).len() <= 16);
        raw.length();
    }
}
