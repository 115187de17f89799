//! The progress of a run: two lines that are redrawn on a terminal, or a line at intervals
//! elsewhere.

use std::fmt::Write as _;
use std::time::Duration;

/// The interval between two drawings on a terminal.
const DRAW: Duration = Duration::from_millis(100);
/// The interval between two lines elsewhere.
const LINE: Duration = Duration::from_secs(2);
/// The bar's width in cells.
const BAR: usize = 44;

/// The state of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// The time since the start.
    pub(super) elapsed: Duration,
    /// All jobs.
    pub(super) jobs: usize,
    /// Jobs that succeeded.
    pub(super) done: usize,
    /// Jobs that failed.
    pub(super) lost: usize,
    /// Requests that the API is processing.
    pub(super) in_flight: u64,
    /// Jobs that have arrived, but are neither finished nor with the API: in a queue, or in a
    /// backoff.
    pub(super) waiting: u64,
    /// Rate-limit refusals by the API.
    pub(super) refused: u64,
    /// Whether the API has an outage.
    pub(super) outage: bool,
}

/// Prints the progress of one run.
pub(super) struct Progress<'a> {
    print: &'a mut dyn FnMut(&str),
    live: bool,
    drawn: bool,
}

impl<'a> Progress<'a> {
    /// Progress for a terminal (`live`), or as lines.
    pub(super) fn new(live: bool, print: &'a mut dyn FnMut(&str)) -> Self {
        Self { print, live, drawn: false }
    }

    /// The interval between two calls of [`Progress::show`].
    pub(super) fn interval(&self) -> Duration {
        if self.live { DRAW } else { LINE }
    }

    /// Shows the present state.
    pub(super) fn show(&mut self, standing: &Standing) {
        let text = if self.live { drawing(standing, self.drawn) } else { line(standing) };
        self.drawn = true;
        (self.print)(&text);
    }
}

/// The state as one line.
fn line(standing: &Standing) -> String {
    format!("{:>5.1} s {}\n", standing.elapsed.as_secs_f64(), counts(standing))
}

/// The bar and the counts; `again` overwrites the previous drawing.
fn drawing(standing: &Standing, again: bool) -> String {
    let part = |count: usize| (count * BAR).checked_div(standing.jobs).unwrap_or_default();
    let (done, lost) = (part(standing.done), part(standing.lost));
    let mut text = String::new();
    if again {
        text.push_str("\x1b[2A\r\x1b[J");
    }
    // Writing to a string cannot fail.
    writeln!(
        text,
        "  {}{}{}  {:>4.1} s\n  {}",
        "█".repeat(done),
        "▒".repeat(lost),
        "·".repeat(BAR - done - lost),
        standing.elapsed.as_secs_f64(),
        counts(standing)
    )
    .ok();
    text
}

fn counts(standing: &Standing) -> String {
    format!(
        "{:>3} of {} done {:>3} lost {:>3} in flight {:>3} waiting {:>3} 429s{}",
        standing.done,
        standing.jobs,
        standing.lost,
        standing.in_flight,
        standing.waiting,
        standing.refused,
        if standing.outage { " (API down)" } else { "" }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const STANDING: Standing = Standing {
        elapsed: Duration::from_millis(6_400),
        jobs: 240,
        done: 120,
        lost: 31,
        in_flight: 12,
        waiting: 41,
        refused: 201,
        outage: true,
    };

    #[test]
    fn a_reader_of_lines_gets_plain_lines() {
        let mut text = String::new();
        let mut print = |part: &str| text.push_str(part);
        let mut progress = Progress::new(false, &mut print);
        progress.show(&STANDING);
        progress.show(&STANDING);
        let line = "  6.4 s 120 of 240 done  31 lost  12 in flight  41 waiting 201 429s (API down)\n";
        assert_eq!(text, line.repeat(2));
        assert!(line.trim_end().chars().count() <= 80);
    }

    #[test]
    fn a_terminal_gets_two_lines_drawn_over_the_last_two() {
        let mut text = String::new();
        let mut print = |part: &str| text.push_str(part);
        let mut progress = Progress::new(true, &mut print);
        progress.show(&STANDING);
        progress.show(&Standing { lost: 120, ..STANDING });
        let (first, second) = text.split_once("\x1b[2A\r\x1b[J").expect("drawn again");
        assert_eq!(first.lines().count(), 2);
        assert_eq!(second.matches(['█', '▒', '·']).count(), BAR);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }
}
