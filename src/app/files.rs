//! The limit of open files, and the number of connections that it allows.
//!
//! Each caller's connection needs a file, and another one for the upstream while a request is under
//! way. Without free files, requests fail that the upstream would serve, and the admin address
//! can't be reached to find out why.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::settings;
use crate::config::Config;
use crate::server;

/// Files reserved for the admin address, and for the process itself: listeners, log, resolver,
/// files that are read.
const RESERVED: usize = 64 + 32;
/// Files that a thread's runtime needs.
const PER_THREAD: usize = 4;

/// The server's settings, with at most as many connections as files allow. Raises the process's
/// limit as far as the configured connections need and the system permits.
pub(super) fn front(config: &Config, workers: usize) -> server::Settings {
    let mut front = settings::server(config);
    let others = RESERVED + PER_THREAD * workers;
    front.room = max_connections(others, raise(2 * front.connections + others));
    // With a common system limit the default is a few less: that needs no warning.
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

/// The connections that `files` allow. Half of the remaining files are for callers, the other half
/// for the upstream.
fn max_connections(others: usize, files: usize) -> usize {
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
        assert_eq!(max_connections(100, 20_000), 9_950);
        assert_eq!(max_connections(100, 1024), 462);
        assert_eq!(max_connections(100, 64), 1);
    }
}
