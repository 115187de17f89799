//! Issue 3, 3 and "Bad input": the interpretation of the upstream's headers and refusals.

use std::sync::Arc;
use std::time::Duration;

use weir::internals::admission::machine::{
    Arrival, Attempt, HeadReport, Machine, Outcome, Request, Route, Turn,
};
use weir::internals::admission::{
    Cost, DimensionStatus, LimitReport, LimitReports, Moment, RefusalNumbers, Settings, Slot,
};
use weir::internals::caller::{CallerId, Lane, Mode};
use weir::internals::classify::ErrorClass;
use weir::internals::openai::Endpoint;

/// A state machine with one caller, and its clock.
struct Caller {
    machine: Machine<u64>,
    /// The number of the next request.
    endpoint: Endpoint,
    now: Moment,
}

impl Caller {
    fn new() -> Self {
        let machine = Machine::new(Arc::new(Settings::default()), "f", 1, Moment::START);
        Self { machine, endpoint: Endpoint::ChatCompletions, now: Moment::START }
    }

    fn pass(&mut self, seconds: f64) {
        self.now = self.now.plus_seconds(seconds);
        self.machine.pump(self.now, &mut Vec::new());
    }

    /// Requests admission for this number of tokens; `None` if it would have to wait.
    fn ask(&mut self, tokens: u64) -> Option<Attempt> {
        let request = Request {
            caller: CallerId(0),
            weight: 1,
            lane: Lane::Interactive,
            cost: Cost { requests: 1, endpoint: self.endpoint, tokens },
            bytes: 100,
            deadline: self.now.plus_seconds(60.0),
            head_due: false,
            turn: Turn::First,
            mode: Mode::Enforce,
            route: Route::default(),
        };
        match self.machine.arrive(&request, self.now, &mut Vec::new()) {
            Arrival::Granted(mut attempt) => {
                self.machine.sent(&mut attempt, self.now);
                Some(attempt)
            }
            Arrival::Waiting(key) => {
                self.machine.cancel(key, self.now);
                None
            }
            Arrival::Refused(_) => None,
        }
    }

    /// The response, a tenth of a second later, with these token headers.
    fn answered(&mut self, mut attempt: Attempt, limit: u64, remaining: u64) {
        self.pass(0.1);
        let reset = Duration::from_secs_f64(60.0 * (limit - remaining) as f64 / limit.max(1) as f64);
        let tokens = Some(LimitReport { limit, remaining, reset: Some(reset) });
        let report = HeadReport {
            limits: LimitReports { requests: None, tokens, ..LimitReports::default() },
            processing: Some(Duration::from_millis(90)),
        };
        self.machine.head(&mut attempt, &report, self.now);
        self.machine.settle(attempt, Outcome::Done, self.now);
    }

    /// The refusal, a tenth of a second later.
    fn refused(&mut self, mut attempt: Attempt, limit: u64, used: Option<u64>, wait: f64) {
        self.pass(0.1);
        let report = HeadReport::default();
        self.machine.head(&mut attempt, &report, self.now);
        let wait = Some(Duration::from_secs_f64(wait));
        let slot = Slot::TokensPerMinute;
        let numbers = Some(RefusalNumbers {
            slot,
            window: None,
            limit,
            used,
            requested: Some(500),
            wait,
            apart: false,
        });
        let outcome = Outcome::RateLimited {
            class: ErrorClass::RateLimitTokens,
            numbers,
            hint: wait,
            words: None,
            earlier: 0,
        };
        self.machine.settle(attempt, outcome, self.now);
    }

    fn tokens_per_minute(&self) -> DimensionStatus {
        let all = self.machine.status("x", "x", self.now).dimensions;
        all.into_iter().find(|dimension| dimension.slot == Slot::TokensPerMinute).unwrap()
    }
}

/// A refusal names 30,000 a minute although every header has 2,000,000: both limits apply. After
/// ten minutes without a further refusal the smaller one is raised in steps, and removed when it
/// equals the other.
#[test]
fn a_limit_named_by_a_refusal_applies_beside_that_of_the_headers() {
    for (used, wait) in [(Some(30_000), 1.0), (Some(30_000), 45.0), (Some(29_900), 0.8), (None, 6.0)] {
        let mut caller = Caller::new();
        for _ in 0..20 {
            let attempt = caller.ask(500).unwrap();
            caller.answered(attempt, 2_000_000, 2_000_000 - 500);
        }
        assert!((caller.tokens_per_minute().limit - 2e6).abs() < 1.0);
        // Two requests are in flight at the refusal; one response arrives after it.
        let (refused, other) = (caller.ask(500).unwrap(), caller.ask(500).unwrap());
        caller.refused(refused, 30_000, used, wait);
        caller.answered(other, 2_000_000, 1_990_000);
        assert!((caller.tokens_per_minute().limit - 3e4).abs() < 1.0, "the refusal outlives the next answer");
        assert!(caller.ask(20_000).is_none(), "and holds: used {used:?}, wait {wait}");
        let mut minutes = 0;
        while caller.tokens_per_minute().limit < 1.9e6 {
            caller.pass(60.0);
            minutes += 1;
            assert!(minutes < 60, "{:?}", caller.tokens_per_minute());
            if let Some(attempt) = caller.ask(500) {
                caller.answered(attempt, 2_000_000, 1_999_500);
            }
        }
        assert!(minutes >= 10, "{minutes} minutes");
    }
}

/// A late response that was admitted before a cut of the limit reports the old limit.
#[test]
fn an_older_answer_does_not_bring_an_old_limit_back() {
    let mut caller = Caller::new();
    let late = caller.ask(500).unwrap();
    caller.pass(1.0);
    let attempt = caller.ask(500).unwrap();
    caller.answered(attempt, 60_000, 59_000);
    caller.pass(5.0);
    let mut late = late;
    let report = HeadReport {
        limits: LimitReports {
            requests: None,
            tokens: Some(LimitReport { limit: 600_000, remaining: 599_500, reset: None }),
            ..LimitReports::default()
        },
        processing: Some(Duration::from_secs(7)),
    };
    caller.machine.head(&mut late, &report, caller.now);
    caller.machine.settle(late, Outcome::Done, caller.now);
    assert!((caller.tokens_per_minute().limit - 6e4).abs() < 1.0);
}

/// Limits of 0 and of the maximum, waits of 0 and of a century, more used than the limit: none has
/// an effect beyond the next valid response.
#[test]
fn absurd_refusals_have_no_lasting_effect() {
    for limit in [0, 1, 600_000, u64::MAX] {
        for used in [None, Some(0), Some(u64::MAX)] {
            for wait in [0.0, 1e-9, 60.0, 3e9] {
                let mut caller = Caller::new();
                for step in 1..=5 {
                    let attempt = caller.ask(500).unwrap();
                    caller.answered(attempt, 600_000, 600_000 - 500 * step);
                }
                let (refused, other) = (caller.ask(500).unwrap(), caller.ask(500).unwrap());
                caller.refused(refused, limit, used, wait);
                caller.answered(other, 600_000, 596_500);
                let mut waited = 0.0;
                while caller.ask(500).is_none() {
                    caller.pass(0.5);
                    waited += 0.5;
                    assert!(waited <= 61.0, "{limit} {used:?} {wait}: {:?}", caller.tokens_per_minute());
                }
                let dimension = caller.tokens_per_minute();
                assert!(dimension.level.is_finite() && dimension.limit >= 1.0, "{dimension:?}");
            }
        }
    }
}

/// A clock that stands still, or jumps ahead by a day or a century. (It is monotonic. The wall
/// clock matters only for hints that are dates.)
#[test]
fn clocks_that_jump() {
    for jump in [0.0, 86_400.0, 3e9] {
        let mut caller = Caller::new();
        caller.now = Moment::START.plus_seconds(7200.0);
        for step in 1..=10 {
            let attempt = caller.ask(500).unwrap();
            caller.answered(attempt, 600_000, 600_000 - 500 * step);
        }
        let before = caller.ask(500).unwrap();
        caller.now = caller.now.plus_seconds(jump);
        caller.answered(before, 600_000, 594_500);
        let mut granted = 0;
        for _ in 0..200 {
            caller.pass(0.1);
            if let Some(attempt) = caller.ask(500) {
                granted += 1;
                caller.answered(attempt, 600_000, 590_000);
            }
        }
        assert!(granted > 100, "{jump}: {granted}");
        assert_eq!(caller.machine.in_flight(), 0);
    }
}

/// One endpoint is charged twice its estimate, another 40 %. If responses arrive one at a time, the
/// headers show each charge, and both are soon learned.
#[test]
fn each_endpoint_has_its_own_charge_ratio() {
    let limit = 600_000;
    let mut caller = Caller::new();
    let (mut level, mut drained_at) = (0.0, caller.now);
    for step in 0..120 {
        let (endpoint, factor) =
            if step % 3 == 0 { (Endpoint::Responses, 2.0) } else { (Endpoint::Embeddings, 0.4) };
        caller.endpoint = endpoint;
        let Some(attempt) = caller.ask(2000) else {
            caller.pass(0.2);
            continue;
        };
        // It is admitted at once; the head arrives 90 ms later.
        let at = caller.now.plus_seconds(0.01);
        level = f64::max(level - at.seconds_since(drained_at) * 1e4, 0.0) + 2000.0 * factor;
        drained_at = at;
        caller.answered(attempt, limit, limit - level as u64);
    }
    let mut takes = |endpoint| {
        caller.pass(2.0);
        caller.endpoint = endpoint;
        let before = caller.tokens_per_minute().level;
        let attempt = caller.ask(2000).unwrap();
        let taken = caller.tokens_per_minute().level - before;
        caller.machine.settle(attempt, Outcome::Done, caller.now);
        taken
    };
    let (dear, cheap) = (takes(Endpoint::Responses), takes(Endpoint::Embeddings));
    println!("charged 4000: expected {dear:.0}; charged 800: expected {cheap:.0}");
    assert!((3600.0..=4800.0).contains(&dear), "{dear}");
    assert!((720.0..=1200.0).contains(&cheap), "{cheap}");
}

/// Long contexts have a separate bucket, which no header reports: its refusal delays only the
/// refused request.
#[test]
fn the_limit_of_long_contexts_holds_only_its_request() {
    let mut caller = Caller::new();
    for step in 1..=10 {
        let attempt = caller.ask(500).unwrap();
        caller.answered(attempt, 2_000_000, 2_000_000 - 500 * step);
    }
    let mut long = caller.ask(312_683).unwrap();
    caller.pass(0.1);
    let report = HeadReport::default();
    caller.machine.head(&mut long, &report, caller.now);
    let wait = Some(Duration::from_millis(24_220));
    let numbers = Some(RefusalNumbers {
        slot: Slot::TokensPerMinute,
        window: None,
        limit: 400_000,
        used: Some(248_785),
        requested: Some(312_683),
        wait,
        apart: true,
    });
    let outcome = Outcome::RateLimited {
        class: ErrorClass::RateLimitTokens,
        numbers,
        hint: wait,
        words: None,
        earlier: 0,
    };
    let ticket = caller.machine.settle(long, outcome, caller.now).unwrap();
    assert_eq!(ticket.not_before().since(caller.now), Duration::from_millis(24_220));
    let kept = caller.tokens_per_minute();
    assert!((kept.limit - 2e6).abs() < 1.0 && kept.level < 20_000.0, "{kept:?}");
    for _ in 0..20 {
        caller.pass(0.1);
        let attempt = caller.ask(500).expect("others go on");
        caller.answered(attempt, 2_000_000, 1_990_000);
    }
}
