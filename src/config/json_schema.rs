//! The configuration's JSON Schema, for editors.

use serde_json::{Map, Value as Json, json};

use super::Config;
use super::key::{Key, Kind, Presence, Table};

/// The schema, in the draft that TOML editors support best.
pub fn schema() -> Json {
    let mut schema = table(&Config::TABLE);
    schema.insert("$schema".to_owned(), json!("http://json-schema.org/draft-07/schema#"));
    schema.insert("title".to_owned(), json!("Weir"));
    Json::Object(schema)
}

fn table(table: &Table) -> Map<String, Json> {
    let properties: Map<String, Json> =
        table.keys.iter().map(|key| (key.name.to_owned(), Json::Object(property(key)))).collect();
    let required: Vec<&str> = table
        .keys
        .iter()
        .filter(|key| matches!(key.presence, Presence::Required(_)))
        .map(|key| key.name)
        .collect();
    let mut schema = Map::new();
    schema.insert("type".to_owned(), json!("object"));
    schema.insert("description".to_owned(), json!(join(table.doc)));
    schema.insert("properties".to_owned(), Json::Object(properties));
    schema.insert("additionalProperties".to_owned(), json!(false));
    if !required.is_empty() {
        schema.insert("required".to_owned(), json!(required));
    }
    schema
}

fn property(key: &Key) -> Map<String, Json> {
    let mut schema = kind(key.kind);
    let mut doc = join(key.doc);
    if let Some((least, greatest)) = key.range {
        doc = format!("{doc} From {least} to {greatest}.");
        let (least, greatest) = (value(least), value(greatest));
        if matches!(key.kind, Kind::Integer) && least.is_number() {
            schema.insert("minimum".to_owned(), least);
            schema.insert("maximum".to_owned(), greatest);
        }
    }
    schema.insert("description".to_owned(), json!(doc));
    match key.presence {
        Presence::Default(text) => schema.insert("default".to_owned(), value(text)),
        Presence::Unset(text) | Presence::Required(text) => {
            schema.insert("examples".to_owned(), json!([value(text)]))
        }
    };
    schema
}

fn kind(kind_: Kind) -> Map<String, Json> {
    let schema = match kind_ {
        Kind::Boolean => json!({"type": "boolean"}),
        Kind::Integer => json!({"type": "integer"}),
        Kind::Ratio => json!({"anyOf": [{"type": "number"}, {"type": "string", "pattern": "^[0-9.]+ *%?$"}]}),
        Kind::Duration => {
            json!({"anyOf": [{"type": "string", "pattern": "^ *(0|([0-9]+(\\.[0-9]+)? *(us|µs|ms|s|m|min|h|d) *)+)$"}, {"const": 0}]})
        }
        Kind::Size => {
            json!({"anyOf": [{"type": "string", "pattern": "^ *[0-9]+(\\.[0-9]+)? *(B|KiB|MiB|GiB|TiB|kB|KB|MB|GB)? *$"}, {"type": "integer", "minimum": 0}]})
        }
        Kind::Secret => json!({"type": "string", "pattern": "^(env:[A-Za-z0-9_]+|file:.+|exchange:.+)$"}),
        Kind::Text { pattern: Some(pattern), .. } => json!({"type": "string", "pattern": pattern}),
        Kind::Text { pattern: None, .. } => json!({"type": "string", "minLength": 1}),
        // "file:PATH" stands for any path, so any text is allowed.
        Kind::Choice(words) if words().contains(&"file:PATH") => json!({"type": "string", "minLength": 1}),
        Kind::Choice(words) => json!({"enum": words()}),
        Kind::OrWord(word, inner) => json!({"anyOf": [{"const": word}, Json::Object(kind(*inner))]}),
        Kind::List(inner) => json!({"type": "array", "items": Json::Object(kind(*inner))}),
        Kind::Table(inner) => return table(inner),
    };
    if let Json::Object(schema) = schema { schema } else { Map::new() }
}

fn join(lines: &[&str]) -> String {
    lines.iter().flat_map(|line| line.split_whitespace()).collect::<Vec<_>>().join(" ")
}

/// A TOML value of the table of keys, as JSON.
fn value(text: &str) -> Json {
    let document: Option<toml::Table> = toml::from_str(&format!("value = {text}")).ok();
    let value = document.and_then(|mut document| document.remove("value"));
    value.and_then(|value| serde_json::to_value(value).ok()).unwrap_or(Json::Null)
}
