//! The definition of the command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser as _};
use clap::{Args, Parser, Subcommand};

use crate::config::changes::Version;

/// A reverse proxy that paces, retries and counts a company's calls to the OpenAI API
#[derive(Clone, Debug, Parser)]
#[command(
    name = "weir",
    version,
    args_conflicts_with_subcommands = true,
    after_help = "Without a command, weir runs. Without a configuration, it serves 127.0.0.1:8080, passes each caller's own \
                  key on to https://api.openai.com and learns the limits; status page and metrics are on 127.0.0.1:8081.\n\n\
                  Try it:\n  weir &\n  OPENAI_BASE_URL=http://127.0.0.1:8080/v1 python my_service.py"
)]
pub struct Arguments {
    /// The options of `run`, which is the default command.
    #[command(flatten)]
    pub run: Run,
    /// The command.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The commands of `weir`.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Run the proxy (the same as no command)
    Run(Run),
    /// Check a configuration file: list every problem with its position, and the rights of each
    /// caller
    Check(Check),
    /// Explain an error: by class, by the API's code, or from a pasted error body on standard input
    Explain(Explain),
    /// Print the details that OpenAI's support needs
    Report(Report),
    /// Print the content of the status page
    Status(Status),
    /// Exit with 0 if the running Weir is ready, else with 1, for probes
    Health(Health),
    /// Make the running Weir read its configuration again
    Reload(AdminAccess),
    /// Print recording rules for Prometheus that compute costs from tokens and a list of prices
    Prices(Prices),
    #[cfg(feature = "simulate")]
    /// Run a simulator of the API, with its limits and its errors
    Simulate(Box<crate::simulate::Args>),
    #[cfg(feature = "simulate")]
    /// Run the same work without and with Weir against the simulator, side by side
    Demo(crate::demo::Args),
    #[cfg(feature = "simulate")]
    /// Replay an access log under other limits, weights or replicas: would twice the limit have
    /// helped?
    WhatIf(Box<crate::whatif::Args>),
    /// Print the JSON Schema of the configuration, for editors
    Schema(Schema),
    /// Print a completion script
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Options of `weir run`.
#[derive(Clone, Debug, Default, Args)]
pub struct Run {
    /// The configuration file; any key can also come from the environment, as `WEIR_SECTION__KEY`
    #[arg(long, value_name = "FILE", env = "WEIR_CONFIG", hide_env_values = true, value_parser = file())]
    pub config: Option<PathBuf>,
    /// The API: scheme, host and port
    #[arg(
        long,
        value_name = "URL",
        help = "The API: scheme, host and port [default: https://api.openai.com]"
    )]
    pub upstream: Option<String>,
    /// The address for callers [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// The address of the status page and metrics [default: 127.0.0.1:8081]
    #[arg(long, value_name = "ADDR")]
    pub admin: Option<String>,
}

/// How to reach the running Weir's admin address.
#[derive(Clone, Debug, Default, Args)]
pub struct AdminAccess {
    /// The running Weir's configuration file: its admin address and token are used
    #[arg(long, value_name = "FILE", env = "WEIR_CONFIG", hide_env_values = true, value_parser = file())]
    pub config: Option<PathBuf>,
    /// The running Weir's admin address [default: 127.0.0.1:8081]
    #[arg(long, value_name = "ADDR")]
    pub admin: Option<String>,
}

/// Options of `weir health`.
#[derive(Clone, Debug, Args)]
pub struct Health {
    /// Check only whether the process responds, not whether it accepts new work
    #[arg(long)]
    pub live: bool,
    /// How to reach the running Weir's admin address.
    #[command(flatten)]
    pub admin: AdminAccess,
}

/// A parser of file names that rejects an empty one, which comes from an unset variable.
fn file() -> impl clap::builder::TypedValueParser<Value = PathBuf> {
    let named = |name: OsString| {
        let empty = "it is empty; give --config or WEIR_CONFIG a file, or unset WEIR_CONFIG";
        if name.is_empty() { Err(empty) } else { Ok(PathBuf::from(name)) }
    };
    OsStringValueParser::new().try_map(named)
}

/// Parses a version, such as `0.2` or `0.2.1`.
fn version(text: &str) -> Result<Version, &'static str> {
    Version::parse(text).ok_or("write a version, such as 0.1.0")
}

/// Options of `weir check`.
#[derive(Clone, Debug, Args)]
pub struct Check {
    /// The file
    pub file: PathBuf,
    /// Don't read the secrets, certificates and other files that it refers to
    #[arg(long)]
    pub without_secrets: bool,
    /// Print the whole effective configuration, secrets by reference
    #[arg(long)]
    pub print: bool,
    /// List the keys that changed since this version
    #[arg(long, value_name = "VERSION", value_parser = version)]
    pub against: Option<Version>,
}

/// Options of `weir prices`.
#[derive(Clone, Debug, Args)]
pub struct Prices {
    /// The list, TOML: `currency`, and in each of `[[models]]` the prices of a million tokens of
    /// `input`, `cached` and `output`
    pub file: PathBuf,
}

/// Options of `weir explain`.
#[derive(Clone, Debug, Args)]
pub struct Explain {
    /// An error class, a code of the API or a status; without it, an error body is read from
    /// standard input
    pub code: Option<String>,
}

/// Options of `weir report`.
#[derive(Clone, Debug, Args)]
pub struct Report {
    /// The id of a failure; without it, the kept failures are listed
    pub id: Option<String>,
    /// How to reach the running Weir's admin address.
    #[command(flatten)]
    pub admin: AdminAccess,
}

/// Options of `weir status`.
#[derive(Clone, Debug, Args)]
pub struct Status {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Repeat at this interval, in seconds
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2",
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub watch: Option<u64>,
    /// The width of the terminal
    #[arg(long, env = "COLUMNS", hide = true)]
    pub columns: Option<String>,
    /// How to reach the running Weir's admin address.
    #[command(flatten)]
    pub admin: AdminAccess,
}

/// Options of `weir schema`.
#[derive(Clone, Copy, Debug, Args)]
pub struct Schema {
    /// Print config/reference.toml instead: every key with its description, default and range
    #[arg(long)]
    pub reference: bool,
}
