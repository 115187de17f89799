//! Simulated upstreams with unusual algorithms and reports of their limits.

use std::collections::VecDeque;
use std::time::Duration;

use weir::internals::admission::{LimitReport, LimitReports, Unit, WindowReport};
use weir::internals::classify::ErrorClass;
use weir::internals::simulate::limiter::{Joint, Price};

use crate::world::{Report, Scenario, Source, Strange, Stranger};

/// A refusal without information.
pub(crate) const BARE: Strange =
    Strange::Refused { class: ErrorClass::RateLimitOther, numbers: None, hint: None };
/// An answer without limit headers.
pub(crate) const PLAIN: Strange = Strange::Taken {
    limits: LimitReports {
        requests: None,
        tokens: None,
        windows: Vec::new(),
        stated: Vec::new(),
        owner: None,
        of_error: false,
    },
    later: 0.0,
    body: 0.0,
};

pub(crate) fn requests(limit: f64, remaining: f64, reset: Option<f64>) -> Strange {
    let reset = reset.map(|reset| Duration::from_secs_f64(reset.max(0.0)));
    let report = LimitReport { limit: limit as u64, remaining: remaining.max(0.0) as u64, reset };
    Strange::Taken {
        limits: LimitReports { requests: Some(report), tokens: None, ..LimitReports::default() },
        later: 0.0,
        body: 0.0,
    }
}

/// The same, with the window named.
pub(crate) fn by_window(answer: Strange, window: f64) -> Strange {
    let Strange::Taken { mut limits, later, body } = answer else { return answer };
    let window = Duration::from_secs_f64(window);
    let told = limits.requests.take().map(|report| WindowReport { unit: Unit::Requests, window, report });
    limits.windows.extend(told);
    Strange::Taken { limits, later, body }
}

pub(crate) fn refused(hint: f64) -> Strange {
    let hint = Some(Duration::from_secs_f64(hint));
    Strange::Refused { class: ErrorClass::RateLimitRequests, numbers: None, hint }
}

/// How an upstream reports its limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Tells {
    /// Not at all.
    Nothing,
    /// By a `Retry-After` alone.
    Hint,
    /// By headers of a limit per minute, regardless of the real window.
    Minute,
    /// By headers of its own window.
    Own,
    /// The same, which name the window.
    Window,
    /// By headers of its own window, without a reset.
    NoReset,
    /// By constant headers of a limit per minute, as if only the last request counted.
    Cached,
}

/// A fixed window that is aligned to the wall clock.
#[derive(Debug)]
pub(crate) struct Windows {
    limit: f64,
    window: f64,
    /// Whether the previous window counts proportionally (a sliding counter).
    sliding: bool,
    tells: Tells,
    /// The elapsed fraction of the window at the start.
    phase: f64,
    index: f64,
    before: f64,
    used: f64,
    /// What the minute's headers count.
    minute: VecDeque<f64>,
}

impl Windows {
    pub(crate) fn new(limit: f64, window: f64, sliding: bool, tells: Tells) -> Self {
        let minute = VecDeque::new();
        Self { limit, window, sliding, tells, phase: 0.37, index: 0.0, before: 0.0, used: 0.0, minute }
    }

    /// The same windows with another elapsed fraction.
    pub(crate) fn at_phase(self, phase: f64) -> Self {
        Self { phase, ..self }
    }
}

impl Stranger for Windows {
    fn take(&mut self, _price: Price, at: f64) -> Strange {
        let at = at + self.window * self.phase;
        let index = (at / self.window).floor();
        if index > self.index {
            self.before = if index - self.index < 1.5 { self.used } else { 0.0 };
            (self.index, self.used) = (index, 0.0);
        }
        let left = (index + 1.0) * self.window - at;
        let weighted = if self.sliding { self.before * left / self.window } else { 0.0 };
        if self.used + weighted + 1.0 > self.limit {
            return if self.tells == Tells::Nothing { BARE } else { refused(left.ceil().max(1.0)) };
        }
        self.used += 1.0;
        while self.minute.front().is_some_and(|then| at - then > 60.0) {
            self.minute.pop_front();
        }
        self.minute.push_back(at);
        let remaining = self.limit - self.used - weighted;
        match self.tells {
            Tells::Nothing | Tells::Hint => PLAIN,
            Tells::Own => requests(self.limit, remaining, Some(left)),
            Tells::Window => by_window(requests(self.limit, remaining, Some(left)), self.window),
            Tells::NoReset => requests(self.limit, remaining, None),
            Tells::Minute | Tells::Cached => {
                let limit = self.limit * 60.0 / self.window;
                requests(limit, limit - self.minute.len() as f64, Some(60.0 - at % 60.0))
            }
        }
    }

    fn scale(&mut self, factor: f64) {
        self.limit *= factor;
    }
}

/// A token bucket whose depth is this number of seconds of its rate.
#[derive(Debug)]
pub(crate) struct Deep {
    rate: f64,
    depth: f64,
    tells: Tells,
    level: f64,
    at: f64,
}

impl Deep {
    pub(crate) fn new(rate: f64, seconds: f64, tells: Tells) -> Self {
        Self { rate, depth: (rate * seconds).max(1.0), tells, level: 0.0, at: 0.0 }
    }
}

impl Stranger for Deep {
    fn take(&mut self, _price: Price, at: f64) -> Strange {
        self.level = (self.level - (at - self.at) * self.rate).max(0.0);
        self.at = at;
        if self.level + 1.0 > self.depth {
            let wait = (self.level + 1.0 - self.depth) / self.rate;
            return if self.tells == Tells::Nothing { BARE } else { refused(wait.ceil().max(1.0)) };
        }
        self.level += 1.0;
        match self.tells {
            Tells::Nothing | Tells::Hint => PLAIN,
            Tells::Own => requests(self.depth, self.depth - self.level, Some(self.level / self.rate)),
            Tells::Window => {
                let own = requests(self.depth, self.depth - self.level, Some(self.level / self.rate));
                by_window(own, self.depth / self.rate)
            }
            Tells::NoReset => requests(self.rate * 60.0, self.depth - self.level, None),
            Tells::Minute | Tells::Cached => {
                requests(self.rate * 60.0, self.rate * 60.0 - 1.0, Some(1.0 / self.rate))
            }
        }
    }

    fn scale(&mut self, factor: f64) {
        self.rate *= factor;
        self.depth *= factor;
    }
}

/// The meaning of a [`Minute`]'s reset.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until {
    /// The expiry of the oldest entry.
    Oldest,
    /// The same, in whole seconds, rounded down.
    Seconds,
    /// The expiry of the newest entry.
    Newest,
    /// The time in which one unit refills, regardless of the use.
    Next,
    /// Always a second, which is wrong.
    Second,
}

/// A log of the last minute.
#[derive(Debug)]
pub(crate) struct Minute {
    limit: f64,
    until: Until,
    log: VecDeque<f64>,
}

impl Minute {
    pub(crate) fn new(limit: f64, until: Until) -> Self {
        Self { limit, until, log: VecDeque::new() }
    }
}

impl Stranger for Minute {
    fn take(&mut self, _price: Price, at: f64) -> Strange {
        while self.log.front().is_some_and(|then| at - then >= 60.0) {
            self.log.pop_front();
        }
        let oldest = self.log.front().map_or(60.0, |then| then + 60.0 - at);
        if self.log.len() as f64 + 1.0 > self.limit {
            return refused(oldest.ceil());
        }
        self.log.push_back(at);
        let reset = match self.until {
            Until::Oldest => oldest,
            Until::Seconds => oldest.floor(),
            Until::Newest => 60.0,
            Until::Next => 60.0 / self.limit,
            Until::Second => 1.0,
        };
        requests(self.limit, self.limit - self.log.len() as f64, Some(reset))
    }
}

/// An upstream that queues instead of refusing.
#[derive(Debug)]
pub(crate) struct Leaky {
    pub(crate) rate: f64,
    pub(crate) free_at: f64,
}

impl Stranger for Leaky {
    fn take(&mut self, _price: Price, at: f64) -> Strange {
        self.free_at = self.free_at.max(at) + 1.0 / self.rate;
        Strange::Taken { limits: LimitReports::default(), later: self.free_at - at, body: 0.0 }
    }
}

/// An upstream without a limit that refuses everything for a while.
#[derive(Debug)]
pub(crate) struct Storm {
    pub(crate) from: f64,
    pub(crate) until: f64,
    pub(crate) tells: bool,
}

impl Stranger for Storm {
    fn take(&mut self, _price: Price, at: f64) -> Strange {
        if (self.from..self.until).contains(&at) {
            return BARE;
        }
        if self.tells { requests(6000.0, 5999.0, Some(0.01)) } else { PLAIN }
    }
}

/// One address for several regions with separate limits and headers, used in turn.
#[derive(Debug)]
pub(crate) struct Regions {
    regions: Vec<Windows>,
    /// The repeated order of the regions.
    turns: &'static [usize],
    next: usize,
}

impl Regions {
    pub(crate) fn new(limits: &[f64], turns: &'static [usize]) -> Self {
        let region = |limit: &f64| Windows::new(*limit, 60.0, false, Tells::Own);
        let regions = limits.iter().map(region).collect();
        Self { regions, turns, next: 0 }
    }
}

impl Stranger for Regions {
    fn take(&mut self, price: Price, at: f64) -> Strange {
        let region = self.turns[self.next % self.turns.len()];
        self.next += 1;
        let mut answer = self.regions[region].take(price, at);
        if let Strange::Taken { limits, .. } = &mut answer {
            limits.owner = Some(region as u64 + 1);
        }
        answer
    }
}

/// An upstream that answers a random fraction of requests otherwise, regardless of load.
#[derive(Debug)]
pub(crate) struct Chance {
    part: f64,
    otherwise: Strange,
    rng: fastrand::Rng,
}

impl Chance {
    pub(crate) fn new(part: f64, otherwise: Strange, seed: u64) -> Self {
        Self { part, otherwise, rng: fastrand::Rng::with_seed(seed) }
    }
}

impl Stranger for Chance {
    fn take(&mut self, _price: Price, _at: f64) -> Strange {
        if self.rng.f64() < self.part { self.otherwise.clone() } else { PLAIN }
    }
}

pub(crate) type Make = fn() -> Box<dyn Stranger>;

/// A scenario with a load of twice its limit of `rate` a second.
pub(crate) fn scenario(make: Make, rate: f64) -> Scenario {
    let mut scenario = Scenario::new(Joint::new());
    scenario.stranger = Some(make());
    (scenario.before, scenario.after) = (0.05, 0.45);
    scenario.sources = vec![Source::new(0).rate(rate * 2.0)];
    (scenario.seconds, scenario.measured_from) = (900.0, 480.0);
    scenario
}

pub(crate) fn used(report: &Report, rate: f64) -> f64 {
    report.used.0 as f64 / report.measured / rate
}

pub(crate) fn row(name: &str, rate: f64, report: &Report) -> String {
    let row = format!(
        "{name}: {} 429s of {} {:?}, use {:.1} %",
        report.refused_upstream,
        report.attempts.len(),
        report.refused_by_minute,
        used(report, rate) * 100.0,
    );
    println!("{row}");
    row
}
