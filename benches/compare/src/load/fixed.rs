//! A fixed rate: requests start on schedule, and wait here while all connections are in use.

use std::collections::VecDeque;

use clap::Args;
use mio::{Events, Poll, Token};

use super::client::Client;
use super::closed::nanos;
use super::{Common, Window};
use crate::failure::{Failure, Result};
use crate::histogram::Histogram;
use crate::monotonic::{self, PreciseTimer, SECOND};
use crate::payload::Ask;
use crate::report::Report;

/// An open loop.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    common: Common,
    /// Requests a second, evenly spaced.
    #[arg(long, default_value_t = 5_000)]
    rate: u64,
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Seconds before the window.
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// Seconds of the window.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
}

pub(super) fn run(options: &Options) -> Result<Report> {
    let mut load = OpenLoop::start(options)?;
    load.drive_until(monotonic::nanos() + nanos(options.warm_up))?;

    let window = Window::open(&options.common)?;
    // Requests scheduled while the processes were read are late because of the harness.
    load.next_start = monotonic::nanos();
    load.counted_from = load.next_start;
    let (before, end) = (load.answers, window.opened_at() + nanos(options.seconds));
    load.drive_until(end)?;
    let mut report = Report::default();
    window.close(&mut report)?;
    report.put("requests", load.answers - before);
    load.counted_until = end;
    load.finish()?;

    report.put("rate", options.rate);
    for (name, quantile) in [("p50_us", 0.5), ("p99_us", 0.99)] {
        report.put(name, load.latencies.quantile(quantile).unwrap_or(f64::NAN) / 1e3);
    }
    Ok(report)
}

const TIMER: Token = Token(usize::MAX - 1);

struct OpenLoop<'a> {
    options: &'a Options,
    poll: Poll,
    timer: PreciseTimer,
    clients: Vec<Client>,
    idle: VecDeque<usize>,
    /// The scheduled starts of the requests that wait for a connection.
    late: VecDeque<u64>,
    requests: Vec<Vec<u8>>,
    next: usize,
    next_start: u64,
    /// Latencies count for requests scheduled between these.
    counted_from: u64,
    counted_until: u64,
    answers: u64,
    latencies: Histogram,
}

impl<'a> OpenLoop<'a> {
    fn start(options: &'a Options) -> Result<Self> {
        let poll = Poll::new()?;
        let timer = PreciseTimer::new(poll.registry(), TIMER)?;
        let connect = |place| Client::connect(options.common.target, poll.registry(), Token(place));
        let clients = (0..options.connections).map(connect).collect::<Result<Vec<_>>>()?;
        Ok(Self {
            options,
            timer,
            idle: (0..clients.len()).collect(),
            late: VecDeque::new(),
            clients,
            requests: options.common.requests(Ask::Json),
            next: 0,
            next_start: monotonic::nanos(),
            counted_from: u64::MAX,
            counted_until: u64::MAX,
            answers: 0,
            latencies: Histogram::new(),
            poll,
        })
    }

    fn drive_until(&mut self, end: u64) -> Result<()> {
        while monotonic::nanos() < end {
            self.start_due(end)?;
            self.timer.arm(self.next_start.min(end))?;
            self.read_answers()?;
        }
        Ok(())
    }

    /// Waits for the responses to requests scheduled in the window.
    fn finish(&mut self) -> Result<()> {
        let give_up = monotonic::nanos() + self.options.common.patience * SECOND;
        while self.idle.len() < self.clients.len() || !self.late.is_empty() {
            if monotonic::nanos() > give_up {
                return Err(Failure::new("requests of the window were never answered"));
            }
            self.start_due(0)?;
            self.read_answers()?;
        }
        Ok(())
    }

    /// Sends the requests that are due before `end`, as far as there are free connections.
    fn start_due(&mut self, end: u64) -> Result<()> {
        let now = monotonic::nanos();
        while self.next_start <= now && self.next_start < end {
            self.late.push_back(self.next_start);
            self.next_start += SECOND / self.options.rate;
        }
        while let (false, Some(place)) = (self.late.is_empty(), self.idle.front().copied()) {
            let Some(meant) = self.late.pop_front() else { break };
            self.idle.pop_front();
            self.clients[place].started = meant;
            self.clients[place].send(&self.requests[self.next])?;
            self.next = (self.next + 1) % self.requests.len();
        }
        Ok(())
    }

    fn read_answers(&mut self) -> Result<()> {
        let mut events = Events::with_capacity(256);
        let mut scratch = [0; 16 * 1024];
        self.poll.poll(&mut events, Some(self.options.common.patience()))?;
        if events.is_empty() {
            return Err(Failure::new(format!("nothing happened for {} s", self.options.common.patience)));
        }
        for event in events.iter().filter(|event| event.token() != TIMER) {
            let place = event.token().0;
            let client = &mut self.clients[place];
            if event.is_writable() {
                client.flush()?;
            }
            if !event.is_readable() {
                continue;
            }
            if let Some(message) = client.read(event, &mut scratch, &mut |_| ())? {
                self.options.common.check(message)?;
                if (self.counted_from..self.counted_until).contains(&client.started) {
                    self.latencies.record(monotonic::nanos() - client.started);
                }
                self.answers += 1;
                self.idle.push_back(place);
            }
        }
        Ok(())
    }
}
