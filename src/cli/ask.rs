//! `weir status` and `weir report`: what a running Weir is asked, over its admin address.

use std::time::Duration;

use tokio::runtime::Runtime;

use super::arguments::{AdminAccess, Report, Status};
use super::terminal::Terminal;
use super::{Failure, settings};
use crate::admin::{self, Client, ClientError};
use crate::clock;
use crate::config::sources::{Process, WithoutSecrets};

/// Columns of a table where nobody says how many there are.
const WIDTH: usize = 100;

pub(super) fn status(options: &Status, terminal: &mut Terminal) -> Result<(), Failure> {
    let client = client(&options.admin)?;
    let runtime = super::runtime()?;
    loop {
        let text = if options.json {
            let json = runtime.block_on(client.status_json())?;
            format!("{}\n", String::from_utf8_lossy(&json).trim_end())
        } else {
            admin::table(&runtime.block_on(client.status())?, WIDTH)
        };
        if options.watch.is_some() {
            terminal.clear();
        }
        terminal.print(&text);
        match options.watch {
            Some(seconds) if !terminal.is_closed() => pause(&runtime, seconds),
            Some(_) | None => return Ok(()),
        }
    }
}

pub(super) fn report(options: &Report, terminal: &mut Terminal) -> Result<(), Failure> {
    let client = client(&options.admin)?;
    let runtime = super::runtime()?;
    let text = match &options.id {
        Some(id) => runtime.block_on(client.report(id))?,
        None => {
            let failures = runtime.block_on(client.reports())?;
            match failures.as_slice() {
                [] => "No failure has reached a caller.\n".to_owned(),
                failures => failures
                    .iter()
                    .map(|line| format!("{}  {}  {}  {}\n", line.id, line.time, line.class, line.message))
                    .collect(),
            }
        }
    };
    terminal.print(&text);
    Ok(())
}

/// The way to the Weir that the options and the configuration name.
fn client(admin: &AdminAccess) -> Result<Client, Failure> {
    // Of all secrets only the token is needed: whoever asks for the status need not hold the upstream's key.
    let config = settings::of_running(admin, &WithoutSecrets)?;
    let token = config.admin.token.map(|token| token.source.resolve(&Process)).transpose();
    let token = token.map_err(|message| Failure::Usage(format!("admin.token: {message}")))?;
    Ok(Client::new(config.admin.listen, token.as_ref().map(|token| token.expose())))
}

fn pause(runtime: &Runtime, seconds: u64) {
    runtime.block_on(async { clock::sleep(Duration::from_secs(seconds)).await });
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::Other(error.to_string())
    }
}
