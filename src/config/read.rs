//! From untyped values to typed ones, collecting every problem on the way.

use std::collections::BTreeMap;

use super::changes::{CHANGES, Change};
use super::key::{Key, Kind, Presence, Table};
use super::problem::{Origin, Problem, nearest, quoted};
use super::sources::Sources;
use super::tree::{Datum, Node, joined};
use super::value::Value;

/// What a value may ask for while it is read, and where it reports what is wrong.
pub(crate) struct Reader<'a> {
    /// The environment and the files.
    pub(crate) sources: &'a dyn Sources,
    /// What was found wrong so far.
    pub(crate) problems: Vec<Problem>,
    /// What works in this version only.
    pub(crate) warnings: Vec<Problem>,
    /// The keys that were called otherwise before.
    pub(crate) changes: &'static [Change],
    /// The elements of lists that were too wrong to be kept, by path.
    pub(crate) dropped: Vec<String>,
    /// The range of the key that is being read, to say what to write.
    range: Option<(&'static str, &'static str)>,
}

impl<'a> Reader<'a> {
    /// A reader that has found nothing wrong yet.
    pub(crate) fn new(sources: &'a dyn Sources) -> Self {
        Self {
            sources,
            problems: Vec::new(),
            warnings: Vec::new(),
            changes: CHANGES,
            dropped: Vec::new(),
            range: None,
        }
    }

    /// Reports what is wrong with a value.
    pub(crate) fn problem(&mut self, node: &Node, message: impl Into<String>) {
        let problem =
            Problem { origin: node.origin.clone(), key: node.path.clone(), message: message.into() };
        self.problems.push(problem);
    }

    /// Reports what is wrong with a variable of the environment.
    pub(crate) fn problem_in_environment(&mut self, name: String, message: String) {
        self.problems.push(Problem { origin: Origin::Environment(name), key: String::new(), message });
    }

    /// Reports a value of another kind than the key takes.
    pub(crate) fn mismatch(&mut self, node: &Node, kind: Kind) {
        let slip = match (kind, node.datum.as_text()) {
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
        self.problem(node, format!("{} is not valid; {advice}", node.datum.describe()));
    }

    /// The entries of a table; keys that nobody knows are reported, with the nearest that somebody
    /// does.
    pub(crate) fn table<'n>(&mut self, node: &'n Node, table: &Table) -> Option<&'n BTreeMap<String, Node>> {
        let Datum::Table(entries) = &node.datum else {
            let message = format!("{} is not valid; write a table", node.datum.describe());
            self.problem(node, message);
            return None;
        };
        for (name, value) in entries {
            if !table.keys.iter().any(|key| key.name == name) {
                let advice = nearest(name, table.keys.iter().map(|key| key.name)).map_or_else(
                    || format!("write one of {}", names(table)),
                    |name| format!("did you mean \"{name}\"?"),
                );
                self.problem(value, format!("no such key {}; {advice}", quoted(name)));
            }
        }
        Some(entries)
    }

    /// The value of one key of a section: what is written, or the default.
    ///
    /// A value that is wrong is reported and the default stands in, so that the rest is still
    /// checked.
    pub(crate) fn field<T: Value>(
        &mut self,
        section: &Node,
        written: Option<&Node>,
        key: &'static Key,
    ) -> Option<T> {
        if let Some(node) = written {
            let outer = std::mem::replace(&mut self.range, key.range);
            let read = T::read(node, self);
            self.range = outer;
            if read.is_some() && self.in_range(key, node) {
                return read;
            }
        }
        let path = joined(&section.path, key.name);
        match key.presence {
            Presence::Default(text) => T::read(&Node::parse_value(text, &path, &Origin::Default)?, self),
            Presence::Unset(_) => T::unset(),
            Presence::Required(example) => {
                if written.is_none() {
                    let message = format!("missing; write {} = {example}", key.name);
                    self.problems.push(Problem { origin: section.origin.clone(), key: path, message });
                }
                None
            }
        }
    }

    fn in_range(&mut self, key: &Key, node: &Node) -> bool {
        let (Some((least, greatest)), Some(measure)) = (key.range, key.kind.measure(&node.datum)) else {
            return true;
        };
        let bound = |text: &str| {
            let node = Node::parse_value(text, key.name, &Origin::Default)?;
            key.kind.measure(&node.datum)
        };
        let within = bound(least).is_none_or(|least| measure >= least)
            && bound(greatest).is_none_or(|greatest| measure <= greatest);
        if !within {
            let off = if matches!(key.kind, Kind::OrWord(..)) { ", or \"off\"" } else { "" };
            let message = format!(
                "{} is out of range; write a value from {least} to {greatest}{off}",
                node.datum.describe()
            );
            self.problem(node, message);
        }
        within
    }
}

fn names(table: &Table) -> String {
    table.keys.iter().map(|key| key.name).collect::<Vec<_>>().join(", ")
}
