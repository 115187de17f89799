//! What the stand-in is told to be.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::dialect::Dialect;
use super::fault::Fault;
use super::latency::Latency;
use super::limiter::{Depth, Dimension, Joint, Shape};
use super::notation::{Problem, count, duration};
use super::schedule::{ForeignUse, LimitChange, Outage};

/// Everything that a stand-in can be told. The default behaves like the API for a small account:
/// 500 requests and 200,000 tokens a minute, no faults.
#[derive(Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own, set by name")]
pub struct Settings {
    /// The limits of each model.
    pub limits: Limits,
    /// Models with limits of their own.
    pub models: Vec<(String, Limits)>,
    /// All models of an organization and project share one set of limits.
    pub share_models: bool,
    /// How limits are enforced.
    pub shape: Shape,
    /// What a request is charged.
    pub charge: Charge,
    /// A refused request takes its share of the limits of requests all the same. Off: no recorded
    /// refusal shows it.
    pub count_refused: bool,
    /// A request that meets a fault by rate or by header is charged first, as the API's guide says.
    /// On by default.
    pub count_failed: bool,
    /// Which answers bear limit headers.
    pub limit_headers: LimitHeaders,
    /// `Retry-After` on refusals (whole seconds, rounded up) and on overload, as documented. On by
    /// default.
    pub retry_after: bool,
    /// Keys and the account that each belongs to. Other keys belong to one account, or to one each.
    pub keys: Vec<(String, Account)>,
    /// Each unlisted key is an organization of its own.
    pub separate_keys: bool,
    /// A request without a key is refused. On by default.
    pub require_key: bool,
    /// Latency before admission: the way there, and what waits in front of the limiter.
    pub before: Latency,
    /// Latency between admission and the head of the answer: the work. `openai-processing-ms` tells
    /// it.
    pub after: Latency,
    /// Between the chunks of a stream.
    pub chunk_delay: Duration,
    /// Words in an answer, which are its output tokens and the chunks of a stream; `max_tokens` may
    /// lower it.
    pub output_tokens: u32,
    /// Encode JSON answers when the request accepts gzip or deflate, as the API does. On by
    /// default.
    pub compress: bool,
    /// Faults by rate: each request meets at most one, by these odds.
    pub faults: Vec<(Fault, f64)>,
    /// Outages, by time since the start.
    pub outages: Vec<Outage>,
    /// Changes of limits, by time since the start.
    pub limit_changes: Vec<LimitChange>,
    /// What others take of the same limits.
    pub foreign: ForeignUse,
    /// For all that is random.
    pub seed: u64,
    /// Largest request body in bytes; larger ones get 413.
    pub max_body: usize,
    /// Whose words it uses; without one it lets in every path and key that any of them has, in the
    /// API's words.
    pub dialect: Option<Dialect>,
    /// Answers under way at once; without, all are.
    pub slots: Option<usize>,
    /// Requests that wait for a slot; without, all do.
    pub queue: Option<usize>,
    /// Speak TLS with this certificate, in place of clear text.
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            limits: Limits { rpm: Some(500), tpm: Some(200_000), ..Limits::NONE },
            models: Vec::new(),
            share_models: false,
            shape: Shape::Bucket(Depth::Window),
            charge: Charge::Input,
            count_refused: false,
            count_failed: true,
            limit_headers: LimitHeaders::AsMeasured,
            retry_after: true,
            keys: Vec::new(),
            separate_keys: false,
            require_key: true,
            before: Latency::default(),
            after: Latency::default(),
            chunk_delay: Duration::ZERO,
            output_tokens: 16,
            compress: true,
            faults: Vec::new(),
            outages: Vec::new(),
            limit_changes: Vec::new(),
            foreign: ForeignUse::default(),
            seed: 0,
            max_body: 64 << 20,
            dialect: None,
            slots: None,
            queue: None,
            tls: None,
        }
    }
}

impl Settings {
    /// Finds what no single setting shows.
    ///
    /// # Errors
    /// Faults whose odds add up to more than 1.
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
        // Keys are secrets, if only of tests.
        formatter
            .debug_struct("Settings")
            .field("limits", &self.limits)
            .field("shape", &self.shape)
            .field("faults", &self.faults)
            .field("outages", &self.outages)
            .finish_non_exhaustive()
    }
}

/// Limits by dimension; none where there is no number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Requests per minute.
    pub rpm: Option<u64>,
    /// Requests per day.
    pub rpd: Option<u64>,
    /// Tokens per minute.
    pub tpm: Option<u64>,
    /// Tokens per day.
    pub tpd: Option<u64>,
}

impl Limits {
    /// No limits at all.
    pub const NONE: Self = Self { rpm: None, rpd: None, tpm: None, tpd: None };

    /// Reads `rpm=500,tpm=30k`.
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

    /// Limiters with nothing used.
    pub(super) fn joint(&self, shape: Shape) -> Joint {
        Dimension::ALL.into_iter().fold(Joint::new(), |joint, dimension| match self.of(dimension) {
            Some(limit) => joint.with(dimension, limit, shape),
            None => joint,
        })
    }
}

/// Reads the name of a shape: `bucket`, `bucket:1s` (that deep), `lying-bucket:1s`, `fixed-window`
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

/// What a request is charged at admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Charge {
    /// The input only: what was measured since March 2025.
    Input,
    /// The input and n × `max_tokens` (16 without one): what was measured before.
    InputAndMax,
    /// The larger of the input and n × `max_tokens`: what the guide says.
    Larger,
}

/// Which answers bear `x-ratelimit-*` headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LimitHeaders {
    /// Those of chat, completions, embeddings and JSON responses, and no errors, as recorded.
    AsMeasured,
    /// Every admitted or refused request, errors and streams included.
    All,
    /// None.
    None,
}

/// Whom a key belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Account {
    /// `openai-organization`.
    pub organization: Arc<str>,
    /// `openai-project`.
    pub project: Arc<str>,
}

impl Account {
    /// An account of these names.
    pub fn new(organization: &str, project: &str) -> Self {
        Self { organization: organization.into(), project: project.into() }
    }
}

impl Default for Account {
    fn default() -> Self {
        Self::new("org-simulated", "proj_simulated")
    }
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
