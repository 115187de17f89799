//! Issue 3, 3 and "Bad input": what the upstream says, and how far it is taken at its word.

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

/// A machine, and the time that its one caller sees.
struct Caller {
    machine: Machine<u64>,
    /// What it asks next.
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

    /// Asks for one request of this size in tokens; nothing where it would have to wait.
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

    /// A tenth of a second later it is answered, with these token headers.
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

    /// A tenth of a second later it is refused.
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

/// A refusal speaks of 30,000 a minute where every header says 2,000,000: they are two limits, and
/// both hold. Where no further refusal speaks of the smaller one for ten minutes, it is raised step
/// by step, and gone when it is as high as the other.
#[test]
fn a_limit_that_only_a_refusal_names_holds_beside_that_of_the_headers() {
    for (used, wait) in [(Some(30_000), 1.0), (Some(30_000), 45.0), (Some(29_900), 0.8), (None, 6.0)] {
        let mut caller = Caller::new();
        for _ in 0..20 {
            let attempt = caller.ask(500).unwrap();
            caller.answered(attempt, 2_000_000, 2_000_000 - 500);
        }
        assert!((caller.tokens_per_minute().limit - 2e6).abs() < 1.0);
        // Two are on their way when the refusal comes; one comes back after it.
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

/// An answer that was admitted before a limit was cut comes late: it tells of what was.
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

/// Limits of 0 and of everything, waits of none and of a century, more used than there is: nothing
/// is believed for longer than the next sane answer.
#[test]
fn absurd_refusals_stop_nothing() {
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

/// A clock that stands still, or jumps ahead by a day or a century: the machine goes on. (It is
/// monotonic: it never goes back. The wall clock only counts for hints that are dates.)
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

/// One endpoint is charged twice what it is estimated at, another 40 % of it: each is soon expected
/// to be what it is charged, where answers come one at a time: then the headers tell what each was
/// charged.
#[test]
fn each_endpoint_has_its_own_price() {
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
        // It is admitted at once; the head says so 90 ms later.
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

/// The bucket of long contexts is another than its model's, and no header tells of it: a refusal by
/// it holds its own request for as long as it says, and nobody else.
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
