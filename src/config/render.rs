//! Renders a configuration as text: the one in force for `/config`, and the reference of all keys.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::Config;
use super::key::{Key, Presence, Table};
use super::tree::joined;
use super::value::Value;
use crate::wrap::wrapped;

/// The most columns of a line of the reference.
const WIDTH: usize = 118;

/// The configuration as TOML that is safe to show: each secret appears as `env:NAME` or
/// `file:PATH`.
///
/// Parsing the text gives the same configuration.
pub fn redacted(config: &Config) -> String {
    in_force(config, &[])
}

/// A setting that was changed, but takes effect only after a restart. Values are formatted as in
/// the file; `None` for an unset one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The key with its section.
    pub key: String,
    /// The value in force.
    pub now: Option<String>,
    /// The value after the restart.
    pub then: Option<String>,
}

/// Like [`redacted`], for a configuration that was read while another was in force. A setting in
/// `waiting` has its value in force, and a comment gives the value after the restart.
pub fn in_force(config: &Config, waiting: &[Waiting]) -> String {
    let mut text = String::new();
    if let Some(toml::Value::Table(values)) = config.show() {
        section("", &Config::TABLE, &values, waiting, &mut text);
    }
    text
}

/// The value of every set key, by its path, formatted as in the file; a secret is its reference.
/// Lists of tables are omitted.
pub fn settings(config: &Config) -> BTreeMap<String, String> {
    fn gather(path: &str, value: &toml::Value, found: &mut BTreeMap<String, String>) {
        if is_plain(value) {
            found.insert(path.to_owned(), value.to_string());
        }
        for (name, value) in value.as_table().into_iter().flatten() {
            gather(&joined(path, name), value, found);
        }
    }
    let mut found = BTreeMap::new();
    if let Some(values) = config.show() {
        gather("", &values, &mut found);
    }
    found
}

/// The text of `config/reference.toml`: every key with its description, kind, default and range.
pub fn reference() -> String {
    // Editors find the schema by this line.
    let mut text = String::from("#:schema weir.schema.json\n");
    comment(Config::TABLE.doc, &mut text);
    text.push_str(
        "#\n# This file lists every key with its default; as it is, it changes nothing. Keys without a default are commented\n\
         # out and show an example. Any key can come from the environment as WEIR_SECTION__KEY (WEIR_UPSTREAM__TLS__ROOTS).\n\
         # Durations are written \"250ms\", \"1.5s\", \"5m\"; sizes \"64KiB\", \"8MiB\". Secrets are only written as \"env:NAME\" or\n\
         # \"file:PATH\". It is generated: weir schema --reference > config/reference.toml\n\n",
    );
    table("", &Config::TABLE, "", &mut text);
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

fn section(path: &str, of: &Table, values: &toml::Table, waiting: &[Waiting], text: &mut String) {
    for Key { name, .. } in of.keys {
        let waits = waiting.iter().find(|waiting| match waiting.key.rsplit_once('.') {
            Some((section, key)) => section == path && key == *name,
            None => path.is_empty() && waiting.key == *name,
        });
        if let Some(Waiting { now, then, .. }) = waits {
            let then = then.as_deref().unwrap_or("not set");
            let _infallible = match now {
                Some(now) => writeln!(text, "{name} = {now} # after a restart: {then}"),
                None => writeln!(text, "# {name} is not set; after a restart: {then}"),
            };
        } else if let Some(value) = values.get(*name).filter(|value| is_plain(value)) {
            let _infallible = writeln!(text, "{name} = {value}");
        }
    }
    for Key { name, kind, .. } in of.keys {
        let (Some(of), Some(value)) = (kind.table(), values.get(*name)) else { continue };
        let inner = joined(path, name);
        if let Some(values) = value.as_table() {
            let _infallible = writeln!(text, "\n[{inner}]");
            section(&inner, of, values, waiting, text);
        }
        for values in value.as_array().into_iter().flatten().filter_map(toml::Value::as_table) {
            let _infallible = writeln!(text, "\n[[{inner}]]");
            section(&inner, of, values, waiting, text);
        }
    }
}

/// Whether a value fits on its key's line; sections and lists of them do not.
fn is_plain(value: &toml::Value) -> bool {
    !value.is_table() && value.as_array().is_none_or(|values| !values.iter().any(toml::Value::is_table))
}

/// One section of the reference. `off` is `"# "` inside a section that is commented out.
fn table(path: &str, table_: &Table, off: &str, text: &mut String) {
    let (sections, plain): (Vec<&Key>, Vec<&Key>) =
        table_.keys.iter().partition(|key| key.kind.table().is_some());
    for key in plain {
        comment(key.doc, text);
        comment(&[facts(key).as_str()], text);
        let off = if matches!(key.presence, Presence::Unset(_)) { "# " } else { off };
        let _infallible = writeln!(text, "{off}{} = {}\n", key.name, key.presence.sample());
    }
    for key in sections {
        let Some(inner_table) = key.kind.table() else { continue };
        let inner = joined(path, key.name);
        comment(key.doc, text);
        let list = matches!(key.kind, super::key::Kind::List(_));
        let off = if list || matches!(key.presence, Presence::Unset(_)) { "# " } else { off };
        let header = if list { format!("[[{inner}]]") } else { format!("[{inner}]") };
        let _infallible = writeln!(text, "{off}{header}\n");
        table(&inner, inner_table, off, text);
    }
}

/// The accepted values of a key, in one sentence.
fn facts(key: &Key) -> String {
    let mut facts = format!("Takes {}", key.kind.describe());
    if let Some((least, greatest)) = key.range {
        let _infallible = write!(facts, "; from {least} to {greatest}");
    }
    facts.push_str(match key.presence {
        Presence::Default(_) => "; the default is",
        Presence::Unset(_) => "; there is no default; for example",
        Presence::Required(_) => "; it must be written; for example",
    });
    facts.push(':');
    facts
}

/// Writes comment lines, wrapped.
fn comment(lines: &[&str], text: &mut String) {
    if !lines.is_empty() {
        text.push_str(&wrapped(&lines.join(" "), WIDTH, "# "));
        text.push('\n');
    }
}
