//! How many files the process may have open, and how many connections that is.
//!
//! Each caller's connection needs a file, and one towards the upstream while its request is under
//! way. Where there is none left, requests fail that the upstream would answer, and nobody can ask
//! the admin address why.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::settings;
use crate::config::Config;
use crate::server;

/// What the admin address takes at most, and the process itself: listeners, log, resolver, files
/// that are read.
const OTHERS: usize = 64 + 32;
/// What a thread's runtime takes.
const OF_A_THREAD: usize = 4;

/// The front's settings, with as many connections as there is room for. The process's own limit is
/// raised as far as it may be, and the configured connections need it.
pub(super) fn front(config: &Config, workers: usize) -> server::Settings {
    let mut front = settings::server(config);
    let others = OTHERS + OF_A_THREAD * workers;
    front.room = room(others, raise(2 * front.connections + others));
    // The default on a machine with a common limit is a handful less: that is no news.
    if front.room < front.connections / 10 * 9 {
        tracing::warn!(
            room = front.room,
            wanted = front.connections,
            "server.max_connections: the limit of open files leaves room for fewer, and more will wait to be accepted; \
             raise it (`ulimit -n`, LimitNOFILE) or lower the key"
        );
    }
    front
}

/// Half of what is left is for callers; the other half is for what they ask of the upstream.
fn room(others: usize, files: usize) -> usize {
    (files.saturating_sub(others) / 2).max(1)
}

/// Raises the process's limit of open files to `needed`, or as far as it may. Returns the limit.
fn raise(needed: usize) -> usize {
    let count =
        |limit: Option<u64>| limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if count(current) >= needed || count(maximum) <= count(current) {
        return count(current);
    }
    let more = needed.min(count(maximum));
    match setrlimit(Resource::Nofile, Rlimit { current: u64::try_from(more).ok(), maximum }) {
        Ok(()) => more,
        Err(_) => count(current),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_what_is_left_is_for_callers() {
        assert_eq!(room(100, 20_000), 9_950);
        assert_eq!(room(100, 1024), 462);
        assert_eq!(room(100, 64), 1);
    }
}
