//! Parses the user's configuration into typed values.
//!
//! A setting comes from the file, the environment (`WEIR_SECTION__KEY`) or the command line; each
//! overrides the one before. [`parse`] is pure: it takes the text and a [`Sources`] for the
//! environment and files, and returns either a valid [`Config`], or all problems at once, each with
//! its position. Each section is declared once, by the `section!` macro; the schema, the reference
//! and the names in the environment follow from that declaration.

pub mod changes;
pub mod key;
pub mod value;
pub mod quantity;
pub mod secret;
pub mod url;
pub mod server;
pub mod upstream;
pub mod upstreams;
pub mod pacing;
pub mod resilience;
pub mod observe;
pub mod callers;
pub mod exchanges;
pub mod issuers;
pub mod replicas;
pub mod rights;
pub mod seed;
pub mod problem;
pub mod sources;
pub mod json_schema;
pub mod render;
mod environment;
pub(crate) mod proxy;
mod read;
mod rules;
mod tree;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::DeValue;

use crate::caller::Mode;
use callers::Caller;
use exchanges::Exchange;
use issuers::Issuer;
use key::section;
use observe::{Log, Metrics, Report, Trace};
use pacing::{Admission, Estimate, Limits};
use problem::{Origin, Problem, Problems};
use read::Reader;
use replicas::Replicas;
use resilience::{Breaker, Outage, QuotaBreaker, Replay, Retry, Stream};
use rights::Rights;
use server::{Admin, Server, Shutdown};
use sources::{Nothing, Sources};
use tree::Node;
use upstream::Upstream;
use upstreams::Member;
use value::Value;

section! {
    /// The configuration of Weir. Every key has a default: no file is needed.
    Config {
        /// "enforce" paces, holds and retries; "observe" only reports what it would have done;
        /// "bypass" forwards and counts.
        mode: Mode = default("enforce"),
        /// The listener for callers, and what each connection may take.
        server: Server = default({}),
        /// The listener for people and Prometheus: metrics, probes, status page, reports.
        admin: Admin = default({}),
        /// The API behind Weir, and the way there.
        upstream: Upstream = default({}),
        /// Several APIs that serve the same requests: a request goes to the one whose turn comes
        /// first. In place of `upstream.url`.
        upstreams: Vec<Member> = default([]),
        /// Where credentials that live short come from.
        exchanges: Vec<Exchange> = default([]),
        /// Who issues the tokens (JWT) that callers may be known by.
        issuers: Vec<Issuer> = default([]),
        /// The queue before the upstream.
        admission: Admission = default({}),
        /// How many tokens a request is taken to cost before its answer tells.
        estimate: Estimate = default({}),
        /// What the upstream allows. Left out, it is learned from its answers; what the upstream
        /// tells counts over what is written here. To use less than it allows, set `limits.share`.
        limits: Limits = default({}),
        /// Several Weirs that share one organization's limits, and agree through Redis on who may
        /// use how much.
        replicas: Replicas = default({}); restart,
        /// Attempts after the first, where the table of outcomes allows one.
        retry: Retry = default({}),
        /// Attempts are held back from a scope that is failing.
        breaker: Breaker = default({}),
        /// What requests do while the breaker holds attempts back.
        outage: Outage = default({}),
        /// What happens when the upstream's quota is spent: requests fail at once, with its answer.
        quota_breaker: QuotaBreaker = default({}),
        /// Request bodies kept to be sent again.
        replay: Replay = default({}),
        /// Streamed answers.
        stream: Stream = default({}),
        /// The log on standard error. It never holds a body or a key.
        log: Log = default({}),
        /// The failures kept for `weir report`.
        report: Report = default({}),
        /// Traces, by OTLP over HTTP.
        trace: Trace = default({}); restart,
        /// What Prometheus gets.
        metrics: Metrics = default({}); restart,
        /// What happens between SIGTERM and the end.
        shutdown: Shutdown = default({}),
        /// A folder for what is to survive a restart: what callers spent of their budgets, and what
        /// was learned of limits. Never a secret.
        state: Option<PathBuf> = unset("/var/lib/weir"); restart,
        /// What callers may use, where they have no rights of their own.
        rights: Rights = default({}),
        /// The services that use Weir. Without any, all requests are of one caller named "default".
        callers: Vec<Caller> = default([]),
    }
}

/// A setting from the command line, which overrides the environment and the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// The option that set it, for messages.
    pub option: &'static str,
    /// The key with its section.
    pub key: &'static str,
    /// The value as the user wrote it.
    pub value: String,
}

/// Parses a configuration: the `text` of the file called `file`, the environment, and the command
/// line's `overrides`.
///
/// # Errors
/// All problems, in the order of the file, then the environment, then the command line.
pub fn parse(
    file: &str,
    text: &str,
    overrides: &[Override],
    sources: &dyn Sources,
) -> Result<Config, Problems> {
    let (mut reader, variables) = (Reader::new(text, sources), sources.overrides());
    let root = lay(&variables, overrides, &mut reader);
    let root = Node::of(String::new(), &root);
    environment::near_misses(&variables, &root, &mut reader);
    let config = Config::read(&root, &mut reader);
    let config = config.map(|config| {
        let mut config = proxy::from_environment(config, &root, &mut reader);
        rules::check(&mut config, &root, &mut reader);
        config
    });
    finish(file, config, reader.problems)
}

/// Warnings about the settings in the file and the environment that the next version does not
/// accept.
pub fn deprecated(file: &str, text: &str, sources: &dyn Sources) -> Problems {
    let (mut reader, variables) = (Reader::new(text, sources), sources.overrides());
    lay(&variables, &[], &mut reader);
    Problems { file: file.to_owned(), list: reader.warnings }
}

/// Applies the environment and the command line over the file, after renaming former keys.
fn lay<'t>(
    variables: &'t [(String, String)],
    overrides: &'t [Override],
    reader: &mut Reader<'t>,
) -> DeValue<'t> {
    let mut root = reader.places.parse(&mut reader.problems);
    environment::apply(variables, &mut root, reader);
    changes::rename(&mut root, reader);
    for setting in overrides {
        environment::set(&mut root, setting, reader);
    }
    root
}

/// Parses only the section `admin`, so that the command line can reach a running Weir while its
/// file has a mistake elsewhere.
///
/// # Errors
/// The problems of that section, or that the file can't be read.
pub fn load_admin(
    path: Option<&Path>,
    overrides: &[Override],
    sources: &dyn Sources,
) -> Result<Config, Problems> {
    let text = text(path, sources)?;
    let (mut reader, variables) = (Reader::new(&text, sources), sources.overrides());
    let mut root = lay(&variables, overrides, &mut reader);
    if let DeValue::Table(sections) = &mut root {
        let is_admin = |(name, _): &(Spanned<_>, _)| name.get_ref() == "admin";
        *sections = std::mem::take(sections).into_iter().filter(is_admin).collect();
    }
    reader.problems.clear();
    let config = Config::read(&Node::of(String::new(), &root), &mut reader);
    finish(&name(path), config, reader.problems)
}

/// The text of the file at `path`, or an empty text without a path.
///
/// # Errors
/// The file can't be read, or is not UTF-8.
pub fn text(path: Option<&Path>, sources: &dyn Sources) -> Result<String, Problems> {
    let Some(path) = path else { return Ok(String::new()) };
    let file = path.display().to_string();
    let refused = |message: String| {
        let problem = Problem { origin: Origin::Default, key: String::new(), message };
        Problems { file: file.clone(), list: vec![problem] }
    };
    let bytes = sources.file(path).map_err(|error| {
        refused(format!("{file}: cannot be read: {error}; give --config or WEIR_CONFIG a file"))
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let line =
            memchr::memchr_iter(b'\n', &error.as_bytes()[..error.utf8_error().valid_up_to()]).count() + 1;
        refused(format!("{file}:{line}:1: is not UTF-8; save it as UTF-8"))
    })
}

/// The name of the file at `path` in messages; empty without a path.
pub fn name(path: Option<&Path>) -> String {
    path.map(|path| path.display().to_string()).unwrap_or_default()
}

impl Config {
    /// Whether requests of unknown callers are served.
    ///
    /// The default is yes, except with a credential on a listener that other machines can reach.
    pub fn serves_unknown_callers(&self) -> bool {
        let guarded = self.has_credential() && !self.server.listen.ip().is_loopback();
        self.server.allow_unknown_callers.unwrap_or(!guarded)
    }
}

impl Default for Config {
    fn default() -> Self {
        parse("", "", &[], &Nothing).expect("the defaults are valid, as a test shows")
    }
}

fn finish(file: &str, config: Option<Config>, mut list: Vec<Problem>) -> Result<Config, Problems> {
    match config {
        Some(config) if list.is_empty() => Ok(config),
        _ => {
            list.sort_by(|one, other| one.origin.cmp(&other.origin));
            list.dedup();
            Err(Problems { file: file.to_owned(), list })
        }
    }
}
