//! Tables: medians with ranges, ratios within the same round, or the reason for a missing figure.

use super::scenario::{Column, Scenario, Subject};
use super::verdict::Doubt;
use crate::report::Report;

/// How one measurement ended.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    Measured(Report),
    Doubtful(Report, Doubt),
    Failed(String),
}

const RATIO_DECIMALS: usize = 2;

/// The rules for showing a figure.
#[derive(Clone, Copy)]
pub(super) struct Rules {
    /// The greatest spread of a figure over the rounds, as a part of its median.
    pub(super) spread: f64,
    /// Figures that aren't to be believed are shown too, marked with `~`.
    pub(super) show_doubtful: bool,
}

/// A figure over the rounds.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell {
    Figure {
        median: f64,
        low: f64,
        high: f64,
        doubtful: bool,
    },
    /// Why there is none.
    Said(String),
    /// It doesn't apply.
    Nothing,
}

impl Cell {
    pub(super) fn median(&self) -> Option<f64> {
        match self {
            Self::Figure { median, doubtful: false, .. } => Some(*median),
            Self::Figure { .. } | Self::Said(_) | Self::Nothing => None,
        }
    }

    fn show(&self, decimals: usize) -> String {
        match self {
            Self::Figure { median, low, high, doubtful } => {
                let mark = if *doubtful { "~" } else { "" };
                format!("{mark}{median:.decimals$} ({low:.decimals$}–{high:.decimals$})")
            }
            Self::Said(why) => why.clone(),
            Self::Nothing => "–".to_owned(),
        }
    }
}

/// A scenario's measurements: `outcomes[subject][round]`, or why a subject was skipped.
pub(super) struct Results {
    pub(super) scenario: Scenario,
    pub(super) subjects: Vec<Subject>,
    pub(super) outcomes: Vec<Result<Vec<Outcome>, String>>,
}

impl Results {
    /// The figure of a row and a column.
    pub(super) fn cell(&self, row: usize, column: &Column, rules: Rules) -> Cell {
        self.over_rounds(row, rules, column.decimals, |round, report| {
            (column.value)(report, self.direct(round))
        })
    }

    /// The first column's figure divided by that of another row in the same round.
    pub(super) fn ratio(&self, row: usize, reference: &str, rules: Rules) -> Cell {
        let Some(other) = self.row(reference).filter(|&other| other != row) else { return Cell::Nothing };
        let columns = self.scenario.columns();
        self.over_rounds(row, rules, RATIO_DECIMALS, |round, report| {
            let reference = self.report(other, round)?;
            let value = |report| (columns[0].value)(report, self.direct(round));
            Some(value(report)? / value(reference)?).filter(|ratio| ratio.is_finite())
        })
    }

    pub(super) fn row(&self, label: &str) -> Option<usize> {
        self.subjects.iter().position(|subject| subject.label == label)
    }

    fn direct(&self, round: usize) -> Option<&Report> {
        self.row("direct").and_then(|row| self.report(row, round))
    }

    fn report(&self, row: usize, round: usize) -> Option<&Report> {
        match self.outcomes[row].as_ref().ok()?.get(round)? {
            Outcome::Measured(report) | Outcome::Doubtful(report, _) => Some(report),
            Outcome::Failed(_) => None,
        }
    }

    fn over_rounds(
        &self,
        row: usize,
        rules: Rules,
        decimals: usize,
        value: impl Fn(usize, &Report) -> Option<f64>,
    ) -> Cell {
        let outcomes = match &self.outcomes[row] {
            Ok(outcomes) => outcomes,
            Err(why) => return Cell::Said(format!("skipped: {why}")),
        };
        let (mut values, mut doubtful_values, mut doubt) = (Vec::new(), Vec::new(), None);
        for (round, outcome) in outcomes.iter().enumerate() {
            match outcome {
                Outcome::Measured(report) => values.extend(value(round, report)),
                Outcome::Doubtful(report, Doubt::Noisy(why)) => {
                    doubtful_values.extend(value(round, report));
                    doubt.get_or_insert(format!("noisy: {why}"));
                }
                Outcome::Doubtful(report, Doubt::Invalid(why)) => {
                    doubtful_values.extend(value(round, report));
                    doubt = Some(why.clone());
                }
                Outcome::Failed(why) => return Cell::Said(format!("failed: {why}")),
            }
        }
        if values.is_empty() && doubtful_values.is_empty() {
            return Cell::Nothing;
        }
        // A figure stands on most of the rounds.
        if doubt.is_none() || values.len() * 3 >= outcomes.len() * 2 {
            return figure(values, rules, decimals, None);
        }
        values.extend(doubtful_values);
        figure(values, rules, decimals, doubt)
    }
}

fn figure(mut values: Vec<f64>, rules: Rules, decimals: usize, doubt: Option<String>) -> Cell {
    values.sort_by(f64::total_cmp);
    let (Some(&low), Some(&high)) = (values.first(), values.last()) else { return Cell::Nothing };
    let middle = values.len() / 2;
    let median = if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    };
    // With at least five rounds, one outlier at either end is ignored.
    let inner = if values.len() >= 5 { &values[1..values.len() - 1] } else { &values[..] };
    let range = inner[inner.len() - 1] - inner[0];
    let spread = range / median.abs();
    // A difference within rounding is no spread: 0.5 and 0.6 KiB are equal.
    let shown = range > 2.0 * 10f64.powi(-i32::try_from(decimals).unwrap_or(0));
    let doubt = doubt.or_else(|| {
        (shown && spread > rules.spread)
            .then(|| format!("noisy: spread {:.0} % ({low:.1}–{high:.1})", spread * 100.0))
    });
    match doubt {
        Some(why) if !rules.show_doubtful => Cell::Said(why),
        doubt => Cell::Figure { median, low, high, doubtful: doubt.is_some() },
    }
}

/// A scenario's table in Markdown, with the reasons why figures are missing or marked below it.
pub(super) fn render(results: &Results, rules: Rules) -> String {
    let columns = results.scenario.columns();
    let references: Vec<&str> =
        results.scenario.references().iter().copied().filter(|label| results.row(label).is_some()).collect();

    let mut heads = vec![String::new()];
    heads.extend(columns.iter().map(|column| column.title.to_owned()));
    heads.extend(references.iter().map(|reference| format!("÷ {reference}")));
    let mut lines = vec![
        format!("## {}\n", results.scenario.title()),
        format!("| {} |", heads.join(" | ")),
        "|---".repeat(heads.len()) + "|",
    ];
    let mut notes = Vec::new();
    for (row, subject) in results.subjects.iter().enumerate() {
        let mut cells: Vec<(Cell, usize)> =
            columns.iter().map(|column| (results.cell(row, column, rules), column.decimals)).collect();
        cells.extend(
            references.iter().map(|reference| (results.ratio(row, reference, rules), RATIO_DECIMALS)),
        );
        let texts: Vec<String> = cells.iter().map(|(cell, decimals)| cell.show(*decimals)).collect();
        // The same reason in every cell is said once.
        let said = cells.iter().all(|(cell, _)| matches!(cell, Cell::Said(_) | Cell::Nothing));
        let first = texts.first().cloned().unwrap_or_default();
        let same = texts.iter().all(|text| *text == first || text == "–");
        if said && same && first != "–" {
            lines.push(format!("| {} | {first} |{}", subject.label, " |".repeat(texts.len() - 1)));
        } else {
            lines.push(format!("| {} | {} |", subject.label, texts.join(" | ")));
        }
        notes.extend(
            doubts(&results.outcomes[row]).into_iter().map(|why| format!("- {}, {why}", subject.label)),
        );
    }
    if !notes.is_empty() {
        lines.push(format!("\nRounds not believed:\n{}", notes.join("\n")));
    }
    lines.join("\n") + "\n"
}

fn doubts(outcomes: &Result<Vec<Outcome>, String>) -> Vec<String> {
    let Ok(outcomes) = outcomes else { return Vec::new() };
    outcomes
        .iter()
        .enumerate()
        .filter_map(|(round, outcome)| match outcome {
            Outcome::Measured(_) => None,
            Outcome::Doubtful(_, Doubt::Noisy(why)) => Some(format!("round {}: noisy: {why}", round + 1)),
            Outcome::Doubtful(_, Doubt::Invalid(why)) => Some(format!("round {}: {why}", round + 1)),
            Outcome::Failed(why) => Some(format!("round {}: failed: {why}", round + 1)),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules { spread: 0.1, show_doubtful: false };

    fn measured(cpu: f64) -> Outcome {
        let mut report = Report::default();
        report.put("proxy_cpu_us", cpu);
        report.put("requests", 1);
        Outcome::Measured(report)
    }

    fn noisy(cpu: f64) -> Outcome {
        let Outcome::Measured(report) = measured(cpu) else { unreachable!("measured") };
        Outcome::Doubtful(report, Doubt::Noisy("others took 9 %".into()))
    }

    fn results(rows: Vec<(&str, Vec<Outcome>)>) -> Results {
        let subjects = Scenario::Json.subjects();
        let subjects = rows
            .iter()
            .map(|(label, _)| subjects.iter().find(|s| s.label == *label).expect("a row").clone())
            .collect();
        Results {
            scenario: Scenario::Json,
            subjects,
            outcomes: rows.into_iter().map(|(_, outcomes)| Ok(outcomes)).collect(),
        }
    }

    fn first_cell(outcomes: Vec<Outcome>) -> String {
        let results = results(vec![("nginx", outcomes)]);
        results.cell(0, &Scenario::Json.columns()[0], RULES).show(1)
    }

    #[test]
    fn a_figure_is_a_median_with_its_range() {
        assert_eq!(first_cell(vec![measured(16.0), measured(15.5), measured(16.5)]), "16.0 (15.5–16.5)");
    }

    #[test]
    fn spread_noise_and_failure_are_said_instead() {
        assert_eq!(
            first_cell(vec![measured(16.0), measured(14.0), measured(18.0)]),
            "noisy: spread 25 % (14.0–18.0)"
        );
        assert_eq!(first_cell(vec![measured(16.0), noisy(16.0), noisy(16.0)]), "noisy: others took 9 %");
        assert_eq!(first_cell(vec![measured(16.0), measured(16.1), noisy(30.0)]), "16.1 (16.0–16.1)");
        assert_eq!(
            first_cell(vec![measured(16.0), Outcome::Failed("status 503".into())]),
            "failed: status 503"
        );
    }

    #[test]
    fn one_round_of_five_may_stand_apart() {
        let rounds = [16.0, 16.1, 16.2, 16.3, 25.0];
        assert_eq!(first_cell(rounds.map(measured).to_vec()), "16.2 (16.0–25.0)");
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        // The machine slowed down to half in the second round: the ratio didn't change.
        let results = results(vec![
            ("nginx", vec![measured(10.0), measured(20.0)]),
            ("Weir", vec![measured(12.0), measured(24.0)]),
        ]);
        assert_eq!(results.ratio(1, "nginx", RULES).median(), Some(1.2));
        assert_eq!(results.ratio(0, "nginx", RULES), Cell::Nothing);
    }
}
