//! Configurations of the proxies under test, filled for one run.

/// Fills `{{name}}` and keeps the lines after `#if:WORD ` whose word is given and after
/// `#unless:WORD ` whose isn't.
pub(super) fn fill(template: &str, words: &[&str], values: &[(&str, String)]) -> String {
    let mut text = String::with_capacity(template.len());
    for line in template.lines() {
        if let Some(line) = kept(line, words) {
            text.push_str(&line);
            text.push('\n');
        }
    }
    values.iter().fold(text, |text, (name, value)| text.replace(&format!("{{{{{name}}}}}"), value))
}

fn kept(line: &str, words: &[&str]) -> Option<String> {
    for (marker, wanted) in [("#if:", true), ("#unless:", false)] {
        let indent = &line[..line.len() - line.trim_start().len()];
        if let Some((word, rest)) =
            line.trim_start().strip_prefix(marker).and_then(|rest| rest.split_once(' '))
        {
            return (words.contains(&word) == wanted).then(|| format!("{indent}{rest}"));
        }
    }
    Some(line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::fill;

    #[test]
    fn words_choose_lines_and_names_are_filled() {
        let template =
            "# about #if:WORD \nport {{port}}\n  #if:tls tls {{port}}\n  #unless:tls clear\n#if:other x\n";
        let values = [("port", "12".to_owned())];
        assert_eq!(fill(template, &["tls"], &values), "# about #if:WORD \nport 12\n  tls 12\n");
        assert_eq!(fill(template, &[], &values), "# about #if:WORD \nport 12\n  clear\n");
    }
}
