//! `weir what-if`: replays the requests of an access log under other limits, weights or replicas.
//!
//! `read` finds the requests and the limits in a log; `replay` sends them through the admission
//! state machine against the model of the API's limiter, on a simulated clock. There are at most
//! three replays: under the recorded limits, which shows how accurate the replay is; as requested;
//! and with twice the limits.

mod figures;
mod plan;
mod read;
mod recording;
mod replay;
mod text;

#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use crate::account::Rfc3339;
use crate::chart::{Chart, Panel, Series};
use crate::simulate::limiter::{Depth, Shape};
use crate::simulate::{self};

pub use figures::{Figures, Group};

use plan::Plan;
use recording::{Lines, Outage, Recording};
use text::grouped;

/// Replays the requests of an access log under other limits, weights or replicas.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The access log (JSON lines, also gzip); - reads standard input
    pub log: PathBuf,
    /// Requests a minute that the API allows
    #[arg(long, value_name = "N", value_parser = limit)]
    pub requests_per_minute: Option<u64>,
    /// Tokens a minute that the API allows
    #[arg(long, value_name = "N", value_parser = limit)]
    pub tokens_per_minute: Option<u64>,
    /// A caller's share relative to others; repeat for each
    #[arg(long, value_name = "CALLER=N", value_parser = weight)]
    pub weight: Vec<(String, u32)>,
    /// The number of Weirs that share the limits evenly
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub replicas: Option<u16>,
    /// The number of replicas that wrote the log
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub recorded_replicas: u16,
    /// The scope to replay, by its name in the log [default: the one whose requests waited longest]
    #[arg(long, value_name = "NAME")]
    pub scope: Option<String>,
    /// How the API enforces its limits, as for weir simulate [default: as the recording shows]
    #[arg(long, value_name = "SHAPE", value_parser = simulate::shape)]
    pub shape: Option<Shape>,
    /// Seed of the random draws, such as the time of a probe; another seed shows how much is chance
    #[arg(long, value_name = "N", default_value_t = 7)]
    pub seed: u64,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Also write a chart of the waiting requests to this file, as SVG
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file can't be read or written.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The options do not fit the log.
    #[error("{0}")]
    Asked(String),
}

/// The progress of a run.
#[derive(Clone, Debug)]
pub enum Progress {
    /// The number of lines that were read.
    Read(u64),
    /// The name of the replay, and the completed fraction of it.
    Replayed(&'static str, f64),
}

/// The results of a log and its replays.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Answer {
    /// A description of the log and of the options.
    #[serde(skip)]
    heading: String,
    scope: String,
    lines: Lines,
    seconds: f64,
    /// The recording, and one column for each replay.
    columns: Vec<Column>,
    /// The conclusions as sentences.
    sentences: Vec<String>,
    #[serde(skip)]
    outages: Vec<(f64, f64)>,
}

/// The recording, or one replay.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Column {
    name: &'static str,
    figures: Figures,
}

/// Reads the log, replays it, and returns the results.
///
/// # Errors
/// See [`Error`]. Unreadable lines are counted, and are not an error.
pub fn run(args: &Args, progress: &mut dyn FnMut(Progress)) -> Result<Answer, Error> {
    let failed = |source| Error::File { path: args.log.clone(), source };
    let input: Box<dyn Read> = if args.log.as_os_str() == "-" {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(&args.log).map_err(failed)?)
    };
    let mut recording = read::read(input, &mut |lines| progress(Progress::Read(lines))).map_err(failed)?;
    let scope = scope(args, &recording)?;
    let outages = recording.keep(scope);
    if recording.requests.is_empty() {
        return Err(Error::Asked(format!(
            "the log has no request of the scope {:?}",
            recording.scopes[usize::from(scope)]
        )));
    }
    let answer = answer(args, &recording, scope, &outages, progress)?;
    if let Some(path) = &args.svg {
        std::fs::write(path, answer.picture().svg())
            .map_err(|source| Error::File { path: path.clone(), source })?;
    }
    Ok(answer)
}

impl Answer {
    /// The results as a table for a terminal.
    pub fn text(&self) -> String {
        text::render(self)
    }

    /// The figures of the column with this name: `recorded`, `replayed`, `what if` or `twice the
    /// limits`.
    #[cfg(any(test, feature = "internals"))]
    pub fn figures(&self, column: &str) -> Option<&Figures> {
        self.columns.iter().find(|known| known.name == column).map(|known| &known.figures)
    }

    /// The chart of waiting requests, with a line for each column.
    fn picture(&self) -> Chart {
        let width = self.seconds / figures::BINS as f64;
        let series = self.columns.iter().map(|column| Series {
            name: column.name.to_owned(),
            points: (column.figures.waiting.iter().enumerate())
                .map(|(bin, waiting)| ((bin as f64 + 0.5) * width, f64::from(*waiting)))
                .collect(),
        });
        Chart {
            title: format!("{}: as recorded, and replayed", self.scope),
            seconds: self.seconds,
            panels: vec![Panel {
                title: "requests that wait".to_owned(),
                series: series.collect(),
                shaded: self.outages.iter().map(|(from, until)| (*from, *until, "API down")).collect(),
            }],
        }
    }
}

/// The scope to replay.
fn scope(args: &Args, recording: &Recording) -> Result<u16, Error> {
    let none = || {
        let lines = recording.lines;
        Error::Asked(format!(
            "{}: no line of Weir's access log among {} lines ({} are no JSON); Weir writes it to standard error, as JSON where \
             log.format is \"json\" or that is no terminal",
            args.log.display(),
            lines.read,
            lines.foreign
        ))
    };
    let Some(name) = &args.scope else { return recording.busiest_scope().ok_or_else(none) };
    let known = (0_u16..).zip(&recording.scopes).find(|(_, known)| *known == name).map(|(scope, _)| scope);
    known.ok_or_else(|| Error::Asked(format!("--scope {name}: {}", choices("scopes", &recording.scopes))))
}

fn answer(
    args: &Args,
    recording: &Recording,
    scope: u16,
    outages: &[Outage],
    progress: &mut dyn FnMut(Progress),
) -> Result<Answer, Error> {
    let recorded = Plan::recorded(recording, args.recorded_replicas, args.shape, args.seed);
    let mut asked = recorded.with_limits([args.requests_per_minute, None, args.tokens_per_minute, None]);
    for (name, weight) in &args.weight {
        let caller = recording.callers.iter().position(|known| known == name).ok_or_else(|| {
            Error::Asked(format!("--weight {name}={weight}: {}", choices("callers", &recording.callers)))
        })?;
        asked.weights[caller] = Some(*weight);
    }
    asked.replicas = args.replicas.unwrap_or(asked.replicas);
    let is_asked = args.requests_per_minute.or(args.tokens_per_minute).is_some()
        || !args.weight.is_empty()
        || args.replicas.is_some();
    if asked.last_limits().iter().all(Option::is_none) {
        return Err(Error::Asked(
            "the log does not say which limits held (Weir logs \"limits in force\" at log.level = \"info\"); give \
             --requests-per-minute or --tokens-per-minute"
                .to_owned(),
        ));
    }
    let column = |name, plan: &Plan, progress: &mut dyn FnMut(Progress)| {
        let count = recording.requests.len() as f64;
        let courses = replay::replay(recording, outages, plan, &mut |done| {
            progress(Progress::Replayed(name, done as f64 / count));
        });
        Column { name, figures: Figures::new(recording, &courses, plan.last_limits()) }
    };
    let courses: Vec<_> = recording.requests.iter().map(|request| request.course).collect();
    let mut columns =
        vec![Column { name: "recorded", figures: Figures::new(recording, &courses, recorded.last_limits()) }];
    let mut sentences = Vec::new();
    let is_known = !recorded.limits.is_empty();
    if is_known {
        columns.push(column("replayed", &recorded, progress));
    }
    if is_asked {
        let what_if = column("what if", &asked, progress);
        let before = columns.last().map_or(Group::default(), |column| column.figures.all);
        sentences.push(text::verdict("This", &before, &what_if.figures.all, true));
        columns.push(what_if);
    }
    let doubled = recorded.doubled();
    if is_known
        && (args.requests_per_minute, args.tokens_per_minute)
            != (doubled.last_limits()[0], doubled.last_limits()[2])
    {
        let twice = column("twice the limits", &doubled, progress);
        let before = columns[1].figures.all;
        let could_help = before.waited > 0 || before.rate_limits > 0 || before.unserved() > 0;
        let subject = format!("Twice the limits ({})", limits_in_words(doubled.last_limits()));
        sentences.push(text::verdict(&subject, &before, &twice.figures.all, could_help));
        if !is_asked {
            columns.push(twice);
        }
    }
    let name = recording.scopes[usize::from(scope)].clone();
    Ok(Answer {
        heading: heading(args, recording, &name, &recorded, &asked, is_asked),
        scope: name,
        lines: recording.lines,
        seconds: figures::span(recording),
        columns,
        sentences,
        outages: figures::outages(recording, outages),
    })
}

fn heading(
    args: &Args,
    recording: &Recording,
    scope: &str,
    recorded: &Plan,
    asked: &Plan,
    is_asked: bool,
) -> String {
    let first = recording.requests.first().map_or(0, |request| request.arrived);
    let from = Rfc3339(UNIX_EPOCH + Duration::from_nanos(first));
    let mut text = format!(
        "{} requests to {scope} in {:.1} s from {from} on\n{}\n",
        grouped(recording.requests.len() as u64),
        recording.seconds(),
        lines_in_words(&recording.lines)
    );
    let depth = match recorded.shape {
        Shape::Bucket(Depth::Of(depth)) => {
            format!(", enforced as a bucket {:.1} s deep", depth.as_secs_f64())
        }
        Shape::Bucket(Depth::Window) | Shape::LyingBucket(_) | Shape::FixedWindow | Shape::SlidingLog => {
            String::new()
        }
    };
    // Writing to a string cannot fail.
    writeln!(text, "limits that held: {}{depth}", limits_in_words(recorded.last_limits())).ok();
    let sample = recording.limits.last().map_or(1.0, |limits| limits.sample);
    if sample < 1.0 {
        writeln!(
            text,
            "log.sample is {sample}: the log has a part of the requests, and waits come out too short"
        )
        .ok();
    }
    if is_asked {
        let mut asked = vec![limits_in_words(asked.last_limits())];
        asked.extend(args.weight.iter().map(|(name, weight)| format!("{name} has weight {weight}")));
        asked.extend(args.replicas.map(|count| format!("{count} replicas")));
        write!(text, "what if:          {}", asked.join("; ")).ok();
    } else {
        write!(text, "what if:          twice the limits; see weir what-if --help for more").ok();
    }
    text
}

fn lines_in_words(lines: &Lines) -> String {
    let mut said = vec![format!("{} lines read", grouped(lines.read))];
    for (count, what) in [
        (lines.others, "other lines of Weir's log"),
        (lines.turned_away, "requests that never asked for a turn"),
        (lines.foreign, "not Weir's, or cut"),
        (lines.out_of_order, "out of order"),
        (lines.left_out, "beyond the bound"),
    ] {
        if count > 0 {
            said.push(format!("{} {what}", grouped(count)));
        }
    }
    if lines.cut {
        said.push("the compressed file ends in the middle".to_owned());
    }
    said.join("; ")
}

fn limits_in_words(limits: [Option<u64>; 4]) -> String {
    let names = ["requests/min", "requests/day", "tokens/min", "tokens/day"];
    let known: Vec<String> = (limits.into_iter().zip(names))
        .filter_map(|(limit, name)| Some(format!("{} {name}", grouped(limit?))))
        .collect();
    if known.is_empty() { "none known".to_owned() } else { known.join(", ") }
}

/// The available names, at most ten.
fn choices(what: &str, names: &[String]) -> String {
    let shown: Vec<&str> = names.iter().take(10).map(String::as_str).collect();
    let more = names.len().saturating_sub(shown.len());
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("the log has the {what} {}{rest}", shown.join(", "))
}

fn limit(text: &str) -> Result<u64, String> {
    match simulate::count(text) {
        Ok(0) => Err("a limit of 0 lets nothing through".to_owned()),
        Ok(limit) => Ok(limit),
        Err(problem) => Err(problem.to_string()),
    }
}

fn weight(text: &str) -> Result<(String, u32), String> {
    let problem = || format!("`{text}` is no weight: write search=8");
    let (name, weight) = text.rsplit_once('=').ok_or_else(problem)?;
    let weight = weight.parse().ok().filter(|weight| (1..=1_000_000).contains(weight)).ok_or_else(problem)?;
    Ok((name.to_owned(), weight))
}
