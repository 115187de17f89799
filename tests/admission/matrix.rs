//! The matrix of issue 3, 1: source of the limit × shape × latency × load, over many seeds.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use weir::internals::simulate::limiter::{Depth, Dimension, Joint, Shape};

use crate::world::{Report, Scenario, Source, run};

pub(crate) const SHAPES: [(&str, Shape); 5] = [
    ("minute", Shape::Bucket(Depth::Window)),
    ("second", Shape::Bucket(Depth::Of(Duration::from_secs(1)))),
    ("lying", Shape::LyingBucket(Depth::Of(Duration::from_secs(1)))),
    ("fixed", Shape::FixedWindow),
    ("log", Shape::SlidingLog),
];

/// The source of the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Told {
    /// The headers of every response.
    Headers,
    /// The configuration only.
    Configured,
    /// Refusals, with numbers.
    Refusals,
    /// None: a refusal is a bare 429.
    Nothing,
}

impl Told {
    pub(crate) const ALL: [Self; 4] = [Self::Headers, Self::Configured, Self::Refusals, Self::Nothing];

    /// The duration of a run, and the start of measuring the use, in seconds.
    fn times(self) -> (f64, f64) {
        match self {
            Self::Headers | Self::Configured => (300.0, 60.0),
            Self::Refusals => (360.0, 120.0),
            Self::Nothing => (1500.0, 600.0),
        }
    }
}

/// The maximum seconds from the send to the upstream's accounting, and from there to the head; the
/// fraction of heads that take a minute.
pub(crate) const LATENCIES: [(f64, f64, f64); 4] =
    [(0.05, 1.95, 0.0), (0.05, 1.95, 0.3), (1.0, 1.0, 0.0), (2.0, 0.0, 0.0)];

/// The number of callers, with equal load, to compare their service.
const CALLERS: u16 = 4;

/// One run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) told: Told,
    pub(crate) shape: usize,
    pub(crate) latency: usize,
    pub(crate) limit: u64,
    /// The offered load, as a multiple of the limit.
    pub(crate) factor: f64,
    pub(crate) seed: u64,
}

impl Case {
    fn scenario(self) -> Scenario {
        let upstream = Joint::new().with(Dimension::RequestsPerMinute, self.limit, SHAPES[self.shape].1);
        let mut scenario = Scenario::new(upstream);
        scenario.headers = self.told == Told::Headers;
        scenario.numbers = matches!(self.told, Told::Headers | Told::Refusals);
        scenario.hint = scenario.numbers;
        if self.told == Told::Configured {
            scenario.settings.limits.requests_per_minute = Some(self.limit);
        }
        (scenario.before, scenario.after, scenario.slow) = LATENCIES[self.latency];
        (scenario.seconds, scenario.measured_from) = self.told.times();
        scenario.seed = self.seed;
        let rate = self.limit as f64 / 60.0 * self.factor / f64::from(CALLERS);
        scenario.sources = (0..CALLERS).map(|caller| Source::new(caller).rate(rate)).collect();
        scenario
    }
}

/// The results of one run.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) case: Case,
    /// 429s in the learning time, as a fraction of the first minute's requests.
    pub(crate) learning: f64,
    /// The same for attempts sent after the first 429 was received.
    pub(crate) avoidable: f64,
    /// 429s after the learning time.
    pub(crate) after: u64,
    /// The used fraction of the limit after the learning time.
    pub(crate) used: f64,
    pub(crate) median: f64,
    pub(crate) worst: f64,
    pub(crate) jain: f64,
    pub(crate) late: u64,
    pub(crate) attempts: u64,
    /// The fraction of requests refused because of their deadline.
    pub(crate) turned_away: f64,
    /// The maximum reported use by others, of which there are none.
    pub(crate) foreign: f64,
    pub(crate) by_minute: Vec<u64>,
}

impl Outcome {
    fn new(case: Case, report: &Report) -> Self {
        // A limit learned from refusals is learned in the minutes after the first one.
        let first = report.refused_by_minute.iter().position(|count| *count > 0).unwrap_or(0);
        let learned = match case.told {
            // A limit that contradicts the headers shows only by a refusal.
            Told::Headers if SHAPES[case.shape].0 == "lying" => first + 1,
            Told::Headers => 1,
            Told::Configured => 0,
            Told::Refusals => first + 2,
            Told::Nothing => first + 8,
        };
        let all = report.refused_upstream;
        let after = report.refused_from(learned);
        let part = |count: u64| count as f64 / report.offered_first_minute.max(1) as f64;
        let avoidable = report.refused_knowingly.iter().take(learned).sum();
        Self {
            case,
            learning: part(all - after),
            avoidable: part(avoidable),
            after,
            used: report.used.0 as f64 / (case.limit as f64 / 60.0 * report.measured),
            median: report.percentile(0.5),
            worst: report.percentile(0.99),
            jain: jain(report.served.values().map(|tokens| *tokens as f64)),
            late: report.late,
            attempts: report.attempts.len() as u64,
            turned_away: report.deadline_refused as f64 / report.offered.max(1) as f64,
            foreign: report.foreign,
            by_minute: report.refused_by_minute.clone(),
        }
    }

    /// Whether it is another run of the same cell.
    pub(crate) fn same_cell(&self, other: &Self) -> bool {
        let key =
            |case: &Case| (case.told, case.shape, case.latency, case.limit, (case.factor * 10.0) as u64);
        key(&self.case) == key(&other.case)
    }

    pub(crate) fn name(&self) -> String {
        let Case { told, shape, latency, limit, factor, seed } = self.case;
        format!("{told:?} {} {:?} {limit}/min {factor}x seed {seed}", SHAPES[shape].0, LATENCIES[latency])
    }
}

/// Jain's fairness index: 1 if all get the same.
pub(crate) fn jain(values: impl Iterator<Item = f64>) -> f64 {
    let (mut count, mut sum, mut squares) = (0.0, 0.0, 0.0);
    for value in values {
        (count, sum, squares) = (count + 1.0, sum + value, squares + value * value);
    }
    if squares > 0.0 { sum * sum / (count * squares) } else { 1.0 }
}

/// Runs every case, on all cores, in the order given.
pub(crate) fn run_all(cases: &[Case]) -> Vec<Outcome> {
    each(cases, |case| Outcome::new(*case, &run(case.scenario())))
}

/// Runs `work` for each item on all cores. Returns the results in order.
pub(crate) fn each<I: Sync, O: Send>(items: &[I], work: impl Fn(&I) -> O + Sync) -> Vec<O> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(items.len()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(items.len().max(1));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(index) else { break };
                    let result = work(item);
                    done.lock().unwrap().push((index, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap();
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Prints one row of Markdown for each cell: all its seeds together.
pub(crate) fn print(outcomes: &[Outcome]) {
    println!(
        "| told by | shape | to accounting + to head, slow | limit/min | load | runs | 429s learning, worst | of it avoidable | mean after | worst after | least use | mean use | p50 s | p99 s | Jain |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"
    );
    for runs in outcomes.chunk_by(Outcome::same_cell) {
        let Case { told, shape, latency, limit, factor, .. } = runs[0].case;
        let (before, after, slow) = LATENCIES[latency];
        let most = |value: fn(&Outcome) -> f64| runs.iter().map(value).fold(0.0, f64::max);
        let least = |value: fn(&Outcome) -> f64| runs.iter().map(value).fold(f64::INFINITY, f64::min);
        let mean = |value: fn(&Outcome) -> f64| runs.iter().map(value).sum::<f64>() / runs.len() as f64;
        println!(
            "| {told:?} | {} | {before} + {after} s, {:.0} % | {limit} | {factor} | {} | {:.2} % | {:.2} % | {:.2} | {} | {:.1} % | {:.1} % | {:.1} | {:.1} | {:.4} |",
            SHAPES[shape].0,
            slow * 100.0,
            runs.len(),
            most(|run| run.learning) * 100.0,
            most(|run| run.avoidable) * 100.0,
            mean(|run| run.after as f64),
            most(|run| run.after as f64),
            least(|run| run.used) * 100.0,
            mean(|run| run.used) * 100.0,
            most(|run| run.median),
            most(|run| run.worst),
            least(|run| run.jain),
        );
    }
}
