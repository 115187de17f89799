//! Many slow streams: the latency that a proxy adds to each event, and that no event is changed,
//! lost or repeated.

use clap::Args;
use mio::{Events, Poll, Token};

use super::client::Client;
use super::closed::nanos;
use super::{Common, Resident, Window};
use crate::failure::{Failure, Result};
use crate::histogram::Histogram;
use crate::monotonic::{self, SECOND};
use crate::payload::{self, Ask, Event};
use crate::probe;
use crate::report::Report;

/// Streams, all open at once.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    common: Common,
    #[arg(long, default_value_t = 1_000)]
    streams: usize,
    /// Streams started a second.
    #[arg(long, default_value_t = 1_000)]
    start_rate: u64,
    /// Seconds between the last stream's first event and the window.
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// Seconds of the window.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
}

pub(super) fn run(options: &Options) -> Result<Report> {
    let common = &options.common;
    // One-time setup at the first request does not count.
    probe::ask(common.target, 200, common.patience())?;
    let before = Resident::now(common)?;
    let mut load = Streams::start(options)?;
    load.drive_until_all_flow(common)?;
    load.drive_until(monotonic::nanos() + nanos(options.warm_up))?;

    let window = Window::open(common)?;
    load.delays = Histogram::new();
    let chunks_before = load.chunks;
    load.drive_until(window.opened_at() + nanos(options.seconds))?;
    let mut report = Report::default();
    window.close(&mut report)?;
    report.put("chunks", load.chunks - chunks_before);
    report.put("streams", options.streams);
    for (name, quantile) in [("p50_us", 0.5), ("p99_us", 0.99)] {
        report.put(name, load.delays.quantile(quantile).unwrap_or(f64::NAN) / 1e3);
    }
    before.put_before(&mut report);
    Ok(report)
}

struct Streams {
    poll: Poll,
    open: Vec<Stream>,
    chunks: u64,
    delays: Histogram,
}

struct Stream {
    client: Client,
    /// The start of an event whose end isn't here yet.
    partial: Vec<u8>,
    next_sequence: u64,
}

impl Streams {
    fn start(options: &Options) -> Result<Self> {
        let poll = Poll::new()?;
        let requests = options.common.requests(Ask::Stream);
        let open = Vec::with_capacity(options.streams);
        let mut load = Self { poll, open, chunks: 0, delays: Histogram::new() };
        let start = monotonic::nanos();
        for place in 0..options.streams {
            let mut client = Client::connect(options.common.target, load.poll.registry(), Token(place))?;
            client.send(&requests[place % requests.len()])?;
            load.open.push(Stream { client, partial: Vec::new(), next_sequence: 0 });
            load.drive_until(start + place as u64 * SECOND / options.start_rate)?;
        }
        Ok(load)
    }

    fn drive_until_all_flow(&mut self, common: &Common) -> Result<()> {
        let give_up = monotonic::nanos() + common.patience * SECOND;
        loop {
            let silent = self.open.iter().filter(|stream| stream.next_sequence == 0).count();
            if silent == 0 {
                return Ok(());
            }
            if monotonic::nanos() > give_up {
                let status = self.open.iter().map(|stream| stream.client.status()).max().unwrap_or(0);
                return Err(Failure::new(format!("{silent} streams never began (highest status {status})")));
            }
            self.drive_until(monotonic::nanos() + SECOND / 10)?;
        }
    }

    fn drive_until(&mut self, end: u64) -> Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut scratch = vec![0; 64 * 1024];
        loop {
            let left = end.saturating_sub(monotonic::nanos());
            if left == 0 {
                return Ok(());
            }
            self.poll.poll(&mut events, Some(std::time::Duration::from_nanos(left)))?;
            for event in &events {
                let stream = &mut self.open[event.token().0];
                if event.is_writable() {
                    stream.client.flush()?;
                }
                if !event.is_readable() {
                    continue;
                }
                let mut arrivals = Arrivals {
                    now: monotonic::nanos(),
                    chunks: &mut self.chunks,
                    delays: &mut self.delays,
                    next_sequence: &mut stream.next_sequence,
                    wrong: None,
                };
                let partial = &mut stream.partial;
                let ended = stream
                    .client
                    .read(event, &mut scratch, &mut |body| split(body, partial, &mut arrivals))?;
                if let Some(wrong) = arrivals.wrong {
                    return Err(wrong);
                }
                if let Some(message) = ended {
                    return Err(Failure::new(format!("a stream ended early with status {}", message.status)));
                }
            }
        }
    }
}

/// Passes on complete events and keeps the rest.
fn split(body: &[u8], partial: &mut Vec<u8>, arrivals: &mut Arrivals<'_>) {
    let joined;
    let mut rest = if partial.is_empty() {
        body
    } else {
        joined = [partial.as_slice(), body].concat();
        partial.clear();
        joined.as_slice()
    };
    while let Some(end) = memchr::memmem::find(rest, b"\n\n") {
        arrivals.take(&rest[..end]);
        rest = &rest[end + 2..];
    }
    partial.extend_from_slice(rest);
}

/// The events that one read brought.
struct Arrivals<'a> {
    now: u64,
    chunks: &'a mut u64,
    delays: &'a mut Histogram,
    next_sequence: &'a mut u64,
    wrong: Option<Failure>,
}

impl Arrivals<'_> {
    fn take(&mut self, event: &[u8]) {
        match payload::parse_event(event) {
            Ok(Event::Chunk { sent, sequence }) => {
                if sequence != *self.next_sequence {
                    self.wrong = Some(Failure::new(format!(
                        "event {sequence} came instead of {}",
                        self.next_sequence
                    )));
                }
                *self.next_sequence = sequence + 1;
                *self.chunks += 1;
                self.delays.record(self.now.saturating_sub(sent));
            }
            Ok(Event::Done) => (),
            Err(failure) => self.wrong = Some(failure),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Kind, MessageReader};

    #[test]
    fn events_are_counted_however_they_are_cut_and_a_gap_is_found() {
        let mut wire = payload::stream_head(0, payload::Limits { requests: 1000, tokens: 1000 });
        for sequence in 0..5 {
            payload::push_event(&mut wire, 1_000, sequence);
        }
        for piece in [1, 7, 100, 215, 5000] {
            let (mut chunks, mut delays, mut next_sequence) = (0, Histogram::new(), 0);
            let mut arrivals = Arrivals {
                now: 3_000,
                chunks: &mut chunks,
                delays: &mut delays,
                next_sequence: &mut next_sequence,
                wrong: None,
            };
            let (mut partial, mut reader) = (Vec::new(), MessageReader::new(Kind::Response));
            for piece in wire.chunks(piece) {
                reader
                    .feed(piece, &mut |body| split(body, &mut partial, &mut arrivals))
                    .expect("a valid stream");
            }
            assert!(arrivals.wrong.is_none());
            arrivals.take(b"data: {\"id\":\"chatcmpl-0000000000000000000000000007\"}");
            assert!(arrivals.wrong.is_some(), "event 7 after event 4");
            let delay = delays.quantile(0.5).unwrap_or(f64::NAN);
            assert!(chunks == 6 && (delay - 2_000.0).abs() < 20.0, "{chunks} chunks, {delay} ns");
        }
    }
}
