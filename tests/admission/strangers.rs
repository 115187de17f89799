//! Upstreams that count by rules which Weir was not made for, and tell of them in their own ways.

use std::collections::VecDeque;
use std::time::Duration;

use weir::internals::admission::{LimitReport, LimitReports, Unit, WindowReport};
use weir::internals::classify::ErrorClass;
use weir::internals::simulate::limiter::{Joint, Price};

use crate::at_once::Concurrent;
use crate::matrix::each;
use crate::world::{Report, Scenario, Source, Strange, Stranger, percentile, run};

/// A refusal that says nothing.
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
fn by_window(answer: Strange, window: f64) -> Strange {
    let Strange::Taken { mut limits, later, body } = answer else { return answer };
    let window = Duration::from_secs_f64(window);
    let told = limits.requests.take().map(|report| WindowReport { unit: Unit::Requests, window, report });
    limits.windows.extend(told);
    Strange::Taken { limits, later, body }
}

fn refused(hint: f64) -> Strange {
    let hint = Some(Duration::from_secs_f64(hint));
    Strange::Refused { class: ErrorClass::RateLimitRequests, numbers: None, hint }
}

/// How a stranger tells of its limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Tells {
    /// Not at all.
    Nothing,
    /// By a `Retry-After` alone.
    Hint,
    /// By headers that speak of a minute, whatever it counts by.
    Minute,
    /// By headers that speak of its own window.
    Own,
    /// The same, which name the window.
    Window,
    /// As its own, without a reset.
    NoReset,
    /// By a minute's headers that are always the same: as if nothing but the last request were ever
    /// counted.
    Cached,
}

/// A number of units in each window, which begins at a multiple of its length on the wall clock.
#[derive(Debug)]
pub(crate) struct Windows {
    limit: f64,
    window: f64,
    /// The part of the window before that counts too: a sliding counter.
    sliding: bool,
    tells: Tells,
    /// The part of a window that is over when we begin: the clock's windows do not begin when we
    /// do.
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

/// What the reset of a [`Minute`] says.
#[derive(Clone, Copy, Debug)]
enum Until {
    /// When its oldest is forgotten.
    Oldest,
    /// The same, in whole seconds, rounded down.
    Seconds,
    /// When its newest is forgotten.
    Newest,
    /// The time in which one more comes in, whatever is used.
    Next,
    /// Always a second. That is a lie.
    Second,
}

/// A log of the last minute.
#[derive(Debug)]
struct Minute {
    limit: f64,
    until: Until,
    log: VecDeque<f64>,
}

impl Minute {
    fn new(limit: f64, until: Until) -> Self {
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

/// It never refuses: what is too much waits.
#[derive(Debug)]
struct Leaky {
    rate: f64,
    free_at: f64,
}

impl Stranger for Leaky {
    fn take(&mut self, _price: Price, at: f64) -> Strange {
        self.free_at = self.free_at.max(at) + 1.0 / self.rate;
        Strange::Taken { limits: LimitReports::default(), later: self.free_at - at, body: 0.0 }
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
        if (self.from..self.until).contains(&at) {
            return BARE;
        }
        if self.tells { requests(6000.0, 5999.0, Some(0.01)) } else { PLAIN }
    }
}

/// One address before several regions, each with limits and headers of its own, which take turns.
#[derive(Debug)]
struct Regions {
    regions: Vec<Windows>,
    /// Whose turn it is, again and again.
    turns: &'static [usize],
    next: usize,
}

impl Regions {
    fn new(limits: &[f64], turns: &'static [usize]) -> Self {
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

pub(crate) type Make = fn() -> Box<dyn Stranger>;

/// Twice its limit is asked of it, which is `rate` a second.
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

fn row(name: &str, rate: f64, report: &Report) -> String {
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

/// What a stranger's run has to keep.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// What it takes a second.
    pub(crate) rate: f64,
    pub(crate) make: Make,
    /// 429s in all, and after eight minutes; where nothing tells of the limit, one in a hundred
    /// attempts after that time.
    pub(crate) refused: Option<(u64, u64)>,
    /// The part of the limit that is used after eight minutes.
    pub(crate) used: f64,
}

/// Nobody tells of these limits as Weir knows it, or they are counted by windows that it does not
/// expect. Where nothing but 429s tells, nine tenths of the limit are used, and one attempt in a
/// hundred is refused. Windows of a second fall short: of 20 in each, random delays push one or two
/// into the next.
const CASES: &[Case] = &[
    Case {
        name: "sliding counter, bare",
        rate: 20.0,
        make: || Box::new(Windows::new(1200.0, 60.0, true, Tells::Nothing)),
        refused: None,
        used: 0.9,
    },
    Case {
        name: "sliding counter, a time to wait",
        rate: 20.0,
        make: || Box::new(Windows::new(1200.0, 60.0, true, Tells::Hint)),
        refused: None,
        used: 0.95,
    },
    Case {
        name: "sliding counter, headers",
        rate: 20.0,
        make: || Box::new(Windows::new(1200.0, 60.0, true, Tells::Own)),
        refused: Some((0, 0)),
        used: 0.97,
    },
    Case {
        name: "two regions in turn",
        rate: 20.0,
        make: || Box::new(Regions::new(&[600.0, 600.0], &[0, 1])),
        refused: Some((0, 0)),
        used: 0.9,
    },
    Case {
        name: "a small region and a large one in turn: the small one binds",
        rate: 20.0,
        make: || Box::new(Regions::new(&[600.0, 6000.0], &[0, 1])),
        refused: Some((0, 0)),
        used: 0.9,
    },
    Case {
        name: "two regions, one of which gets most",
        rate: 20.0,
        make: || Box::new(Regions::new(&[300.0, 900.0], &[0, 1, 1, 1])),
        refused: Some((0, 0)),
        used: 0.9,
    },
    Case {
        name: "windows of ten seconds that are told",
        rate: 20.0,
        make: || Box::new(Windows::new(200.0, 10.0, false, Tells::Window)),
        refused: Some((0, 0)),
        used: 0.9,
    },
    Case {
        name: "windows of a quarter of a minute that are told",
        rate: 20.0,
        make: || Box::new(Windows::new(300.0, 15.0, false, Tells::Window)),
        refused: Some((0, 0)),
        used: 0.9,
    },
    Case {
        name: "a bucket of ten seconds that is told",
        rate: 20.0,
        make: || Box::new(Deep::new(20.0, 10.0, Tells::Window)),
        refused: Some((0, 0)),
        used: 0.9,
    },
    Case {
        name: "minutes of the clock, bare",
        rate: 20.0,
        make: || Box::new(Windows::new(1200.0, 60.0, false, Tells::Nothing)),
        refused: None,
        used: 0.9,
    },
    Case {
        name: "minutes of the clock, a time to wait",
        rate: 20.0,
        make: || Box::new(Windows::new(1200.0, 60.0, false, Tells::Hint)),
        refused: None,
        used: 0.9,
    },
    Case {
        name: "minutes of the clock, headers without a reset",
        rate: 20.0,
        make: || Box::new(Windows::new(1200.0, 60.0, false, Tells::NoReset)),
        refused: Some((0, 0)),
        used: 0.97,
    },
    Case {
        name: "windows of 10 s, bare",
        rate: 20.0,
        make: || Box::new(Windows::new(200.0, 10.0, false, Tells::Nothing)),
        refused: None,
        used: 0.9,
    },
    Case {
        name: "windows of 10 s, a time to wait",
        rate: 20.0,
        make: || Box::new(Windows::new(200.0, 10.0, false, Tells::Hint)),
        refused: None,
        used: 0.9,
    },
    Case {
        name: "windows of 10 s, their own headers",
        rate: 20.0,
        make: || Box::new(Windows::new(200.0, 10.0, false, Tells::Own)),
        refused: Some((0, 0)),
        used: 0.97,
    },
    Case {
        name: "windows of 10 s, a minute's headers",
        rate: 20.0,
        make: || Box::new(Windows::new(200.0, 10.0, false, Tells::Minute)),
        refused: Some((20, 0)),
        used: 0.97,
    },
    Case {
        name: "windows of 1 s, bare",
        rate: 20.0,
        make: || Box::new(Windows::new(20.0, 1.0, false, Tells::Nothing)),
        refused: None,
        used: 0.85,
    },
    Case {
        name: "windows of 1 s, their own headers",
        rate: 20.0,
        make: || Box::new(Windows::new(20.0, 1.0, false, Tells::Own)),
        refused: Some((20, 0)),
        used: 0.9,
    },
    Case {
        name: "bucket of 10 s, bare",
        rate: 20.0,
        make: || Box::new(Deep::new(20.0, 10.0, Tells::Nothing)),
        refused: None,
        used: 0.9,
    },
    Case {
        name: "bucket of 10 s, its own headers",
        rate: 20.0,
        make: || Box::new(Deep::new(20.0, 10.0, Tells::Own)),
        refused: Some((0, 0)),
        used: 0.97,
    },
    Case {
        name: "bucket of 1 s, headers from a cache",
        rate: 20.0,
        make: || Box::new(Deep::new(20.0, 1.0, Tells::Cached)),
        refused: Some((20, 0)),
        used: 0.97,
    },
    Case {
        name: "3 a minute, bare",
        rate: 0.05,
        make: || Box::new(Windows::new(3.0, 60.0, false, Tells::Nothing)),
        refused: Some((60, 10)),
        used: 0.8,
    },
    Case {
        name: "3 a minute, headers",
        rate: 0.05,
        make: || Box::new(Windows::new(3.0, 60.0, false, Tells::Own)),
        refused: Some((0, 0)),
        used: 0.9,
    },
    Case {
        name: "answers that are delayed, never refused",
        rate: 20.0,
        make: || Box::new(Leaky { rate: 20.0, free_at: 0.0 }),
        refused: Some((0, 0)),
        used: 1.9,
    },
    Case {
        name: "20 at once, bare",
        rate: 80.0,
        make: || Box::new(Concurrent::new(20, BARE)),
        refused: None,
        used: 0.95,
    },
];

#[test]
fn strange_rules_are_met() {
    check(CASES, 1);
}

/// The number of seeds for each case.
pub(crate) fn check(cases: &[Case], seeds: u64) {
    let runs: Vec<_> = cases.iter().flat_map(|case| (1..=seeds).map(move |seed| (case, seed))).collect();
    let reports = each(&runs, |(case, seed)| run(Scenario { seed: *seed, ..scenario(case.make, case.rate) }));
    let mut broken = Vec::new();
    for ((case, seed), report) in runs.iter().zip(&reports) {
        let row = row(&format!("{}, seed {seed}", case.name), case.rate, report);
        let later = report.attempts.iter().filter(|at| **at >= 480.0).count() as u64;
        let (all, after) = case.refused.unwrap_or((report.attempts.len() as u64 / 50, later / 100));
        let holds = report.refused_upstream <= all
            && report.refused_from(8) <= after
            && used(report, case.rate) >= case.used;
        if !holds {
            broken.push(row);
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// 30 s of refusals whatever the pace, of an upstream without a limit: no flood meanwhile, and
/// afterwards it is soon found out that there is none.
#[test]
fn a_storm_of_refusals_is_no_limit() {
    const RATE: f64 = 40.0;
    let makes: [(&str, Make); 2] = [
        ("a storm, bare", || Box::new(Storm { from: 120.0, until: 150.0, tells: false })),
        ("a storm, headers", || Box::new(Storm { from: 120.0, until: 150.0, tells: true })),
    ];
    for (name, make) in makes {
        let mut scenario = scenario(make, RATE / 2.0);
        (scenario.measured_from, scenario.seconds) = (270.0, 420.0);
        let report = run(scenario);
        let row = row(name, RATE, &report);
        // A pause that grows, and a second's worth when the first one ends.
        assert!(report.refused_upstream <= 60, "{row}");
        let median = percentile(&report.waits, 0.5);
        assert!(median < 30.0 && report.deadline_refused * 20 <= report.offered, "{row}, {median} s");
        assert!(used(&report, RATE) >= 0.95, "{row}");
    }
}

/// A tenfold limit of which nothing tells is found within a few of the times at which it is asked
/// for.
#[test]
fn a_raised_limit_is_found_by_asking() {
    let make: Make = || Box::new(Windows::new(600.0, 60.0, false, Tells::Nothing));
    let mut scenario = scenario(make, 25.0);
    scenario.scales = vec![(300.0, 10.0), (1500.0, 0.1)];
    scenario.seconds = 2100.0;
    let report = run(scenario);
    let row = row("tenfold and back", 10.0, &report);
    let a_second = |from: f64, until: f64| {
        let done = report.done.iter().filter(|done| (from..until).contains(&done.0)).count();
        done as f64 / (until - from)
    };
    let [before, later, back] = [a_second(180.0, 300.0), a_second(1200.0, 1500.0), a_second(1800.0, 2100.0)];
    println!("a second: {before:.1}, then {later:.1}, then {back:.1}");
    assert!((9.0..=10.5).contains(&before) && later >= 45.0 && (9.0..=10.5).contains(&back), "{row}");
    assert!(report.refused_upstream <= 300, "{row}");
}

/// Nobody tells of a limit, for there is none: what is asked for is soon let through.
#[test]
fn no_limit_holds_nobody_back() {
    let limitless: Make = || Box::new(Storm { from: 0.0, until: 0.0, tells: false });
    // (callers that ask one after the other, how many ask at once, how long an answer takes, how
    // many have gone upstream within a number of seconds)
    for (closed, backlog, latency, least) in [
        (1, 0, 0.005, (10.0, 1_300)),
        (20, 0, 0.05, (10.0, 2_200)),
        (0, 500, 0.05, (5.0, 500)),
        (0, 500, 1.0, (10.0, 500)),
        (0, 500, 30.0, (30.0, 270)),
    ] {
        let mut scenario = scenario(limitless, 0.0);
        (scenario.sources[0].closed, scenario.sources[0].backlog) = (closed, backlog);
        (scenario.before, scenario.after) = (0.0, latency * 2.0);
        (scenario.seconds, scenario.measured_from) = (120.0, 0.0);
        let report = run(scenario);
        let gone = report.attempts.iter().filter(|at| **at <= least.0).count();
        println!("no limit, {closed} + {backlog} callers, {latency} s: {gone} within {} s", least.0);
        assert!(gone >= least.1, "{closed} {backlog} {latency}: {gone}");
        assert_eq!(report.refused_upstream + report.deadline_refused + report.other_refused, 0);
    }
}

/// 40 callers that give up after seven seconds, at two requests a second: what goes upstream is
/// answered in time, and who can't be is told so at once.
#[test]
fn what_would_be_answered_too_late_is_not_sent() {
    let make: Make = || Box::new(Windows::new(120.0, 60.0, false, Tells::Own));
    let mut scenario = scenario(make, 0.0);
    let source = &mut scenario.sources[0];
    (source.closed, source.patience, source.head_due) = (40, 7.0, true);
    (scenario.seconds, scenario.measured_from) = (300.0, 60.0);
    let report = run(scenario);
    let at_once = report.refused_after.iter().filter(|after| **after < 0.01).count() as f64;
    let row = row("in a hurry", 2.0, &report);
    println!(
        "{} answered late, {at_once} of {} refused at once",
        report.answered_late, report.deadline_refused
    );
    assert!(report.answered_late * 30 <= report.attempts.len() as u64, "{row}: {}", report.answered_late);
    assert!(at_once >= report.deadline_refused as f64 * 0.9, "{row}: {at_once}");
    assert!(used(&report, 2.0) >= 0.95, "{row}");
}

/// Each case with delays of several sizes, and several seeds; from the second given on its use is
/// measured.
fn check_all(cases: &[(Case, f64)], latencies: [(f64, f64); 3], seconds: f64) {
    let runs: Vec<_> = cases
        .iter()
        .flat_map(|case| latencies.map(|latency| (case, latency)))
        .flat_map(|(case, latency)| (1..=3).map(move |seed| (case, latency, seed)))
        .collect();
    let reports = each(&runs, |((case, from), latency, seed)| {
        let mut scenario = scenario(case.make, case.rate);
        (scenario.before, scenario.after, scenario.seed) = (latency.0, latency.1, *seed);
        (scenario.measured_from, scenario.seconds) = (*from, seconds);
        run(scenario)
    });
    let mut broken = Vec::new();
    for (((case, _), latency, seed), report) in runs.iter().zip(&reports) {
        let row = row(&format!("{} {latency:?} seed {seed}", case.name), case.rate, report);
        let (all, after) = case.refused.unwrap_or_default();
        let holds = report.refused_upstream <= all
            && report.refused_from(1) <= after
            && used(report, case.rate) >= case.used;
        if !holds {
            broken.push(row);
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// A limit of a second or of ten, told by its own headers, and so small that a minute's pace would
/// see next to nothing of it: it is learned within a few of its windows, and used. Delays of a
/// fifth of a second push some of what goes in one window into the next, and what went before the
/// first answer may be too much.
#[test]
fn small_limits_of_short_windows_are_learned_soon() {
    let case =
        |name, rate, make: Make, refused, used| Case { name, rate, make, refused: Some(refused), used };
    let cases = [
        (
            case("10 in 1 s", 10.0, || Box::new(Windows::new(10.0, 1.0, false, Tells::Own)), (6, 5), 0.85),
            12.0,
        ),
        (case("5 in 1 s", 5.0, || Box::new(Windows::new(5.0, 1.0, false, Tells::Own)), (6, 5), 0.85), 12.0),
        (case("3 in 1 s", 3.0, || Box::new(Windows::new(3.0, 1.0, false, Tells::Own)), (8, 4), 0.85), 12.0),
        (
            case("20 in 10 s", 2.0, || Box::new(Windows::new(20.0, 10.0, false, Tells::Own)), (0, 0), 0.95),
            40.0,
        ),
        (
            case("bucket of 10 in 1 s", 10.0, || Box::new(Deep::new(10.0, 1.0, Tells::Own)), (0, 0), 0.97),
            12.0,
        ),
        (case("10 in 2 s", 5.0, || Box::new(Windows::new(10.0, 2.0, false, Tells::Own)), (6, 5), 0.85), 20.0),
        (
            case("100 in 20 s", 5.0, || Box::new(Windows::new(100.0, 20.0, false, Tells::Own)), (0, 0), 0.95),
            60.0,
        ),
        (
            case("bucket of 60 in 20 s", 3.0, || Box::new(Deep::new(3.0, 20.0, Tells::Own)), (0, 0), 0.95),
            90.0,
        ),
        (case("bucket of 3 in 1 s", 3.0, || Box::new(Deep::new(3.0, 1.0, Tells::Own)), (6, 0), 0.97), 12.0),
        (
            case(
                "bucket of 10 in 1 s, no reset",
                10.0,
                || Box::new(Deep::new(10.0, 1.0, Tells::NoReset)),
                (6, 5),
                0.97,
            ),
            20.0,
        ),
        (
            case("bucket of 20 in 10 s", 2.0, || Box::new(Deep::new(2.0, 10.0, Tells::Own)), (0, 0), 0.97),
            12.0,
        ),
    ];
    check_all(&cases, [(0.05, 0.45), (0.0, 0.005), (0.2, 1.0)], 300.0);
}

/// What tells of short resets and counts by the minute all the same is asked for no more than it
/// takes. Resets that say less than the truth are found out by one refusal in 20 minutes.
#[test]
fn short_resets_of_a_minutes_limit_are_no_reason_to_hurry() {
    fn late(limit: f64, sliding: bool) -> Box<dyn Stranger> {
        Box::new(Windows { phase: 0.93, ..Windows::new(limit, 60.0, sliding, Tells::Own) })
    }
    let case = |name, limit: f64, make: Make, refused, used| {
        (Case { name, rate: limit / 60.0, make, refused: Some(refused), used }, 300.0)
    };
    let cases = [
        case("bucket of 3", 3.0, || Box::new(Deep::new(0.05, 60.0, Tells::Own)), (0, 0), 0.84),
        case("bucket of 10", 10.0, || Box::new(Deep::new(1.0 / 6.0, 60.0, Tells::Own)), (0, 0), 0.95),
        case("bucket of 60", 60.0, || Box::new(Deep::new(1.0, 60.0, Tells::Own)), (0, 0), 0.95),
        // It is a sixth as deep as its headers say: a burst finds that out once.
        case("shallow bucket of 60", 60.0, || Box::new(Deep::new(1.0, 10.0, Tells::Minute)), (5, 0), 0.95),
        case("windows of 10", 10.0, || Box::new(Windows::new(10.0, 60.0, false, Tells::Own)), (0, 0), 0.95),
        case("windows of 10, late", 10.0, || late(10.0, false), (0, 0), 0.95),
        case("windows of 60, late", 60.0, || late(60.0, false), (0, 0), 0.95),
        case(
            "sliding counter of 10",
            10.0,
            || Box::new(Windows::new(10.0, 60.0, true, Tells::Own)),
            (0, 0),
            0.45,
        ),
        case("sliding counter of 10, late", 10.0, || late(10.0, true), (0, 0), 0.45),
        case("sliding counter of 60, late", 60.0, || late(60.0, true), (0, 0), 0.45),
        case("log of 10, oldest", 10.0, || Box::new(Minute::new(10.0, Until::Oldest)), (0, 0), 0.9),
        case("log of 10, seconds", 10.0, || Box::new(Minute::new(10.0, Until::Seconds)), (0, 0), 0.9),
        case("log of 60, seconds", 60.0, || Box::new(Minute::new(60.0, Until::Seconds)), (0, 0), 0.95),
        case("log of 10, newest", 10.0, || Box::new(Minute::new(10.0, Until::Newest)), (0, 0), 0.85),
        case("log of 10, next", 10.0, || Box::new(Minute::new(10.0, Until::Next)), (1, 1), 0.9),
        case("log of 60, next", 60.0, || Box::new(Minute::new(60.0, Until::Next)), (1, 1), 0.95),
        case("log of 10, a lie", 10.0, || Box::new(Minute::new(10.0, Until::Second)), (2, 1), 0.9),
    ];
    check_all(&cases, [(0.05, 0.45), (0.0, 0.005), (1.0, 1.0)], 1500.0);
}
