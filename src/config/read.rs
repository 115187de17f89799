//! Converts untyped values to typed ones, and collects all problems.

use toml::Spanned;
use toml::de::DeValue;

use super::changes::{CHANGES, Change};
use super::key::{Key, Kind, Presence, Table};
use super::problem::{Origin, Problem, nearest, quoted};
use super::sources::Sources;
use super::tree::{self, Node, Places, joined};
use super::value::Value;

/// The context in which values are read: it gives access to the sources, and collects problems.
pub(crate) struct Reader<'a> {
    /// The environment and the files.
    pub(crate) sources: &'a dyn Sources,
    /// The positions of the values.
    pub(crate) places: Places<'a>,
    /// The problems found so far.
    pub(crate) problems: Vec<Problem>,
    /// Warnings about settings that the next version does not accept.
    pub(crate) warnings: Vec<Problem>,
    /// The keys that changed since an earlier version.
    pub(crate) changes: &'static [Change],
    /// The paths of list elements that were dropped because they are invalid.
    pub(crate) dropped: Vec<String>,
    /// The range of the key that is being read, for error messages.
    range: Option<(&'static str, &'static str)>,
}

impl<'a> Reader<'a> {
    /// A reader of this file, without problems yet.
    pub(crate) fn new(text: &'a str, sources: &'a dyn Sources) -> Self {
        Self {
            sources,
            places: Places::new(text),
            problems: Vec::new(),
            warnings: Vec::new(),
            changes: CHANGES,
            dropped: Vec::new(),
            range: None,
        }
    }

    /// Overrides the file with a value from elsewhere.
    pub(crate) fn put<'t>(
        &mut self,
        root: &mut DeValue<'t>,
        path: &str,
        value: Spanned<DeValue<'t>>,
        origin: Origin,
    ) {
        if tree::put(root, path, value).is_none() {
            let message = "its section is not a table in the file; write it as one".to_owned();
            self.problems.push(Problem { origin: origin.clone(), key: path.to_owned(), message });
        }
        self.places.note(path, origin);
    }

    /// Reports a problem of a value.
    pub(crate) fn problem(&mut self, node: &Node<'_>, message: impl Into<String>) {
        let origin = self.places.origin(node);
        self.problems.push(Problem { origin, key: node.path.clone(), message: message.into() });
    }

    /// Reports a problem of an environment variable.
    pub(crate) fn problem_in_environment(&mut self, name: String, message: String) {
        self.problems.push(Problem { origin: Origin::Environment(name), key: String::new(), message });
    }

    /// Reports a value of the wrong kind.
    pub(crate) fn mismatch(&mut self, node: &Node<'_>, kind: Kind) {
        let slip = match (kind, node.value.as_str()) {
            (Kind::Choice(words), Some(text)) => nearest(text, words()),
            (_, _) => None,
        };
        let advice = match (slip, self.range) {
            (Some(word), _) => format!("did you mean \"{word}\"?"),
            (None, Some((least, greatest))) => {
                format!("write {}, from {least} to {greatest}", kind.describe())
            }
            (None, None) => format!("write {}", kind.describe()),
        };
        self.problem(node, format!("{} is not valid; {advice}", node.describe()));
    }

    /// Whether the node is a table. Reports unknown keys, each with the most similar known key.
    pub(crate) fn table(&mut self, node: &Node<'_>, table: &Table) -> bool {
        if !node.value.is_table() {
            self.problem(node, format!("{} is not valid; write a table", node.describe()));
        }
        for (name, value) in node.entries() {
            if !table.keys.iter().any(|key| key.name == name) {
                let advice = nearest(name, table.keys.iter().map(|key| key.name)).map_or_else(
                    || format!("write one of {}", names(table)),
                    |name| format!("did you mean \"{name}\"?"),
                );
                self.problem(&value, format!("no such key {}; {advice}", quoted(name)));
            }
        }
        node.value.is_table()
    }

    /// The value of one key of a section, or its default.
    ///
    /// For an invalid value the problem is reported and the default is returned, so that the rest
    /// is still checked.
    pub(crate) fn field<T: Value>(&mut self, section: &Node<'_>, key: &'static Key) -> Option<T> {
        let written = section.entry(key.name);
        if let Some(node) = &written {
            let outer = std::mem::replace(&mut self.range, key.range);
            let read = T::read(node, self);
            self.range = outer;
            if read.is_some() && self.in_range(key, node) {
                return read;
            }
        }
        let path = joined(&section.path, key.name);
        match key.presence {
            Presence::Default(text) => {
                let value = DeValue::parse(text).ok()?;
                T::read(&Node::of(path, value.get_ref()), self)
            }
            Presence::Unset(_) => T::unset(),
            Presence::Required(example) => {
                if written.is_none() {
                    let message = format!("missing; write {} = {example}", key.name);
                    let origin = self.places.origin(section);
                    self.problems.push(Problem { origin, key: path, message });
                }
                None
            }
        }
    }

    fn in_range(&mut self, key: &Key, node: &Node<'_>) -> bool {
        let (Some((least, greatest)), Some(measure)) = (key.range, key.kind.measure(node.value)) else {
            return true;
        };
        let bound = |text: &str| key.kind.measure(DeValue::parse(text).ok()?.get_ref());
        let within = bound(least).is_none_or(|least| measure >= least)
            && bound(greatest).is_none_or(|greatest| measure <= greatest);
        if !within {
            let off = if matches!(key.kind, Kind::OrWord(..)) { ", or \"off\"" } else { "" };
            let message =
                format!("{} is out of range; write a value from {least} to {greatest}{off}", node.describe());
            self.problem(node, message);
        }
        within
    }
}

fn names(table: &Table) -> String {
    table.keys.iter().map(|key| key.name).collect::<Vec<_>>().join(", ")
}
