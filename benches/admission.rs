//! What an admission decision costs, with 100,000 requests of 1,000 callers waiting and with none.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use weir::caller::{CallerId, Lane, Mode};
use weir::scope::machine::{Arrival, Claim, HeadReport, Machine, Outcome, Request, Turn};
use weir::scope::{Cost, Key, LimitSettings, Moment, Settings};

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
        cost: Cost { requests: 1, tokens: 500 + u64::from(caller), ..Cost::default() },
        bytes: 2000,
        deadline: now.plus(Duration::from_secs(1_000_000)),
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
            machine.claim(key, |waker| *waker = Some(index));
            keys.push(key);
        }
    }
    (machine, keys, now)
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
        let mut wake = Vec::new();
        let mut caller = 0;
        bencher.iter(|| {
            caller = (caller + 7) % CALLERS;
            if let Arrival::Waiting(key) = machine.arrive(black_box(&request(caller, now)), now, &mut wake) {
                machine.cancel(key, now);
            }
        });
    });
    criterion.bench_function("100,000 waiting: grant and claim", |bencher| {
        bencher.iter_batched_ref(
            || {
                let (machine, keys, now) = crowded();
                (machine, keys, now, Vec::with_capacity(4096))
            },
            |(machine, keys, now, wake)| {
                // 1,000 grants, of which each is claimed.
                let mut granted = 0;
                while granted < 1000 {
                    *now = machine.due().max(*now);
                    machine.pump(*now, wake);
                    for index in wake.drain(..) {
                        let key = keys[index as usize];
                        if let Claim::Granted(attempt) = machine.claim(key, |_| {}) {
                            granted += 1;
                            black_box(attempt);
                        }
                    }
                }
            },
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
    targets = decisions
}
criterion_main!(benches);
