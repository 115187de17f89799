//! Settings from the environment and the command line, laid over the file's.

use super::Config;
use super::changes::renamed;
use super::key::{Kind, Table};
use super::problem::{Origin, nearest, quoted};
use super::read::Reader;
use super::tree::{Datum, Node, join};

/// Lays every `WEIR_SECTION__KEY` over the file.
///
/// A name without `__` is only a key of the top level. Others are left alone: Kubernetes itself
/// sets `WEIR_SERVICE_HOST` and `WEIR_PORT` for a service called `weir`.
pub(crate) fn apply(root: &mut Node, reader: &mut Reader<'_>) {
    for (name, value) in reader.sources.overrides() {
        let Some(rest) = name.strip_prefix("WEIR_").filter(|rest| *rest != "CONFIG") else { continue };
        let steps: Vec<String> = rest.split("__").map(str::to_ascii_lowercase).collect();
        let top_level = steps.len() == 1;
        if let Some(change) = renamed(reader.changes, &steps.join(".")) {
            // Under its former name: what is called by both is told of.
            if let Ok((_, kind)) = find(&change.key.split('.').map(str::to_owned).collect::<Vec<_>>()) {
                let origin = Origin::Environment(name);
                put(root, read(value.trim(), kind, &steps.join("."), &origin), reader);
            }
            continue;
        }
        match find(&steps) {
            Ok((path, kind)) if !(top_level && matches!(kind, Kind::Table(_))) => {
                set(root, &path, &value, &Origin::Environment(name), reader);
            }
            Err(advice) if !top_level => {
                reader.problem_in_environment(name, format!("no such key: {advice}"));
            }
            Ok(_) | Err(_) => {}
        }
    }
}

/// Reports each variable that is almost the name of a key which nothing else sets: with one
/// underscore for two, in small letters, or after an option. Weir would silently do without it, and
/// go to the public API.
///
/// A variable that a secret refers to may have any name.
pub(crate) fn near_misses(root: &Node, reader: &mut Reader<'_>) {
    for (name, value) in reader.sources.overrides() {
        let capitals = name.to_ascii_uppercase();
        let Some(rest) = capitals.strip_prefix("WEIR_").map(str::to_ascii_lowercase) else { continue };
        let steps: Vec<String> = rest.split("__").map(str::to_owned).collect();
        let meant = match steps.as_slice() {
            [] => None,
            [one] => single_underscore(one, &value),
            several => find(several).ok().filter(|_| name != capitals),
        };
        let Some((path, kind)) = meant else { continue };
        if matches!(kind, Kind::Secret | Kind::OrWord(_, Kind::Secret)) || root.find(&path).is_some() {
            continue;
        }
        let message = format!(
            "Weir reads no variable of this name; did you mean WEIR_{}?",
            path.replace('.', "__").to_uppercase()
        );
        reader.problem_in_environment(name, message);
    }
}

/// The key that a name without a double underscore was meant for: an option, or a section and a
/// key.
fn single_underscore(name: &str, value: &str) -> Option<(String, Kind)> {
    let steps = |path: &str| path.split('.').map(str::to_owned).collect::<Vec<_>>();
    match name {
        "upstream" | "url" | "base_url" => return find(&steps("upstream.url")).ok(),
        "listen" => return find(&steps("server.listen")).ok(),
        "admin" => return find(&steps("admin.listen")).ok(),
        // Kubernetes sets it to a URL for a service of this name.
        "port" if value.trim().parse::<u16>().is_ok() => return find(&steps("server.listen")).ok(),
        _ => {}
    }
    name.match_indices('_').find_map(|(at, _)| {
        let found = find(&[name[..at].to_owned(), name[at + 1..].to_owned()]);
        found.ok().filter(|(_, kind)| !matches!(kind, Kind::Table(_)))
    })
}

/// Sets one key from a text, which its kind tells how to read. Does nothing for a key that nobody
/// knows.
pub(crate) fn set(root: &mut Node, path: &str, text: &str, origin: &Origin, reader: &mut Reader<'_>) {
    let steps: Vec<String> = path.split('.').map(str::to_owned).collect();
    let Ok((path, kind)) = find(&steps) else { return };
    put(root, read(text.trim(), kind, &path, origin), reader);
}

/// Lays a node over the file, at its path.
pub(super) fn put(root: &mut Node, node: Node, reader: &mut Reader<'_>) {
    if let Err(node) = root.put(node) {
        reader.problem(&node, "its section is not a table in the file; write it as one");
    }
}

/// The key at these steps, or which name was perhaps meant.
fn find(steps: &[String]) -> Result<(String, Kind), String> {
    let mut table: &Table = &Config::TABLE;
    let mut path = String::new();
    for (index, step) in steps.iter().enumerate() {
        let Some(key) = table.keys.iter().find(|key| key.name == step) else {
            let Some(near) = nearest(step, table.keys.iter().map(|key| key.name)) else {
                return Err(format!(
                    "there is no {}{}; config/reference.toml lists all keys",
                    quoted(step),
                    within(&path)
                ));
            };
            join(&mut path, near);
            let rest = steps[index + 1..].iter().map(String::as_str);
            let names: Vec<String> = path.split('.').chain(rest).map(str::to_ascii_uppercase).collect();
            return Err(format!("did you mean WEIR_{}?", names.join("__")));
        };
        join(&mut path, key.name);
        if index + 1 == steps.len() {
            return Ok((path, key.kind));
        }
        let Kind::Table(inner) = key.kind else {
            return Err(format!("\"{path}\" has no keys of its own"));
        };
        table = inner;
    }
    Err("name a section and a key, as WEIR_SERVER__LISTEN".to_owned())
}

fn within(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!(" in [{path}]") }
}

/// Numbers, lists and tables are written as in TOML; a list of plain values may be separated by
/// commas alone.
fn read(text: &str, kind: Kind, path: &str, origin: &Origin) -> Node {
    let plain = || Node::text(text, path, origin);
    if let Kind::OrWord(word, inner) = kind
        && text != word
    {
        return read(text, *inner, path, origin);
    }
    if let Kind::List(inner) = kind
        && !text.starts_with('[')
        && inner.table().is_none()
    {
        let elements = text.split(',').map(str::trim).filter(|element| !element.is_empty());
        let nodes = elements
            .enumerate()
            .map(|(index, element)| Node::text(element, &format!("{path}[{index}]"), origin))
            .collect();
        return Node { path: path.to_owned(), origin: origin.clone(), datum: Datum::List(nodes) };
    }
    let is_toml =
        matches!(kind, Kind::Boolean | Kind::Integer | Kind::Ratio | Kind::List(_) | Kind::Table(_));
    is_toml.then(|| Node::parse_value(text, path, origin)).flatten().unwrap_or_else(plain)
}
