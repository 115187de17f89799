//! The simulator's settings, with their command line options.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use clap::builder::{EnumValueParser, TypedValueParser as _};
use clap::{ArgAction, Parser, value_parser};

use super::control::fault_rate;
use super::dialect::Dialect;
use super::fault::Fault;
use super::latency::Latency;
use super::limiter::{Depth, Dimension, Joint, Shape};
use super::notation::{Problem, count, duration};
use super::schedule::{ForeignUse, LimitChange, Outage};

/// An `Option` that clap does not treat as an optional argument, for values that may be `none`.
type Maybe<T> = Option<T>;

/// The settings of a simulator. The defaults are the API's limits of a small account, 500 requests
/// and 200,000 tokens a minute, without faults.
#[derive(Clone, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own, set by name")]
pub struct Settings {
    /// The provider to simulate: its errors, headers, paths and keys. "openai" requires paths with
    /// /v1 and bearer keys
    #[arg(long, value_name = "NAME", default_value = "openai", value_parser = EnumValueParser::<Dialect>::new().map(Some))]
    pub dialect: Maybe<Dialect>,
    /// The limits of each model; none for a model server.
    #[command(flatten)]
    pub limits: Limits,
    /// Limits of one model, such as gpt-4o:rpm=100,tpm=30k. Repeatable.
    #[arg(long = "model", value_name = "NAME:LIMITS", value_parser = model_limits, help_heading = "Limits")]
    pub models: Vec<(String, Limits)>,
    /// Share one set of limits among all models.
    #[arg(long, help_heading = "Limits")]
    pub share_models: bool,
    /// The limits' algorithm: bucket (as in the API), bucket:1s (with a depth of 1 s),
    /// lying-bucket:1s (with headers of a full bucket), fixed-window, sliding-log.
    #[arg(long, value_name = "SHAPE", default_value = "bucket", value_parser = shape, help_heading = "Limits")]
    pub shape: Shape,
    /// The tokens charged for a request.
    #[arg(long, value_enum, default_value = "input", help_heading = "Limits")]
    pub charge: Charge,
    /// Charge the limits of requests for refused requests too.
    #[arg(long, help_heading = "Limits")]
    pub count_refused: bool,
    /// Do not charge requests with an error of --fault or x-simulate.
    #[arg(long = "free-failures", action = ArgAction::SetFalse, help_heading = "Limits")]
    pub count_failed: bool,
    /// The responses with x-ratelimit headers.
    #[arg(
        long = "headers",
        value_name = "HEADERS",
        value_enum,
        default_value = "as-measured",
        help_heading = "Limits"
    )]
    pub limit_headers: LimitHeaders,
    /// Send no Retry-After with refusals and overload.
    #[arg(long = "no-retry-after", action = ArgAction::SetFalse, help_heading = "Limits")]
    pub retry_after: bool,
    /// A scheduled change of a limit, such as 30s:rpm=60. Repeatable.
    #[arg(long = "limit-change", value_name = "TIME:LIMIT", value_parser = LimitChange::parse, help_heading = "Limits")]
    pub limit_changes: Vec<LimitChange>,
    /// The fraction of the limits used by other consumers: 0.4, or 0,0.8,0.3/30s for each in turn.
    #[arg(long, value_name = "SHARES", default_value = "0", value_parser = ForeignUse::parse, help_heading = "Limits")]
    pub foreign: ForeignUse,
    /// A key with its organization and project, whose limits it shares. Repeatable.
    #[arg(long = "key", value_name = "KEY=ORG/PROJECT", value_parser = key, help_heading = "Keys")]
    pub keys: Vec<(String, Account)>,
    /// Treat every other key as an organization of its own, instead of one for all.
    #[arg(long, help_heading = "Keys")]
    pub separate_keys: bool,
    /// Accept requests without a key.
    #[arg(long = "no-auth", action = ArgAction::SetFalse, help_heading = "Keys")]
    pub require_key: bool,
    /// Latency between admission and the response head: 50ms, 50ms..2s (uniform) or 300ms~2s
    /// (median ~ 99th percentile).
    #[arg(long = "latency", value_name = "TIME", default_value = "0s", value_parser = Latency::parse, help_heading = "Responses")]
    pub after: Latency,
    /// Latency before admission.
    #[arg(long = "latency-before", value_name = "TIME", default_value = "0s", value_parser = Latency::parse, help_heading = "Responses")]
    pub before: Latency,
    /// Delay between the chunks of a stream.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration, help_heading = "Responses")]
    pub chunk_delay: Duration,
    /// Words in a response, each a chunk of a stream.
    #[arg(long, value_name = "N", default_value_t = 16, help_heading = "Responses")]
    pub output_tokens: u32,
    /// Concurrent responses, as of a model server. Further requests wait in a queue.
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..).map(|slots| slots as usize), help_heading = "Responses")]
    pub slots: Option<usize>,
    /// Requests that may wait for a slot; further ones are refused. Default: no limit.
    #[arg(long, value_name = "N", requires = "slots", value_parser = value_parser!(u32).map(|most| most as usize), help_heading = "Responses")]
    pub queue: Option<usize>,
    /// Never compress responses.
    #[arg(long = "no-compress", action = ArgAction::SetFalse, help_heading = "Responses")]
    pub compress: bool,
    /// The maximum size of a request body in bytes.
    #[arg(long, value_name = "BYTES", default_value = "67108864", value_parser = bytes, help_heading = "Responses")]
    pub max_body: usize,
    /// A fault with its rate, such as 503=0.05 or reset=1%. Repeatable.
    #[arg(long = "fault", value_name = "FAULT=RATE", value_parser = fault_rate, help_heading = "Faults")]
    pub faults: Vec<(Fault, f64)>,
    /// An outage: start + duration : fault or `refused`, such as 10s+5s:503. Repeatable.
    #[arg(long = "outage", value_name = "START+LENGTH:FAULT", value_parser = Outage::parse, help_heading = "Faults")]
    pub outages: Vec<Outage>,
    /// The seed of the random generator.
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Faults")]
    pub seed: u64,
    /// The TLS configuration, instead of clear text.
    #[arg(skip)]
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

impl Default for Settings {
    /// The defaults, without a dialect: accepts the paths and keys of all dialects.
    fn default() -> Self {
        #[derive(Parser)]
        struct Alone {
            #[command(flatten)]
            settings: Settings,
        }
        let parsed =
            Alone::try_parse_from(["simulate"]).expect("the defaults are valid, as every test shows");
        Self { dialect: None, ..parsed.settings }
    }
}

impl Settings {
    /// Checks settings that depend on each other.
    ///
    /// # Errors
    /// The sum of the fault rates is above 1.
    pub(super) fn check(&self) -> Result<(), Problem> {
        let odds: f64 = self.faults.iter().map(|(_, rate)| rate).sum();
        if odds > 1.0 + 1e-9 {
            return Err(Problem::new(format!(
                "the odds of all faults add up to {odds}, which is more than 1"
            )));
        }
        Ok(())
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Keys are secrets, even if only in tests.
        formatter
            .debug_struct("Settings")
            .field("limits", &self.limits)
            .field("shape", &self.shape)
            .field("faults", &self.faults)
            .field("outages", &self.outages)
            .finish_non_exhaustive()
    }
}

/// The limits of a model; `None` for no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct Limits {
    /// Requests per minute, for each model, or `none`.
    #[arg(long, value_name = "N", default_value = "500", value_parser = limit, help_heading = "Limits")]
    pub rpm: Maybe<u64>,
    /// Tokens per minute, for each model.
    #[arg(long, value_name = "N", default_value = "200k", value_parser = limit, help_heading = "Limits")]
    pub tpm: Maybe<u64>,
    /// Requests per day.
    #[arg(long, value_name = "N", default_value = "none", value_parser = limit, help_heading = "Limits")]
    pub rpd: Maybe<u64>,
    /// Tokens per day.
    #[arg(long, value_name = "N", default_value = "none", value_parser = limit, help_heading = "Limits")]
    pub tpd: Maybe<u64>,
}

impl Limits {
    /// No limits at all.
    pub const NONE: Self = Self { rpm: None, rpd: None, tpm: None, tpd: None };

    /// Parses `rpm=500,tpm=30k`.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let mut limits = Self::NONE;
        for item in text.split(',').filter(|item| !item.is_empty()) {
            let (name, number) = item.split_once('=').unwrap_or((item, ""));
            let limit = Some(count(number)?);
            match name {
                "rpm" => limits.rpm = limit,
                "rpd" => limits.rpd = limit,
                "tpm" => limits.tpm = limit,
                "tpd" => limits.tpd = limit,
                _ => return Err(Problem::new(format!("`{name}` is not rpm, rpd, tpm or tpd"))),
            }
        }
        Ok(limits)
    }

    /// The limit of one dimension.
    pub const fn of(&self, dimension: Dimension) -> Option<u64> {
        match dimension {
            Dimension::RequestsPerMinute => self.rpm,
            Dimension::RequestsPerDay => self.rpd,
            Dimension::TokensPerMinute => self.tpm,
            Dimension::TokensPerDay => self.tpd,
        }
    }

    /// Creates the limiters.
    pub(super) fn joint(&self, shape: Shape) -> Joint {
        Dimension::ALL.into_iter().fold(Joint::new(), |joint, dimension| match self.of(dimension) {
            Some(limit) => joint.with(dimension, limit, shape),
            None => joint,
        })
    }
}

/// Parses a shape: `bucket`, `bucket:1s` (with a depth of 1 s), `lying-bucket:1s`, `fixed-window`
/// or `sliding-log`.
pub fn shape(text: &str) -> Result<Shape, Problem> {
    let (name, depth) = match text.split_once(':') {
        Some((name, depth)) => (name, Some(duration(depth)?)),
        None => (text, None),
    };
    match (name, depth) {
        ("bucket", None) => Ok(Shape::Bucket(Depth::Window)),
        ("bucket", Some(depth)) => Ok(Shape::Bucket(Depth::Of(depth))),
        ("lying-bucket", depth) => Ok(Shape::LyingBucket(Depth::Of(depth.unwrap_or(Duration::from_secs(1))))),
        ("fixed-window", None) => Ok(Shape::FixedWindow),
        ("sliding-log", None) => Ok(Shape::SlidingLog),
        _ => Err(Problem::new(format!(
            "`{text}` is no shape: write bucket, bucket:1s, lying-bucket:1s, fixed-window or sliding-log"
        ))),
    }
}

/// The tokens charged for a request at admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Charge {
    /// The input, as measured since March 2025.
    Input,
    /// The input plus n × `max_tokens` (default 16), as measured before March 2025.
    InputAndMax,
    /// The larger of the input and n × `max_tokens`, as the API's guide says.
    Larger,
}

/// The responses with `x-ratelimit-*` headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LimitHeaders {
    /// Successful chat, completions, embeddings and JSON responses, as recorded.
    AsMeasured,
    /// All admitted or refused requests, including errors and streams.
    All,
    /// None.
    None,
}

/// The account of a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Account {
    /// `openai-organization`.
    pub organization: Arc<str>,
    /// `openai-project`.
    pub project: Arc<str>,
}

impl Account {
    /// Creates an account with these names.
    pub fn new(organization: &str, project: &str) -> Self {
        Self { organization: organization.into(), project: project.into() }
    }
}

impl Default for Account {
    fn default() -> Self {
        Self::new("org-simulated", "proj_simulated")
    }
}

fn limit(text: &str) -> Result<Option<u64>, Problem> {
    if text == "none" { Ok(None) } else { count(text).map(Some) }
}

fn bytes(text: &str) -> Result<usize, Problem> {
    count(text).map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX))
}

fn model_limits(text: &str) -> Result<(String, Limits), Problem> {
    let (model, limits) = text
        .rsplit_once(':')
        .ok_or_else(|| Problem::new(format!("`{text}` has no limits: write gpt-4o:rpm=100,tpm=30k")))?;
    Ok((model.to_owned(), Limits::parse(limits)?))
}

fn key(text: &str) -> Result<(String, Account), Problem> {
    let (key, account) = text
        .split_once('=')
        .ok_or_else(|| Problem::new("a key has an organization: write sk-a=org-one/proj_one"))?;
    let (organization, project) = account.split_once('/').unwrap_or((account, "proj_simulated"));
    Ok((key.to_owned(), Account::new(organization, project)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_and_shapes_are_read() {
        let limits = Limits::parse("rpm=3,tpm=30k").unwrap();
        assert_eq!(limits, Limits { rpm: Some(3), tpm: Some(30_000), ..Limits::NONE });
        assert!(Limits::parse("rps=3").is_err() && Limits::parse("rpm").is_err());
        assert_eq!(shape("bucket:500ms").unwrap(), Shape::Bucket(Depth::Of(Duration::from_millis(500))));
        assert_eq!(shape("lying-bucket").unwrap(), Shape::LyingBucket(Depth::Of(Duration::from_secs(1))));
        assert!(shape("fixed-window:1s").is_err() && shape("pail").is_err());
    }
}
