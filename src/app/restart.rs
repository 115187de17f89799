//! Which settings a reload leaves as they were at the start.

use std::collections::BTreeMap;

use crate::caller::Secret;
use crate::config::render::{self, Waiting};
use crate::config::{Config, secret};

/// Keys, and sections, that are read at the start alone: what listens, what connects, and what is
/// made once.
const FIXED: [&str; 35] = [
    "state",
    "server.listen",
    "server.workers",
    "server.http2",
    "server.max_connections",
    "server.max_connections_per_peer",
    "server.max_streams",
    "server.header_bytes",
    "server.header_count",
    "server.answer_buffer",
    "server.header_timeout",
    "server.handshake_timeout",
    "server.idle_timeout",
    "server.write_timeout",
    "server.max_buffered_bytes",
    "server.takeover",
    "server.tls",
    "admin.listen",
    "upstream.connect_timeout",
    "upstream.pool_idle_timeout",
    "upstream.pool_max_idle",
    "upstream.max_connection_age",
    "upstream.header_bytes",
    "upstream.http2",
    "upstream.proxy",
    "upstream.no_proxy",
    "upstream.tls",
    "upstream.websocket",
    "replicas",
    "replay.max_total",
    "log.format",
    "log.sample",
    "report.capacity",
    "trace",
    "metrics",
];

/// The settings that need a restart, as they are in force.
#[derive(Debug)]
pub(super) struct Fixed {
    settings: BTreeMap<String, String>,
    /// What the secrets among them are: a reference stays the same when what it names is replaced.
    secrets: BTreeMap<String, Secret>,
}

impl Fixed {
    /// Those of the configuration that the process starts with.
    pub(super) fn of(config: &Config) -> Self {
        let mut settings = render::settings(config);
        settings.retain(|key, _| is_fixed(key));
        // The URL of Redis is read again for each connection.
        let secrets =
            secret::all(config).into_iter().filter(|(key, _)| is_fixed(key) && key != "replicas.redis");
        Self { settings, secrets: secrets.map(|(key, secret)| (key, secret.secret.clone())).collect() }
    }

    /// The settings that are others in `config`, and come into force with a restart.
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

fn is_fixed(key: &str) -> bool {
    FIXED
        .iter()
        .any(|fixed| key.strip_prefix(fixed).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::config::key::{Key, Kind, Table};
    use crate::config::sources::Nothing;
    use crate::config::{self};

    /// What a reload changes at once. A new key is to be here or in [`FIXED`].
    const LIVE: [&str; 40] = [
        "mode",
        "server.body_max",
        "server.body_min_rate",
        "server.body_grace",
        "server.body_timeout",
        "server.allow_unknown_callers",
        "server.forwarded",
        "server.hosts",
        "admin.token",
        "admin.hosts",
        "upstream.proxy_credential",
        "upstream.url",
        "upstreams",
        "upstream.credential",
        "upstream.auth",
        "upstream.organization",
        "upstream.project",
        "upstream.response_timeout",
        "upstream.first_event_timeout",
        "upstream.idle_timeout",
        "admission",
        "estimate",
        "limits",
        "retry",
        "breaker",
        "outage",
        "quota_breaker",
        "replay.max_body",
        "replay.prefix",
        "stream",
        "log.level",
        "log.access",
        "log.mask_messages",
        "report.request_data",
        "report.headers",
        "shutdown",
        "rights",
        "exchanges",
        "issuers",
        "callers",
    ];

    fn read(text: &str) -> Config {
        config::parse("weir.toml", text, &[], &Nothing).unwrap()
    }

    /// How often each listed key or section stands in the table.
    fn look(
        path: &str,
        table: &Table,
        found: &mut HashMap<&'static str, usize>,
        undecided: &mut Vec<String>,
    ) {
        for Key { name, kind, .. } in table.keys {
            let path = if path.is_empty() { (*name).to_owned() } else { format!("{path}.{name}") };
            let listed = FIXED.iter().chain(&LIVE).find(|listed| **listed == path);
            match (listed, kind) {
                (Some(listed), _) => *found.entry(listed).or_default() += 1,
                (None, Kind::Table(inner)) => look(&path, inner, found, undecided),
                (None, _) => undecided.push(path),
            }
        }
    }

    #[test]
    fn of_every_key_it_is_known_whether_a_reload_changes_it() {
        let (mut found, mut undecided) = (HashMap::new(), Vec::new());
        look("", &Config::TABLE, &mut found, &mut undecided);
        assert!(undecided.is_empty(), "{undecided:?}");
        for listed in FIXED.iter().chain(&LIVE) {
            assert_eq!(found.get(listed), Some(&1), "{listed}");
        }
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
