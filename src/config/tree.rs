//! A configuration before it has types: values that know their key and where they were written.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Origin, Problem};

/// A value, its key and its place.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// The key with its section: `server.listen`, `callers[0].name`.
    pub(crate) path: String,
    pub(crate) origin: Origin,
    pub(crate) datum: Datum,
}

/// A value as TOML knows it.
#[derive(Clone, Debug)]
pub(crate) enum Datum {
    String(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    /// A date, or a number out of range: nothing that any key takes.
    Strange(String),
    List(Vec<Node>),
    Table(BTreeMap<String, Node>),
}

impl Datum {
    /// The text, where it is one.
    pub(crate) fn as_text(&self) -> Option<&str> {
        if let Self::String(text) = self { Some(text) } else { None }
    }

    /// What a person calls it.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::String(text) => super::problem::quoted(text),
            Self::Integer(number) => number.to_string(),
            Self::Float(number) => number.to_string(),
            Self::Boolean(value) => value.to_string(),
            Self::Strange(text) => text.clone(),
            Self::List(_) => "a list".to_owned(),
            Self::Table(_) => "a table".to_owned(),
        }
    }
}

impl Node {
    /// Reads a whole TOML file. What isn't TOML is reported, what is, is kept.
    pub(crate) fn parse(text: &str, problems: &mut Vec<Problem>) -> Self {
        let places = Places::new(text);
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let origin = places.origin(error.span().map_or(0, |span| span.start));
            // The parser repeats itself on one mistake; the first says it best.
            let line = |origin: &Origin| if let Origin::File { line, .. } = origin { *line } else { 0 };
            if problems.iter().any(|known| line(&known.origin) == line(&origin)) {
                continue;
            }
            let message = format!("this is not TOML: {}", error.message().replace('\n', ", "));
            problems.push(Problem { origin, key: String::new(), message });
        }
        Self { path: String::new(), origin: Origin::Default, datum: table_of(table.get_ref(), "", &places) }
    }

    /// Reads one TOML value from elsewhere than the file; `None` where it isn't one.
    pub(crate) fn parse_value(text: &str, path: &str, origin: &Origin) -> Option<Self> {
        let value = DeValue::parse(text).ok()?;
        let mut node = node_of(&value, path.to_owned(), &Places::new(text));
        node.set_origin(origin);
        Some(node)
    }

    /// A plain text from elsewhere than the file.
    pub(crate) fn text(text: &str, path: &str, origin: &Origin) -> Self {
        Self { path: path.to_owned(), origin: origin.clone(), datum: Datum::String(text.to_owned()) }
    }

    /// The node at a path such as `retry.base` or `callers[1].name`.
    pub(crate) fn find(&self, path: &str) -> Option<&Self> {
        path.split('.').try_fold(self, |node, step| {
            let (name, index) =
                step.split_once('[').map_or((step, None), |(name, index)| (name, Some(index)));
            let Datum::Table(entries) = &node.datum else { return None };
            let entry = entries.get(name)?;
            match (index, &entry.datum) {
                (None, _) => Some(entry),
                (Some(index), Datum::List(nodes)) => {
                    nodes.get(index.strip_suffix(']')?.parse::<usize>().ok()?)
                }
                (Some(_), _) => None,
            }
        })
    }

    /// Puts a node at the path that it bears, over what was there. `Err` where a section on the way
    /// isn't a table.
    pub(crate) fn put(&mut self, node: Self) -> Result<(), Self> {
        let path = node.path.clone();
        let mut at = self;
        let mut walked = String::new();
        let (sections, name) = path.rsplit_once('.').map_or(("", path.as_str()), |(head, tail)| (head, tail));
        for section in sections.split('.').filter(|section| !section.is_empty()) {
            walked = joined(&walked, section);
            let Datum::Table(entries) = &mut at.datum else { return Err(node) };
            at = entries.entry(section.to_owned()).or_insert_with(|| Self {
                path: walked.clone(),
                origin: node.origin.clone(),
                datum: Datum::Table(BTreeMap::new()),
            });
        }
        let Datum::Table(entries) = &mut at.datum else { return Err(node) };
        entries.insert(name.to_owned(), node);
        Ok(())
    }

    /// Takes the node at a path without lists out, and the sections that are empty then.
    pub(crate) fn take(&mut self, path: &str) -> Option<Self> {
        let Datum::Table(entries) = &mut self.datum else { return None };
        let Some((section, rest)) = path.split_once('.') else { return entries.remove(path) };
        let inner = entries.get_mut(section)?;
        let taken = inner.take(rest);
        if taken.is_some() && matches!(&inner.datum, Datum::Table(entries) if entries.is_empty()) {
            entries.remove(section);
        }
        taken
    }

    /// Drops every entry of the table but one.
    pub(crate) fn keep_only(&mut self, name: &str) {
        if let Datum::Table(entries) = &mut self.datum {
            entries.retain(|known, _| known == name);
        }
    }

    fn set_origin(&mut self, origin: &Origin) {
        self.origin = origin.clone();
        if let Datum::List(nodes) = &mut self.datum {
            for node in nodes {
                node.set_origin(origin);
            }
        } else if let Datum::Table(nodes) = &mut self.datum {
            for node in nodes.values_mut() {
                node.set_origin(origin);
            }
        }
    }
}

/// The path of a key in the section at `path`.
pub(crate) fn joined(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn table_of(table: &DeTable<'_>, path: &str, places: &Places<'_>) -> Datum {
    let entries = table.iter().map(|(key, value)| {
        let mut node = node_of(value, joined(path, key.get_ref()), places);
        // Where a table stands is where its header's name stands.
        if matches!(node.datum, Datum::Table(_)) {
            node.origin = places.origin(key.span().start);
        }
        (key.get_ref().to_string(), node)
    });
    Datum::Table(entries.collect())
}

/// The parser bounds how deep values nest, so this ends.
fn node_of(value: &Spanned<DeValue<'_>>, path: String, places: &Places<'_>) -> Node {
    let origin = places.origin(value.span().start);
    let datum = match value.get_ref() {
        DeValue::String(text) => Datum::String(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_| Datum::Strange(number.to_string()), Datum::Integer),
        DeValue::Float(number) => match number.as_str().parse::<f64>() {
            Ok(float) if float.is_finite() => Datum::Float(float),
            _ => Datum::Strange(number.to_string()),
        },
        DeValue::Boolean(value) => Datum::Boolean(*value),
        DeValue::Datetime(date) => Datum::Strange(date.to_string()),
        DeValue::Array(values) => Datum::List(
            values
                .iter()
                .enumerate()
                .map(|(index, value)| node_of(value, format!("{path}[{index}]"), places))
                .collect(),
        ),
        DeValue::Table(table) => table_of(table, &path, places),
    };
    Node { path, origin, datum }
}

/// Where each line starts, to turn an offset into a line and a column.
struct Places<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Places<'a> {
    fn new(text: &'a str) -> Self {
        let starts = std::iter::once(0).chain(memchr::memchr_iter(b'\n', text.as_bytes()).map(|at| at + 1));
        Self { text, starts: starts.collect() }
    }

    fn origin(&self, offset: usize) -> Origin {
        let line = self.starts.partition_point(|start| *start <= offset).max(1);
        let start = self.starts.get(line - 1).copied().unwrap_or(0);
        let before = self.text.get(start..offset).unwrap_or_default();
        Origin::File { line, column: before.chars().count() + 1 }
    }
}
