//! The command line, declared.

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
    /// How to run, where no command is given.
    #[command(flatten)]
    pub run: Run,
    /// What to do instead of running.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What `weir` can do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Run the proxy (the same as no command)
    Run(Run),
    /// Check a configuration file: every problem at once, with its place, and what each caller may
    /// do
    Check(Check),
    /// Explain an error: by class, by the API's code, or from a pasted error body on standard input
    Explain(Explain),
    /// Print the details that OpenAI support asks for
    Report(Report),
    /// Print what the status page shows
    Status(Status),
    /// Tell by the exit code whether the running Weir is ready: 0 or 1, for probes
    Health(Health),
    /// Have the running Weir read its configuration again
    Reload(AdminAccess),
    /// Print recording rules for Prometheus that turn tokens into costs, from a list of prices
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
        /// For which shell
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
    /// The address for people and Prometheus [default: 127.0.0.1:8081]
    #[arg(long, value_name = "ADDR")]
    pub admin: Option<String>,
}

/// Where a running Weir is asked.
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
    /// Ask only whether the process answers, not whether it takes new work
    #[arg(long)]
    pub live: bool,
    /// Where to ask.
    #[command(flatten)]
    pub admin: AdminAccess,
}

/// A file's name. An empty one comes from a variable that was meant to have a value.
fn file() -> impl clap::builder::TypedValueParser<Value = PathBuf> {
    let named = |name: OsString| {
        let empty = "it is empty; give --config or WEIR_CONFIG a file, or unset WEIR_CONFIG";
        if name.is_empty() { Err(empty) } else { Ok(PathBuf::from(name)) }
    };
    OsStringValueParser::new().try_map(named)
}

/// A version, as `0.2` or `0.2.1`.
fn version(text: &str) -> Result<Version, &'static str> {
    Version::parse(text).ok_or("write a version, such as 0.1.0")
}

/// Options of `weir check`.
#[derive(Clone, Debug, Args)]
pub struct Check {
    /// The file
    pub file: PathBuf,
    /// Don't look up secrets, certificates and other files that it refers to
    #[arg(long)]
    pub without_secrets: bool,
    /// Print the whole configuration as Weir understood it, secrets by reference
    #[arg(long)]
    pub print: bool,
    /// Name the keys that changed since this version
    #[arg(long, value_name = "VERSION", value_parser = version)]
    pub against: Option<Version>,
}

/// Options of `weir prices`.
#[derive(Clone, Debug, Args)]
pub struct Prices {
    /// The list, TOML: `currency`, and for each of `[[models]]` what a million tokens of `input`,
    /// `cached` and `output` cost
    pub file: PathBuf,
}

/// Options of `weir explain`.
#[derive(Clone, Debug, Args)]
pub struct Explain {
    /// An error class, a code of the API or a status; without one, an error body is read from
    /// standard input
    pub code: Option<String>,
}

/// Options of `weir report`.
#[derive(Clone, Debug, Args)]
pub struct Report {
    /// Which failure; without it, all that are kept are listed
    pub id: Option<String>,
    /// Where to ask.
    #[command(flatten)]
    pub admin: AdminAccess,
}

/// Options of `weir status`.
#[derive(Clone, Debug, Args)]
pub struct Status {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Print it again after this number of seconds
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2",
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub watch: Option<u64>,
    /// How wide the terminal is, as shells say it
    #[arg(long, env = "COLUMNS", hide = true)]
    pub columns: Option<String>,
    /// Where to ask.
    #[command(flatten)]
    pub admin: AdminAccess,
}

/// Options of `weir schema`.
#[derive(Clone, Copy, Debug, Args)]
pub struct Schema {
    /// Print config/reference.toml instead: every key with its doc, default and range
    #[arg(long)]
    pub reference: bool,
}
