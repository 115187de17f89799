//! Saturation: a closed loop over a fixed number of connections.

use std::fmt::Write as _;

use clap::Args;
use mio::{Events, Poll, Token};

use super::client::Client;
use super::{Common, Window};
use crate::accounting;
use crate::failure::{Failure, Result};
use crate::histogram::Histogram;
use crate::monotonic::{self, SECOND};
use crate::payload::Ask;
use crate::report::Report;

/// A closed loop.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    common: Common,
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Seconds before the window.
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// Seconds of the window.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Ends the window early after this number of requests.
    #[arg(long)]
    requests: Option<u64>,
    /// Notes the memory of the process watched as `proxy` at this interval in seconds, as
    /// `rss_series`.
    #[arg(long)]
    rss_every: Option<f64>,
}

pub(super) fn run(options: &Options) -> Result<Report> {
    let mut load = ClosedLoop::start(options)?;
    load.drive_until(monotonic::nanos() + nanos(options.warm_up), u64::MAX)?;

    let window = Window::open(&options.common)?;
    load.latencies = Histogram::new();
    load.answers = 0;
    let end = window.opened_at() + nanos(options.seconds);
    let most = options.requests.unwrap_or(u64::MAX);
    let mut series = String::new();
    let step = options.rss_every.map_or(u64::MAX, nanos);
    while monotonic::nanos() < end && load.answers < most {
        load.drive_until(end.min(monotonic::nanos().saturating_add(step)), most)?;
        if options.rss_every.is_some() {
            let elapsed = (monotonic::nanos() - window.opened_at()) as f64 / 1e9;
            let _ = write!(series, "{elapsed:.1}:{}:{} ", load.answers, proxy_rss(&options.common)?);
        }
    }
    let mut report = Report::default();
    window.close(&mut report)?;
    report.put("requests", load.answers);
    for (name, quantile) in [("p50_us", 0.5), ("p99_us", 0.99)] {
        report.put(name, load.latencies.quantile(quantile).unwrap_or(f64::NAN) / 1e3);
    }
    if !series.is_empty() {
        report.put("rss_series", series.trim_end());
    }
    Ok(report)
}

struct ClosedLoop<'a> {
    options: &'a Options,
    poll: Poll,
    clients: Vec<Client>,
    requests: Vec<Vec<u8>>,
    next: usize,
    answers: u64,
    latencies: Histogram,
}

impl<'a> ClosedLoop<'a> {
    fn start(options: &'a Options) -> Result<Self> {
        let poll = Poll::new()?;
        let connect = |place| Client::connect(options.common.target, poll.registry(), Token(place));
        let clients = (0..options.connections).map(connect).collect::<Result<Vec<_>>>()?;
        let requests = options.common.requests(Ask::Json);
        let mut load =
            Self { options, poll, clients, requests, next: 0, answers: 0, latencies: Histogram::new() };
        for place in 0..load.clients.len() {
            load.send(place)?;
        }
        Ok(load)
    }

    fn send(&mut self, place: usize) -> Result<()> {
        let client = &mut self.clients[place];
        client.started = monotonic::nanos();
        client.send(&self.requests[self.next])?;
        self.next = (self.next + 1) % self.requests.len();
        Ok(())
    }

    /// Keeps the loop going until an instant or a number of answers.
    fn drive_until(&mut self, end: u64, most: u64) -> Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut scratch = vec![0; 64 * 1024];
        while monotonic::nanos() < end && self.answers < most {
            self.poll.poll(&mut events, Some(self.options.common.patience()))?;
            if events.is_empty() {
                return Err(Failure::new(format!("no answer for {} s", self.options.common.patience)));
            }
            for event in &events {
                let client = &mut self.clients[event.token().0];
                if event.is_writable() {
                    client.flush()?;
                }
                if !event.is_readable() {
                    continue;
                }
                if let Some(message) = client.read(event, &mut scratch, &mut |_| ())? {
                    self.options.common.check(message)?;
                    self.latencies.record(monotonic::nanos() - client.started);
                    self.answers += 1;
                    self.send(event.token().0)?;
                }
            }
        }
        Ok(())
    }
}

fn proxy_rss(common: &Common) -> Result<f64> {
    let proxy = common.watch.iter().find(|(name, _)| name == "proxy");
    let (_, pid) = proxy.ok_or_else(|| Failure::new("no process is watched as proxy"))?;
    Ok(accounting::tree(*pid)?.rss_kib)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "options are small positive seconds"
)]
pub(super) fn nanos(seconds: f64) -> u64 {
    (seconds * SECOND as f64) as u64
}
