//! The memory of idle connections and waiting requests.

use std::thread;
use std::time::Duration;

use clap::Args;
use mio::{Events, Poll, Token};

use super::client::Client;
use super::{Common, Resident, Window};
use crate::failure::{Failure, Result};
use crate::monotonic::{self, SECOND};
use crate::payload::Ask;
use crate::probe;
use crate::report::Report;

/// Connections that are held.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    common: Common,
    #[arg(long, default_value_t = 1_000)]
    connections: usize,
    /// Whether each connection's request is one that the upstream never answers.
    #[arg(long)]
    waiting: bool,
    /// Seconds to hold before the memory is read.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
}

pub(super) fn run(options: &Options) -> Result<Report> {
    let common = &options.common;
    // One-time setup at the first requests does not count.
    probe::ask(common.target, 200, common.patience())?;
    thread::sleep(Duration::from_millis(300));
    let before = Resident::now(common)?;

    let mut poll = Poll::new()?;
    let request = common.requests(if options.waiting { Ask::Hold } else { Ask::Json });
    let mut clients = Vec::with_capacity(options.connections);
    for place in 0..options.connections {
        let mut client = Client::connect(common.target, poll.registry(), Token(place))?;
        client.send(&request[place % request.len()])?;
        clients.push(client);
        if !options.waiting {
            await_answer(&mut poll, &mut clients, place, common)?;
        }
    }
    let window = Window::open(common)?;
    thread::sleep(Duration::from_secs_f64(options.seconds));
    let mut report = Report::default();
    window.close(&mut report)?;
    require_held(&mut poll, &mut clients)?;
    report.put("connections", options.connections);
    before.put_before(&mut report);
    Ok(report)
}

fn await_answer(poll: &mut Poll, clients: &mut [Client], place: usize, common: &Common) -> Result<()> {
    let mut events = Events::with_capacity(64);
    let mut scratch = [0; 16 * 1024];
    let give_up = monotonic::nanos() + common.patience * SECOND;
    while monotonic::nanos() < give_up {
        poll.poll(&mut events, Some(common.patience()))?;
        for event in events.iter().filter(|event| event.is_readable()) {
            let answer = clients[event.token().0].read(event, &mut scratch, &mut |_| ())?;
            if event.token().0 == place
                && let Some(message) = answer
            {
                return common.check(message);
            }
        }
    }
    Err(Failure::new(format!("no answer for {} s", common.patience)))
}

/// All must still be open, and nothing may have been answered meanwhile.
fn require_held(poll: &mut Poll, clients: &mut [Client]) -> Result<()> {
    let mut events = Events::with_capacity(2048);
    let mut scratch = [0; 16 * 1024];
    poll.poll(&mut events, Some(Duration::ZERO))?;
    for event in events.iter().filter(|event| event.is_readable()) {
        if let Some(message) = clients[event.token().0].read(event, &mut scratch, &mut |_| ())? {
            return Err(Failure::new(format!("a held request was answered with status {}", message.status)));
        }
    }
    Ok(())
}
