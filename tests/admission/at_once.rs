//! Concurrency limits that the upstream does not report, and overload errors.

use weir::internals::classify::ErrorClass;
use weir::internals::simulate::limiter::{Joint, Price};

use crate::strange_rules::{Case, check};
use crate::strangers::{BARE, Make, PLAIN};
use crate::world::{Scenario, Source, Strange, Stranger, run};

/// A refusal because of too many concurrent requests.
const BUSY: Strange = Strange::Refused { class: ErrorClass::SlowDown, numbers: None, hint: None };

/// A concurrency limit.
#[derive(Debug)]
pub(crate) struct Concurrent {
    most: u32,
    under_way: u32,
    refusal: Strange,
}

impl Concurrent {
    pub(crate) fn new(most: u32, refusal: Strange) -> Self {
        Self { most, under_way: 0, refusal }
    }
}

impl Stranger for Concurrent {
    fn take(&mut self, _price: Price, _at: f64) -> Strange {
        if self.under_way >= self.most {
            return self.refusal.clone();
        }
        self.under_way += 1;
        PLAIN
    }

    fn ended(&mut self) {
        self.under_way -= 1;
    }
}

/// An upstream without a limit that refuses everything as overload for a while.
#[derive(Debug)]
struct Overloaded {
    from: f64,
    until: f64,
}

impl Stranger for Overloaded {
    fn take(&mut self, _price: Price, at: f64) -> Strange {
        if (self.from..self.until).contains(&at) { BUSY } else { PLAIN }
    }
}

/// The allowed time is the ideal one plus the loss of the slow start from ten a second, a twentieth
/// for refused attempts, one probe's pause and one response. With bare refusals, a concurrency
/// limit is distinguished from a rate only later.
#[test]
fn a_burst_above_a_concurrency_limit_ends_soon() {
    for (most, backlog, refusal, ideal) in [
        (4, 40, BUSY, 1.0),
        (4, 800, BUSY, 20.0),
        (1, 20, BUSY, 2.0),
        (20, 2_000, BUSY, 10.0),
        (4, 40, BARE, 5.0),
    ] {
        // The rate doubles each second.
        let rate = f64::from(backlog) / ideal;
        let slow_start = (rate / 10.0).log2() - (rate - 10.0) / (rate * std::f64::consts::LN_2);
        for seed in 1..=5 {
            let report = run(Scenario {
                stranger: Some(Box::new(Concurrent::new(most, refusal.clone()))),
                before: 0.01,
                after: 0.18,
                sources: vec![Source { backlog, ..Source::new(0) }],
                seconds: 120.0,
                seed,
                ..Scenario::new(Joint::new())
            });
            let row = format!(
                "{backlog} beyond {most}, seed {seed}: {:.2} s of {ideal}, {} refused, {} failed",
                report.finished,
                report.refused_upstream,
                report.deadline_refused + report.other_refused,
            );
            println!("{row}");
            assert_eq!(report.done.len(), backlog as usize, "{row}");
            assert!(report.finished <= ideal * 1.05 + slow_start + 0.5, "{row}");
        }
    }
}

#[test]
fn a_concurrency_limit_named_by_refusals_is_used() {
    let case = |name, rate, make: Make| Case { name, rate, make, refused: None, used: 0.95 };
    let cases = [
        case("20 at once, said so", 80.0, || Box::new(Concurrent::new(20, BUSY))),
        case("4 at once, said so", 16.0, || Box::new(Concurrent::new(4, BUSY))),
    ];
    check(&cases, 3);
}

/// It is probed rarely while it lasts; 20 s later all waiting requests are done.
#[test]
fn an_overload_error_is_waited_out() {
    let report = run(Scenario {
        stranger: Some(Box::new(Overloaded { from: 60.0, until: 80.0 })),
        before: 0.05,
        after: 0.45,
        sources: vec![Source::new(0).rate(80.0)],
        seconds: 180.0,
        ..Scenario::new(Joint::new())
    });
    let after = report.done.iter().filter(|done| (100.0..180.0).contains(&done.0)).count();
    println!("{} refused, {:.1} a second afterwards", report.refused_upstream, after as f64 / 80.0);
    assert!(report.refused_upstream <= 100, "{}", report.refused_upstream);
    assert_eq!(report.other_refused + report.deadline_refused, 0);
    assert!((76.0..=84.0).contains(&(after as f64 / 80.0)), "{after}");
}
