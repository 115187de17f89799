//! What a run is of: the upstream, its callers, and what happens to them.

use std::time::Duration;

use weir::internals::admission::{LimitReports, RefusalNumbers, Settings, Slot};
use weir::internals::caller::Lane;
use weir::internals::classify::ErrorClass;
use weir::internals::simulate::limiter::{Dimension, Joint, Price};

/// The tokens of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Tokens {
    /// Always the same.
    Fixed(u64),
    /// Log-normal with this median and sigma, capped at the third number.
    LogNormal { median: f64, sigma: f64, most: u64 },
    /// As likely in each octave between these.
    LogUniform(f64, f64),
}

/// One caller's traffic.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) caller: u16,
    /// The index of the Weir that it uses.
    pub(crate) weir: usize,
    pub(crate) weight: u32,
    pub(crate) lane: Lane,
    /// Requests a second, as a Poisson stream; 0 for none.
    pub(crate) rate: f64,
    /// Requests that are there at the start.
    pub(crate) backlog: u32,
    /// The number of callers that send one request at a time, the next when the last is answered.
    pub(crate) closed: u32,
    pub(crate) tokens: Tokens,
    pub(crate) from: f64,
    pub(crate) until: f64,
    /// Seconds that its callers wait,
    pub(crate) patience: f64,
    /// for the answer's head, and not only for their turn.
    pub(crate) head_due: bool,
}

impl Source {
    pub(crate) fn new(caller: u16) -> Self {
        Self {
            caller,
            weir: 0,
            weight: 1,
            lane: Lane::Interactive,
            rate: 0.0,
            backlog: 0,
            closed: 0,
            tokens: Tokens::Fixed(100),
            from: 0.0,
            until: f64::INFINITY,
            patience: 60.0,
            head_due: false,
        }
    }

    pub(crate) fn rate(mut self, rate: f64) -> Self {
        self.rate = rate;
        self
    }

    pub(crate) fn tokens(mut self, tokens: Tokens) -> Self {
        self.tokens = tokens;
        self
    }
}

/// What another consumer takes of the limits, in parts of them, changing by a schedule.
#[derive(Clone, Debug)]
pub(crate) struct Others {
    /// The parts that it takes, one after another.
    pub(crate) parts: Vec<f64>,
    /// Seconds for each.
    pub(crate) each: f64,
}

/// How the upstream is on a span of time.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Weather {
    /// This part of the attempts fails with a 500.
    Flaky(f64),
    /// Every attempt fails with a 503 that says overloaded, after this delay in seconds.
    Overloaded(f64),
    /// Nobody listens.
    Refused,
    /// No answer ever comes; calls give up after their patience.
    Stall,
}

/// An upstream that counts by a rule of its own, and answers in its own way.
pub(crate) trait Stranger: std::fmt::Debug {
    /// A request comes.
    fn take(&mut self, price: Price, at: f64) -> Strange;

    /// The answer to a request that it took has ended.
    fn ended(&mut self) {}

    /// Its limit is multiplied by this factor.
    fn scale(&mut self, _factor: f64) {}
}

/// What a [`Stranger`] answers.
#[derive(Clone, Debug)]
pub(crate) enum Strange {
    /// It takes the request, and answers with this extra delay in seconds; after the head the
    /// answer lasts for `body` seconds.
    Taken { limits: LimitReports, later: f64, body: f64 },
    /// It refuses it.
    Refused { class: ErrorClass, numbers: Option<RefusalNumbers>, hint: Option<Duration> },
    /// It answers with a failure.
    Failed(ErrorClass),
}

/// Everything about one run.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) upstream: Joint,
    /// What stands in the place of the upstream.
    pub(crate) stranger: Option<Box<dyn Stranger>>,
    /// The part of every limit that each Weir may use by its configuration.
    pub(crate) shares: Vec<f64>,
    /// When the stranger's limit is multiplied by a factor.
    pub(crate) scales: Vec<(f64, f64)>,
    pub(crate) headers: bool,
    /// 429s carry Limit, Used, Requested.
    pub(crate) numbers: bool,
    /// 429s carry a time to wait.
    pub(crate) hint: bool,
    /// Seconds at most from the send to the upstream's accounting, uniform.
    pub(crate) before: f64,
    /// Seconds at most from the accounting to the head, uniform; told as processing time.
    pub(crate) after: f64,
    /// The part of the answers whose head takes a minute.
    pub(crate) slow: f64,
    /// What the upstream charges for a token that was estimated.
    pub(crate) charged: f64,
    pub(crate) others: Option<Others>,
    /// Changes of a limit: when, which, to what.
    pub(crate) changes: Vec<(f64, Dimension, u64)>,
    /// Bad weather: from, until, what.
    pub(crate) weather: Vec<(f64, f64, Weather)>,
    pub(crate) sources: Vec<Source>,
    pub(crate) settings: Settings,
    pub(crate) seconds: f64,
    /// Use and waits are measured from here on.
    pub(crate) measured_from: f64,
    pub(crate) measured_until: f64,
    pub(crate) seed: u64,
}

impl Scenario {
    pub(crate) fn new(upstream: Joint) -> Self {
        Self {
            upstream,
            stranger: None,
            shares: vec![1.0],
            scales: Vec::new(),
            headers: true,
            numbers: true,
            hint: true,
            before: 1.0,
            after: 1.0,
            slow: 0.0,
            charged: 1.0,
            others: None,
            changes: Vec::new(),
            weather: Vec::new(),
            sources: Vec::new(),
            settings: Settings::default(),
            seconds: 360.0,
            measured_from: 120.0,
            measured_until: f64::INFINITY,
            seed: 1,
        }
    }
}

pub(super) fn slot(dimension: Dimension) -> Slot {
    match dimension {
        Dimension::RequestsPerMinute => Slot::RequestsPerMinute,
        Dimension::RequestsPerDay => Slot::RequestsPerDay,
        Dimension::TokensPerMinute => Slot::TokensPerMinute,
        Dimension::TokensPerDay => Slot::TokensPerDay,
    }
}
