//! Issue 3, 3: limits that change, and the detection of windows.

use std::time::Duration;

use weir::internals::simulate::limiter::{Depth, Dimension, Joint, Shape};

use crate::world::{Scenario, Source, run};

#[test]
fn a_raised_limit_is_used_and_a_cut_one_kept() {
    for (from, to) in [(600, 6000), (6000, 600)] {
        let upstream = Joint::new().with(Dimension::RequestsPerMinute, from, Shape::Bucket(Depth::Window));
        let mut scenario = Scenario::new(upstream);
        scenario.before = 0.05;
        scenario.after = 1.95;
        scenario.changes = vec![(180.0, Dimension::RequestsPerMinute, to)];
        scenario.sources = vec![Source::new(0).rate(150.0)];
        scenario.measured_from = 200.0;
        scenario.seconds = 320.0;
        let report = run(scenario);
        let used = report.used.0 as f64 / (to as f64 / 60.0 * report.measured);
        println!("limit {from} to {to}: 429s {:?}, use {:.1} %", report.refused_by_minute, used * 100.0);
        // After a cut the level exceeds the new limit: only the requests in flight are refused.
        assert!(report.refused_upstream <= 200, "{:?}", report.refused_by_minute);
        // A limit that stays used up is probed once a minute.
        assert!(
            report.refused_by_minute.iter().skip(4).all(|count| *count <= 1),
            "{:?}",
            report.refused_by_minute
        );
        if to > from {
            assert_eq!(report.refused_upstream, 0);
            assert!(used >= 0.97, "{used}");
        }
    }
}

#[test]
fn a_day_is_told_from_a_minute() {
    // 7,200 a day, in the header of a limit per minute.
    let upstream = Joint::new().with(Dimension::RequestsPerDay, 7200, Shape::Bucket(Depth::Window));
    let mut scenario = Scenario::new(upstream);
    scenario.before = 0.05;
    scenario.after = 0.5;
    let mut source = Source::new(0).rate(20.0);
    source.patience = 30.0;
    scenario.sources = vec![source];
    scenario.measured_from = 600.0;
    scenario.seconds = 1200.0;
    let report = run(scenario);
    println!("day: 429s {:?}, answered {:?}", report.refused_by_minute, report.accepted);
    assert_eq!(report.refused_upstream, 0, "{:?}", report.refused_by_minute);
    // The day's limit without the margin can be used at once; then it refills one in twelve
    // seconds.
    assert!(report.accepted >= 6_800, "{}", report.accepted);
}

#[test]
fn nothing_stops_at_absurd_headers() {
    use weir::internals::admission::machine::{Arrival, HeadReport, Machine, Outcome, Request, Route, Turn};
    use weir::internals::admission::{Cost, LimitReport, LimitReports, Moment, Settings};
    let mut rng = fastrand::Rng::with_seed(3);
    let mut machine: Machine<u64> =
        Machine::new(std::sync::Arc::new(Settings::default()), "f", 1, Moment::START);
    let mut now = Moment::START;
    let mut granted = 0;
    for step in 0..40_000 {
        now = now.plus(Duration::from_millis(rng.u64(0..200)));
        let odd = |rng: &mut fastrand::Rng| match rng.u8(0..6) {
            0 => 0,
            1 => u64::MAX,
            2 => 1,
            _ => rng.u64(0..1_000_000),
        };
        let request = Request {
            caller: weir::internals::caller::CallerId(rng.u16(0..9)),
            weight: rng.u32(0..3),
            lane: weir::internals::caller::Lane::Interactive,
            cost: Cost { requests: 1, tokens: odd(&mut rng), ..Cost::default() },
            bytes: 10,
            deadline: now.plus(Duration::from_secs(rng.u64(0..60))),
            head_due: false,
            turn: Turn::First,
            mode: weir::internals::caller::Mode::Enforce,
            route: Route::default(),
        };
        let arrival = machine.arrive(&request, now, &mut Vec::new());
        if let Arrival::Waiting(key) = arrival {
            machine.cancel(key, now);
        } else if let Arrival::Granted(mut attempt) = arrival {
            granted += 1;
            machine.sent(&mut attempt, now);
            // Valid again in the second half.
            let mut side = || {
                Some(LimitReport {
                    limit: if step < 20_000 { odd(&mut rng) } else { 600_000 },
                    remaining: if step < 20_000 { odd(&mut rng) } else { 600_000 - 100 * (1 + granted % 50) },
                    reset: Some(Duration::from_millis(if step < 20_000 {
                        odd(&mut rng)
                    } else {
                        10 * (1 + granted % 50)
                    })),
                })
            };
            let limits = LimitReports { requests: side(), tokens: side(), ..LimitReports::default() };
            let report = HeadReport { limits, processing: Some(Duration::MAX) };
            machine.head(&mut attempt, &report, now);
            machine.settle(attempt, Outcome::Done, now);
        }
        machine.pump(now, &mut Vec::new());
        for dimension in machine.status("x", "x", now).dimensions {
            assert!(dimension.level.is_finite() && dimension.limit >= 1.0 && dimension.foreign_use <= 1.0);
        }
    }
    println!("absurd headers: {granted} granted");
    // A sixth of them cost the tokens of a whole minute each.
    assert!(granted > 1_000, "{granted}");
    assert_eq!(machine.in_flight(), 0);
}
