//! The comparison: interleaved rounds over all scenarios and contenders, then one document with the
//! tables.

mod contender;
mod goals;
mod measure;
mod process;
mod scenario;
mod table;
mod verdict;
mod template;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use clap::{Args, ValueEnum as _};

use crate::accounting;
use crate::failure::{Failure, Result, While as _};
use contender::{Contender, Found, Places};
use measure::{Processors, Stage};
use scenario::{Extent, Scenario, Subject};
use table::{Outcome, Results, Rules};
use verdict::Doubt;

/// A machine is quiet when its busiest processor is busy for no more than this.
const QUIET_SHARE: f64 = 0.04;

/// The options of a comparison.
#[derive(Args)]
pub(crate) struct Options {
    /// Scenarios; all but the soak when none is named.
    #[arg(value_enum)]
    scenarios: Vec<Scenario>,
    /// Contenders, separated by commas; all but LiteLLM when none is named.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Contender>,
    /// Compares LiteLLM too, which takes long to start.
    #[arg(long)]
    with_litellm: bool,
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// The maximum number of repetitions if the machine was disturbed.
    #[arg(long, default_value_t = 2)]
    again: u32,
    /// Waits before each measurement until the machine is quiet, at most this time in seconds.
    #[arg(long, default_value_t = 20)]
    settle: u64,
    /// The greatest spread of a figure over the rounds, in percent of its median.
    #[arg(long, default_value_t = 10.0)]
    spread: f64,
    /// Shows unreliable figures too, marked with ~ (for work on the harness).
    #[arg(long)]
    show_doubtful: bool,
    /// Requests of a soak.
    #[arg(long, default_value_t = 10_000_000)]
    soak_requests: u64,
    /// Minutes that a soak may take.
    #[arg(long, default_value_t = 30.0)]
    soak_minutes: f64,
    /// Where the tables and all raw figures are kept.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/results"))]
    results: PathBuf,
    #[command(flatten)]
    processors: Processors,
    #[command(flatten)]
    places: Places,
}

/// Measures, writes the document to `results` and returns it. Progress goes to `progress`, a line a
/// measurement.
pub(crate) fn run(options: &Options, progress: &mut dyn FnMut(&str)) -> Result<String> {
    for tool in ["taskset", "setpriv"] {
        contender::on_path(tool)
            .ok_or_else(|| Failure::new(format!("{tool} is missing (package util-linux)")))?;
    }
    let directory = std::env::temp_dir().join(format!("weir-compare-{}", std::process::id()));
    fs::create_dir_all(&directory).doing(format!("create {}", directory.display()))?;
    let document = compare(options, &directory, progress);
    fs::remove_dir_all(&directory)?;
    document
}

fn compare(options: &Options, directory: &Path, progress: &mut dyn FnMut(&str)) -> Result<String> {
    let found = find_all(options, progress);
    let rules = Rules { spread: options.spread / 100.0, show_doubtful: options.show_doubtful };
    let mut document = machine(options, &found);
    let mut raw = String::new();
    let mut all = Vec::new();
    for scenario in scenarios(options) {
        let results = rounds(options, scenario, &found, directory, progress)?;
        keep_raw(&results, &mut raw);
        let _ = write!(document, "\n{}", table::render(&results, rules));
        all.push(results);
    }
    if let Some(goals) = goals::render(&all, rules) {
        let _ = write!(document, "\n{goals}");
    }
    let _ = writeln!(document, "\nLoad average at the end: {}", load_average());
    keep(options, &document, &raw)?;
    Ok(document)
}

fn scenarios(options: &Options) -> Vec<Scenario> {
    if options.scenarios.is_empty() {
        return Scenario::value_variants()
            .iter()
            .copied()
            .filter(|&scenario| scenario != Scenario::Soak)
            .collect();
    }
    options.scenarios.clone()
}

type Search = BTreeMap<Contender, std::result::Result<Found, String>>;

fn find_all(options: &Options, progress: &mut dyn FnMut(&str)) -> Search {
    let wanted = |contender: &Contender| {
        let default = options.only.is_empty() && (*contender != Contender::Litellm || options.with_litellm);
        default || options.only.contains(contender) || *contender == Contender::Direct
    };
    let mut search = Search::new();
    for &contender in Contender::value_variants().iter().filter(|contender| wanted(contender)) {
        let found =
            contender::find(contender, &options.places).map_err(|hint| format!("not installed: {hint}"));
        if let Err(why) = &found {
            progress(&format!("SKIPPED: {} is {why}", contender.as_str()));
        }
        search.insert(contender, found);
    }
    search
}

/// All rounds of a scenario. Within a round every subject is measured once; each round begins with
/// another one.
fn rounds(
    options: &Options,
    scenario: Scenario,
    search: &Search,
    directory: &Path,
    progress: &mut dyn FnMut(&str),
) -> Result<Results> {
    let extent = Extent {
        seconds: options.seconds,
        soak_requests: options.soak_requests,
        soak_minutes: options.soak_minutes,
    };
    let subjects: Vec<Subject> =
        scenario.subjects().into_iter().filter(|subject| search.contains_key(&subject.contender)).collect();
    let mut outcomes: Vec<std::result::Result<Vec<Outcome>, String>> = subjects
        .iter()
        .map(|subject| search[&subject.contender].as_ref().map(|_| Vec::new()).map_err(Clone::clone))
        .collect();
    let rounds = if scenario == Scenario::Soak { 1 } else { options.rounds };
    let mut stage = Stage::set(scenario, scenario.load(&extent), &options.processors, directory)?;
    for round in 0..rounds {
        for place in 0..subjects.len() {
            let place = (place + round) % subjects.len();
            let (subject, Ok(found)) = (&subjects[place], &search[&subjects[place].contender]) else {
                continue;
            };
            let outcome = measure(&mut stage, subject, found, options);
            let word = match &outcome {
                Outcome::Measured(_) => "ok".to_owned(),
                Outcome::Doubtful(_, Doubt::Noisy(why)) => format!("NOISY: {why}"),
                Outcome::Doubtful(_, Doubt::Invalid(why)) => format!("NOT MEASURED: {why}"),
                Outcome::Failed(why) => format!("FAILED: {why}"),
            };
            progress(&format!("{scenario:?}, round {} of {rounds}, {}: {word}", round + 1, subject.label));
            if let Ok(outcomes) = &mut outcomes[place] {
                outcomes.push(outcome);
            }
        }
    }
    Ok(Results { scenario, subjects, outcomes })
}

/// Measures until nothing disturbed it, as often as allowed.
fn measure(stage: &mut Stage<'_>, subject: &Subject, found: &Found, options: &Options) -> Outcome {
    let mut tries = 0..=options.again;
    loop {
        settle(options.settle);
        tries.next();
        let outcome = stage.measure(subject, found);
        if tries.is_empty() || !matches!(outcome, Outcome::Doubtful(_, Doubt::Noisy(_))) {
            return outcome;
        }
    }
}

/// Waits until the machine is quiet, or for the maximum time. The measurement detects disturbances.
fn settle(seconds: u64) {
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end && accounting::busiest_share(Duration::from_millis(300)) > QUIET_SHARE {}
}

/// The machine, the versions and the extent of a run.
fn machine(options: &Options, search: &Search) -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let processors = read("/proc/cpuinfo");
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown");
    let number = processors.lines().filter(|line| line.starts_with("processor")).count();
    let memory = read("/proc/meminfo");
    let memory =
        memory.lines().next().and_then(|line| line.split_ascii_whitespace().nth(1)?.parse::<f64>().ok());
    let mut text = format!(
        "# Comparison\n\n- Machine: {number} × {}, {:.0} GiB, Linux {}\n- Load average at the start: {}\n\
         - {} rounds of {} s; load and upstream on processor {}, the proxy on {}\n",
        model.trim_start_matches([':', ' ', '\t']),
        memory.unwrap_or(0.0) / 1024.0 / 1024.0,
        read("/proc/sys/kernel/osrelease").trim(),
        load_average(),
        options.rounds,
        options.seconds,
        options.processors.load,
        options.processors.proxy,
    );
    for (contender, found) in search {
        let line = match found {
            Ok(found) if found.version.is_empty() => continue,
            Ok(found) => found.version.clone(),
            Err(why) => format!("SKIPPED, {why}"),
        };
        let _ = writeln!(text, "- {}: {line}", contender.as_str());
    }
    text
}

fn load_average() -> String {
    accounting::load_average().map_or_else(|| "unknown".to_owned(), |load| format!("{load:.2}"))
}

/// Every figure of every round, to check the tables.
fn keep_raw(results: &Results, raw: &mut String) {
    for (subject, outcomes) in results.subjects.iter().zip(&results.outcomes) {
        for (round, outcome) in outcomes.iter().flatten().enumerate() {
            let _ = writeln!(raw, "[{:?} / {} / round {}]", results.scenario, subject.label, round + 1);
            match outcome {
                Outcome::Measured(report) => raw.push_str(&report.to_string()),
                Outcome::Doubtful(report, doubt) => {
                    let _ = write!(raw, "doubt {doubt:?}\n{report}");
                }
                Outcome::Failed(why) => {
                    let _ = writeln!(raw, "failed {why}");
                }
            }
        }
    }
}

fn keep(options: &Options, document: &str, raw: &str) -> Result<()> {
    let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    fs::create_dir_all(&options.results).doing("create the directory of results")?;
    for (extension, text) in [("md", document), ("raw", raw)] {
        fs::write(options.results.join(format!("{seconds}.{extension}")), text).doing("keep the results")?;
    }
    Ok(())
}
