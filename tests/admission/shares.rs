//! `limits.share`: several instances with one key, each with a part of every limit.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use weir::internals::admission::machine::{
    Arrival, Attempt, HeadReport, Machine, Outcome, Request, Route, Turn,
};
use weir::internals::admission::{Cost, LimitReports, Moment, Settings};
use weir::internals::caller::{CallerId, Lane, Mode};
use weir::internals::classify::ErrorClass;
use weir::internals::clock;
use weir::internals::simulate::limiter::{Dimension, Joint, Price, Shape};

use crate::matrix::SHAPES;
use crate::world::report;

const LIMIT: u64 = 1200;
const TICK: Duration = Duration::from_millis(10);
/// Minutes of a run, and after how many of them it is measured.
const MINUTES: (u64, u64) = (8, 3);

/// An answer on its way to one of the instances.
struct Answer {
    at: Moment,
    to: usize,
    attempt: Attempt,
    head: HeadReport,
    outcome: Outcome,
}

/// One more of an instance that always has work, where it may go now.
fn ask(machine: &mut Machine<u64>, now: Moment) -> Option<Attempt> {
    let request = Request {
        caller: CallerId(0),
        weight: 1,
        lane: Lane::Interactive,
        cost: Cost { requests: 1, tokens: 100, ..Cost::default() },
        bytes: 100,
        deadline: now.plus_seconds(1e6),
        head_due: false,
        turn: Turn::First,
        mode: Mode::Enforce,
        route: Route::default(),
    };
    match machine.arrive(&request, now, &mut Vec::new()) {
        Arrival::Granted(mut attempt) => {
            machine.sent(&mut attempt, now);
            Some(attempt)
        }
        Arrival::Waiting(key) => {
            machine.cancel(key, now);
            None
        }
        Arrival::Refused(_) => None,
    }
}

/// The part of the limit that each of two instances used, which have these shares and always work,
/// and the 429s after the first minutes.
fn used(shape: Shape, shares: [f64; 2], busy: [bool; 2]) -> ([f64; 2], u64) {
    let base = clock::now();
    let mut upstream = Joint::new().with(Dimension::RequestsPerMinute, LIMIT, shape);
    let mut machines = shares.map(|share| {
        let mut settings = Settings::default();
        settings.limits.share = share;
        Machine::<u64>::new(Arc::new(settings), "f", 1, Moment::START)
    });
    let mut answers: VecDeque<Answer> = VecDeque::new();
    let (mut taken, mut refused) = ([0.0; 2], 0);
    let mut passed = Duration::ZERO;
    while passed < Duration::from_mins(MINUTES.0) {
        let now = Moment::START.plus(passed);
        while answers.front().is_some_and(|answer| answer.at <= now) {
            let Some(mut answer) = answers.pop_front() else { break };
            let machine = &mut machines[answer.to];
            machine.head(&mut answer.attempt, &answer.head, now);
            machine.settle(answer.attempt, answer.outcome, now);
        }
        for (to, machine) in machines.iter_mut().enumerate().filter(|(to, _)| busy[*to]) {
            while let Some(attempt) = ask(machine, now) {
                let measured = passed >= Duration::from_mins(MINUTES.1);
                let admitted = upstream.try_take(Price { requests: 1, tokens: 100 }, base + passed).is_ok();
                let class = ErrorClass::RateLimitRequests;
                let outcome = if admitted {
                    taken[to] += f64::from(u8::from(measured));
                    Outcome::Done
                } else {
                    refused += u64::from(measured);
                    Outcome::RateLimited { class, numbers: None, hint: None, words: None, earlier: 0 }
                };
                let level = upstream.level(Dimension::RequestsPerMinute, base + passed).filter(|_| admitted);
                let limits =
                    LimitReports { requests: report(level), tokens: None, ..LimitReports::default() };
                let processing = Some(Duration::from_millis(290));
                let head = HeadReport { limits, processing };
                let at = now.plus(Duration::from_millis(300));
                answers.push_back(Answer { at, to, attempt, head, outcome });
            }
        }
        passed += TICK;
    }
    (taken.map(|taken| taken / (LIMIT * (MINUTES.0 - MINUTES.1)) as f64), refused)
}

/// What the other instance uses of its own share is no use of ours: with half of the limit each,
/// both go at half.
#[test]
fn two_halves_make_a_whole() {
    for (name, shape) in SHAPES {
        let (parts, refused) = used(shape, [0.5, 0.5], [true, true]);
        println!("two halves, {name}: {parts:.3?}, {refused} 429s");
        assert!(parts.iter().all(|part| (0.46..=0.51).contains(part)), "{name}: {parts:?}");
        assert!(refused <= 5, "{name}: {refused}");
    }
}

/// Nobody gets more than its share, and who has less than half of it is not pushed further back by
/// who has more.
#[test]
fn unequal_shares_are_kept() {
    for (name, shape) in SHAPES {
        let (parts, refused) = used(shape, [0.8, 0.2], [true, true]);
        let (alone, _) = used(shape, [0.3, 0.7], [true, false]);
        println!("0.8 and 0.2, {name}: {parts:.3?}, {refused} 429s; 0.3 alone: {:.3}", alone[0]);
        assert!((0.74..=0.82).contains(&parts[0]) && (0.18..=0.21).contains(&parts[1]), "{name}: {parts:?}");
        assert!(refused <= 5, "{name}: {refused}");
        assert!((0.28..=0.31).contains(&alone[0]), "{name}: {alone:?}");
    }
}
