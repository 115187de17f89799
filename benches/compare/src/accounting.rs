//! The resources used by processes and processors, from `/proc` at the start and end of a window.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::time::Duration;

use crate::failure::{Failure, Result, While as _};
use crate::monotonic;

/// Processor time and memory of a process and all its descendants.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Usage {
    pub(crate) user_us: f64,
    pub(crate) system_us: f64,
    /// Pages that several of the processes share count once for each.
    pub(crate) rss_kib: f64,
}

impl Usage {
    pub(crate) fn cpu_us(&self) -> f64 {
        self.user_us + self.system_us
    }
}

/// The time of one processor, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct ProcessorTime {
    /// Exact; what is counted as busy is sampled at ticks, and misses work that timers start.
    pub(crate) idle_us: f64,
    pub(crate) stolen_us: f64,
}

/// A snapshot at the start or end of a window.
pub(crate) struct Snapshot {
    pub(crate) at: u64,
    pub(crate) trees: BTreeMap<String, Usage>,
    pub(crate) processors: Vec<ProcessorTime>,
    /// All processes of the machine, to find one that disturbed a run.
    everyone: HashMap<u32, (String, f64)>,
}

/// Whether this is the start or the end: the walk over all processes, which takes a millisecond or
/// two, is outside of the window.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Edge {
    Start,
    End,
}

impl Snapshot {
    /// Reads the trees below the named processes and the whole machine.
    pub(crate) fn take(watched: &[(String, u32)], edge: Edge) -> Result<Self> {
        let early = if edge == Edge::Start { everyone() } else { HashMap::new() };
        let mut trees = BTreeMap::new();
        for (name, pid) in watched {
            trees.insert(name.clone(), tree(*pid).doing(format!("{name} is gone"))?);
        }
        let processors = processors(&fs::read_to_string("/proc/stat")?);
        let at = monotonic::nanos();
        let everyone = if edge == Edge::Start { early } else { everyone() };
        Ok(Self { at, trees, processors, everyone })
    }

    /// The process outside of `ours` that used most processor time since `before`, with its
    /// microseconds.
    pub(crate) fn busiest_stranger(&self, before: &Self, ours: &[u32]) -> Option<(String, f64)> {
        let ours: Vec<u32> = ours.iter().flat_map(|&pid| descendants(pid)).collect();
        self.everyone
            .iter()
            .filter(|(pid, _)| !ours.contains(pid))
            .map(|(pid, (name, used))| {
                (name.clone(), used - before.everyone.get(pid).map_or(0.0, |(_, used)| *used))
            })
            .max_by(|(_, one), (_, other)| one.total_cmp(other))
            .filter(|(_, used)| *used > 0.0)
    }
}

/// The processor time and memory of a process and its descendants, with those that ended and were
/// waited for.
pub(crate) fn tree(root: u32) -> Result<Usage> {
    let mut sum = Usage::default();
    for pid in descendants(root) {
        // A child that has ended since the walk is counted in its parent.
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        let Some(stat) = ProcessStat::parse(&stat) else { continue };
        sum.user_us += stat.user_us;
        sum.system_us += stat.system_us;
        sum.rss_kib += resident_kib(pid);
    }
    if sum.rss_kib == 0.0 {
        return Err(Failure::new(format!("no process {root}")));
    }
    Ok(sum)
}

/// A process and its descendants.
pub(crate) fn descendants(root: u32) -> Vec<u32> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&pid) = found.get(next) {
        next += 1;
        let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
        for thread in threads.flatten() {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            found.extend(children.split_ascii_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
    }
    found
}

/// The fraction of `pause` in which the busiest processor is busy.
pub(crate) fn busiest_share(pause: Duration) -> f64 {
    let read = || processors(&fs::read_to_string("/proc/stat").unwrap_or_default());
    let (before, started) = (read(), monotonic::nanos());
    std::thread::sleep(pause);
    let elapsed_us = (monotonic::nanos() - started) as f64 / 1e3;
    let idle = before.iter().zip(read()).map(|(before, after)| (after.idle_us - before.idle_us) / elapsed_us);
    1.0 - idle.fold(1.0, f64::min)
}

/// The load average over one minute.
pub(crate) fn load_average() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

struct ProcessStat {
    name: String,
    /// Without its children.
    own_us: f64,
    /// These with the children that it waited for.
    user_us: f64,
    system_us: f64,
}

impl ProcessStat {
    /// A line of `/proc/PID/stat`.
    fn parse(line: &str) -> Option<Self> {
        let (before, after) = line.rsplit_once(") ")?;
        let name = before.split_once('(')?.1.to_owned();
        // proc_pid_stat(5) counts from 1 and `after` starts with field 3: utime, stime, cutime,
        // cstime are 14 to 17.
        let ticks: Vec<f64> =
            after.split(' ').skip(11).take(4).map(str::parse).collect::<std::result::Result<_, _>>().ok()?;
        let &[user, system, children_user, children_system] = ticks.as_slice() else { return None };
        let tick = tick_us();
        Some(Self {
            name,
            own_us: (user + system) * tick,
            user_us: (user + children_user) * tick,
            system_us: (system + children_system) * tick,
        })
    }
}

fn resident_kib(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0.0)
}

/// `/proc/stat`, processor by processor.
fn processors(stat: &str) -> Vec<ProcessorTime> {
    let tick = tick_us();
    let lines = stat.lines().filter(|line| line.starts_with("cpu") && !line.starts_with("cpu "));
    lines
        .map(|line| {
            // proc_stat(5): user nice system idle iowait irq softirq steal
            let column: Vec<f64> =
                line.split_ascii_whitespace().skip(1).map(|n| n.parse().unwrap_or(0.0)).collect();
            let of = |index: usize| column.get(index).copied().unwrap_or(0.0) * tick;
            ProcessorTime { idle_us: of(3) + of(4), stolen_us: of(7) }
        })
        .collect()
}

fn everyone() -> HashMap<u32, (String, f64)> {
    let Ok(entries) = fs::read_dir("/proc") else { return HashMap::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| {
        let stat = ProcessStat::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
        Some((pid, (stat.name, stat.own_us)))
    })
    .collect()
}

fn tick_us() -> f64 {
    1e6 / rustix::param::clock_ticks_per_second() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_columns() {
        let line = "123 (a (b) c) S 1 123 123 0 -1 4194560 5 6 7 8 100 50 20 10 20 0 1 0 99 1 2 3";
        let stat = ProcessStat::parse(line).expect("a valid line");
        assert_eq!(stat.name, "a (b) c");
        assert!((stat.own_us - 150.0 * tick_us()).abs() < 1.0);
        assert!((stat.user_us - 120.0 * tick_us()).abs() < 1.0);
        assert!((stat.system_us - 60.0 * tick_us()).abs() < 1.0);
    }

    #[test]
    fn processors_are_read_without_the_sum() {
        let read = processors(
            "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 1 2 3 40 5 6 7 8 0 0\ncpu1 0 0 0 1 0 0 0 0 0 0\nintr 5\n",
        );
        let tick = tick_us();
        let first = ProcessorTime { idle_us: 45.0 * tick, stolen_us: 8.0 * tick };
        assert_eq!(read, [first, ProcessorTime { idle_us: tick, stolen_us: 0.0 }]);
    }

    #[test]
    fn this_process_has_memory_and_a_missing_one_is_an_error() {
        assert!(tree(std::process::id()).expect("this process").rss_kib > 100.0);
        assert!(tree(u32::MAX - 1).is_err());
    }
}
