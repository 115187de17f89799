//! The cost of an admission decision, with 100,000 waiting requests of 1,000 callers and with none.
//!
//! `admission --count NAME TIMES` only runs one loop TIMES times. The difference between the
//! instructions that `valgrind --tool=callgrind` counts for two values of TIMES has no noise.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, criterion_group};
use weir::internals::admission::machine::{
    Arrival, Claim, HeadReport, Machine, Outcome, Request, Route, Turn,
};
use weir::internals::admission::{
    Admission, Ask, Cost, CredentialId, Key, LimitReport, LimitReports, LimitSettings, MemberSettings,
    Moment, Scopes, Settings,
};
use weir::internals::caller::{CallerId, Lane, Mode};
use weir::internals::clock;
use weir::internals::pool::UpstreamId;

const CALLERS: u16 = 1000;
const WAITING: usize = 100_000;

fn settings(requests_per_minute: u64) -> Arc<Settings> {
    let limits = LimitSettings {
        requests_per_minute: Some(requests_per_minute),
        tokens_per_minute: Some(requests_per_minute * 1000),
        ..LimitSettings::default()
    };
    let mut settings = Settings { limits, ..Settings::default() };
    settings.queue.max_waiting = 1_000_000;
    settings.queue.max_bytes = usize::MAX;
    Arc::new(settings)
}

fn request(caller: u16, now: Moment) -> Request {
    Request {
        caller: CallerId(caller),
        weight: 1 + u32::from(caller % 3),
        lane: Lane::Interactive,
        cost: Cost { requests: 1, tokens: 500 + u64::from(caller), ..Cost::default() },
        bytes: 2000,
        deadline: now.plus(Duration::from_secs(1_000_000) + Duration::from_millis(u64::from(caller) * 60)),
        head_due: false,
        turn: Turn::First,
        mode: Mode::Enforce,
        route: Route::default(),
    }
}

/// A machine with 100,000 requests of 1,000 callers waiting.
struct Crowd {
    machine: Machine<u32>,
    now: Moment,
    arrived: u32,
    /// The waiting requests, by the number that wakes each.
    keys: Vec<Option<Key>>,
    free: Vec<u32>,
    wake: Vec<u32>,
}

impl Crowd {
    fn new() -> Self {
        let machine = Machine::new(settings(6000), "family", 1, Moment::START);
        let (keys, free, wake) = (Vec::new(), Vec::new(), Vec::new());
        let mut crowd = Self { machine, now: Moment::START, arrived: 0, keys, free, wake };
        crowd.fill();
        crowd
    }

    fn fill(&mut self) {
        while self.machine.waiting() < WAITING {
            self.enqueue();
        }
    }

    /// Enqueues a request of the next caller. Returns its number.
    fn enqueue(&mut self) -> Option<u32> {
        self.arrived += 1;
        let caller = u16::try_from(self.arrived * 7 % u32::from(CALLERS)).unwrap_or(0);
        let asked = black_box(request(caller, self.now));
        let Arrival::Waiting(key) = self.machine.arrive(&asked, self.now, &mut self.wake) else {
            return None;
        };
        let number = self.free.pop().unwrap_or_else(|| {
            self.keys.push(None);
            u32::try_from(self.keys.len() - 1).unwrap_or(u32::MAX)
        });
        self.keys[number as usize] = Some(key);
        self.machine.claim(key, |waker| *waker = Some(number));
        Some(number)
    }

    fn cancel(&mut self, number: u32) {
        if let Some(key) = self.keys[number as usize].take() {
            self.machine.cancel(key, self.now);
            self.free.push(number);
        }
    }

    /// Advances to the next admission. Returns the numbers of the admitted requests.
    fn grant(&mut self) -> impl Iterator<Item = u32> + use<'_> {
        self.now = self.machine.due().max(self.now);
        self.machine.pump(self.now, &mut self.wake);
        self.wake.drain(..)
    }

    fn claim(&mut self, number: u32) {
        if let Some(key) = self.keys[number as usize].take()
            && let Claim::Granted(attempt) = self.machine.claim(key, |_| {})
        {
            self.free.push(number);
            self.machine.settle(black_box(attempt), Outcome::Done, self.now);
        }
    }
}

/// A scope without waiting requests.
struct Calm {
    scopes: Scopes,
    /// Whether the headers have the reset time, which shows the limit's shape.
    resets: bool,
    calls: u64,
}

impl Calm {
    fn new(resets: bool) -> Self {
        Self::with(Settings::default(), resets)
    }

    /// The same, before a pool of this number of upstreams.
    fn pool(count: u16) -> Self {
        let member = |id: u16| MemberSettings {
            id: UpstreamId(id),
            name: format!("u{id}").into(),
            priority: 0,
            limits: None,
            models: Vec::new(),
        };
        let settings = Settings { members: (0..count).map(member).collect(), ..Settings::default() };
        let mut calm = Self::with(settings, true);
        // Each of them.
        for _ in 0..10 * u32::from(count) {
            calm.call();
        }
        calm
    }

    fn with(settings: Settings, resets: bool) -> Self {
        let mut calm = Self { scopes: Scopes::new(settings, 1), resets, calls: 0 };
        // The first responses report the limits.
        for _ in 0..1000 {
            calm.call();
        }
        calm
    }

    /// One request from its look-up to its end.
    fn call(&mut self) {
        self.calls += 1;
        let scope = self.scopes.resolve(CredentialId(0x5eed), Some("gpt-4o-mini"));
        let now = clock::now();
        let ask = Ask {
            caller: CallerId(1),
            weight: 1,
            lane: Lane::Interactive,
            cost: Cost { tokens: 10, ..request(1, Moment::START).cost },
            body_bytes: 2000,
            deadline: now + Duration::from_mins(1),
            head_due: false,
            turn: Turn::First,
            mode: Mode::Enforce,
            route: Route::default(),
        };
        let Admission::Granted(mut permit) = scope.ask(black_box(&ask), now) else { return };
        permit.sent_at(now);
        let report = black_box(self.report());
        permit.head_at(&report, Some("org-of-the-bench"), Some("proj-of-the-bench"), true, clock::now());
        permit.done_at(clock::now());
    }

    fn report(&self) -> HeadReport {
        let dimension = |limit: u64| {
            // A different level each time, so that the limit is recognized as a bucket.
            let used = limit / 1000 * (1 + self.calls % 8);
            let reset = Duration::from_secs_f64(used as f64 * 60.0 / limit as f64);
            LimitReport { limit, remaining: limit - used, reset: self.resets.then_some(reset) }
        };
        HeadReport {
            limits: LimitReports {
                requests: Some(dimension(400_000_000)),
                tokens: Some(dimension(4_000_000_000)),
                ..LimitReports::default()
            },
            processing: Some(Duration::from_micros(1)),
        }
    }
}

fn uncontended(criterion: &mut Criterion) {
    for (name, resets) in [("its shape proven", true), ("its shape unknown", false)] {
        criterion.bench_function(
            &format!("nobody waits, {name}: resolve, admit, sent, head, done"),
            |bencher| {
                let mut calm = Calm::new(resets);
                bencher.iter(|| calm.call());
            },
        );
    }
}

fn pools(criterion: &mut Criterion) {
    for count in [1, 256] {
        criterion.bench_function(&format!("nobody waits, {count} upstreams"), |bencher| {
            let mut calm = Calm::pool(count);
            bencher.iter(|| calm.call());
        });
    }
}

fn decisions(criterion: &mut Criterion) {
    criterion.bench_function("uncontended: arrive, sent, head, settle", |bencher| {
        let mut machine: Machine<u32> = Machine::new(settings(60_000_000), "family", 1, Moment::START);
        let mut now = Moment::START;
        let mut wake = Vec::new();
        bencher.iter(|| {
            now = now.plus(Duration::from_micros(10));
            if let Arrival::Granted(mut attempt) = machine.arrive(black_box(&request(1, now)), now, &mut wake)
            {
                machine.sent(&mut attempt, now);
                machine.head(&mut attempt, &HeadReport::default(), now);
                machine.settle(attempt, Outcome::Done, now);
            }
        });
    });
    for step in ["enqueue with its prediction", "cancel", "grant", "claim"] {
        criterion.bench_function(&format!("100,000 waiting: {step}"), |bencher| {
            let mut crowd = Crowd::new();
            bencher.iter_custom(|times| spent_on(step, times, &mut crowd));
        });
    }
    criterion.bench_function("100,000 waiting: cancel all", |bencher| {
        bencher.iter_batched_ref(
            Crowd::new,
            |crowd| {
                for number in 0..u32::try_from(crowd.keys.len()).unwrap_or(u32::MAX) {
                    crowd.cancel(number);
                }
            },
            BatchSize::PerIteration,
        );
    });
}

/// The time of a number of repeated steps, in rounds of a thousand after which everything is as
/// before.
fn spent_on(step: &str, times: u64, crowd: &mut Crowd) -> Duration {
    let mut spent = Duration::ZERO;
    let mut left = times;
    while left > 0 {
        let round = usize::try_from(left.min(1000)).unwrap_or(1000);
        left -= round as u64;
        let mut numbers = Vec::with_capacity(round);
        let grants = matches!(step, "grant" | "claim");
        let began = clock::now();
        while numbers.len() < round {
            if grants {
                numbers.extend(crowd.grant());
            } else {
                numbers.extend(crowd.enqueue());
            }
        }
        let between = clock::now();
        for number in numbers {
            if grants {
                crowd.claim(number);
            } else {
                crowd.cancel(number);
            }
        }
        spent += if matches!(step, "cancel" | "claim") { clock::now() - between } else { between - began };
        crowd.fill();
    }
    spent
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500));
    targets = uncontended, pools, decisions
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, count, name, times, ..] = &arguments[..]
        && count == "--count"
    {
        self::count(name, times.parse().expect("how many times"));
        return;
    }
    benches();
    Criterion::default().configure_from_args().final_summary();
}

/// One loop, repeated.
fn count(name: &str, times: u32) {
    match name {
        "proven" | "unknown" => {
            let mut calm = Calm::new(name == "proven");
            for _ in 0..times {
                calm.call();
            }
        }
        "pool-of-1" | "pool-of-256" => {
            let mut calm = Calm::pool(if name == "pool-of-1" { 1 } else { 256 });
            for _ in 0..times {
                calm.call();
            }
        }
        "enqueue-and-cancel" => {
            spent_on("cancel", u64::from(times), &mut Crowd::new());
        }
        // The queue is refilled after each thousand, so this includes an enqueue.
        "grant-and-claim" => {
            spent_on("claim", u64::from(times), &mut Crowd::new());
        }
        _ => panic!("no loop has this name"),
    }
}
