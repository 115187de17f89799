//! House rules that the compiler does not check: the order of modules, file sizes, skipped tests,
//! wording.

use std::fs;
use std::path::{Path, PathBuf};

/// The maximum lines of code in a file, without comments and tests.
const MOST_LINES: usize = 400;

fn sources() -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("src is readable") {
            let path = entry.expect("src is readable").path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    found.sort();
    assert!(found.len() > 5, "the walk finds the house");
    found
}

/// The modules in the order of `lib.rs`.
fn modules() -> Vec<String> {
    let lib = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).expect("lib.rs");
    lib.lines()
        .filter_map(|line| line.strip_prefix("pub mod ").or_else(|| line.strip_prefix("mod ")))
        .filter_map(|line| line.strip_suffix(';'))
        .map(str::to_owned)
        .collect()
}

/// The module that a source file is part of: `src/admission/queue.rs` is part of `admission`.
fn module_of(path: &Path) -> String {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let inside = path.strip_prefix(src).expect("below src");
    let first = inside.components().next().expect("a name").as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

/// The part of a file before its tests.
fn code_of(text: &str) -> &str {
    text.find("\n#[cfg(test)]\nmod tests").map_or(text, |at| &text[..at])
}

/// The modules named after `crate::` in a file, grouped imports included.
fn imported(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let line_start = code[..at].rfind('\n').map_or(0, |newline| newline + 1);
        if code[line_start..at].trim_start().starts_with("//") {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut item = String::new();
            for character in group.chars() {
                match character {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => found.push(std::mem::take(&mut item)),
                    other if depth == 0 => item.push(other),
                    _ => {}
                }
            }
            found.push(item);
        } else {
            found.push(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    found
        .into_iter()
        .map(|item| item.trim().split("::").next().unwrap_or_default().trim().to_owned())
        .filter(|item| !item.is_empty())
        .collect()
}

#[test]
fn a_module_imports_only_modules_declared_below_it() {
    let modules = modules();
    let place = |module: &str| modules.iter().position(|other| other == module);
    let mut wrong = Vec::new();
    for path in sources() {
        let module = module_of(&path);
        let Some(own) = place(&module) else {
            assert!(matches!(module.as_str(), "lib" | "main"), "{module} is not declared in lib.rs");
            continue;
        };
        let text = fs::read_to_string(&path).expect("source is readable");
        for other in imported(code_of(&text)) {
            match place(&other) {
                Some(there) if there < own => {
                    wrong
                        .push(format!("{}: {module} imports {other}, which stands above it", path.display()));
                }
                Some(_) | None => {}
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_import_reader_sees_groups_and_skips_comments() {
    let code =
        "use crate::{clock, openai::{sse, Endpoint}};\n// crate::proxy\nlet x = crate::admission::Scope;\n";
    assert_eq!(imported(code), ["clock", "openai", "admission"]);
}

#[test]
fn files_stay_small_enough_to_have_one_purpose() {
    let mut long = Vec::new();
    for path in sources() {
        if path.file_name().is_some_and(|name| name == "tests.rs") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("source is readable");
        let lines = code_of(&text)
            .lines()
            .filter(|line| !line.trim_start().starts_with("//") && !line.trim().is_empty())
            .count();
        if lines > MOST_LINES {
            long.push(format!("{}: {lines} lines", path.display()));
        }
    }
    assert!(long.is_empty(), "split these:\n{}", long.join("\n"));
}

/// A series that no code raises would stay at 0 forever.
#[test]
fn each_value_of_a_metrics_label_is_set_somewhere() {
    let labels = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/metrics/labels.rs");
    let defined = fs::read_to_string(&labels).expect("the labels");
    let read = |path: &PathBuf| fs::read_to_string(path).expect("source is readable");
    let code: String = sources()
        .iter()
        .filter(|path| **path != labels)
        .map(|path| code_of(&read(path)).to_owned())
        .collect();
    let (mut label, mut values, mut set) = ("", Vec::new(), Vec::new());
    for line in defined.lines() {
        if let Some(name) = line.strip_prefix("impl ").or_else(|| line.strip_prefix("    "))
            && let Some(name) = name.strip_suffix(" {")
            && name.chars().all(char::is_alphanumeric)
        {
            label = name;
        } else if let Some((value, _)) = line.trim().split_once(" = \"") {
            values.push(format!("{label}::{value}"));
        }
        // Labels that are derived from another type, such as a class.
        set.extend(line.split("Self::").skip(1).map(|rest| {
            let value: String = rest.chars().take_while(|character| character.is_alphanumeric()).collect();
            format!("{label}::{value}")
        }));
    }
    assert!(values.len() > 100, "the labels are found");
    let dead: Vec<_> = values.iter().filter(|value| !set.contains(value) && !code.contains(*value)).collect();
    assert!(dead.is_empty(), "nothing sets these: {dead:?}");
}

#[test]
fn no_test_is_skipped_and_no_name_is_vague() {
    for path in sources() {
        let text = fs::read_to_string(&path).expect("source is readable");
        assert!(!text.contains(concat!("#[", "ignore")), "{}: a skipped test", path.display());
        let stem = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let vague = ["utils", "util", "common", "helpers", "helper", "manager", "types", "handler"];
        assert!(!vague.contains(&stem.as_str()), "{}: name it by its purpose", path.display());
    }
}

/// The checked texts: code, tests, documentation, configuration and deployment, without this file.
fn texts() -> Vec<PathBuf> {
    fn walk(path: &Path, found: &mut Vec<PathBuf>) {
        if path.is_dir() {
            for entry in fs::read_dir(path).expect("a folder of the project is readable") {
                walk(&entry.expect("a folder of the project is readable").path(), found);
            }
        } else if path.extension().is_some_and(|extension| {
            ["rs", "md", "py", "mjs", "toml", "yaml", "yml", "txt", "json", "service", "tpl"]
                .iter()
                .any(|known| extension == *known)
        }) {
            found.push(path.to_owned());
        }
    }
    let mut found = Vec::new();
    for top in [
        "src",
        "tests",
        "benches",
        "docs",
        "config",
        "deploy",
        "examples",
        "README.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
    ] {
        walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join(top), &mut found);
    }
    // Skip build output, and this file, which contains the banned phrases.
    found.retain(|path| {
        !path.components().any(|part| {
            ["target", "node_modules", "__pycache__", ".venv"].iter().any(|other| part.as_os_str() == *other)
        }) && path.file_name().is_none_or(|name| name != "tidy.rs")
    });
    assert!(found.len() > 300, "the walk finds the texts");
    found
}

#[test]
fn no_text_uses_a_banned_phrase_or_british_spelling() {
    const BANNED: [&str; 20] = [
        " rooms",
        "so many",
        "so long ",
        "has room for",
        "have room for",
        "hears of",
        "hear of",
        "lets go of",
        "let go of",
        "colour",
        "behaviour",
        "favour",
        "honour",
        "neighbour",
        "centre",
        "recognise",
        "serialise",
        "initialise",
        "optimise",
        "summarise",
    ];
    let mut wrong = Vec::new();
    for path in texts() {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for (number, line) in text.lines().enumerate() {
            let lower = line.to_lowercase();
            for phrase in BANNED.iter().filter(|phrase| lower.contains(**phrase)) {
                wrong.push(format!("{}:{}: {phrase:?}", path.display(), number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "say it in plain American English:\n{}", wrong.join("\n"));
}

/// The maximum width of a comment, in columns.
const MOST_COLUMNS: usize = 100;

#[test]
fn comments_are_no_wider_than_a_hundred_columns() {
    let mut wrong = Vec::new();
    for path in texts().into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
    {
        let text = fs::read_to_string(&path).expect("source is readable");
        for (number, line) in text.lines().enumerate() {
            let comment = line.trim_start();
            // A table's row and a link can't be broken.
            let whole = comment.contains("| ") || comment.contains("://");
            if comment.starts_with("//") && !whole && line.chars().count() > MOST_COLUMNS {
                wrong.push(format!("{}:{}", path.display(), number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "break these comments:\n{}", wrong.join("\n"));
}
