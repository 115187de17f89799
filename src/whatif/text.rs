//! The results as text: a table of at most 80 columns, and sentences with the conclusions.

use std::fmt::Write as _;

use super::figures::{BINS, Figures, Group};
use super::{Answer, Column};
use crate::wrap::wrapped;

/// The widths of the labels, and of each replay.
const LABEL: usize = 29;
const CELL: usize = 17;
/// The most columns of a sentence.
const MOST_COLUMNS: usize = 80;
/// The most callers with a line.
const MOST_CALLERS: usize = 12;
/// The spans in a cell's sparkline.
const SPARKS: usize = 15;

/// The whole answer, each line ended.
pub(super) fn render(answer: &Answer) -> String {
    let mut text = format!("{}\n\n", answer.heading);
    let columns: Vec<&Column> = answer.columns.iter().collect();
    line(&mut text, "", columns.iter().map(|column| column.name.to_owned()));
    text.push_str(&"─".repeat(LABEL + CELL * columns.len()));
    text.push('\n');
    let row = |text: &mut String, label: &str, cell: &dyn Fn(&Figures) -> String| {
        line(text, label, columns.iter().map(|column| cell(&column.figures)));
    };
    row(&mut text, "429s of the API", &|figures| grouped(figures.all.rate_limits));
    row(&mut text, "refused by Weir", &|figures| grouped(figures.all.refused));
    row(&mut text, "failed", &|figures| grouped(figures.all.failed));
    if columns.iter().any(|column| column.figures.all.too_large > 0) {
        row(&mut text, "larger than the limit itself", &|figures| grouped(figures.all.too_large));
    }
    row(&mut text, "requests/min used, at most", &|figures| percent(figures.requests_used));
    row(&mut text, "tokens/min used, at most", &|figures| percent(figures.tokens_used));
    row(&mut text, "waits, p50 / p99", &|figures| waits(&figures.all));
    let callers = answer.columns.first().map_or(&[][..], |column| &column.figures.callers);
    for (index, (name, group)) in callers.iter().enumerate().take(MOST_CALLERS) {
        let label = format!("  {} ({})", short(name), grouped(group.requests));
        row(&mut text, &label, &|figures| {
            figures.callers.get(index).map_or_else(String::new, |(_, group)| waits(group))
        });
    }
    if callers.len() > MOST_CALLERS {
        writeln!(text, "  and {} more callers (--json has all)", callers.len() - MOST_CALLERS).ok();
    }
    let most =
        columns.iter().filter_map(|column| column.figures.waiting.iter().max()).max().copied().unwrap_or(0);
    row(&mut text, &format!("waiting (█ = {})", grouped(u64::from(most))), &|figures| {
        sparks(&figures.waiting, most)
    });
    for sentence in &answer.sentences {
        writeln!(text, "\n{}", wrapped(sentence, MOST_COLUMNS, "")).ok();
    }
    text
}

/// The effect of other limits, compared with the replay under the recorded ones.
pub(super) fn verdict(subject: &str, before: &Group, after: &Group, could_help: bool) -> String {
    if !could_help {
        return format!(
            "{subject} would not have helped: no request waited for a limit, and the API refused none."
        );
    }
    let (better, worse) = (is_better(before, after), is_better(after, before));
    let mut changes = vec![format!(
        "the p99 of the waits is {} instead of {}",
        seconds(after.wait_p99),
        seconds(before.wait_p99)
    )];
    for (was, is, what) in [
        (before.waited, after.waited, "requests wait"),
        (before.unserved(), after.unserved(), "get no answer"),
        (before.rate_limits, after.rate_limits, "attempts meet a 429"),
    ] {
        if was > 0 || is > 0 {
            changes.push(format!("{} {what} instead of {}", grouped(is), grouped(was)));
        }
    }
    let change = changes.join("; ");
    let newcomers = match before.too_large.saturating_sub(after.too_large) {
        0 => String::new(),
        pass => format!(
            " Requests that were larger than the limit pass then ({pass}), and the others wait for them."
        ),
    };
    let said = match (better, worse) {
        (true, false) => "have helped",
        (false, true) => "have made it worse",
        (true, true) => "have helped some and hurt others",
        (false, false) => "have changed little",
    };
    format!("{subject} would {said}: {change}.{newcomers}")
}

/// Whether a value improves by at least a tenth, and noticeably.
fn is_better(before: &Group, after: &Group) -> bool {
    let fell = |before: f64, after: f64, least: f64| before - after > least.max(before * 0.1);
    fell(before.wait_p99, after.wait_p99, 0.1)
        || fell(before.wait_mean, after.wait_mean, 0.05)
        || fell(before.unserved() as f64, after.unserved() as f64, 0.5)
}

fn line(text: &mut String, label: &str, cells: impl Iterator<Item = String>) {
    let mut line = format!("{label:<LABEL$}");
    for cell in cells {
        // Writing to a string cannot fail.
        write!(line, "{cell:>CELL$}").ok();
    }
    text.push_str(line.trim_end());
    text.push('\n');
}

fn waits(group: &Group) -> String {
    format!("{} / {}", bare(group.wait_p50), seconds(group.wait_p99))
}

fn bare(seconds: f64) -> String {
    if seconds < 0.995 { format!("{seconds:.2}") } else { format!("{seconds:.1}") }
}

pub(super) fn seconds(seconds: f64) -> String {
    format!("{} s", bare(seconds))
}

fn percent(part: Option<f64>) -> String {
    part.map_or_else(|| "-".to_owned(), |part| format!("{:.0} %", part * 100.0))
}

fn short(name: &str) -> String {
    let clean: String = name.chars().filter(|character| !character.is_control()).collect();
    if clean.chars().count() <= 14 {
        clean
    } else {
        format!("{}…", clean.chars().take(13).collect::<String>())
    }
}

/// A number with a comma between thousands.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn sparks(waiting: &[u32], most: u32) -> String {
    const LEVELS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let heights = waiting.chunks(BINS / SPARKS).map(|bins| {
        let value = u64::from(bins.iter().max().copied().unwrap_or(0));
        let level = (value * 8).div_ceil(u64::from(most.max(1)));
        LEVELS[usize::try_from(level).unwrap_or(8).min(8)]
    });
    heights.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(p99: f64, refused: u64) -> Group {
        Group { requests: 100, refused, waited: 10, wait_p99: p99, wait_mean: p99 / 10.0, ..Group::default() }
    }

    #[test]
    fn the_sentence_says_whether_it_helps() {
        for (before, after, could_help, said) in [
            (group(10.0, 0), group(1.0, 0), true, "would have helped"),
            (group(10.0, 5), group(10.0, 0), true, "would have helped"),
            (group(10.0, 0), group(10.2, 0), true, "would have changed little"),
            (group(1.0, 0), group(10.0, 0), true, "would have made it worse"),
            (group(0.0, 0), group(0.0, 0), false, "would not have helped"),
        ] {
            let sentence = verdict("Twice the limit", &before, &after, could_help);
            assert!(sentence.contains(said), "{sentence}");
        }
    }

    #[test]
    fn numbers_and_lines_are_readable() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(sparks(&vec![4; BINS], 8).chars().count(), SPARKS);
        assert_eq!(sparks(&vec![0; BINS], 0).trim(), "");
    }
}
