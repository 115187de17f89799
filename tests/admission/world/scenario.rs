//! The scenario of a run: the upstream, its callers, and events.

use std::time::Duration;

use weir::internals::admission::{LimitReports, RefusalNumbers, Settings, Slot};
use weir::internals::caller::Lane;
use weir::internals::classify::ErrorClass;
use weir::internals::simulate::limiter::{Dimension, Joint, Price};

/// The tokens of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Tokens {
    /// A constant.
    Fixed(u64),
    /// Log-normal with this median and sigma, capped at the third number.
    LogNormal { median: f64, sigma: f64, most: u64 },
    /// Log-uniform between these.
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
    /// Requests at the start.
    pub(crate) backlog: u32,
    /// The number of sequential callers.
    pub(crate) closed: u32,
    pub(crate) tokens: Tokens,
    pub(crate) from: f64,
    pub(crate) until: f64,
    /// The deadline in seconds,
    pub(crate) patience: f64,
    /// and whether it is for the response head instead of admission.
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

/// The use of the limits by another consumer, by a schedule.
#[derive(Clone, Debug)]
pub(crate) struct Others {
    /// The fractions of the limits that it uses in turn.
    pub(crate) parts: Vec<f64>,
    /// The duration of each, in seconds.
    pub(crate) each: f64,
}

/// The upstream's behavior in an interval.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Weather {
    /// This fraction of attempts fails with a 500.
    Flaky(f64),
    /// Every attempt fails with a 503 that says overloaded, after this delay in seconds.
    Overloaded(f64),
    /// Connections are refused.
    Refused,
    /// No response is sent; calls time out.
    Stall,
}

/// An upstream with its own algorithm and responses.
pub(crate) trait Stranger: std::fmt::Debug {
    /// Handles a request.
    fn take(&mut self, price: Price, at: f64) -> Strange;

    /// The response to an admitted request has ended.
    fn ended(&mut self) {}

    /// Its limit is multiplied by this factor.
    fn scale(&mut self, _factor: f64) {}
}

/// The response of a [`Stranger`].
#[derive(Clone, Debug)]
pub(crate) enum Strange {
    /// Admitted, with this extra delay in seconds; after the head the body takes `body` seconds.
    Taken { limits: LimitReports, later: f64, body: f64 },
    /// Refused.
    Refused { class: ErrorClass, numbers: Option<RefusalNumbers>, hint: Option<Duration> },
    /// Failed.
    Failed(ErrorClass),
}

/// The scenario of one run.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) upstream: Joint,
    /// Replaces the regular upstream.
    pub(crate) stranger: Option<Box<dyn Stranger>>,
    /// The configured share of each Weir.
    pub(crate) shares: Vec<f64>,
    /// The times at which the stranger's limit is multiplied by a factor.
    pub(crate) scales: Vec<(f64, f64)>,
    pub(crate) headers: bool,
    /// Whether 429s have Limit, Used and Requested.
    pub(crate) numbers: bool,
    /// Whether 429s have a time to wait.
    pub(crate) hint: bool,
    /// The maximum seconds from the send to the upstream's accounting, uniform.
    pub(crate) before: f64,
    /// The maximum seconds from the accounting to the head, uniform; reported as processing time.
    pub(crate) after: f64,
    /// The fraction of responses whose head takes a minute.
    pub(crate) slow: f64,
    /// The tokens that the upstream charges per estimated token.
    pub(crate) charged: f64,
    pub(crate) others: Option<Others>,
    /// Changes of a limit: time, limit, new value.
    pub(crate) changes: Vec<(f64, Dimension, u64)>,
    /// Faults: start, end, kind.
    pub(crate) weather: Vec<(f64, f64, Weather)>,
    pub(crate) sources: Vec<Source>,
    pub(crate) settings: Settings,
    pub(crate) seconds: f64,
    /// The start of the measurement of use and waits.
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
