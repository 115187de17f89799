//! The untyped configuration: TOML values, their keys, and their positions.

use std::borrow::Cow;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Origin, Problem, quoted};

/// A value and its key.
#[derive(Clone, Debug)]
pub(crate) struct Node<'t> {
    /// The key with its section, such as `server.listen` or `callers[0].name`.
    pub(crate) path: String,
    pub(crate) value: &'t DeValue<'t>,
    /// Its byte offset in the file; `None` for a value from elsewhere.
    at: Option<usize>,
}

impl<'t> Node<'t> {
    /// A value at a path, with its span in the file; an empty span means that it is not from the
    /// file.
    pub(crate) fn new(path: String, span: Range<usize>, value: &'t DeValue<'t>) -> Self {
        Self { path, value, at: (!span.is_empty()).then_some(span.start) }
    }

    /// A value that is not from the file: the whole configuration, or a default.
    pub(crate) fn of(path: String, value: &'t DeValue<'t>) -> Self {
        Self::new(path, 0..0, value)
    }

    /// The entries of a table.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&'t str, Self)> {
        let entries = self.value.as_table().into_iter().flatten();
        entries.map(|(key, value)| (key.get_ref().as_ref(), self.inner(key, value)))
    }

    /// One entry of a table.
    pub(crate) fn entry(&self, name: &str) -> Option<Self> {
        let (key, value) = self.value.as_table()?.get_key_value(name)?;
        Some(self.inner(key, value))
    }

    fn inner(&self, key: &Spanned<Cow<'t, str>>, value: &'t Spanned<DeValue<'t>>) -> Self {
        // The position of a table is that of the name in its header.
        let span = if value.get_ref().is_table() { key.span() } else { value.span() };
        Self::new(joined(&self.path, key.get_ref()), span, value.get_ref())
    }

    /// One element of a list.
    pub(crate) fn element(&self, index: usize) -> Option<Self> {
        let value = self.value.as_array()?.get(index)?;
        Some(Self::new(format!("{}[{index}]", self.path), value.span(), value.get_ref()))
    }

    /// The node at a path such as `retry.base` or `callers[1].name`.
    pub(crate) fn find(&self, path: &str) -> Option<Self> {
        path.split('.').try_fold(self.clone(), |node, step| match step.split_once('[') {
            Some((name, index)) => node.entry(name)?.element(index.strip_suffix(']')?.parse().ok()?),
            None => node.entry(step),
        })
    }

    /// A description of the value, for error messages.
    pub(crate) fn describe(&self) -> String {
        match self.value {
            DeValue::String(text) => quoted(text),
            DeValue::Integer(number) => number.to_string(),
            DeValue::Float(number) => number.to_string(),
            DeValue::Boolean(value) => value.to_string(),
            DeValue::Datetime(date) => date.to_string(),
            DeValue::Array(_) => "a list".to_owned(),
            DeValue::Table(_) => "a table".to_owned(),
        }
    }
}

/// The value as an integer, if it is one and fits.
pub(crate) fn integer(value: &DeValue<'_>) -> Option<i64> {
    let number = value.as_integer()?;
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

/// Sets the value at a path without list indexes. Returns `None` if a section on the path is not a
/// table.
pub(crate) fn put<'t>(at: &mut DeValue<'t>, path: &str, value: Spanned<DeValue<'t>>) -> Option<()> {
    let DeValue::Table(table) = at else { return None };
    let key = |name: &str| Spanned::new(0..0, Cow::Owned(name.to_owned()));
    let Some((section, rest)) = path.split_once('.') else {
        table.insert(key(path), value);
        return Some(());
    };
    let new = || Spanned::new(0..0, DeValue::Table(DeTable::new()));
    put(table.entry(key(section)).or_insert_with(new).get_mut(), rest, value)
}

/// Removes the value at a path without list indexes, and sections that are empty afterwards.
pub(crate) fn take<'t>(at: &mut DeValue<'t>, path: &str) -> Option<Spanned<DeValue<'t>>> {
    let DeValue::Table(table) = at else { return None };
    let Some((section, rest)) = path.split_once('.') else { return table.remove(path) };
    let inner = table.get_mut(section)?.get_mut();
    let taken = take(inner, rest)?;
    if inner.as_table().is_some_and(DeTable::is_empty) {
        table.remove(section);
    }
    Some(taken)
}

/// The path of the key `name` in the section at `path`.
pub(crate) fn joined(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// The positions of values: where each line of the file begins, and which values came from
/// elsewhere.
pub(crate) struct Places<'a> {
    text: &'a str,
    starts: Vec<usize>,
    /// Paths with their origin, the latest last. An origin also applies to the values below the
    /// path.
    elsewhere: Vec<(String, Origin)>,
}

impl<'a> Places<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        let starts = std::iter::once(0).chain(memchr::memchr_iter(b'\n', text.as_bytes()).map(|at| at + 1));
        Self { text, starts: starts.collect(), elsewhere: Vec::new() }
    }

    /// Parses a TOML file. Reports syntax errors, and keeps the valid parts.
    pub(crate) fn parse(&self, problems: &mut Vec<Problem>) -> DeValue<'a> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        for error in errors {
            let origin = self.in_file(error.span().map_or(0, |span| span.start));
            // The parser reports one mistake several times; the first report is the most precise.
            let line = |origin: &Origin| if let Origin::File { line, .. } = origin { *line } else { 0 };
            if problems.iter().any(|known| line(&known.origin) == line(&origin)) {
                continue;
            }
            let message = format!("this is not TOML: {}", error.message().replace('\n', ", "));
            problems.push(Problem { origin, key: String::new(), message });
        }
        DeValue::Table(table.into_inner())
    }

    /// Records that the value at a path does not come from the file.
    pub(crate) fn note(&mut self, path: &str, origin: Origin) {
        self.elsewhere.push((path.to_owned(), origin));
    }

    /// Where a value was written.
    pub(crate) fn origin(&self, node: &Node<'_>) -> Origin {
        let holds = |known: &str| {
            node.path.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        let noted =
            self.elsewhere.iter().rev().find(|(path, _)| holds(path)).map(|(_, origin)| origin.clone());
        noted.or_else(|| node.at.map(|at| self.in_file(at))).unwrap_or(Origin::Default)
    }

    fn in_file(&self, offset: usize) -> Origin {
        let line = self.starts.partition_point(|start| *start <= offset).max(1);
        let start = self.starts.get(line - 1).copied().unwrap_or(0);
        let before = self.text.get(start..offset).unwrap_or_default();
        Origin::File { line, column: before.chars().count() + 1 }
    }
}
