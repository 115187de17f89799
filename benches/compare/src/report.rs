//! The report of a load generator to its run: named values, one per line.

use std::collections::BTreeMap;
use std::fmt;

#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    values: BTreeMap<String, String>,
}

impl Report {
    pub(crate) fn put(&mut self, name: impl Into<String>, value: impl fmt::Display) {
        self.values.insert(name.into(), value.to_string());
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    pub(crate) fn number(&self, name: &str) -> Option<f64> {
        self.values.get(name)?.parse().ok().filter(|number: &f64| number.is_finite())
    }

    /// Takes the other's values on top of its own.
    pub(crate) fn extend(&mut self, other: Self) {
        self.values.extend(other.values);
    }

    pub(crate) fn parse(text: &str) -> Self {
        let pairs = text.lines().filter_map(|line| line.split_once(' '));
        Self { values: pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect() }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.values.iter().try_for_each(|(name, value)| writeln!(formatter, "{name} {value}"))
    }
}

#[cfg(test)]
mod tests {
    use super::Report;

    #[test]
    fn a_report_survives_the_pipe() {
        let mut report = Report::default();
        report.put("requests", 12);
        report.put("stranger", "some process");
        report.put("broken", f64::NAN);
        let back = Report::parse(&report.to_string());
        assert_eq!(back.number("requests"), Some(12.0));
        assert_eq!(back.text("stranger"), Some("some process"));
        assert_eq!(
            (back.number("broken"), back.number("missing"), back.number("stranger")),
            (None, None, None)
        );
    }
}
