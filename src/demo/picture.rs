//! The chart of both runs: finished jobs and refusals over time.

use std::time::Duration;

use crate::chart::{Chart, Panel, Series};

use super::figures::{Figures, Ways};
use super::workload::Scale;

/// The chart of both runs.
pub(super) fn draw(ways: &Ways, scale: &Scale) -> Chart {
    let runs = [("direct, SDK retries", &ways.direct), ("through Weir", &ways.through_weir)];
    let last = runs.iter().map(|(_, run)| run.wall).max().unwrap_or_default();
    let seconds = last.as_secs_f64().ceil().max(1.0);
    let outage = (scale.outage_start, scale.outage_start + scale.outage_length);
    let shaded = vec![(outage.0.as_secs_f64(), outage.1.as_secs_f64(), "API down")];
    let panel = |title: String, points: &dyn Fn(&Figures) -> Vec<(f64, f64)>| Panel {
        title,
        series: runs
            .iter()
            .map(|(name, run)| Series { name: (*name).to_owned(), points: points(run) })
            .collect(),
        shaded: shaded.clone(),
    };
    Chart {
        title: format!("{} jobs, direct and through Weir", ways.direct.jobs),
        seconds,
        panels: vec![
            panel(format!("jobs finished, of {}", ways.direct.jobs), &|run| finished(&run.ends, seconds)),
            panel("429s of the API, in each second".to_owned(), &|run| {
                refused(&run.refused_by_second, seconds)
            }),
        ],
    }
}

/// A line that rises with each end of a job.
fn finished(ends: &[Duration], seconds: f64) -> Vec<(f64, f64)> {
    let steps = ends.iter().enumerate().map(|(count, end)| (end.as_secs_f64(), count as f64 + 1.0));
    let mut points = vec![(0.0, 0.0)];
    points.extend(steps);
    points.push((seconds, ends.len() as f64));
    points
}

fn refused(by_second: &[(u64, u64)], seconds: f64) -> Vec<(f64, f64)> {
    let of = |second: u64| by_second.iter().find(|(at, _)| *at == second).map_or(0, |(_, refused)| *refused);
    let last = by_second.iter().map(|(at, _)| *at).max().unwrap_or(0);
    let points = (0..=last).map(|second| (second as f64 + 0.5, of(second) as f64));
    points.take_while(|(at, _)| *at < seconds).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_add_up_and_seconds_without_a_refusal_are_none() {
        let ends = [Duration::from_secs(1), Duration::from_secs(4)];
        assert_eq!(finished(&ends, 9.0), [(0.0, 0.0), (1.0, 1.0), (4.0, 2.0), (9.0, 2.0)]);
        assert_eq!(refused(&[(0, 7), (2, 3)], 3.0), [(0.5, 7.0), (1.5, 0.0), (2.5, 3.0)]);
    }
}
