//! The table of both runs, in at most 80 columns, which every terminal has.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use super::figures::{Figures, Waits, Ways};
use super::workload::CALLERS;

/// The widths of the labels, and of each of the two runs.
const WIDTHS: [usize; 2] = [35, 22];

/// The table, each line ended.
pub(super) fn render(ways: &Ways) -> String {
    let mut table = Table { text: String::new(), ways };
    table.line("", "direct, SDK retries", "through Weir");
    table.rule();
    table.row("jobs finished", |run| format!("{} of {}", run.finished, run.jobs));
    table.row("429s of the API", |run| run.refused.to_string());
    table.row("  after the first second", |run| run.refused_later.to_string());
    table.row("requests to the API per job", |run| format!("{:.2}", run.attempts_per_job()));
    table.row(&format!("wall time (ideal: {})", seconds(ways.ideal)), |run| wall(run, ways.ideal));
    table.row("too large: jobs told so, within", |run| {
        format!("{}, {}", run.too_large.told, short(run.too_large.slowest))
    });
    table.row("  requests to the API for them", |run| run.too_large.attempts.to_string());

    table.section("answers of the API");
    let statuses: BTreeSet<u16> =
        [&ways.direct, &ways.through_weir].iter().flat_map(|run| run.statuses.keys().copied()).collect();
    for status in statuses {
        table.row(&format!("  {status}"), |run| count(run.statuses.get(&status)));
    }

    table.section("errors that the services' SDKs saw");
    let errors: BTreeSet<&str> =
        [&ways.direct, &ways.through_weir].iter().flat_map(|run| run.errors.keys().copied()).collect();
    for class in errors {
        table.row(&format!("  {class}"), |run| count(run.errors.get(class)));
    }

    table.section("from asking to answer (finished jobs), p50 / p99");
    for (index, caller) in CALLERS.iter().enumerate() {
        let kind = if caller.background { ", background" } else { "" };
        table.row(&format!("  {} (weight {}{kind})", caller.name, caller.weight), |run| {
            waits(run.callers[index])
        });
    }
    table.rule();
    table.text
}

struct Table<'a> {
    text: String,
    ways: &'a Ways,
}

impl Table<'_> {
    fn row(&mut self, label: &str, cell: impl Fn(&Figures) -> String) {
        let (direct, through_weir) = (cell(&self.ways.direct), cell(&self.ways.through_weir));
        self.line(label, &direct, &through_weir);
    }

    fn section(&mut self, title: &str) {
        self.rule();
        self.line(title, "", "");
    }

    fn rule(&mut self) {
        self.text.push_str(&"─".repeat(WIDTHS[0] + 2 * WIDTHS[1]));
        self.text.push('\n');
    }

    fn line(&mut self, label: &str, direct: &str, through_weir: &str) {
        let line = format!("{label:<0$}{direct:>1$}{through_weir:>1$}", WIDTHS[0], WIDTHS[1]);
        // Writing to a string cannot fail.
        writeln!(self.text, "{}", line.trim_end()).ok();
    }
}

fn wall(run: &Figures, ideal: Duration) -> String {
    let times = run.wall.as_secs_f64() / ideal.as_secs_f64();
    match run.jobs - run.finished {
        // A comparison with the ideal would favor a run with unfinished work.
        0 => format!("{} ({times:.2} x ideal)", seconds(run.wall)),
        undone => format!("{} ({undone} undone)", seconds(run.wall)),
    }
}

fn waits(waits: Waits) -> String {
    let (Some(p50), Some(p99)) = (waits.p50, waits.p99) else { return format!("all {} lost", waits.lost) };
    let lost = if waits.lost == 0 { String::new() } else { format!(", {} lost", waits.lost) };
    format!("{:.1} / {}{lost}", p50.as_secs_f64(), seconds(p99))
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn short(time: Duration) -> String {
    if time < Duration::from_secs(1) { format!("{} ms", time.as_millis()) } else { seconds(time) }
}

fn count(count: Option<&u64>) -> String {
    count.copied().unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::figures::TooLarge;
    use super::*;

    fn figures(finished: usize) -> Figures {
        let waits =
            Waits { p50: Some(Duration::from_millis(1_250)), p99: Some(Duration::from_secs(18)), lost: 100 };
        Figures {
            jobs: 240,
            finished,
            lost: 240 - finished,
            refused: 1_000,
            refused_later: 900,
            attempts: 600,
            wall: Duration::from_secs(20),
            statuses: BTreeMap::from([(200, 200), (429, 1_000)]),
            errors: BTreeMap::from([("rate_limit_requests", 12)]),
            callers: vec![waits; CALLERS.len()],
            too_large: TooLarge { told: 3, attempts: 9, slowest: Duration::from_millis(1_600) },
            ends: Vec::new(),
            refused_by_second: Vec::new(),
        }
    }

    #[test]
    fn it_fits_the_page_and_does_not_flatter_what_is_undone() {
        let ways = Ways { ideal: Duration::from_secs(16), direct: figures(140), through_weir: figures(240) };
        let table = render(&ways);
        assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
        let row =
            |label: &str| table.lines().find(|line| line.starts_with(label)).expect("the row").to_owned();
        assert!(row("wall time").contains("20.0 s (100 undone)"), "{table}");
        assert!(row("wall time").ends_with("20.0 s (1.25 x ideal)"), "{table}");
        assert!(row("requests to the API per job").ends_with("2.50"), "{table}");
        assert!(row("  429").ends_with("1000"), "{table}");
        let full = render(&Ways { direct: figures(0), ..ways });
        assert_eq!(full.lines().count(), table.lines().count());
    }
}
