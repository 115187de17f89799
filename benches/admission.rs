//! What an admission decision costs, with 100,000 requests of 1,000 callers waiting and with none.
//!
//! `admission --count NAME TIMES` runs one loop so many times and nothing else: what `valgrind --tool=callgrind` counts of two
//! lengths of it, subtracted, is a figure that no noise moves.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, criterion_group};
use weir::caller::{CallerId, Lane, Mode};
use weir::clock;
use weir::scope::machine::{Arrival, Claim, HeadReport, Machine, Outcome, Request, Turn};
use weir::scope::{
    Admission, Ask, Cost, CredentialId, Key, LimitReport, LimitReports, LimitSettings, Moment, Scopes,
    Settings,
};

const CALLERS: u16 = 1000;
const WAITING: u32 = 100_000;

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
        cost: Cost { requests: 1, tokens: 500 + u64::from(caller) },
        bytes: 2000,
        deadline: now.plus(Duration::from_secs(1_000_000) + Duration::from_millis(u64::from(caller) * 60)),
        turn: Turn::First,
        mode: Mode::Enforce,
    }
}

fn crowded() -> (Machine<u32>, Vec<Key>, Moment) {
    let mut machine = Machine::new(settings(6000), "family", 1, Moment::START);
    let now = Moment::START;
    let mut keys = Vec::new();
    for index in 0..WAITING {
        let caller = u16::try_from(index % u32::from(CALLERS)).unwrap_or(0);
        if let Arrival::Waiting(key) = machine.arrive(&request(caller, now), now, &mut Vec::new()) {
            let place = u32::try_from(keys.len()).unwrap_or(u32::MAX);
            machine.claim(key, |waker| *waker = Some(place));
            keys.push(key);
        }
    }
    (machine, keys, now)
}

/// A scope that nobody waits in: the way of every request while the limits have room.
struct Calm {
    scopes: Scopes,
    /// Whether the headers tell when the limit is full again, and with it the shape.
    resets: bool,
    calls: u64,
}

impl Calm {
    fn new(resets: bool) -> Self {
        let mut calm = Self { scopes: Scopes::new(Settings::default(), 1), resets, calls: 0 };
        // The first answers teach the limits.
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
            cost: Cost { requests: 1, tokens: 10 },
            body_bytes: 2000,
            deadline: now + Duration::from_mins(1),
            turn: Turn::First,
            mode: Mode::Enforce,
        };
        let Admission::Granted(mut permit) = scope.ask(black_box(&ask), now) else { return };
        permit.sent_at(now);
        let report = black_box(self.report());
        permit.good_head_at(&report, Some("org-of-the-bench"), Some("proj-of-the-bench"), clock::now());
        permit.done_at(clock::now());
    }

    fn report(&self) -> HeadReport {
        let dimension = |limit: u64| {
            // Used differently each time, as the proof of a bucket asks for.
            let used = limit / 1000 * (1 + self.calls % 8);
            let reset = Duration::from_secs_f64(used as f64 * 60.0 / limit as f64);
            LimitReport { limit, remaining: limit - used, reset: self.resets.then_some(reset) }
        };
        HeadReport {
            limits: LimitReports {
                requests: Some(dimension(400_000_000)),
                tokens: Some(dimension(4_000_000_000)),
            },
            processing: Some(Duration::from_micros(1)),
            rate_limited: false,
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

/// Another request of some caller comes, and leaves again.
fn enqueue_and_cancel(machine: &mut Machine<u32>, time: u32, now: Moment) {
    let caller = u16::try_from(time * 7 % u32::from(CALLERS)).unwrap_or(0);
    let arrival = machine.arrive(black_box(&request(caller, now)), now, &mut Vec::new());
    if let Arrival::Waiting(key) = arrival {
        machine.cancel(key, now);
    }
}

/// Those whose turn comes go, one by one as their moments come.
fn grant_and_claim(machine: &mut Machine<u32>, keys: &[Key], now: &mut Moment, times: u32) {
    let mut wake = Vec::with_capacity(1);
    let mut granted = 0;
    while granted < times {
        *now = machine.due().max(*now);
        machine.pump(*now, &mut wake);
        for index in wake.drain(..) {
            if let Claim::Granted(attempt) = machine.claim(keys[index as usize], |_| {}) {
                granted += 1;
                black_box(attempt);
            }
        }
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
    criterion.bench_function("100,000 waiting: enqueue with its prediction, and cancel", |bencher| {
        let (mut machine, _, now) = crowded();
        let mut time = 0;
        bencher.iter(|| {
            time += 1;
            enqueue_and_cancel(&mut machine, time, now);
        });
    });
    criterion.bench_function("100,000 waiting: 1,000 times grant and claim", |bencher| {
        bencher.iter_batched_ref(
            crowded,
            |(machine, keys, now)| grant_and_claim(machine, keys, now, 1000),
            BatchSize::PerIteration,
        );
    });
    criterion.bench_function("100,000 waiting: cancel all", |bencher| {
        bencher.iter_batched_ref(
            crowded,
            |(machine, keys, now)| {
                for key in keys.iter() {
                    machine.cancel(*key, *now);
                }
            },
            BatchSize::PerIteration,
        );
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500));
    targets = uncontended, decisions
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

/// One loop, so many times.
fn count(name: &str, times: u32) {
    match name {
        "proven" | "unknown" => {
            let mut calm = Calm::new(name == "proven");
            for _ in 0..times {
                calm.call();
            }
        }
        "crowded-enqueue" => {
            let (mut machine, _, now) = crowded();
            for time in 0..times {
                enqueue_and_cancel(&mut machine, time, now);
            }
        }
        "crowded-grant" => {
            let (mut machine, keys, mut now) = crowded();
            grant_and_claim(&mut machine, &keys, &mut now, times);
        }
        _ => panic!("no loop has this name"),
    }
}
