//! Upstreams that count by rules which Weir was not made for, and tell of them in their own ways.

use std::collections::VecDeque;
use std::time::Duration;

use weir::classify::ErrorClass;
use weir::scope::{LimitReport, LimitReports, RefusalNumbers, Slot};
use weir::simulate::limiter::{Joint, Price};

use crate::world::{Report, Scenario, Source, Strange, Stranger, run};

/// A refusal that says nothing.
const BARE: Strange = Strange::Refused { class: ErrorClass::RateLimitOther, numbers: None, hint: None };
/// An answer without limit headers.
const PLAIN: Strange = Strange::Taken { limits: LimitReports { requests: None, tokens: None }, later: 0.0 };

fn requests(limit: f64, remaining: f64, reset: Option<f64>) -> Strange {
    let reset = reset.map(|reset| Duration::from_secs_f64(reset.max(0.0)));
    let report = LimitReport { limit: limit as u64, remaining: remaining.max(0.0) as u64, reset };
    Strange::Taken { limits: LimitReports { requests: Some(report), tokens: None }, later: 0.0 }
}

fn refused(hint: f64) -> Strange {
    let hint = Some(Duration::from_secs_f64(hint));
    Strange::Refused { class: ErrorClass::RateLimitRequests, numbers: None, hint }
}

/// How a stranger tells of its limit.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Tells {
    /// Not at all.
    Nothing,
    /// By a `Retry-After` alone.
    Hint,
    /// By headers that speak of a minute, whatever it counts by.
    Minute,
    /// By headers that speak of its own window.
    Own,
    /// The same, without a reset.
    NoReset,
}

/// So many in each window, which begins at a multiple of its length on the wall clock.
#[derive(Debug)]
struct Windows {
    limit: f64,
    window: f64,
    /// The part of the window before that counts too: a sliding counter.
    sliding: bool,
    tells: Tells,
    index: f64,
    before: f64,
    used: f64,
    /// What the minute's headers count.
    minute: VecDeque<f64>,
}

impl Windows {
    fn new(limit: f64, window: f64, sliding: bool, tells: Tells) -> Self {
        Self { limit, window, sliding, tells, index: 0.0, before: 0.0, used: 0.0, minute: VecDeque::new() }
    }
}

impl Stranger for Windows {
    fn take(&mut self, _price: Price, at: f64) -> Strange {
        // The clock's windows do not begin when we do.
        let at = at + self.window * 0.37;
        let index = (at / self.window).floor();
        if index > self.index {
            self.before = if index == self.index + 1.0 { self.used } else { 0.0 };
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
            Tells::NoReset => requests(self.limit, remaining, None),
            Tells::Minute => {
                let limit = self.limit * 60.0 / self.window;
                requests(limit, limit - self.minute.len() as f64, Some(60.0 - at % 60.0))
            }
        }
    }

    fn scale(&mut self, factor: f64) {
        self.limit *= factor;
    }
}

/// A bucket that holds what comes in so many seconds.
#[derive(Debug)]
struct Deep {
    rate: f64,
    depth: f64,
    tells: Tells,
    level: f64,
    at: f64,
}

impl Deep {
    fn new(rate: f64, seconds: f64, tells: Tells) -> Self {
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
            Tells::NoReset => requests(self.rate * 60.0, self.depth - self.level, None),
            // As if it were as deep as a minute, and nothing but the last request ever in it: a header from a cache.
            Tells::Minute => requests(self.rate * 60.0, self.rate * 60.0 - 1.0, Some(1.0 / self.rate)),
        }
    }

    fn scale(&mut self, factor: f64) {
        self.rate *= factor;
        self.depth *= factor;
    }
}

/// It never refuses: what is too much waits.
#[derive(Debug)]
struct Leaky {
    rate: f64,
    free_at: f64,
}

impl Stranger for Leaky {
    fn take(&mut self, _price: Price, at: f64) -> Strange {
        self.free_at = self.free_at.max(at) + 1.0 / self.rate;
        Strange::Taken { limits: LimitReports::default(), later: self.free_at - at }
    }
}

/// So many at once.
#[derive(Debug)]
struct Concurrent {
    most: u32,
    under_way: u32,
}

impl Stranger for Concurrent {
    fn take(&mut self, _price: Price, _at: f64) -> Strange {
        if self.under_way >= self.most {
            return BARE;
        }
        self.under_way += 1;
        PLAIN
    }

    fn ended(&mut self) {
        self.under_way -= 1;
    }
}

/// Without any limit, but for a storm of refusals.
#[derive(Debug)]
struct Storm {
    from: f64,
    until: f64,
    tells: bool,
}

impl Stranger for Storm {
    fn take(&mut self, _price: Price, at: f64) -> Strange {
        match (self.from..self.until).contains(&at) {
            true => BARE,
            false if self.tells => requests(6000.0, 5999.0, Some(0.01)),
            false => PLAIN,
        }
    }
}

/// Tokens of the organization and, more tightly, of the project: the headers tell of whichever is tighter.
#[derive(Debug)]
struct Daily {
    limit: f64,
    used: f64,
}

impl Stranger for Daily {
    fn take(&mut self, price: Price, at: f64) -> Strange {
        let left = 63_240.0 - at;
        if self.used + 1.0 > self.limit {
            let numbers = RefusalNumbers {
                slot: Slot::RequestsPerDay,
                limit: self.limit as u64,
                used: Some(self.used as u64),
                requested: Some(price.requests),
                wait: Some(Duration::from_secs_f64(left)),
            };
            let class = ErrorClass::RateLimitRequests;
            return Strange::Refused { class, numbers: Some(numbers), hint: numbers.wait };
        }
        self.used += 1.0;
        requests(self.limit, self.limit - self.used, Some(left))
    }
}

fn scenario(make: fn() -> Box<dyn Stranger>, offered: f64) -> Scenario {
    let mut scenario = Scenario::new(Joint::new());
    scenario.stranger = Some(make);
    (scenario.before, scenario.after) = (0.05, 0.45);
    scenario.sources = vec![Source::new(0).rate(offered)];
    (scenario.seconds, scenario.measured_from) = (900.0, 420.0);
    scenario
}

fn row(name: &str, rate: f64, report: &Report) {
    println!(
        "{name:<34} 429s {:>5} of {:<6} {:?}, use {:.1} %, p50/p99 {:.1}/{:.1}, turned away {:.1} %",
        report.refused_upstream,
        report.attempts.len(),
        report.refused_by_minute,
        report.used.0 as f64 / report.measured / rate * 100.0,
        report.percentile(0.5),
        report.percentile(0.99),
        report.deadline_refused as f64 / report.offered as f64 * 100.0,
    );
}

#[test]
fn strange_table() {
    type Make = fn() -> Box<dyn Stranger>;
    let cases: &[(&str, f64, Make)] = &[
        ("sliding counter, bare", 20.0, || Box::new(Windows::new(1200.0, 60.0, true, Tells::Nothing))),
        ("sliding counter, hint", 20.0, || Box::new(Windows::new(1200.0, 60.0, true, Tells::Hint))),
        ("sliding counter, own headers", 20.0, || Box::new(Windows::new(1200.0, 60.0, true, Tells::Own))),
        ("aligned minute, bare", 20.0, || Box::new(Windows::new(1200.0, 60.0, false, Tells::Nothing))),
        ("aligned minute, hint", 20.0, || Box::new(Windows::new(1200.0, 60.0, false, Tells::Hint))),
        ("aligned minute, headers", 20.0, || Box::new(Windows::new(1200.0, 60.0, false, Tells::Own))),
        ("aligned minute, no reset", 20.0, || Box::new(Windows::new(1200.0, 60.0, false, Tells::NoReset))),
        ("10 s windows, bare", 20.0, || Box::new(Windows::new(200.0, 10.0, false, Tells::Nothing))),
        ("10 s windows, hint", 20.0, || Box::new(Windows::new(200.0, 10.0, false, Tells::Hint))),
        ("10 s windows, own headers", 20.0, || Box::new(Windows::new(200.0, 10.0, false, Tells::Own))),
        ("10 s windows, minute's headers", 20.0, || {
            Box::new(Windows::new(200.0, 10.0, false, Tells::Minute))
        }),
        ("1 s windows, bare", 20.0, || Box::new(Windows::new(20.0, 1.0, false, Tells::Nothing))),
        ("1 s windows, hint", 20.0, || Box::new(Windows::new(20.0, 1.0, false, Tells::Hint))),
        ("1 s windows, own headers", 20.0, || Box::new(Windows::new(20.0, 1.0, false, Tells::Own))),
        ("1 s windows, minute's headers", 20.0, || Box::new(Windows::new(20.0, 1.0, false, Tells::Minute))),
        ("10 s bucket, bare", 20.0, || Box::new(Deep::new(20.0, 10.0, Tells::Nothing))),
        ("10 s bucket, hint", 20.0, || Box::new(Deep::new(20.0, 10.0, Tells::Hint))),
        ("10 s bucket, own headers", 20.0, || Box::new(Deep::new(20.0, 10.0, Tells::Own))),
        ("10 s bucket, no reset", 20.0, || Box::new(Deep::new(20.0, 10.0, Tells::NoReset))),
        ("10 s bucket, cached headers", 20.0, || Box::new(Deep::new(20.0, 10.0, Tells::Minute))),
        ("60 s bucket, cached headers", 20.0, || Box::new(Deep::new(20.0, 60.0, Tells::Minute))),
        ("1 s bucket, cached headers", 20.0, || Box::new(Deep::new(20.0, 1.0, Tells::Minute))),
        ("3 a minute, bare bucket", 0.05, || Box::new(Deep::new(0.05, 60.0, Tells::Nothing))),
        ("3 a minute, hint, windows", 0.05, || Box::new(Windows::new(3.0, 60.0, false, Tells::Hint))),
        ("3 a minute, headers, windows", 0.05, || Box::new(Windows::new(3.0, 60.0, false, Tells::Own))),
        ("30,000 a minute, headers", 500.0, || Box::new(Windows::new(30_000.0, 60.0, false, Tells::Own))),
        ("30,000 a minute, bare", 500.0, || Box::new(Deep::new(500.0, 60.0, Tells::Nothing))),
        ("30,000 a minute, bare, 1 s", 500.0, || Box::new(Deep::new(500.0, 1.0, Tells::Nothing))),
        ("leaky, delays", 20.0, || Box::new(Leaky { rate: 20.0, free_at: 0.0 })),
        ("20 at once, bare", 80.0, || Box::new(Concurrent { most: 20, under_way: 0 })),
    ];
    for (name, rate, make) in cases {
        let report = run(scenario(*make, rate * 2.0));
        row(name, *rate, &report);
    }
    // Storms, with and without headers.
    for (name, tells) in [("storm of 30 s, bare", false), ("storm of 30 s, headers", true)] {
        let make: fn() -> Box<dyn Stranger> = if tells {
            || Box::new(Storm { from: 120.0, until: 150.0, tells: true })
        } else {
            || Box::new(Storm { from: 120.0, until: 150.0, tells: false })
        };
        let mut scenario = scenario(make, 40.0);
        (scenario.measured_from, scenario.seconds) = (150.0, 400.0);
        row(name, 40.0, &run(scenario));
    }
    // A limit that changes tenfold, up and down.
    for (name, make) in [
        (
            "x10 and back, bucket, bare",
            (|| Box::new(Deep::new(20.0, 60.0, Tells::Nothing)) as Box<dyn Stranger>) as Make,
        ),
        ("x10 and back, windows, bare", || Box::new(Windows::new(1200.0, 60.0, false, Tells::Nothing))),
        ("x10 and back, windows, hint", || Box::new(Windows::new(1200.0, 60.0, false, Tells::Hint))),
        ("x10 and back, windows, headers", || Box::new(Windows::new(1200.0, 60.0, false, Tells::Own))),
        ("x10 and back, 10 s windows, own", || Box::new(Windows::new(200.0, 10.0, false, Tells::Own))),
    ] {
        let mut scenario = scenario(make, 100.0);
        scenario.scales = vec![(600.0, 10.0), (1800.0, 0.1)];
        (scenario.measured_from, scenario.seconds) = (900.0, 2700.0);
        let report = run(scenario);
        let done = |from: f64, until: f64| {
            report.done.iter().filter(|done| (from..until).contains(&done.0)).count() as f64 / (until - from)
        };
        row(name, 20.0, &report);
        println!(
            "    a second: {:.1} before; after x10 {:.1} {:.1} {:.1} {:.1}; back {:.1} {:.1}",
            done(300.0, 600.0),
            done(600.0, 900.0),
            done(900.0, 1200.0),
            done(1200.0, 1500.0),
            done(1500.0, 1800.0),
            done(1800.0, 2100.0),
            done(2100.0, 2700.0)
        );
    }
    let mut daily = scenario(|| Box::new(Daily { limit: 10_000.0, used: 0.0 }), 40.0);
    (daily.measured_from, daily.seconds) = (0.0, 900.0);
    row("10,000 a day, windows", 40.0, &run(daily));
}

#[test]
fn strange_limitless() {
    for (name, latency, closed, backlog, rate) in [
        ("one caller, 5 ms", 0.005, 1, 0, 0.0),
        ("one caller, 100 ms", 0.1, 1, 0, 0.0),
        ("20 callers, 50 ms", 0.05, 20, 0, 0.0),
        ("500 at once, 50 ms", 0.05, 0, 500, 0.0),
        ("500 at once, 1 s", 1.0, 0, 500, 0.0),
        ("500 at once, 30 s", 30.0, 0, 500, 0.0),
        ("300 a second, 1 s", 1.0, 0, 0, 300.0),
    ] {
        let mut scenario = scenario(|| Box::new(Storm { from: 0.0, until: 0.0, tells: false }), rate);
        scenario.sources[0].closed = closed;
        scenario.sources[0].backlog = backlog;
        (scenario.before, scenario.after) = (0.0, latency * 2.0);
        (scenario.seconds, scenario.measured_from) = (120.0, 0.0);
        let report = run(scenario);
        let by: Vec<usize> = [1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 80.0]
            .iter()
            .map(|at| report.done.iter().filter(|done| done.0 <= *at).count())
            .collect();
        println!("{name:<22} done by 1, 2, 5, 10, 20, 40, 80 s: {by:?}, all by {:.1}", report.finished);
    }
}

#[test]
fn strange_one() {
    let report = run(scenario(|| Box::new(Windows::new(1200.0, 60.0, false, Tells::Nothing)), 40.0));
    row("aligned minute, bare", 20.0, &report);
}
