//! A problem of a configuration: its position, and what to write instead.

use std::fmt;

/// The source of a setting.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// The file, with line and column.
    File {
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
    },
    /// The environment variable of this name.
    Environment(String),
    /// The command-line option of this name.
    Option(&'static str),
    /// The default.
    Default,
}

impl Origin {
    /// The line or the variable in parentheses, to append to a key; empty for other sources.
    pub(crate) fn line(&self) -> String {
        match self {
            Self::File { line, .. } => format!(" (line {line})"),
            Self::Environment(name) => format!(" (environment {name})"),
            Self::Option(_) | Self::Default => String::new(),
        }
    }
}

/// One problem of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where the value was written.
    pub origin: Origin,
    /// The key with its section; empty if the text is not TOML.
    pub key: String,
    /// The mistake and its correction, in one line.
    pub message: String,
}

/// All problems of a configuration, in the order of the file.
///
/// # Formatting
/// One line each, `file:line:column: key: the mistake; what to write`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problems {
    /// The file's name, as the user wrote it.
    pub file: String,
    /// The problems; at least one.
    pub list: Vec<Problem>,
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.list.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            match &problem.origin {
                Origin::File { line, column } => write!(f, "{}:{line}:{column}: ", self.file)?,
                Origin::Environment(name) => write!(f, "environment {name}: ")?,
                Origin::Option(name) => write!(f, "option {name}: ")?,
                Origin::Default => {}
            }
            if !problem.key.is_empty() {
                write!(f, "{}: ", one_line(&problem.key, LONGEST_KEY))?;
            }
            f.write_str(&problem.message)?;
        }
        Ok(())
    }
}

/// The candidate most similar to an unknown name, if it is similar enough to be a typing mistake.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (name.chars().count() / 3).clamp(1, 3);
    candidates
        .into_iter()
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The edit distance of two names: insertions, deletions, substitutions, and swaps of neighbors.
fn distance(one: &str, other: &str) -> usize {
    /// Longer than any key; it bounds the quadratic work.
    const LONGEST: usize = 64;
    if one.len() > LONGEST || other.len() > LONGEST { usize::MAX } else { strsim::osa_distance(one, other) }
}

/// The most characters of a key that a message shows: a quoted name can have any length.
const LONGEST_KEY: usize = 120;

/// Untrusted text in quotes, escaped to one line for a terminal.
pub(crate) fn quoted(text: &str) -> String {
    format!("\"{}\"", one_line(text, 60))
}

/// Untrusted text, escaped to one line of at most `longest` characters.
fn one_line(text: &str, longest: usize) -> String {
    let mut shown: String = text.chars().take(longest).flat_map(char::escape_debug).collect();
    if text.chars().nth(longest).is_some() {
        shown.push('…');
    }
    shown
}
