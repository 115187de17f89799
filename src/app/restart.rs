//! Which settings a reload leaves as they were at the start.

use std::collections::BTreeMap;

use crate::config::Config;
use crate::config::render::{self, Waiting};

/// Keys, and sections, that are read at the start alone: what listens, what connects, and what is made once.
const FIXED: [&str; 34] = [
    "server.listen",
    "server.workers",
    "server.http2",
    "server.max_connections",
    "server.max_connections_per_peer",
    "server.max_streams",
    "server.header_bytes",
    "server.header_count",
    "server.header_timeout",
    "server.handshake_timeout",
    "server.idle_timeout",
    "server.write_timeout",
    "server.max_buffered_bytes",
    "server.tls",
    "admin",
    "upstream.url",
    "upstream.connect_timeout",
    "upstream.pool_idle_timeout",
    "upstream.pool_max_idle",
    "upstream.max_connection_age",
    "upstream.header_bytes",
    "upstream.http2",
    "upstream.proxy",
    "upstream.proxy_credential",
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
pub(super) struct Fixed(BTreeMap<String, String>);

impl Fixed {
    /// Those of the configuration that the process starts with.
    pub(super) fn of(config: &Config) -> Self {
        let mut settings = render::settings(config);
        settings.retain(|key, _| is_fixed(key));
        Self(settings)
    }

    /// The settings that are others in `config`, which will have their say after a restart.
    pub(super) fn changed_in(&self, config: &Config) -> Vec<Waiting> {
        let Self(new) = Self::of(config);
        let gone = self.0.keys().filter(|key| !new.contains_key(*key));
        let other = new.iter().filter(|(key, value)| self.0.get(*key) != Some(value)).map(|(key, _)| key);
        gone.chain(other)
            .map(|key| Waiting {
                key: key.clone(),
                now: self.0.get(key).cloned(),
                then: new.get(key).cloned(),
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
    const LIVE: [&str; 31] = [
        "mode",
        "server.body_max",
        "server.body_min_rate",
        "server.body_grace",
        "server.body_timeout",
        "server.allow_unknown_callers",
        "server.forwarded",
        "server.hosts",
        "upstream.credential",
        "upstream.auth",
        "upstream.organization",
        "upstream.project",
        "upstream.response_timeout",
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
                "mode = \"observe\"\nlog.level = \"debug\"\nadmin.token = \"env:TOKEN\"\n[server]\nworkers = 3\n"
            ),
            ["trace.endpoint", "admin.token", "server.workers"]
        );
        assert!(
            changed("server.workers = 2\ntrace.endpoint = \"http://127.0.0.1:4318\"\nlog.access = false\n")
                .is_empty()
        );
    }
}
