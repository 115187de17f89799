//! The process's memory limit, and the part of it for request bodies.
//!
//! Waiting requests keep their bodies in memory. If the configured bounds exceed a container's
//! limit, a burst of large uploads while the upstream is slow ends the process, and all requests
//! with it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::process::{Resource, getrlimit};

use crate::config::Config;
use crate::replay;

/// The directory of control groups.
const GROUPS: &str = "/sys/fs/cgroup";

/// A limit on reserved memory, used or not: its line in `proc_pid_status(5)`, and the bytes that a
/// thread reserves.
struct Reserved {
    line: &'static str,
    thread: u64,
}

/// Address space: 64 MiB for the C library's allocator, and a stack.
const ADDRESSES: Reserved = Reserved { line: "VmSize:", thread: 66 << 20 };
/// Data: a segment of Weir's allocator, and a stack.
const DATA: Reserved = Reserved { line: "VmData:", thread: 34 << 20 };
/// Threads beside the workers: the main thread, the admin address, the log, and the resolver's.
const OTHER_THREADS: usize = 4;

/// The memory budget for bodies in a process with `workers` workers: as configured, or smaller if
/// that exceeds the limit.
pub(super) fn budget(config: &Config, workers: usize) -> Arc<replay::Budget> {
    let configured = (config.replay.max_total.bytes(), config.server.max_buffered_bytes.bytes());
    let limit = limit(workers);
    let (kept, waiting) = bounds(configured.0, configured.1, limit);
    if (kept, waiting) != configured {
        tracing::warn!(
            memory_limit = limit,
            replay.max_total = kept,
            server.max_buffered_bytes = waiting,
            "the memory that this process may have is less than three times what replay.max_total and \
             server.max_buffered_bytes allow bodies: they are lowered to fit; lower the keys, or raise the container's limit"
        );
    }
    replay::Budget::with_buffered(kept, waiting)
}

/// The memory limit in bytes, from control groups and from the process's own limits (`prlimit
/// --as`, `--data`); `None` without one. The process's limits also count reserved memory that is
/// never used, so that is subtracted.
fn limit(workers: usize) -> Option<u64> {
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let groups = smallest(&own, Path::new(GROUPS), &|file| std::fs::read_to_string(file).ok());
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let unreserved =
        |resource, of| getrlimit(resource).current.map(|limit| unreserved(limit, &of, &status, workers));
    let own = [unreserved(Resource::As, ADDRESSES), unreserved(Resource::Data, DATA)];
    groups.into_iter().chain(own.into_iter().flatten()).min()
}

/// The rest of a limit after subtracting reserved memory. `status` is the process's status before
/// its workers start.
fn unreserved(limit: u64, of: &Reserved, status: &str, workers: usize) -> u64 {
    let size = status
        .lines()
        .find_map(|line| line.strip_prefix(of.line)?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    let threads = of.thread.saturating_mul((workers + OTHER_THREADS) as u64);
    let left = limit.saturating_sub(size.unwrap_or_default() << 10).saturating_sub(threads);
    // Threads that can't reserve space for their own allocator share one.
    left.max(limit / 8)
}

/// The smallest limit of the groups that `own` lists (cgroups(7)) and of their parents.
fn smallest(own: &str, root: &Path, read: &dyn Fn(&Path) -> Option<String>) -> Option<u64> {
    let limits = own.lines().flat_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, group) =
            (fields.next(), fields.next().unwrap_or(""), fields.next().unwrap_or(""));
        let (folder, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            _ if controllers.split(',').any(|one| one == "memory") => {
                (root.join("memory"), "memory.limit_in_bytes")
            }
            _ => return Vec::new(),
        };
        // In a container without a cgroup namespace the group's path is the host's, but only the
        // root of the mount is visible.
        let group = Path::new(group.trim_start_matches('/'));
        group.ancestors().map(|group| folder.join(group).join(file)).collect::<Vec<PathBuf>>()
    });
    limits.filter_map(|file| read(&file)?.trim().parse().ok()).min()
}

/// The bounds of replayable bodies and of waiting ones: as configured, or both reduced so that they
/// use a third of the limit. The rest is for the allocator's overhead, kernel buffers, and
/// everything else.
fn bounds(kept: usize, waiting: usize, limit: Option<u64>) -> (usize, usize) {
    let most = limit.map_or(usize::MAX, |limit| usize::try_from(limit / 3).unwrap_or(usize::MAX));
    let both = kept.saturating_add(waiting);
    if both <= most {
        return (kept, waiting);
    }
    let part = |bytes: usize| {
        let scaled = bytes as u128 * most as u128 / both as u128;
        usize::try_from(scaled).unwrap_or(bytes)
    };
    (part(kept), part(waiting))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_limit_of_all_groups_counts() {
        let files = [
            ("/g/pod/weir/memory.max", "max\n"),
            ("/g/pod/memory.max", "268435456\n"),
            ("/g/memory.max", "1073741824\n"),
            ("/g/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("/g/memory/weir/memory.limit_in_bytes", "1000\n"),
        ];
        let read = |file: &Path| {
            files.iter().find(|(path, _)| Path::new(path) == file).map(|(_, text)| (*text).to_owned())
        };
        let of = |own| smallest(own, Path::new("/g"), &read);
        assert_eq!(of("0::/pod/weir\n"), Some(256 << 20));
        assert_eq!(of("0::/\n"), Some(1 << 30));
        assert_eq!(of("3:cpu,cpuacct:/weir\n2:memory:/weir\n0::/elsewhere/deep\n"), Some(1000));
        assert_eq!(of("2:memory:/not/mounted\n"), Some(9_223_372_036_854_771_712));
        assert_eq!(of("1:cpu:/\n"), None);
        assert_eq!(of(""), None);
    }

    #[test]
    fn what_is_reserved_and_never_used_is_taken_off_a_limit() {
        let status = "Name:\tweir\nVmPeak:\t  90000 kB\nVmSize:\t   81920 kB\nVmData:\t   40960 kB\n";
        assert_eq!(unreserved(1 << 30, &ADDRESSES, status, 2), (1 << 30) - (80 << 20) - 6 * (66 << 20));
        assert_eq!(unreserved(1 << 30, &DATA, status, 2), (1 << 30) - (40 << 20) - 6 * (34 << 20));
        assert_eq!(unreserved(64 << 20, &ADDRESSES, status, 2), 8 << 20);
        assert_eq!(unreserved(1 << 30, &ADDRESSES, "", 0), (1 << 30) - 4 * (66 << 20));
    }

    #[test]
    fn bodies_take_a_third_of_a_limit_at_most() {
        assert_eq!(bounds(256, 512, None), (256, 512));
        assert_eq!(bounds(256, 512, Some(2304)), (256, 512));
        assert_eq!(bounds(256, 512, Some(1152)), (128, 256));
        assert_eq!(bounds(usize::MAX, 512, Some(150)).0, 50);
    }
}
