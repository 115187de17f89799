//! Measures reverse proxies side by side on one machine: see `README.md` beside this package.

mod accounting;
mod failure;
mod histogram;
mod load;
mod monotonic;
mod payload;
mod probe;
mod relay;
mod report;
mod run;
mod upstream;
mod wire;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;

/// Measures Weir, nginx, haproxy, Envoy, LiteLLM and a blind byte relay side by side.
#[derive(Parser)]
#[command(name = "compare")]
enum Command {
    /// Compares, and prints the tables.
    Run(run::Options),
    /// The static API.
    Upstream(upstream::Options),
    /// The load generator.
    #[command(subcommand)]
    Load(load::Shape),
    /// The blind byte relay.
    Relay(relay::Options),
}

fn main() -> ExitCode {
    let done = match Command::parse() {
        Command::Run(options) => {
            // Progress that nobody reads is no reason to stop.
            let mut progress = |line: &str| drop(writeln!(std::io::stderr(), "{line}"));
            run::run(&options, &mut progress)
                .and_then(|document| Ok(write!(std::io::stdout(), "{document}")?))
        }
        Command::Upstream(options) => upstream::run(&options),
        Command::Relay(options) => relay::run(&options),
        Command::Load(shape) => {
            load::run(&shape).and_then(|report| Ok(write!(std::io::stdout(), "{report}")?))
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // The run that started this process reads it there.
            let _ = writeln!(std::io::stderr(), "{failure}");
            ExitCode::FAILURE
        }
    }
}
