//! Accepted and rejected configurations, and the messages about them.

mod contradictions;
mod secrets;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;

use super::key::{Kind, Presence, Table};
use super::problem::Problems;
use super::quantity::Size;
use super::sources::{Nothing, Sources};
use super::*;

/// A fake environment and fake files.
#[derive(Default)]
struct Fake {
    variables: BTreeMap<String, String>,
    files: BTreeMap<PathBuf, Vec<u8>>,
    /// Secrets and files are not read.
    blind: bool,
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
        self.files.get(path).cloned().ok_or_else(|| io::Error::from_raw_os_error(2))
    }

    fn resolves(&self) -> bool {
        !self.blind
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
    let reference = include_str!("../../../config/reference.toml");
    assert_eq!(reference, render::reference(), "run: weir schema --reference > config/reference.toml");
    assert_eq!(read(reference, &Nothing).unwrap(), Config::default());
}

#[test]
fn the_schema_for_editors_is_the_table_of_keys() {
    let written: serde_json::Value =
        serde_json::from_str(include_str!("../../../config/weir.schema.json")).expect("JSON");
    assert_eq!(written, json_schema::schema(), "run: weir schema > config/weir.schema.json");
}

#[test]
fn the_reference_s_examples_are_valid_too() {
    let reference = include_str!("../../../config/reference.toml");
    let is_setting = |line: &str| line.starts_with('[') || line.split(' ').nth(1) == Some("=");
    let text: String = reference
        .lines()
        .map(|line| line.strip_prefix("# ").filter(|line| is_setting(line)).unwrap_or(line))
        .flat_map(|line| [line, "\n"])
        .collect();
    let problems = read(&text, &Nothing).expect_err("a caller can't be known by a name in a certificate yet");
    // The section of the single upstream may be present beside the list.
    let keys = problems.list.iter().map(|problem| problem.key.as_str());
    let keys: Vec<&str> = keys.filter(|key| !key.starts_with("upstream.")).collect();
    assert_eq!(
        keys,
        ["server.tls.client_ca", "issuers[0].jwks_url", "callers[0].san", "callers[0].credential"],
        "{problems}"
    );
    count(&Config::TABLE, &mut |path, key| {
        let name = format!("{} = ", key.name);
        let written = text.lines().any(|line| line.starts_with(&name));
        assert!(written || key.kind.table().is_some(), "{path}");
    });
}

/// Visits every key with its path.
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
        let listed = ["callers", "exchanges", "issuers", "limits.families", "upstreams"]
            .iter()
            .any(|list| path.starts_with(list));
        assert!(!required || listed, "{path}");
    });
    assert!(keys > 120, "{keys}");
    // A default out of its range would be a problem once it is written.
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

#[test]
fn a_file_with_many_mistakes_names_them_all() {
    let text = include_str!("../../../tests/golden/mistakes.toml");
    let problems = parse("mistakes.toml", text, &[], &Fake::default()).expect_err("it is full of mistakes");
    let expected = include_str!("../../../tests/golden/mistakes.txt");
    assert_eq!(format!("{problems}\n"), expected);
}

#[test]
fn text_that_is_not_toml_is_told_with_its_place_beside_all_else() {
    let said = complaints("mode = \"enforced\"\n[server\nlisten = \"x\"\n");
    assert!(said[0].starts_with("weir.toml:1:8: mode: "), "{said:?}");
    assert!(said[1].starts_with("weir.toml:2:8: this is not TOML: "), "{said:?}");
    let twice = complaints("mode = \"observe\"\nmode = \"bypass\"\n");
    assert_eq!(twice.len(), 1, "{twice:?}");
    assert!(twice[0].starts_with("weir.toml:2:1: this is not TOML: duplicate key"), "{twice:?}");
}

#[test]
fn the_environment_counts_over_the_file_and_options_over_both() {
    let text = "[server]\nlisten = \"127.0.0.1:1\"\nworkers = 1\n[upstream]\nurl = \"http://file:1\"\n";
    let sources = Fake::default()
        .set("WEIR_SERVER__WORKERS", "2")
        .set("WEIR_UPSTREAM__URL", "http://environment:2")
        .set("WEIR_MODE", "observe")
        .set("WEIR_METRICS__MODELS", "gpt-5, gpt-5-mini")
        .set("WEIR_RETRY__NEVER", "[\"files\"]")
        .set("WEIR_RETRY__BUDGET__EARN", "25%")
        .set("WEIR_BREAKER__ENABLED", "false")
        .set("WEIR_UPSTREAM__ORGANIZATION", "off")
        .set("WEIR_LIMITS__TOKENS_PER_MINUTE", "90000")
        .set("WEIR_CALLERS", "[{ name = \"a\", header = { name = \"x-team\", value = \"a\" } }]");
    let option = Override { option: "--upstream", key: "upstream.url", value: "http://option:3".to_owned() };
    let config = parse("weir.toml", text, &[option], &sources).unwrap();
    assert_eq!(config.server.listen.port(), 1);
    assert_eq!(config.server.workers, 2);
    assert_eq!(config.upstream.url.to_string(), "http://option:3");
    assert_eq!(config.mode, Mode::Observe);
    assert_eq!(config.metrics.models.len(), 2);
    assert_eq!(config.retry.never, [crate::openai::Endpoint::Files]);
    assert!((config.retry.budget.earn - 0.25).abs() < 1e-9);
    assert!(!config.breaker.enabled);
    assert_eq!(config.limits.tokens_per_minute, Some(90_000));
    assert_eq!(config.callers[0].name, "a");
}

#[test]
fn every_key_can_come_from_the_environment() {
    count(&Config::TABLE, &mut |path, key| {
        if path.starts_with("callers.")
            || path.starts_with("limits.families.")
            || path.starts_with("upstreams.")
            || path.starts_with("exchanges.")
            || path.starts_with("issuers.")
            || matches!(key.kind, Kind::Table(_))
        {
            return;
        }
        let name = format!("WEIR_{}", path.to_ascii_uppercase().replace('.', "__"));
        let value: toml::Table = toml::from_str(&format!("v = {}", key.presence.sample())).unwrap();
        let text = value["v"].as_str().map_or_else(|| value["v"].to_string(), str::to_owned);
        // A single key may contradict a default, but is never unknown nor of the wrong kind.
        if let Err(problems) = read("", &Fake { blind: true, ..Fake::default() }.set(&name, &text)) {
            let said = problems.to_string();
            assert!(!said.contains("no such key") && !said.contains("is not valid"), "{name}={text}: {said}");
        }
    });
}

#[test]
fn what_kubernetes_sets_for_a_service_called_weir_is_left_alone() {
    let sources = Fake::default()
        .set("WEIR_PORT", "tcp://10.0.0.1:8080")
        .set("WEIR_SERVICE_HOST", "10.0.0.1")
        .set("WEIR_SERVER", "x")
        .set("WEIR_CONFIG", "elsewhere.toml");
    assert_eq!(read("", &sources).unwrap(), read("", &Fake::default()).unwrap());
    let said = read("", &Fake::default().set("WEIR_SERVER__LISEN", "x")).unwrap_err().to_string();
    assert_eq!(said, "environment WEIR_SERVER__LISEN: no such key: did you mean WEIR_SERVER__LISTEN?");
}

const GATEWAY: &str = include_str!("../../../config/gateway.toml");

fn gateway() -> Fake {
    Fake::default()
        .set("OPENAI_API_KEY", "sk-upstream-0123456789")
        .set("OTHER_WEIR_KEY", "weir-other-0123456789")
        .set("WEIR_ADMIN_TOKEN", "admin-token-0123456789")
        .set("SEARCH_WEIR_KEY", "weir-search-0123456789")
        .set("BATCH_WEIR_KEY", "weir-batch-0123456789")
}

#[test]
fn the_shipped_files_are_valid() {
    let sidecar = read(include_str!("../../../config/sidecar.toml"), &Fake::default()).unwrap();
    assert_eq!(sidecar, read("", &Fake::default()).unwrap(), "a sidecar is what the defaults are");
    let gateway = read(GATEWAY, &gateway()).unwrap();
    assert_eq!(gateway.callers.len(), 2);
    assert!(!gateway.serves_unknown_callers());
}

#[test]
fn a_lower_bound_takes_the_default_below_it_along() {
    let config =
        read("server.max_connections = 10\nadmission.max_waiting = 5\nreplay.max_total = \"1MiB\"", &Nothing)
            .unwrap();
    assert_eq!(config.server.max_connections_per_peer, 10);
    assert_eq!(config.admission.max_waiting_per_caller, 5);
    assert_eq!(config.replay.max_body, Size(1 << 20));
}

#[test]
fn the_schema_knows_every_key() {
    let schema = json_schema::schema();
    count(&Config::TABLE, &mut |path, key| {
        let mut at = &schema;
        for name in path.split('.') {
            // The keys of a list are those of its elements; those of an optional table are the
            // table's.
            at = [&at["properties"], &at["items"]["properties"], &at["anyOf"][1]["properties"]]
                .into_iter()
                .map(|properties| &properties[name])
                .find(|property| property.is_object())
                .unwrap_or_else(|| panic!("{path}"));
        }
        assert!(at["description"].as_str().is_some_and(|doc| !doc.is_empty()), "{path}");
        assert_eq!(at.get("default").is_some(), matches!(key.presence, Presence::Default(_)), "{path}");
        assert_ne!(at.get("default"), Some(&serde_json::Value::Null), "{path}");
    });
}

/// TOML allows one line only, but a parser that recovers from a mistake keeps such a name.
#[test]
fn a_key_of_several_lines_is_told_in_one() {
    let text = format!("['''{}", "x\n".repeat(1_000));
    let problems = read(&text, &Fake::default()).unwrap_err();
    let said = problems.to_string();
    assert_eq!(said.lines().count(), problems.list.len(), "{said}");
    assert!(said.len() < 1_000, "{said}");
}

proptest! {
    #[test]
    fn no_text_panics_the_parser(text in "\\PC{0,300}") {
        let _result = read(&text, &Fake::default());
    }

    #[test]
    fn no_bytes_panic_the_parser(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _result = read(&String::from_utf8_lossy(&bytes), &Fake::default());
    }

    /// Text that is nearly valid gets further than noise.
    #[test]
    fn no_spoiled_configuration_panics(at in 0usize..30_000, length in 0usize..40, insert in "[\\[\\]{}=\"',.0-9a-z\n-]{0,8}") {
        for text in [render::reference(), include_str!("../../../tests/golden/mistakes.toml").to_owned()] {
            let mut bytes = text.into_bytes();
            let start = at.min(bytes.len());
            let end = (start + length).min(bytes.len());
            bytes.splice(start..end, insert.bytes());
            if let Err(problems) = read(&String::from_utf8_lossy(&bytes), &gateway()) {
                prop_assert!(!problems.list.is_empty());
                prop_assert_eq!(problems.to_string().lines().count(), problems.list.len());
            }
        }
    }

    /// Any value of any key is accepted or rejected.
    #[test]
    fn no_value_panics(seed in 0usize..10_000, value in prop_oneof![
        Just("nan"), Just("-inf"), Just("1e308"), Just("-1"), Just("0"), Just("9223372036854775807"), Just("true"),
        Just("\"\""), Just("\"off\""), Just("[]"), Just("{}"), Just("[[[]]]"), Just("[{}]"), Just("1979-05-27"),
        Just("\"999999999999d\""), Just("\"0.0000000000000001TiB\""), Just("\"file:\""), Just("\"env:\"")]) {
        let mut keys = Vec::new();
        count(&Config::TABLE, &mut |path, _| keys.push(path.to_owned()));
        let text = format!("{} = {value}\n", keys[seed % keys.len()]);
        let _result = read(&text, &Fake::default());
    }
}

/// Each module documents its own defaults; those of the configuration must be equal.
#[test]
fn the_defaults_are_those_of_the_rooms() {
    let config = Config::default();
    let server = crate::server::Settings::default();
    assert_eq!(config.server.max_connections, server.connections);
    assert_eq!(config.server.max_connections_per_peer, server.connections_per_peer);
    assert_eq!(config.server.handshake_timeout, server.handshake_timeout);
    assert_eq!(config.server.header_timeout, server.head_timeout);
    assert_eq!(config.server.idle_timeout, server.idle_timeout);
    assert_eq!(config.server.write_timeout, server.write_timeout);
    assert_eq!(config.server.header_bytes.bytes(), server.header_bytes);
    assert_eq!(config.server.header_count, server.header_count);
    assert_eq!(config.server.max_streams, server.streams);
    let upstream = crate::upstream::Settings::default();
    assert_eq!(config.upstream.connect_timeout, upstream.connect_timeout);
    assert_eq!(config.upstream.pool_idle_timeout, upstream.idle_timeout);
    assert_eq!(config.upstream.pool_max_idle, upstream.max_idle);
    assert_eq!(config.upstream.max_connection_age, upstream.max_age);
    assert_eq!(config.upstream.header_bytes.bytes(), upstream.header_bytes);
    let replay = crate::replay::Settings::default();
    assert_eq!(config.replay.max_body.bytes(), replay.keep);
    assert_eq!(config.replay.prefix.bytes(), replay.prefix);
    assert_eq!(config.server.body_max.0, replay.limit);
    assert_eq!(config.server.body_timeout, replay.idle);
    assert_eq!(config.server.body_min_rate.0, u64::from(replay.rate));
    assert_eq!(config.server.body_grace, replay.grace);
    let estimate = crate::estimate::Settings::default();
    assert_eq!(config.estimate.pricing, estimate.pricing);
    assert_eq!(config.estimate.chars_per_token, estimate.chars_per_token);
    assert_eq!(config.estimate.tokens_per_image, estimate.tokens_per_image);
    assert_eq!(config.estimate.default_max_tokens, estimate.default_max_tokens);
    let retry = crate::retry::Settings::default();
    assert_eq!(config.retry.max_attempts, retry.max_attempts);
    assert_eq!(
        (config.retry.base, config.retry.cap, config.retry.floor),
        (retry.base, retry.cap, retry.floor)
    );
    assert_eq!(config.retry.timeouts, retry.response_timeouts);
    assert_eq!(config.report.capacity, crate::account::Settings::default().reports);
    let metrics = crate::metrics::Settings::default();
    assert_eq!(config.metrics.max_models, metrics.max_models);
    assert_eq!(config.metrics.max_scopes, metrics.max_scopes);
    assert_eq!(config.metrics.max_series, metrics.max_series);
}
