//! The settings that a reload does not change.

use std::collections::BTreeMap;

use crate::caller::Secret;
use crate::config::render::{self, Waiting};
use crate::config::{Config, secret};

/// The settings that need a restart, with the values in force.
#[derive(Debug)]
pub(super) struct Fixed {
    settings: BTreeMap<String, String>,
    /// The values of the secrets among them: the reference stays the same when the secret is
    /// replaced.
    secrets: BTreeMap<String, Secret>,
}

impl Fixed {
    /// Those of the configuration at the start.
    pub(super) fn of(config: &Config) -> Self {
        let mut settings = render::settings(config);
        settings.retain(|key, _| is_fixed(key));
        // The URL of Redis is read again for each connection, so it needs no restart.
        let secrets =
            secret::all(config).into_iter().filter(|(key, _)| is_fixed(key) && key != "replicas.redis");
        Self { settings, secrets: secrets.map(|(key, secret)| (key, secret.secret.clone())).collect() }
    }

    /// The settings that differ in `config`, and take effect after a restart.
    pub(super) fn changed_in(&self, config: &Config) -> Vec<Waiting> {
        let new = Self::of(config);
        let gone = self.settings.keys().filter(|key| !new.settings.contains_key(*key));
        let changed = |key: &&String| {
            self.settings.get(*key) != new.settings.get(*key)
                || self.secrets.get(*key) != new.secrets.get(*key)
        };
        let other = new.settings.keys().filter(changed);
        gone.chain(other)
            .map(|key| {
                let (now, then) = (self.settings.get(key), new.settings.get(key));
                let replaced = || then.map(|reference| format!("{reference}, whose content was replaced"));
                let then = if now == then { replaced() } else { then.cloned() };
                Waiting { key: key.clone(), now: now.cloned(), then }
            })
            .collect()
    }
}

/// Whether a key, or a section that contains it, is read only at the start.
fn is_fixed(key: &str) -> bool {
    let mut table = &Config::TABLE;
    key.split('.').any(|step| {
        let name = step.split('[').next();
        let Some(found) = table.keys.iter().find(|known| Some(known.name) == name) else { return false };
        table = found.kind.table().unwrap_or(table);
        found.restart
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::config::key::Table;
    use crate::config::sources::Nothing;

    fn read(text: &str) -> Config {
        config::parse("weir.toml", text, &[], &Nothing).unwrap()
    }

    #[test]
    fn a_section_that_needs_a_restart_takes_its_keys_along() {
        for (key, fixed) in [
            ("mode", false),
            ("server.listen", true),
            ("server.hosts", false),
            ("server.tls.cert", true),
            ("upstream.websocket.paths", true),
            ("upstreams[1].url", false),
            ("trace.token", true),
            ("replay.max_total", true),
            ("replay.max_body", false),
            ("no.such.key", false),
        ] {
            assert_eq!(is_fixed(key), fixed, "{key}");
        }
    }

    fn keys(path: &str, table: &Table, told: &mut Vec<String>) {
        for key in table.keys {
            let path = if path.is_empty() { key.name.to_owned() } else { format!("{path}.{}", key.name) };
            match key.kind.table() {
                Some(inner) => keys(&path, inner, told),
                None => told.push(format!("{path}: {}", if is_fixed(&path) { "restart" } else { "reload" })),
            }
        }
    }

    /// A new key appears in this list, so that its author decides whether it needs a restart. To
    /// update: `BLESS=1 cargo test --lib golden`, and read the difference.
    #[test]
    fn golden_of_every_key_it_is_known_whether_a_reload_changes_it() {
        const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/reload.txt");
        let mut told = Vec::new();
        keys("", &Config::TABLE, &mut told);
        let told = told.join("\n") + "\n";
        if option_env!("BLESS").is_some() {
            std::fs::write(PATH, &told).unwrap();
        }
        assert_eq!(std::fs::read_to_string(PATH).unwrap(), told, "{PATH}");
    }

    #[test]
    fn what_waits_for_a_restart_is_named_until_it_is_as_it_was() {
        let fixed =
            Fixed::of(&read("[server]\nworkers = 2\n[trace]\nendpoint = \"http://127.0.0.1:4318\"\n"));
        let changed = |text: &str| -> Vec<String> {
            fixed.changed_in(&read(text)).into_iter().map(|waiting| waiting.key).collect()
        };
        assert_eq!(
            changed(
                "mode = \"observe\"\nlog.level = \"debug\"\nreplicas.redis = \"env:REDIS\"\n[server]\nworkers = 3\n"
            ),
            ["trace.endpoint", "replicas.redis", "server.workers"]
        );
        assert!(
            changed("server.workers = 2\ntrace.endpoint = \"http://127.0.0.1:4318\"\nlog.access = false\n")
                .is_empty()
        );
    }

    #[test]
    fn a_replaced_secret_that_needs_a_restart_is_named() {
        struct Redis(&'static str);
        impl config::sources::Sources for Redis {
            fn variable(&self, _: &str) -> Option<String> {
                None
            }
            fn overrides(&self) -> Vec<(String, String)> {
                Vec::new()
            }
            fn file(&self, _: &std::path::Path) -> std::io::Result<Vec<u8>> {
                Ok(self.0.into())
            }
        }
        let text = "replicas.redis = \"file:url\"\ntrace.endpoint = \"http://127.0.0.1:4318\"\ntrace.token = \"file:token\"\nadmin.token = \"file:token\"\n";
        let read = |content| config::parse("weir.toml", text, &[], &Redis(content)).unwrap();
        let fixed = Fixed::of(&read("redis://one.internal:6379"));
        assert!(fixed.changed_in(&read("redis://one.internal:6379")).is_empty());
        let waiting = fixed.changed_in(&read("redis://two.internal:6379"));
        let [Waiting { key, then: Some(then), .. }] = &waiting[..] else { panic!("{waiting:?}") };
        assert_eq!(
            (key.as_str(), then.as_str()),
            ("trace.token", "\"file:token\", whose content was replaced")
        );
    }
}
