//! The static API: one thread, prepared responses, streams on a fixed time grid. It must cost far
//! less than any proxy.

mod connection;
mod certificate;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use mio::event::Event;
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token};

use crate::failure::{Result, While as _};
use crate::monotonic::{self, PreciseTimer, SECOND};
use crate::payload::{self, Ask, Limits};
use connection::Connection;

const LISTENER: Token = Token(0);
const TIMER: Token = Token(1);
const FIRST_CONNECTION: usize = 2;

/// What the upstream answers.
#[derive(Args)]
pub(crate) struct Options {
    #[arg(long)]
    listen: SocketAddr,
    /// Speaks TLS with a certificate made at start; its authority's certificate is written to this
    /// file.
    #[arg(long, value_name = "FILE")]
    tls_authority: Option<PathBuf>,
    /// Microseconds between a stream's events.
    #[arg(long, default_value_t = 20_000)]
    interval_us: u64,
    /// Streams write only at multiples of this many microseconds, each at its own.
    #[arg(long, default_value_t = 100)]
    grid_us: u64,
    /// Events of a stream, before those that end it.
    #[arg(long, default_value_t = 500)]
    events: u64,
    /// The limits that the headers tell: so large that no proxy waits, and below 2³².
    #[arg(long, default_value_t = 60_000_000)]
    requests_per_minute: u64,
    #[arg(long, default_value_t = 4_000_000_000)]
    tokens_per_minute: u64,
    /// Lifetime, in seconds.
    #[arg(long, default_value_t = 3600)]
    lifetime: u64,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let mut upstream = Upstream::new(options)?;
    let end = monotonic::nanos() + options.lifetime * SECOND;
    let mut events = Events::with_capacity(1024);
    while monotonic::nanos() < end {
        upstream.poll.poll(&mut events, Some(std::time::Duration::from_secs(1)))?;
        for event in &events {
            match event.token() {
                LISTENER => upstream.accept()?,
                TIMER => upstream.write_due()?,
                Token(token) => upstream.serve(token - FIRST_CONNECTION, event)?,
            }
        }
    }
    Ok(())
}

struct Upstream {
    poll: Poll,
    listener: TcpListener,
    timer: PreciseTimer,
    tls: Option<Arc<rustls::ServerConfig>>,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    /// Tells a connection from an earlier one in the same place.
    accepted: u64,
    /// By when they are due.
    streams: VecDeque<Stream>,
    streams_started: u64,
    answers: Vec<Vec<u8>>,
    stream_heads: Vec<Vec<u8>>,
    interval: u64,
    grid: u64,
    events: u64,
    scratch: Vec<u8>,
}

struct Stream {
    due: u64,
    connection: usize,
    accepted: u64,
    sequence: u64,
}

impl Upstream {
    fn new(options: &Options) -> Result<Self> {
        let limits = Limits { requests: options.requests_per_minute, tokens: options.tokens_per_minute };
        let tls = match &options.tls_authority {
            Some(file) => Some(certificate::server_config(file)?),
            None => None,
        };
        let poll = Poll::new()?;
        let mut listener = TcpListener::bind(options.listen).doing(format!("bind {}", options.listen))?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let timer = PreciseTimer::new(poll.registry(), TIMER)?;
        Ok(Self {
            poll,
            listener,
            timer,
            tls,
            connections: Vec::new(),
            free: Vec::new(),
            accepted: 0,
            streams: VecDeque::new(),
            streams_started: 0,
            answers: (0..payload::KEYS).map(|key| payload::answer(key, limits)).collect(),
            stream_heads: (0..payload::KEYS).map(|key| payload::stream_head(key, limits)).collect(),
            interval: options.interval_us * 1_000,
            grid: options.grid_us.max(1) * 1_000,
            events: options.events,
            scratch: vec![0; 64 * 1024],
        })
    }

    fn accept(&mut self) -> Result<()> {
        loop {
            let socket = match self.listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).doing("accept"),
            };
            let place = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            self.accepted += 1;
            let mut connection = Connection::new(socket, self.tls.clone(), self.accepted)?;
            connection.register(self.poll.registry(), Token(place + FIRST_CONNECTION))?;
            self.connections[place] = Some(connection);
        }
    }

    fn serve(&mut self, place: usize, event: &Event) -> Result<()> {
        let Some(connection) = self.connections.get_mut(place).and_then(Option::as_mut) else {
            return Ok(());
        };
        let mut streams_asked = 0;
        let mut open = !event.is_writable() || connection.flush().is_ok();
        if open && event.is_readable() {
            let (answers, stream_heads) = (&self.answers, &self.stream_heads);
            open = connection.read(event, &mut self.scratch, &mut |connection, ask, key| match ask {
                Ask::Json => connection.write(&answers[key]),
                Ask::Stream => {
                    streams_asked += 1;
                    connection.write(&stream_heads[key])
                }
                Ask::Hold => Ok(()),
            });
        }
        let accepted = connection.accepted;
        for _ in 0..streams_asked {
            let due = first_slot(monotonic::nanos(), self.streams_started, self.interval, self.grid);
            self.streams_started += 1;
            self.schedule(Stream { due, connection: place, accepted, sequence: 0 });
            if self.streams.front().is_some_and(|first| first.due == due) {
                self.timer.arm(due)?;
            }
        }
        if !open {
            self.close(place);
        }
        Ok(())
    }

    fn schedule(&mut self, stream: Stream) {
        let at = self.streams.partition_point(|other| other.due <= stream.due);
        self.streams.insert(at, stream); // mostly at the end
    }

    /// Writes the events whose time has come.
    fn write_due(&mut self) -> Result<()> {
        // What becomes due meanwhile comes with the next wake-up: behind time, this would never end
        // otherwise, and nobody would be accepted.
        let until = monotonic::nanos();
        while let Some(mut stream) = self.streams.pop_front_if(|stream| stream.due <= until) {
            let now = monotonic::nanos();
            let connection = self.connections[stream.connection].as_mut();
            let Some(connection) = connection.filter(|connection| connection.accepted == stream.accepted)
            else {
                continue; // its client left
            };
            let mut out = std::mem::take(&mut self.scratch);
            out.clear();
            let ended = stream.sequence == self.events;
            if ended {
                payload::push_end(&mut out, now, stream.sequence);
            } else {
                payload::push_event(&mut out, now, stream.sequence);
            }
            let written = connection.write(&out);
            out.resize(64 * 1024, 0);
            self.scratch = out;
            if written.is_err() {
                self.close(stream.connection);
            } else if !ended {
                stream.sequence += 1;
                stream.due += self.interval;
                self.schedule(stream);
            }
        }
        match self.streams.front() {
            Some(next) => Ok(self.timer.arm(next.due)?),
            None => Ok(()),
        }
    }

    fn close(&mut self, place: usize) {
        self.connections[place] = None;
        self.free.push(place);
    }
}

/// When a stream writes first: streams take the grid's places within an interval in turn, whenever
/// they came.
fn first_slot(now: u64, number: u64, interval: u64, grid: u64) -> u64 {
    let places = (interval / grid).max(1);
    let phase = number % places * grid;
    let this_round = now / interval * interval + phase;
    if this_round > now { this_round } else { this_round + interval }
}

#[cfg(test)]
mod tests {
    use super::first_slot;

    #[test]
    fn streams_spread_over_the_interval() {
        let now = 1_234_567;
        let mut slots: Vec<u64> = (0..10).map(|number| first_slot(now, number, 1000, 100)).collect();
        assert!(slots.iter().all(|slot| (now + 1..=now + 1000).contains(slot)));
        slots.sort_unstable();
        assert!(slots.windows(2).all(|pair| pair[1] - pair[0] == 100), "{slots:?}");
    }
}
