//! Limits with unusual algorithms: their use, and their refusals.

use crate::at_once::Concurrent;
use crate::matrix::each;
use crate::strangers::{BARE, Deep, Leaky, Make, Regions, Storm, Tells, Windows, row, scenario, used};
use crate::world::{Scenario, percentile, run};

/// The bounds of a run.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// The limit per second.
    pub(crate) rate: f64,
    pub(crate) make: Make,
    /// The maximum number of 429s in all, and after eight minutes. Without any report of the limit,
    /// one in a hundred attempts after that time.
    pub(crate) refused: Option<(u64, u64)>,
    /// The minimum used fraction of the limit after eight minutes.
    pub(crate) used: f64,
}

/// Limits that are reported in unknown ways, or counted in unexpected windows. With only 429s, nine
/// tenths of the limit are used, and one attempt in a hundred is refused. Windows of a second are
/// used less: of 20 requests in each, random delays shift one or two into the next.
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
        // The first binary digits of π: 18 of 32 go to the first, up to six in a row to one.
        name: "two regions in no order",
        rate: 600.0 / 60.0 * 32.0 / 18.0,
        make: || Box::new(Regions::new(&[600.0, 600.0], &IN_NO_ORDER)),
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

const IN_NO_ORDER: [usize; 32] =
    [0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 1, 1, 0, 1, 0, 1, 0, 1, 0, 0, 0, 1, 0, 0, 0];

#[test]
fn unusual_algorithms_are_handled() {
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

/// An upstream without a limit that refuses everything for 30 s: few attempts in that time, and
/// soon full rate afterwards.
#[test]
fn temporary_refusals_are_no_limit() {
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
        // A growing pause, and the requests of a second when the first one ends.
        assert!(report.refused_upstream <= 60, "{row}");
        let median = percentile(&report.waits, 0.5);
        assert!(median < 30.0 && report.deadline_refused * 20 <= report.offered, "{row}, {median} s");
        assert!(used(&report, RATE) >= 0.95, "{row}");
    }
}

/// An unreported raise of the limit by ten is found within a few probes.
#[test]
fn a_raised_limit_is_found_by_probing() {
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

/// Without any limit, all requests are soon sent.
#[test]
fn without_a_limit_nothing_is_delayed() {
    let limitless: Make = || Box::new(Storm { from: 0.0, until: 0.0, tells: false });
    // (sequential callers, burst size, seconds of a response, requests sent within a number of
    // seconds)
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

/// 40 callers with a deadline of seven seconds, at two requests a second: requests that are sent
/// get their response in time, and the others are refused at once.
#[test]
fn a_request_that_would_be_late_is_not_sent() {
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
