//! Text broken into lines of a width.

/// The words of a text in lines of at most `width` columns, each after `indent`; the last is not
/// ended.
pub fn wrapped(text: &str, width: usize, indent: &str) -> String {
    let mut lines = String::from(indent);
    let mut column = indent.len();
    for (place, word) in text.split_whitespace().enumerate() {
        let length = word.chars().count();
        if place > 0 && column + 1 + length > width {
            lines.extend(["\n", indent]);
            column = indent.len();
        } else if place > 0 {
            lines.push(' ');
            column += 1;
        }
        lines.push_str(word);
        column += length;
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::wrapped;

    #[test]
    fn lines_are_as_long_as_they_may_be() {
        assert_eq!(wrapped("one two  three", 9, "# "), "# one two\n# three");
        assert_eq!(wrapped("one two three", 7, ""), "one two\nthree");
        assert_eq!((wrapped("", 9, "# ").as_str(), wrapped("wide", 2, "").as_str()), ("# ", "wide"));
    }
}
