//! What is wrong with a configuration, where, and what to write instead.

use std::fmt;

/// Where a setting was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// In the file, at a line and a column, both from 1.
    File {
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
    },
    /// In the environment, in the variable of this name.
    Environment(String),
    /// On the command line, by the option of this name.
    Option(&'static str),
    /// Nowhere: it is the default.
    Default,
}

impl Origin {
    /// The line or the variable in parentheses, to follow a key; nothing where there is neither.
    pub(crate) fn line(&self) -> String {
        match self {
            Self::File { line, .. } => format!(" (line {line})"),
            Self::Environment(name) => format!(" (environment {name})"),
            Self::Option(_) | Self::Default => String::new(),
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub origin: Origin,
    /// Which key, with its section; empty where the text is not TOML at all.
    pub key: String,
    /// What is wrong and what to write instead, in one line.
    pub message: String,
}

/// Everything that is wrong with a configuration, in the order of the file.
///
/// # Formatting
/// One line each, `file:line:column: key: what is wrong; what to write`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problems {
    /// The file's name as the user wrote it.
    pub file: String,
    /// At least one.
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

/// The candidate nearest to a name that nobody knows, where one is near enough to be a slip of the
/// pen.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (name.chars().count() / 3).clamp(1, 3);
    candidates
        .into_iter()
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// How many letters must be inserted, dropped, replaced or swapped with their neighbor to turn one
/// name into the other.
fn distance(one: &str, other: &str) -> usize {
    /// No key is longer, and the work is quadratic.
    const LONGEST: usize = 64;
    if one.len() > LONGEST || other.len() > LONGEST { usize::MAX } else { strsim::osa_distance(one, other) }
}

/// Characters of a key that a message shows: a name in quotes can be of any length.
const LONGEST_KEY: usize = 120;

/// Text from outside in quotes, made fit for one line of a terminal.
pub(crate) fn quoted(text: &str) -> String {
    format!("\"{}\"", one_line(text, 60))
}

/// Text from outside, made fit for one line of a terminal.
fn one_line(text: &str, longest: usize) -> String {
    let mut shown: String = text.chars().take(longest).flat_map(char::escape_debug).collect();
    if text.chars().nth(longest).is_some() {
        shown.push('…');
    }
    shown
}
