//! What the parser takes, what it refuses, and what it says then.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::key::{Kind, Presence, Table};
use super::problem::Problems;
use super::quantity::Size;
use super::sources::{Nothing, Sources};
use super::*;

/// An environment and files of a test's own.
#[derive(Default)]
struct Fake {
    variables: BTreeMap<String, String>,
    files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Fake {
    fn set(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    fn file(mut self, path: &str, content: &[u8]) -> Self {
        self.files.insert(path.into(), content.to_vec());
        self
    }
}

impl Sources for Fake {
    fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }

    fn overrides(&self) -> Vec<(String, String)> {
        self.variables.clone().into_iter().filter(|(name, _)| name.starts_with("WEIR_")).collect()
    }

    fn file(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.files.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

fn read(text: &str, sources: &dyn Sources) -> Result<Config, Problems> {
    parse("weir.toml", text, &[], sources)
}

/// The messages about a text, without an environment.
fn complaints(text: &str) -> Vec<String> {
    match read(text, &Fake::default()) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.to_string().lines().map(str::to_owned).collect(),
    }
}

#[test]
fn nothing_written_gives_the_defaults() {
    let config = Config::default();
    assert_eq!(config.server.listen, SocketAddr::from(([127, 0, 0, 1], 8080)));
    assert_eq!(config.upstream.url.to_string(), "https://api.openai.com");
    assert_eq!(config.upstream.response_timeout, None);
    assert_eq!(config.retry.base, Duration::from_millis(500));
    assert_eq!(config.replay.max_body, Size(8 << 20));
    assert_eq!(config.limits.requests_per_minute, None);
    assert!(config.callers.is_empty());
    assert!(config.serves_unknown_callers());
}

#[test]
fn the_reference_is_the_table_of_keys_and_changes_nothing() {
    let reference = include_str!("../../config/reference.toml");
    assert_eq!(reference, render::reference(), "run: weir schema --reference > config/reference.toml");
    assert_eq!(read(reference, &Nothing).unwrap(), Config::default());
}

#[test]
fn the_reference_s_examples_are_valid_too() {
    let reference = include_str!("../../config/reference.toml");
    let is_setting = |line: &str| line.starts_with('[') || line.split(' ').nth(1) == Some("=");
    let text: String = reference
        .lines()
        .map(|line| line.strip_prefix("# ").filter(|line| is_setting(line)).unwrap_or(line))
        .flat_map(|line| [line, "\n"])
        .collect();
    let problems = read(&text, &Nothing).expect_err("a caller can't be known by a name in a certificate yet");
    let keys: Vec<&str> = problems.list.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["server.tls.client_ca", "callers[0].san"], "{problems}");
    count(&Config::TABLE, &mut |path, key| {
        let name = format!("{} = ", key.name);
        let written = text.lines().any(|line| line.starts_with(&name));
        assert!(written || key.kind.table().is_some(), "{path}");
    });
}

/// Calls with every key and its path.
fn count(table: &Table, visit: &mut impl FnMut(&str, &key::Key)) {
    fn walk(path: &str, table: &Table, visit: &mut impl FnMut(&str, &key::Key)) {
        for key in table.keys {
            let path = if path.is_empty() { key.name.to_owned() } else { format!("{path}.{}", key.name) };
            visit(&path, key);
            if let Some(inner) = key.kind.table() {
                walk(&path, inner, visit);
            }
        }
    }
    walk("", table, visit);
}

#[test]
fn each_key_has_a_doc_and_each_default_is_in_range() {
    let mut keys = 0;
    count(&Config::TABLE, &mut |path, key| {
        keys += 1;
        assert!(!key.doc.is_empty(), "{path} has no doc");
        let number = matches!(key.kind, Kind::Integer | Kind::Ratio | Kind::Duration | Kind::Size);
        assert!(!number || key.range.is_some(), "{path} has no range");
        let required = matches!(key.presence, Presence::Required(_));
        assert!(!required || path.starts_with("callers") || path.starts_with("limits.families"), "{path}");
    });
    assert!(keys > 120, "{keys}");
    // A default out of its range, written down, is a problem.
    assert_eq!(read(&render::redacted(&Config::default()), &Nothing).unwrap(), Config::default());
}

#[test]
fn an_unknown_key_is_an_error_with_the_nearest_name() {
    assert_eq!(
        complaints("[server]\nlisten = \"127.0.0.1:1\"\nworker = 2\n[serever]\nx = 1\n"),
        [
            "weir.toml:3:10: server.worker: no such key \"worker\"; did you mean \"workers\"?",
            "weir.toml:4:2: serever: no such key \"serever\"; did you mean \"server\"?",
        ]
    );
}
