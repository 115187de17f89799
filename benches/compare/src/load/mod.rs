//! The load generator. It must cost far less than any proxy, and fails at the first wrong response.

mod client;
mod closed;
mod fixed;
mod http2;
mod idle;
mod streams;

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::accounting::{self, Edge, Snapshot};
use crate::failure::{Failure, Result};
use crate::payload::{self, Ask};
use crate::report::Report;
use crate::wire::Message;

/// A shape of load.
#[derive(Subcommand)]
pub(crate) enum Shape {
    /// Each connection sends its next request after its response.
    Closed(closed::Options),
    /// A fixed number of requests a second, independent of responses; latencies count from a
    /// request's scheduled start.
    Fixed(fixed::Options),
    /// Long streams; each event says when the upstream sent it.
    Streams(streams::Options),
    /// The memory of keep-alive connections that served one request each, or of requests that are
    /// never answered.
    Idle(idle::Options),
    /// The memory of requests that are never answered, many on an HTTP/2 connection.
    Http2(http2::Options),
}

/// The options of all shapes.
#[derive(Args)]
struct Common {
    #[arg(long)]
    target: SocketAddr,
    /// A process whose tree is accounted in the window: NAME=PID. Can be repeated.
    #[arg(long, value_parser = parse_watch)]
    watch: Vec<(String, u32)>,
    /// The number of different keys that requests bear in turn.
    #[arg(long, default_value_t = 1)]
    keys: usize,
    /// Bytes that an answer's body must have; 0 accepts any.
    #[arg(long, default_value_t = payload::ANSWER_BODY as u64)]
    expect_bytes: u64,
    /// Gives up when nothing arrives for this time in seconds.
    #[arg(long, default_value_t = 10)]
    patience: u64,
}

fn parse_watch(text: &str) -> std::result::Result<(String, u32), String> {
    let (name, pid) = text.split_once('=').ok_or("NAME=PID")?;
    Ok((name.to_owned(), pid.parse().map_err(|error| format!("{pid}: {error}"))?))
}

pub(crate) fn run(shape: &Shape) -> Result<Report> {
    match shape {
        Shape::Closed(options) => closed::run(options),
        Shape::Fixed(options) => fixed::run(options),
        Shape::Streams(options) => streams::run(options),
        Shape::Idle(options) => idle::run(options),
        Shape::Http2(options) => http2::run(options),
    }
}

impl Common {
    /// Requests to send in turn.
    fn requests(&self, ask: Ask) -> Vec<Vec<u8>> {
        (0..self.keys.clamp(1, payload::KEYS)).map(|key| payload::request(ask, key)).collect()
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(self.patience)
    }

    fn check(&self, message: Message) -> Result<()> {
        if message.status != 200 {
            return Err(Failure::new(format!("load generator got status {}", message.status)));
        }
        if self.expect_bytes != 0 && message.body_bytes != self.expect_bytes {
            return Err(Failure::new(format!(
                "load generator got {} bytes instead of {}",
                message.body_bytes, self.expect_bytes
            )));
        }
        Ok(())
    }
}

/// The resident memory of what is watched, before there is any load.
struct Resident(Vec<(String, f64)>);

impl Resident {
    fn now(common: &Common) -> Result<Self> {
        let of = |(name, pid): &(String, u32)| Ok((name.clone(), accounting::tree(*pid)?.rss_kib));
        common.watch.iter().map(of).collect::<Result<_>>().map(Self)
    }

    fn put_before(self, report: &mut Report) {
        for (name, rss_kib) in self.0 {
            report.put(format!("{name}_rss_before_kib"), rss_kib);
        }
    }
}

/// The time over which processes are accounted.
struct Window {
    watched: Vec<(String, u32)>,
    start: Snapshot,
}

impl Window {
    fn open(common: &Common) -> Result<Self> {
        let mut watched = common.watch.clone();
        watched.push(("load".to_owned(), std::process::id()));
        let start = Snapshot::take(&watched, Edge::Start)?;
        Ok(Self { watched, start })
    }

    fn opened_at(&self) -> u64 {
        self.start.at
    }

    /// Writes the use of every process and processor since then.
    fn close(self, report: &mut Report) -> Result<()> {
        let end = Snapshot::take(&self.watched, Edge::End)?;
        let elapsed_us = (end.at - self.start.at) as f64 / 1e3;
        report.put("window_us", elapsed_us);
        for (name, after) in &end.trees {
            let before = self.start.trees[name];
            report.put(format!("{name}_user_us"), after.user_us - before.user_us);
            report.put(format!("{name}_system_us"), after.system_us - before.system_us);
            report.put(format!("{name}_cpu_us"), after.cpu_us() - before.cpu_us());
            report.put(format!("{name}_rss_kib"), after.rss_kib);
        }
        for (number, (before, after)) in self.start.processors.iter().zip(&end.processors).enumerate() {
            let stolen_us = after.stolen_us - before.stolen_us;
            report.put(format!("processor{number}_stolen_us"), stolen_us);
            let taken_us = elapsed_us - (after.idle_us - before.idle_us) - stolen_us;
            report.put(format!("processor{number}_busy_us"), taken_us.max(0.0));
        }
        let ours: Vec<u32> = self.watched.iter().map(|(_, pid)| *pid).collect();
        if let Some((name, used_us)) = end.busiest_stranger(&self.start, &ours) {
            report.put("stranger", name);
            report.put("stranger_share", used_us / elapsed_us);
        }
        Ok(())
    }
}
