//! Rules between keys: combinations of valid values that contradict each other.

use super::Config;
use super::problem::{Origin, Problem};
use super::read::Reader;
use super::tree::Node;

mod callers;
pub(crate) mod exchanges;
pub(crate) mod issuers;
mod families;
mod files;
mod listeners;
mod replicas;
mod resilience;
mod upstreams;

/// The punctuation allowed in the name of an upstream, an exchange or an issuer.
const MARKS: [char; 3] = ['-', '_', '.'];

/// Checks a configuration whose keys are valid one by one, and adapts defaults to the written
/// values.
pub(crate) fn check(config: &mut Config, root: &Node<'_>, reader: &mut Reader<'_>) {
    let mut rules = Rules { root, reader };
    fit_defaults(config, &rules);
    listeners::check(config, &mut rules);
    replicas::check(config, &mut rules);
    resilience::check(config, &mut rules);
    families::check(config, &mut rules);
    upstreams::check(config, &mut rules);
    exchanges::check(config, &mut rules);
    issuers::check(config, &mut rules);
    callers::check(config, &mut rules);
    files::check(config, &mut rules);
}

/// States rules: each is a condition that must be false, the keys involved, and the message. Keys
/// and messages are format strings.
macro_rules! refuse {
    ($rules:ident; $($broken:expr => $($key:literal),+ : $message:literal;)+) => { $(
        if $broken {
            let keys = [$(format_args!($key).to_string()),+];
            $rules.refuse(&keys.each_ref().map(String::as_str), format_args!($message).to_string());
        }
    )+ };
}
use refuse;

/// The tree that the configuration was read from, to report where a contradiction is written.
struct Rules<'a, 'r> {
    root: &'a Node<'a>,
    reader: &'a mut Reader<'r>,
}

impl Rules<'_, '_> {
    /// Reports a contradiction between keys, at the first of them that is written.
    ///
    /// A key with a problem of its own is skipped: its default was used, so the contradiction may
    /// not be real.
    fn refuse(&mut self, keys: &[&str], message: impl Into<String>) {
        let within = |known: &Problem, key: &str| {
            known.key.strip_prefix(key).is_some_and(|rest| rest.starts_with(['[', '.']))
        };
        let reported = |known: &Problem| {
            keys.contains(&known.key.as_str()) || keys.first().is_some_and(|key| within(known, key))
        };
        if self.reader.problems.iter().any(reported) {
            return;
        }
        let written = keys.iter().find_map(|key| self.root.find(key));
        let (key, origin) = match written {
            Some(node) => (node.path.clone(), self.reader.places.origin(&node)),
            None => (keys.first().copied().unwrap_or_default().to_owned(), Origin::Default),
        };
        self.reader.problems.push(Problem { origin, key, message: message.into() });
    }

    /// Reports a list with too many elements.
    fn at_most(&mut self, most: usize, list: &str, places: &[String]) {
        if places.len() > most {
            self.refuse(&[list], format!("are more than {most}; leave some out"));
        }
    }

    /// Reports each element's name that is invalid as a metric label, or that an earlier element
    /// has. `marks` is the allowed punctuation.
    fn names<'n>(
        &mut self,
        what: &str,
        marks: &[char],
        places: &[String],
        names: impl Iterator<Item = &'n String>,
    ) {
        let shown: Vec<String> = marks.iter().map(char::to_string).collect();
        let shown = shown.join(" ");
        let valid = |c: char| c.is_ascii_alphanumeric() || marks.contains(&c);
        let mut before = Vec::<&String>::new();
        for (name, place) in names.zip(places) {
            let first = before.iter().position(|known| *known == name);
            let line = first.map(|first| self.line(&format!("{}.name", places[first]))).unwrap_or_default();
            refuse! { self;
                name.is_empty() || name.len() > 64 || !name.chars().all(valid) => "{place}.name":
                    "is not fit for a metric; write at most 64 letters, digits and {shown}";
                first.is_some() => "{place}.name":
                    "\"{name}\" is the name of an earlier {what}{line}; write another";
            }
            before.push(name);
        }
    }

    /// The line or variable where a key is written, to append to its name; empty if it is not
    /// written.
    fn line(&self, key: &str) -> String {
        self.root.find(key).map(|node| self.reader.places.origin(&node).line()).unwrap_or_default()
    }

    /// Whether the key is written.
    fn written(&self, key: &str) -> bool {
        self.root.find(key).is_some()
    }

    /// The paths of the list's elements that were kept.
    fn kept(&self, list: &str) -> Vec<String> {
        let mut kept = Vec::new();
        for index in 0.. {
            let path = format!("{list}[{index}]");
            if self.root.find(&path).is_none() {
                break;
            }
            if !self.reader.dropped.contains(&path) {
                kept.push(path);
            }
        }
        kept
    }
}

/// Lowers a default if the user set its upper bound lower.
fn fit_defaults(config: &mut Config, rules: &Rules<'_, '_>) {
    fn fit<T: Ord + Copy>(rules: &Rules<'_, '_>, key: &str, value: &mut T, bound: T) {
        if !rules.written(key) {
            *value = (*value).min(bound);
        }
    }
    let Config { server, admission: of, replay, .. } = config;
    fit(
        rules,
        "server.max_connections_per_peer",
        &mut server.max_connections_per_peer,
        server.max_connections,
    );
    fit(rules, "admission.max_waiting_per_caller", &mut of.max_waiting_per_caller, of.max_waiting);
    fit(
        rules,
        "admission.max_waiting_bytes_per_caller",
        &mut of.max_waiting_bytes_per_caller,
        of.max_waiting_bytes,
    );
    fit(rules, "replay.max_body", &mut replay.max_body, replay.max_total);
}
