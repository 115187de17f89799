//! Settings from the environment and the command line, which override the file's.

use std::borrow::Cow;

use toml::Spanned;
use toml::de::DeValue;

use super::changes::renamed;
use super::key::{Kind, Table};
use super::problem::{Origin, nearest, quoted};
use super::read::Reader;
use super::tree::{Node, joined};
use super::{Config, Override};

/// Applies every `WEIR_SECTION__KEY` variable over the file.
///
/// A name without `__` is a key of the top level, if one has it. Other variables are ignored:
/// Kubernetes itself sets `WEIR_SERVICE_HOST` and `WEIR_PORT` for a service called `weir`.
pub(crate) fn apply<'t>(variables: &'t [(String, String)], root: &mut DeValue<'t>, reader: &mut Reader<'_>) {
    for (name, value) in variables {
        let origin = Origin::Environment(name.clone());
        let is_key = |rest: &&str| *rest != "CONFIG" && !rest.contains('.');
        let Some(rest) = name.strip_prefix("WEIR_").filter(is_key) else { continue };
        let path = rest.to_ascii_lowercase().replace("__", ".");
        if let Some(change) = renamed(reader.changes, &path) {
            // A former name: setting both names is reported.
            if let Ok(kind) = find(change.key) {
                reader.put(root, &path, read(value.trim(), kind), origin);
            }
            continue;
        }
        let top_level = !path.contains('.');
        match find(&path) {
            Ok(kind) if !(top_level && matches!(kind, Kind::Table(_))) => {
                reader.put(root, &path, read(value.trim(), kind), origin);
            }
            Err(advice) if !top_level => {
                reader.problem_in_environment(name.clone(), format!("no such key: {advice}"));
            }
            Ok(_) | Err(_) => {}
        }
    }
}

/// Reports each variable that is almost the name of a key that is not set elsewhere: with one
/// underscore instead of two, in lower case, or named after an option. Without the report Weir
/// would ignore it, and use the public API.
///
/// A variable that a secret refers to may have any name.
pub(crate) fn near_misses(variables: &[(String, String)], root: &Node<'_>, reader: &mut Reader<'_>) {
    for (name, value) in variables {
        let capitals = name.to_ascii_uppercase();
        let Some(rest) = capitals.strip_prefix("WEIR_").map(str::to_ascii_lowercase) else { continue };
        let path = rest.replace("__", ".");
        let meant = if path.contains('.') {
            find(&path).ok().filter(|_| *name != capitals).map(|kind| (path, kind))
        } else {
            single_underscore(&path, value)
        };
        let Some((path, kind)) = meant else { continue };
        if matches!(kind, Kind::Secret | Kind::OrWord(_, Kind::Secret)) || root.find(&path).is_some() {
            continue;
        }
        let message = format!("Weir reads no variable of this name; did you mean {}?", variable(&path));
        reader.problem_in_environment(name.clone(), message);
    }
}

/// The key that a name without a double underscore was probably meant for: that of an option, or a
/// section and a key.
fn single_underscore(name: &str, value: &str) -> Option<(String, Kind)> {
    let option = match name {
        "upstream" | "url" | "base_url" => Some("upstream.url"),
        "listen" => Some("server.listen"),
        "admin" => Some("admin.listen"),
        // Kubernetes sets it to a URL for a service of this name.
        "port" if value.trim().parse::<u16>().is_ok() => Some("server.listen"),
        _ => None,
    };
    let sections = name.match_indices('_').map(|(at, _)| format!("{}.{}", &name[..at], &name[at + 1..]));
    option.map(str::to_owned).into_iter().chain(sections).find_map(|path| {
        let kind = find(&path).ok().filter(|kind| !matches!(kind, Kind::Table(_)))?;
        Some((path, kind))
    })
}

/// Sets one key from the command line. Does nothing for an unknown key.
pub(crate) fn set<'t>(root: &mut DeValue<'t>, setting: &'t Override, reader: &mut Reader<'_>) {
    if let Ok(kind) = find(setting.key) {
        reader.put(root, setting.key, read(setting.value.trim(), kind), Origin::Option(setting.option));
    }
}

/// The name of a key's environment variable.
fn variable(path: &str) -> String {
    format!("WEIR_{}", path.replace('.', "__").to_uppercase())
}

/// The kind of the key at a path; the error suggests a similar name.
fn find(path: &str) -> Result<Kind, String> {
    find_in(&Config::TABLE, "", path)
}

fn find_in(table: &Table, section: &str, path: &str) -> Result<Kind, String> {
    let (name, rest) = path.split_once('.').map_or((path, None), |(name, rest)| (name, Some(rest)));
    let Some(key) = table.keys.iter().find(|key| key.name == name) else {
        let Some(near) = nearest(name, table.keys.iter().map(|key| key.name)) else {
            let within = if section.is_empty() { String::new() } else { format!(" in [{section}]") };
            return Err(format!(
                "there is no {}{within}; config/reference.toml lists all keys",
                quoted(name)
            ));
        };
        let near = joined(section, near);
        return Err(format!(
            "did you mean {}?",
            variable(&rest.map_or(near.clone(), |rest| joined(&near, rest)))
        ));
    };
    match (rest, key.kind) {
        (None, kind) => Ok(kind),
        (Some(rest), Kind::Table(inner)) => find_in(inner, &joined(section, name), rest),
        (Some(_), _) => Err(format!("\"{}\" has no keys of its own", joined(section, name))),
    }
}

/// Numbers, lists and tables are written as in TOML; a list of plain values may be separated by
/// commas alone.
fn read(text: &str, kind: Kind) -> Spanned<DeValue<'_>> {
    let plain = |text| Spanned::new(0..0, DeValue::String(Cow::Borrowed(text)));
    let parsed = || DeValue::parse(text).unwrap_or_else(|_| plain(text));
    match kind {
        Kind::OrWord(word, inner) if text != word => read(text, *inner),
        Kind::List(inner) if !text.starts_with('[') && inner.table().is_none() => {
            let elements = text.split(',').map(str::trim).filter(|element| !element.is_empty());
            Spanned::new(0..0, DeValue::Array(elements.map(plain).collect()))
        }
        Kind::Boolean | Kind::Integer | Kind::Ratio | Kind::List(_) | Kind::Table(_) => parsed(),
        Kind::Duration
        | Kind::Size
        | Kind::Text { .. }
        | Kind::Secret
        | Kind::Choice(_)
        | Kind::OrWord(..) => plain(text),
    }
}
