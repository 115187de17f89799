//! `weir status`, `report`, `health` and `reload`: queries to a running Weir.

use std::future::Future;
use std::time::Duration;

use http::StatusCode;
use tokio::runtime::Runtime;

use super::arguments::{AdminAccess, Health, Report, Status};
use super::terminal::Terminal;
use super::{Failure, runtime, settings};
use crate::admin::{self, Client, ClientError};
use crate::caller::Secret;
use crate::clock;
use crate::config::sources::{PROCESS, WITHOUT_SECRETS};

/// The width of a table, in columns, if the terminal's width is unknown.
const WIDTH: usize = 100;

pub(super) fn report(options: &Report, terminal: &mut Terminal) -> Result<(), Failure> {
    let (client, runtime) = (client(&options.admin)?, runtime()?);
    if let Some(id) = &options.id {
        terminal.print(&wait(&runtime, client.report(id))?);
        return Ok(());
    }
    for failure in wait(&runtime, client.reports())? {
        let line = [
            &failure.id,
            &failure.time,
            &failure.caller,
            &failure.endpoint,
            &failure.class,
            &failure.message,
        ];
        let line = line.map(|field| field.replace(char::is_control, " "));
        terminal.print(&format!("{}  ({}×)\n", line.join("  "), failure.occurrences));
    }
    Ok(())
}

pub(super) fn status(options: &Status, terminal: &mut Terminal) -> Result<(), Failure> {
    let (client, runtime) = (client(&options.admin)?, runtime()?);
    let Some(seconds) = options.watch else {
        terminal.print(&status_once(options, &client, &runtime)?);
        return Ok(());
    };
    while !terminal.is_closed() {
        // A restarting Weir is back in a moment: show the failure, and keep watching.
        let text = status_once(options, &client, &runtime).unwrap_or_else(|failure| format!("✖ {failure}\n"));
        terminal.clear();
        terminal.print(&text);
        runtime.block_on(async { clock::sleep(Duration::from_secs(seconds)).await });
    }
    Ok(())
}

pub(super) fn health(options: &Health, terminal: &mut Terminal) -> Result<(), Failure> {
    let (client, runtime) = (client(&options.admin)?, runtime()?);
    terminal.print(&wait(&runtime, client.health(options.live))?);
    Ok(())
}

pub(super) fn reload(access: &AdminAccess, terminal: &mut Terminal) -> Result<(), Failure> {
    let (client, runtime) = (client(access)?, runtime()?);
    terminal.print(&wait(&runtime, client.reload())?);
    Ok(())
}

fn status_once(options: &Status, client: &Client, runtime: &Runtime) -> Result<String, Failure> {
    if options.json {
        let json = wait(runtime, client.status_json())?;
        return Ok(format!("{}\n", String::from_utf8_lossy(&json).trim_end()));
    }
    Ok(admin::table(&wait(runtime, client.status())?, columns(options)))
}

/// The terminal's width from `COLUMNS`.
fn columns(options: &Status) -> usize {
    let said = options.columns.as_ref().and_then(|columns| columns.trim().parse().ok());
    said.filter(|columns| (40..=1_000).contains(columns)).unwrap_or(WIDTH)
}

/// A client for the Weir that the options and the configuration name. Only the admin token is read:
/// other secrets may be unavailable to this user.
fn client(access: &AdminAccess) -> Result<Client, Failure> {
    let config = settings::of_running(access, &WITHOUT_SECRETS)?;
    let token = config.admin.token.map(|token| token.source.resolve(&PROCESS)).transpose();
    let token = token.map_err(|message| Failure::Usage(format!("admin.token: {message}")))?;
    Ok(Client::new(config.admin.listen, token.as_ref().map(Secret::expose)))
}

fn wait<T>(runtime: &Runtime, asking: impl Future<Output = Result<T, ClientError>>) -> Result<T, Failure> {
    runtime.block_on(asking).map_err(|error| {
        let hint = match &error {
            ClientError::Refused { status, .. } if *status == StatusCode::UNAUTHORIZED => {
                "\nGive --config (or WEIR_CONFIG) the file that Weir runs with: its admin.token is used."
            }
            ClientError::Refused { .. }
            | ClientError::Connect { .. }
            | ClientError::Timeout { .. }
            | ClientError::NotWeir { .. } => "",
        };
        Failure::Other(format!("{error}{hint}"))
    })
}
