//! A JSON answer as a table for people, whatever its keys are.

use std::fmt::Write;

use serde_json::{Map, Value};

use super::Failure;

/// Single values become lines, lists of objects become tables with a row each, objects become sections.
///
/// # Errors
/// Where the text isn't JSON.
pub(super) fn render(json: &str) -> Result<String, Failure> {
    let value: Value = serde_json::from_str(json).map_err(|error| {
        Failure::Other(format!("the answer is not JSON: {error}; is this Weir's admin address?"))
    })?;
    let mut text = String::new();
    match &value {
        Value::Object(object) => section("", object, &mut text),
        Value::Array(rows) => rows_of("", rows, &mut text),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            let _infallible = writeln!(text, "{}", cell(&value));
        }
    }
    Ok(text)
}

fn section(title: &str, object: &Map<String, Value>, text: &mut String) {
    let plain: Vec<(&String, &Value)> = object.iter().filter(|(_, value)| is_plain(value)).collect();
    if !plain.is_empty() {
        heading(title, text);
        let width = plain.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        for (name, value) in plain {
            let _infallible = writeln!(text, "{name:<width$}  {}", cell(value));
        }
    }
    for (name, value) in object.iter().filter(|(_, value)| !is_plain(value)) {
        let title = if title.is_empty() { name.clone() } else { format!("{title} / {name}") };
        match value {
            Value::Object(inner) => section(&title, inner, text),
            Value::Array(rows) => rows_of(&title, rows, text),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}

fn rows_of(title: &str, rows: &[Value], text: &mut String) {
    heading(title, text);
    let rows: Vec<&Map<String, Value>> = rows.iter().filter_map(Value::as_object).collect();
    let mut columns: Vec<&str> = Vec::new();
    for name in rows.iter().flat_map(|row| row.keys()) {
        if !columns.contains(&name.as_str()) {
            columns.push(name);
        }
    }
    let mut lines: Vec<Vec<String>> = vec![columns.iter().map(|name| (*name).to_owned()).collect()];
    lines.extend(
        rows.iter()
            .map(|row| columns.iter().map(|name| row.get(*name).map_or(String::new(), cell)).collect()),
    );
    let widths: Vec<usize> = (0..columns.len())
        .map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0))
        .collect();
    for line in lines {
        let mut row = String::new();
        for (value, width) in line.iter().zip(&widths) {
            let _infallible = write!(row, "{value:<width$}  ");
        }
        text.push_str(row.trim_end());
        text.push('\n');
    }
}

fn heading(title: &str, text: &mut String) {
    if !title.is_empty() {
        let gap = if text.is_empty() { "" } else { "\n" };
        let _infallible = writeln!(text, "{gap}{title}\n{}", "-".repeat(title.chars().count()));
    }
}

fn is_plain(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
        Value::Array(values) => values.iter().all(is_plain),
        Value::Object(_) => false,
    }
}

/// One value in one line; control characters can't reach the terminal.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect(),
        Value::Array(values) => values.iter().map(cell).collect::<Vec<_>>().join(" "),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| format!("{name}={}", cell(value))).collect::<Vec<_>>().join(" ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_objects_become_tables() {
        let json = r#"{"version":"1","ready":true,"callers":[{"name":"a","waiting":10},{"name":"long","waiting":2}],
                       "last":null,"deep":{"x":[1,2]}}"#;
        let expected = "last     -\nready    yes\nversion  1\n\ncallers\n-------\nname  waiting\na     10\nlong  2\n\n\
                        deep\n----\nx  1 2\n";
        assert_eq!(render(json).unwrap(), expected);
        assert!(render("<html>").is_err());
    }
}
