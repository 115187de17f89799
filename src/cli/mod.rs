//! The `weir` command line.
//!
//! Exit codes: 0 for success (for `run`: after a drain), 2 for an invalid command line or
//! configuration, 1 otherwise.

pub mod arguments;
pub mod terminal;
mod ask;
mod check;
#[cfg(feature = "simulate")]
mod demo;
mod prices;
mod serve;
mod settings;
#[cfg(feature = "simulate")]
mod simulator;
#[cfg(feature = "simulate")]
mod what_if;

use std::ffi::OsString;
use std::io::Read;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use tokio::runtime::Runtime;

use crate::config::{self, json_schema, render};
use arguments::{Arguments, Command, Explain, Schema};
use terminal::Terminal;

/// The failure of a command.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command line or the configuration is invalid: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// Any other failure: exit code 1.
    #[error("{0}")]
    Other(String),
}

impl From<config::problem::Problems> for Failure {
    fn from(problems: config::problem::Problems) -> Self {
        Self::Usage(problems.to_string())
    }
}

/// Parses the command line and runs the command.
pub fn main(arguments: impl IntoIterator<Item = OsString>, terminal: &mut Terminal) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) if error.use_stderr() => {
            terminal.error(&error.to_string());
            return ExitCode::from(2);
        }
        // `--help` and `--version` are not errors.
        Err(answer) => {
            terminal.print(&answer.to_string());
            return ExitCode::SUCCESS;
        }
    };
    let code = match perform(arguments, terminal) {
        Ok(()) => match terminal.problem().map(|error| format!("standard output is incomplete: {error}")) {
            None => return ExitCode::SUCCESS,
            Some(message) => {
                terminal.error(&message);
                1
            }
        },
        Err(Failure::Usage(message)) => {
            terminal.error(&message);
            2
        }
        Err(Failure::Other(message)) => {
            terminal.error(&message);
            1
        }
    };
    ExitCode::from(code)
}

fn perform(arguments: Arguments, terminal: &mut Terminal) -> Result<(), Failure> {
    match arguments.command.unwrap_or(Command::Run(arguments.run)) {
        Command::Run(options) => serve::run(&options),
        Command::Check(options) => check::check(&options, terminal),
        Command::Explain(options) => explain(&options, terminal),
        Command::Report(options) => ask::report(&options, terminal),
        Command::Status(options) => ask::status(&options, terminal),
        Command::Health(options) => ask::health(&options, terminal),
        Command::Reload(access) => ask::reload(&access, terminal),
        Command::Prices(options) => prices::prices(&options, terminal),
        #[cfg(feature = "simulate")]
        Command::Simulate(options) => simulator::run(&options, terminal),
        #[cfg(feature = "simulate")]
        Command::Demo(options) => demo::run(&options, terminal),
        #[cfg(feature = "simulate")]
        Command::WhatIf(options) => what_if::run(&options, terminal),
        Command::Schema(options) => schema(options, terminal),
        Command::Completions { shell } => {
            completions(shell, terminal);
            Ok(())
        }
    }
}

fn explain(options: &Explain, terminal: &mut Terminal) -> Result<(), Failure> {
    /// The most bytes read from standard input: an error body has a few hundred, a pasted log may
    /// have more.
    const LONGEST_INPUT: u64 = 1024 * 1024;
    let input = if let Some(code) = &options.code {
        code.clone()
    } else {
        let mut pasted = Vec::new();
        let read = std::io::stdin().lock().take(LONGEST_INPUT).read_to_end(&mut pasted);
        read.map_err(|error| Failure::Other(format!("cannot read standard input: {error}")))?;
        String::from_utf8_lossy(&pasted).into_owned()
    };
    let explanation =
        crate::catalog::explain(&input).map_err(|unknown| Failure::Usage(unknown.to_string()))?;
    terminal.print(explanation.trim_end());
    terminal.print("\n");
    Ok(())
}

fn schema(options: Schema, terminal: &mut Terminal) -> Result<(), Failure> {
    if options.reference {
        terminal.print(&render::reference());
        return Ok(());
    }
    let text = serde_json::to_string_pretty(&json_schema::schema());
    terminal.print(&text.map_err(|error| Failure::Other(error.to_string()))?);
    terminal.print("\n");
    Ok(())
}

fn completions(shell: clap_complete::Shell, terminal: &mut Terminal) {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "weir", &mut script);
    terminal.print(&String::from_utf8_lossy(&script));
}

/// A runtime for one command on this thread.
fn runtime() -> Result<Runtime, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::Other(format!("cannot start a runtime: {error}")))
}
