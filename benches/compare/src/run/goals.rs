//! Weir's goals, compared with the measurements.

use super::scenario::Scenario;
use super::table::{Cell, Results, Rules};

/// A bound on a figure of Weir's.
struct Goal {
    scenario: Scenario,
    what: &'static str,
    most: f64,
    figure: Figure,
}

enum Figure {
    /// A column of the row `Weir`.
    Column(&'static str),
    /// The first column's ratio to another row.
    Ratio { row: &'static str, to: &'static str },
}

const WEIR: &str = "Weir";

const GOALS: [Goal; 19] = [
    ratio(Scenario::Json, "CPU per request ÷ nginx", 1.3, WEIR, "nginx"),
    ratio(Scenario::Json, "CPU per request ÷ Envoy", 0.3, WEIR, "Envoy"),
    ratio(Scenario::JsonTls, "CPU per request with TLS upstream ÷ nginx", 1.0, WEIR, "nginx"),
    ratio(Scenario::Streams, "CPU per chunk ÷ nginx unbuffered", 0.95, WEIR, "nginx unbuffered"),
    ratio(Scenario::Fixed, "added p50 at 5,000/s ÷ nginx", 1.15, WEIR, "nginx"),
    absolute(Scenario::FixedFew, "p50 µs at 3,000/s over 32 connections, whole path", 200.0, "p50 µs"),
    absolute(Scenario::FixedFew, "p99 µs at 3,000/s over 32 connections, whole path", 400.0, "p99 µs"),
    absolute(Scenario::FixedMany, "added p99 µs at 10,000/s", 900.0, "added p99 µs"),
    absolute(Scenario::Idle, "MiB at rest", 15.0, "at rest MiB"),
    absolute(Scenario::Idle, "KiB per idle connection", 16.0, "KiB/connection"),
    absolute(Scenario::SlowStreams, "KiB per slow stream", 32.0, "KiB/stream"),
    absolute(Scenario::Waiting, "KiB per waiting request", 20.0, "KiB/request"),
    absolute(
        Scenario::WaitingHttp2,
        "KiB per waiting request over HTTP/2, without its body",
        4.0,
        "KiB/request, without its body",
    ),
    ratio(Scenario::Workers, "CPU per request, 2 workers ÷ 1", 1.1, "Weir, 2 workers", "Weir, 1 worker"),
    ratio(Scenario::Scopes, "CPU per request, 256 scopes ÷ 1", 1.15, "Weir, 256 scopes", "Weir, 1 scope"),
    ratio(
        Scenario::Scopes,
        "CPU per request, 1,000 callers ÷ 1 scope",
        1.15,
        "Weir, 1,000 callers",
        "Weir, 1 scope",
    ),
    absolute(Scenario::Startup, "ms from start to first answer", 50.0, "first answer ms"),
    absolute(Scenario::Startup, "MB of binary", 15.0, "binary MB"),
    absolute(Scenario::Soak, "KiB grown in a soak", 1024.0, "growth KiB, second to last quarter"),
];

const fn ratio(
    scenario: Scenario,
    what: &'static str,
    most: f64,
    row: &'static str,
    to: &'static str,
) -> Goal {
    Goal { scenario, what, most, figure: Figure::Ratio { row, to } }
}

const fn absolute(scenario: Scenario, what: &'static str, most: f64, title: &'static str) -> Goal {
    Goal { scenario, what, most, figure: Figure::Column(title) }
}

/// The table of goals that these results speak to; `None` when none does.
pub(super) fn render(all: &[Results], rules: Rules) -> Option<String> {
    let rows: Vec<String> = GOALS
        .iter()
        .filter_map(|goal| {
            let results = all.iter().find(|results| results.scenario == goal.scenario)?;
            let cell = cell(goal, results, rules)?;
            let (shown, met) = match (&cell, cell.median()) {
                (_, Some(median)) => {
                    (format!("{median:.2}"), if median <= goal.most { "met" } else { "**missed**" })
                }
                (Cell::Figure { median, .. }, None) => (format!("~{median:.2}"), "not measured"),
                (Cell::Said(_) | Cell::Nothing, None) => ("–".to_owned(), "not measured"),
            };
            Some(format!("| {} | {} | {shown} | {met} |", goal.what, goal.most))
        })
        .collect();
    (!rows.is_empty()).then(|| {
        format!("## Goals\n\n| Weir | at most | measured | |\n|---|---|---|---|\n{}\n", rows.join("\n"))
    })
}

fn cell(goal: &Goal, results: &Results, rules: Rules) -> Option<Cell> {
    match goal.figure {
        Figure::Column(title) => {
            let column = results.scenario.columns().into_iter().find(|column| column.title == title)?;
            Some(results.cell(results.row(WEIR)?, &column, rules))
        }
        Figure::Ratio { row, to } => Some(results.ratio(results.row(row)?, to, rules)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_goal_names_rows_and_columns_that_exist() {
        for goal in &GOALS {
            let labels: Vec<String> =
                goal.scenario.subjects().into_iter().map(|subject| subject.label).collect();
            let rows = match goal.figure {
                Figure::Column(title) => {
                    let columns = goal.scenario.columns();
                    assert!(columns.iter().any(|column| column.title == title), "{}", goal.what);
                    vec![WEIR]
                }
                Figure::Ratio { row, to } => vec![row, to],
            };
            for row in rows {
                assert!(labels.iter().any(|label| label == row), "{}: no row {row}", goal.what);
            }
        }
    }
}
