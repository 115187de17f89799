//! Tests that keys, defaults, variables, options, metrics, labels, classes, alerts and commands in
//! the documents, the shipped files and the alerts exist in the program.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use serde_json::Value;
use weir::internals::classify::ErrorClass;
use weir::internals::cli::arguments::Arguments;
use weir::internals::config::{self, json_schema, sources::Nothing};
use weir::internals::metrics::{FAMILIES, Kind};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(root().join(&path))
        .unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()))
}

/// README.md, CHANGELOG.md and every page of docs, by name.
fn pages() -> Vec<(String, String)> {
    let mut names = vec!["README.md".to_owned(), "CHANGELOG.md".to_owned()];
    names.extend(
        files("docs")
            .into_iter()
            .map(|(name, _)| name)
            .filter(|name| Path::new(name).extension().is_some_and(|end| end == "md")),
    );
    names.sort();
    assert!(names.len() > 5, "{names:?}");
    names.into_iter().map(|name| (name.clone(), read(&name))).collect()
}

/// Every text file below a folder.
fn files(folder: &str) -> Vec<(String, String)> {
    let (mut found, mut left) = (Vec::new(), vec![root().join(folder)]);
    while let Some(at) = left.pop() {
        for entry in fs::read_dir(&at).expect("the folder is readable").flatten() {
            let path = entry.path();
            if path.is_dir() {
                left.push(path);
            } else if let Ok(text) = fs::read_to_string(&path) {
                found.push((path.strip_prefix(root()).expect("below").display().to_string(), text));
            }
        }
    }
    assert!(!found.is_empty(), "{folder}");
    found
}

/// The text between backticks on one line, outside of code blocks.
fn spans(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut in_block = false;
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if !in_block {
            found.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    found
}

/// The code blocks in this language.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let mut found = Vec::new();
    for block in page.split("```").skip(1).step_by(2) {
        if let Some(text) = block.strip_prefix(language).and_then(|text| text.strip_prefix('\n')) {
            found.push(text.to_owned());
        }
    }
    found
}

/// The schema of a key with its section, if it exists.
fn key(schema: &Value, path: &str) -> Option<Value> {
    path.split('.').try_fold(schema.clone(), |at, step| {
        let at = if at["items"].is_object() { at["items"].clone() } else { at };
        let found = at["properties"][step].clone();
        found.is_object().then_some(found)
    })
}

/// Whether a text looks like a key, such as `server.tls.cert`: lower-case words separated by dots,
/// the first of which is a section.
fn looks_like_a_key<'a>(schema: &Value, span: &'a str) -> Option<&'a str> {
    let path = span.split([' ', '=']).next()?;
    let words = |path: &str| {
        path.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'_' | b'.' | b'0'..=b'9'))
    };
    let (section, rest) = path.split_once('.')?;
    let file = ["rs", "md", "toml", "json", "py", "yaml", "yml"]
        .iter()
        .any(|end| path.ends_with(&format!(".{end}")));
    (words(path) && !rest.is_empty() && !file && schema["properties"][section].is_object()).then_some(path)
}

#[test]
fn every_key_that_a_page_names_exists() {
    let schema = json_schema::schema();
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for (name, page) in pages() {
        for span in spans(&page) {
            if let Some(path) = looks_like_a_key(&schema, &span) {
                seen += 1;
                if path.ends_with('.') || path.ends_with(".*") || key(&schema, path).is_none() {
                    wrong.push(format!("{name}: {path}"));
                }
            }
        }
    }
    assert!(seen > 60, "{seen}");
    assert!(wrong.is_empty(), "no such keys:\n{}", wrong.join("\n"));
}

/// Parses a duration such as `300 s`, `5m` or `500ms` to seconds.
fn seconds(text: &str) -> Option<f64> {
    let text = text.replace(' ', "");
    let at = text.find(|part: char| !part.is_ascii_digit() && part != '.')?;
    let figure: f64 = text[..at].parse().ok()?;
    let unit = match &text[at..] {
        "ms" => 0.001,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3_600.0,
        "d" => 86_400.0,
        _ => return None,
    };
    Some(figure * unit)
}

/// `` `stream.hold` (1 s) `` in a page states a default.
#[test]
fn every_default_that_a_page_tells_is_the_key_s() {
    let schema = json_schema::schema();
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for (name, page) in pages() {
        let page = page.replace('\n', " ");
        for (at, _) in page.match_indices("` (") {
            let Some(path) = page[..at].rsplit('`').next().and_then(|span| looks_like_a_key(&schema, span))
            else {
                continue;
            };
            let told = page[at + 3..].split([')', ';']).next().unwrap_or_default();
            let told = told.split(", ").next().unwrap_or_default();
            let told = told.trim_end_matches(" by default").trim();
            let default = key(&schema, path).map(|key| key["default"].clone()).unwrap_or_default();
            let default = default.as_str().map_or_else(|| default.to_string(), str::to_owned);
            let same = match (seconds(told), told.replace(',', "").parse::<f64>()) {
                (Some(told), _) => seconds(&default) == Some(told),
                (None, Ok(told)) => default.parse() == Ok(told),
                (None, Err(_)) => continue,
            };
            seen += 1;
            if !same {
                wrong.push(format!("{name}: {path} is {default}, not {told}"));
            }
        }
    }
    assert!(seen >= 4, "{seen}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Names of this form in a text, such as `WEIR_SERVER__LISTEN`.
fn words<'a>(text: &'a str, prefix: &str) -> BTreeSet<&'a str> {
    let is_part = |part: char| part.is_ascii_alphanumeric() || part == '_';
    text.split(|part: char| !is_part(part)).filter(|word| word.starts_with(prefix)).collect()
}

#[test]
fn every_variable_of_the_pages_and_shipped_files_is_a_key() {
    let schema = json_schema::schema();
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for (name, text) in pages().into_iter().chain(files("deploy")).chain(files("config")) {
        for word in
            words(&text, "WEIR_").into_iter().filter(|word| word.contains("__") && !word.ends_with("__"))
        {
            let path = word["WEIR_".len()..].to_ascii_lowercase().replace("__", ".");
            if path == "section.key" {
                continue;
            }
            seen += 1;
            if key(&schema, &path).is_none() {
                wrong.push(format!("{name}: {word}"));
            }
        }
    }
    assert!(seen > 10, "{seen}");
    assert!(wrong.is_empty(), "no such keys:\n{}", wrong.join("\n"));
}

#[test]
fn every_configuration_in_a_page_is_valid() {
    let mut seen = 0;
    for (name, page) in pages() {
        for block in blocks(&page, "toml") {
            // A page may also contain another program's file.
            if name.starts_with("docs/adopt/") && block.contains("model_provider") {
                continue;
            }
            seen += 1;
            if let Err(problems) = config::parse(&name, &block, &[], &Nothing) {
                panic!("{problems}\n{block}");
            }
        }
    }
    assert!(seen > 0);
}

/// Commands and options in spans, and in blocks that a shell reads.
#[test]
fn every_command_and_option_exists() {
    let mut command = Arguments::command();
    command.build();
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for (name, page) in pages() {
        let shell =
            blocks(&page, "sh").into_iter().chain(blocks(&page, "console")).collect::<Vec<_>>().join("\n");
        let lines = shell.lines().map(|line| line.trim_start_matches("$ ").to_owned());
        let lines = lines
            .chain(spans(&page))
            .flat_map(|line| line.split('|').map(|part| part.trim().to_owned()).collect::<Vec<_>>());
        for line in lines {
            let line = line.split(" #").next().unwrap_or_default();
            let mut parts = line.split_whitespace().skip_while(|part| part.contains('='));
            if parts.next() != Some("weir") {
                continue;
            }
            let parts: Vec<&str> = parts.collect();
            let named = parts
                .first()
                .filter(|part| part.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'));
            let inner = match named.filter(|part| !part.starts_with('-')) {
                Some(part) => {
                    let Some(inner) = command.find_subcommand(part) else {
                        wrong.push(format!("{name}: weir {part}"));
                        continue;
                    };
                    inner
                }
                None => &command,
            };
            seen += 1;
            let longs: BTreeSet<&str> = inner.get_arguments().filter_map(clap::Arg::get_long).collect();
            for option in parts.iter().filter_map(|part| part.strip_prefix("--")) {
                let option = option.split('=').next().unwrap_or_default();
                if !longs.contains(option) && !["help", "version"].contains(&option) {
                    wrong.push(format!("{name}: {line}: --{option}"));
                }
            }
        }
    }
    assert!(seen > 20, "{seen}");
    assert!(wrong.is_empty(), "no such commands or options:\n{}", wrong.join("\n"));
}

/// Names of series as Prometheus has them.
fn series() -> BTreeSet<String> {
    let histogram = |family: &&weir::internals::metrics::Family| matches!(family.kind, Kind::Histogram(_));
    let parts = FAMILIES
        .iter()
        .filter(histogram)
        .flat_map(|family| ["_bucket", "_sum", "_count"].map(|part| format!("{}{part}", family.name)));
    FAMILIES.iter().map(|family| family.name.to_owned()).chain(parts).collect()
}

#[test]
fn every_metric_class_and_alert_that_a_page_names_exists() {
    let series = series();
    let rules = read("deploy/prometheus/rules/weir.rules.yml");
    let alerts: BTreeSet<&str> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 30, "{alerts:?}");
    let mut wrong = Vec::new();
    for (name, page) in pages() {
        for span in spans(&page) {
            let word = span
                .split(|part: char| !part.is_ascii_alphanumeric() && part != '_')
                .next()
                .unwrap_or_default();
            let ends = word.ends_with('_') || span[word.len()..].starts_with('*');
            if word.starts_with("weir_")
                && !ends
                && !series.contains(word)
                && ErrorClass::named(word).is_none()
                && word != "weir_error"
            {
                wrong.push(format!("{name}: {word}"));
            }
            if word.len() > 4 && word.starts_with("Weir") && word == span && !alerts.contains(word) {
                wrong.push(format!("{name}: the alert {word}"));
            }
        }
    }
    assert!(wrong.is_empty(), "not there:\n{}", wrong.join("\n"));
}

/// `class="..."` and `class=~"...|..."` in pages, rules and dashboard match a class.
#[test]
fn every_class_that_a_query_selects_exists() {
    let (mut wrong, mut seen) = (BTreeSet::new(), 0);
    for (name, text) in pages().into_iter().chain(files("deploy")) {
        for (at, _) in text.match_indices("class=") {
            let rest = text[at + "class=".len()..].trim_start_matches(['~', '\\']);
            let Some(selected) = rest.strip_prefix('"').and_then(|rest| rest.split(['"', '\\']).next())
            else {
                continue;
            };
            for one in selected.split('|').filter(|one| {
                !one.is_empty() && !one.contains(['$', '{', '.'].as_slice()) || one.ends_with(".+")
            }) {
                seen += 1;
                let known = match one.strip_suffix(".+") {
                    Some(start) => ErrorClass::ALL.iter().any(|class| class.as_str().starts_with(start)),
                    None => ErrorClass::named(one).is_some(),
                };
                if !known {
                    wrong.insert(format!("{name}: {one}"));
                }
            }
        }
    }
    assert!(seen > 100, "{seen}");
    assert!(wrong.is_empty(), "no such classes: {wrong:#?}");
}

/// docs/metrics.md has a row for each family, with its kind and its labels.
#[test]
fn every_family_s_row_has_its_type_and_labels() {
    let page = read("docs/metrics.md");
    for family in FAMILIES {
        let row = page.lines().find(|line| line.starts_with(&format!("| `{}`", family.name)));
        let row = row.unwrap_or_else(|| panic!("docs/metrics.md has no row for {}", family.name));
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let kind = match family.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
        };
        assert_eq!(cells[2], kind, "{row}");
        let labels: BTreeSet<&str> = cells[3].split('`').skip(1).step_by(2).collect();
        assert_eq!(labels, family.labels.iter().copied().collect(), "{row}");
    }
}

/// Tests the parsers of this file.
#[test]
fn the_readers_read() {
    let page = "a `server.listen` b\n```toml\n[server]\n```\nand `weir check FILE`\n```sh\nweir &\n```\n";
    assert_eq!(spans(page), ["server.listen", "weir check FILE"]);
    assert_eq!(blocks(page, "toml"), ["[server]\n"]);
    let schema = json_schema::schema();
    assert!(key(&schema, "callers.max_waiting").is_some() && key(&schema, "server.bogus").is_none());
    assert_eq!(looks_like_a_key(&schema, "admission.estimate"), Some("admission.estimate"));
    assert_eq!(looks_like_a_key(&schema, "server.rs"), None);
    assert_eq!(
        (seconds("300 s"), seconds("5m"), seconds("500ms"), seconds("3")),
        (Some(300.0), Some(300.0), Some(0.5), None)
    );
}
