//! The cost of counting a request, and of a scrape in the documented worst case.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use weir::internals::account::{self, Account, Begin, RequestId, Usage, Wait};
use weir::internals::caller::{CallerId, Registry};
use weir::internals::clock;
use weir::internals::metrics::{DimensionGauges, Gathered, Metrics, Outcome, ScopeGauges, Settings};
use weir::internals::openai::Endpoint;

fn counting(criterion: &mut Criterion) {
    let metrics = Metrics::new(&settings(100));
    let caller = CallerId(42);
    criterion.bench_function("counter of a caller and endpoint", |bench| {
        bench.iter(|| {
            let series = metrics.caller(black_box(caller)).at(black_box(Endpoint::Responses));
            series.requests.inc(black_box(Outcome::Success));
        });
    });
    criterion.bench_function("histogram of a caller and endpoint", |bench| {
        bench.iter(|| {
            metrics.caller(black_box(caller)).at(Endpoint::Responses).duration.observe(black_box(1.25));
        });
    });
    criterion.bench_function("overhead histogram", |bench| {
        bench.iter(|| metrics.overhead.observe(black_box(0.000_042)));
    });
    for index in 0..50 {
        metrics.model(&format!("gpt-{index}"), true);
    }
    criterion.bench_function("series of the last of 50 models", |bench| {
        bench.iter(|| metrics.model(black_box("gpt-49"), true).requests.inc(Outcome::Success));
    });
}

fn recording(criterion: &mut Criterion) {
    let metrics = Metrics::new(&settings(100));
    let account =
        Account::new(account::Settings::default(), metrics, Registry::with(&names(100)), clock::now());
    let mut rng = fastrand::Rng::with_seed(1);
    let mut request = |criterion: &mut Criterion, name: &str, now: fn() -> clock::Instant| {
        criterion.bench_function(name, |bench| {
            bench.iter(|| {
                let begin = Begin {
                    id: RequestId::new(&mut rng),
                    caller: CallerId(7),
                    endpoint: Endpoint::ChatCompletions,
                    sdk_retries: 0,
                    trace: None,
                };
                let mut record = account.begin(&begin, now());
                record.set_estimate(150);
                record.waited(Wait::Queue, Duration::from_micros(3));
                record.attempt(Duration::ZERO, false, now());
                record.attempt_answered(http::StatusCode::OK, None, now());
                record.answered(http::StatusCode::OK, now());
                record.sent(937);
                record.used(Usage { input: 90, cached: 0, output: 10 }, 100);
                record.finish(now());
            });
        });
    };
    request(criterion, "record of one request", clock::now);
    std::thread::scope(|threads| {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let metrics = Arc::clone(account.metrics());
        threads.spawn(move || {
            while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                for _ in 0..1_000 {
                    metrics.overhead.observe(0.000_042);
                    metrics.caller(CallerId(7)).at(Endpoint::ChatCompletions).duration.observe(1.0);
                    metrics.caller(CallerId(7)).queue_wait.observe(0.0);
                }
            }
        });
        request(criterion, "record of one request, against a second thread", clock::now);
        drop(stop);
    });
}

fn scraping(criterion: &mut Criterion) {
    for (name, callers, scopes) in [("1 caller, 2 scopes", 1, 2), ("worst case", 100, 1_000)] {
        let metrics = Metrics::new(&settings(callers));
        let gathered = Gathered { scopes: (0..scopes).map(scope).collect(), ..Gathered::default() };
        for index in 0..1_000 {
            metrics.model(&format!("gpt-{index}"), true);
        }
        let mut out = Vec::new();
        metrics.encode(&gathered, &mut out);
        let series =
            out.split(|byte| *byte == b'\n').filter(|line| !line.is_empty() && line[0] != b'#').count();
        assert!(series <= metrics.plan().worst, "{series} series, {:?}", metrics.plan());
        let size = format!("scrape, {name}: {series} series, {} KiB", out.len() / 1024);
        criterion.bench_function(&size, |bench| {
            bench.iter(|| {
                out.clear();
                metrics.encode(black_box(&gathered), &mut out);
            });
        });
    }
}

fn settings(callers: usize) -> Settings {
    Settings { callers: names(callers), workers: 2, ..Settings::default() }
}

fn names(callers: usize) -> Vec<Arc<str>> {
    (0..callers).map(|index| Arc::from(format!("caller-{index}"))).collect()
}

fn scope(index: usize) -> ScopeGauges {
    let dimensions = ["requests_per_minute", "tokens_per_minute", "requests_per_day", "tokens_per_day"];
    ScopeGauges {
        name: format!("credential-{index}/gpt-5"),
        dimensions: dimensions
            .map(|dimension| DimensionGauges {
                dimension,
                limit: 2e6,
                level: 388_120.5,
                ..DimensionGauges::default()
            })
            .to_vec(),
        ..ScopeGauges::default()
    }
}

criterion_group!(benches, counting, recording, scraping);
criterion_main!(benches);
