//! `limits.in_flight = "auto"` with a simulated model server that queues requests above its slots.

use weir::internals::admission::{LimitReports, LimitSettings};
use weir::internals::simulate::limiter::{Joint, Price};

use crate::world::{Scenario, Source, Strange, Stranger, Tokens, run};

/// A server and its load.
#[derive(Clone, Copy, Debug)]
struct Server {
    name: &'static str,
    slots: usize,
    /// The minimum and maximum tokens of a prompt. The server reads [`READS`] a second.
    prompt: (f64, f64),
    /// The mean duration of a response after its first event, in seconds,
    answer: f64,
    /// and whether it is distributed exponentially, or uniformly within half of the mean.
    wide: bool,
    /// The number of prompts in ten that are cached, so that their first event is immediate.
    cached: u64,
}

const SERVERS: [Server; 5] = [
    Server { name: "small", slots: 8, prompt: (400.0, 600.0), answer: 3.0, wide: false, cached: 0 },
    Server { name: "large", slots: 64, prompt: (1500.0, 2500.0), answer: 5.0, wide: true, cached: 0 },
    Server { name: "mixed prompts", slots: 16, prompt: (100.0, 8000.0), answer: 4.0, wide: true, cached: 0 },
    Server { name: "short answers", slots: 200, prompt: (50.0, 400.0), answer: 1.0, wide: false, cached: 0 },
    Server { name: "four slots", slots: 4, prompt: (300.0, 300.0), answer: 3.0, wide: true, cached: 0 },
];

/// The prompt tokens that a slot reads per second.
const READS: f64 = 8000.0;
/// Sequential callers per slot.
const CALLERS: u32 = 8;
/// The maximum seconds to the first event for a response that counts.
const PROMPT: f64 = 2.0;

/// The running server: requests wait for a slot in order of arrival.
#[derive(Debug)]
struct Slots {
    server: Server,
    /// The ends of the requests so far.
    ends: Vec<f64>,
    rng: fastrand::Rng,
}

impl Stranger for Slots {
    fn take(&mut self, price: Price, at: f64) -> Strange {
        let Server { slots, answer, wide, cached, .. } = self.server;
        self.ends.retain(|end| *end > at);
        self.ends.sort_by(f64::total_cmp);
        let begin = self.ends.len().checked_sub(slots).map_or(at, |index| self.ends[index]);
        let is_cached = self.rng.u64(0..10) < cached;
        let reading = if is_cached { 0.02 } else { 0.05 + price.tokens as f64 / READS };
        let chance = self.rng.f64();
        let body = answer * if wide { -(1.0 - chance).ln() } else { 0.5 + chance };
        self.ends.push(begin + reading + body);
        Strange::Taken { limits: LimitReports::default(), later: begin + reading - at, body }
    }

    fn scale(&mut self, factor: f64) {
        self.server.slots = (self.server.slots as f64 * factor) as usize;
    }
}

/// The responses with a timely first event that end after `from`. The number of slots changes at a
/// time.
fn goodput(
    server: Server,
    limits: LimitSettings,
    seed: u64,
    (from, seconds): (f64, f64),
    change: Option<(f64, usize)>,
) -> f64 {
    let mut scenario = Scenario::new(Joint::new());
    let rng = fastrand::Rng::with_seed(seed);
    scenario.stranger = Some(Box::new(Slots { server, ends: Vec::new(), rng }));
    scenario.settings.limits = limits;
    (scenario.before, scenario.after, scenario.seed, scenario.seconds) = (0.0, 0.0, seed, seconds);
    let most = server.slots.max(change.map_or(0, |(_, slots)| slots));
    scenario.scales =
        change.map(|(at, slots)| (at, slots as f64 / server.slots as f64)).into_iter().collect();
    let mut source = Source::new(0).tokens(Tokens::LogUniform(server.prompt.0, server.prompt.1));
    (source.closed, source.patience) = (most as u32 * CALLERS, f64::from(u32::MAX));
    scenario.sources = vec![source];
    let report = run(scenario);
    assert_eq!(report.deadline_refused + report.other_refused, 0);
    report.heads.iter().filter(|(ended, head, _)| *ended > from && *head <= PROMPT).count() as f64
}

/// The default settings, with a learned bound.
fn auto() -> LimitSettings {
    LimitSettings { finds_in_flight: true, ..LimitSettings::default() }
}

/// The static bounds to compare with, for a number of slots.
fn bounds(slots: usize) -> Vec<u32> {
    let parts: &[f64] = if crate::full() { &[0.9, 1.0, 1.1, 1.25, 1.5, 2.0] } else { &[1.0, 1.1, 1.25] };
    let bounds = parts.iter().map(|part| (slots as f64 * part) as u32);
    bounds.chain([slots as u32 + 1]).collect()
}

/// The goodput with a learned bound, as a fraction of that with the best static one.
fn compared(server: Server, seed: u64, seconds: f64, from: f64, change: Option<(f64, usize)>) -> f64 {
    let run = |limits| goodput(server, limits, seed, (from, seconds), change);
    let slots = change.map_or(server.slots, |(_, slots)| slots);
    let fixed = |bound| run(LimitSettings { in_flight: Some(bound), ..LimitSettings::default() });
    run(auto()) / bounds(slots).into_iter().map(fixed).fold(1.0, f64::max)
}

/// The duration for 2,000 responses, at most 25 minutes, after a minute of learning.
fn steady(server: Server, seed: u64) -> f64 {
    let seconds = (2000.0 / server.slots as f64 * server.answer).clamp(30.0, 1500.0);
    compared(server, seed, 60.0 + seconds, 60.0, None)
}

fn seeds() -> u64 {
    if crate::full() { 20 } else { 2 }
}

fn mean(parts: &[f64]) -> f64 {
    parts.iter().sum::<f64>() / parts.len() as f64
}

#[test]
fn a_learned_bound_is_as_good_as_the_best_static_one() {
    for server in SERVERS {
        let parts: Vec<f64> = (1..=seeds()).map(|seed| steady(server, seed)).collect();
        println!("{}: {parts:.3?}", server.name);
        assert!(parts.iter().all(|part| *part >= 0.95), "{}: {parts:.3?}", server.name);
    }
}

/// Measured from 30 s after the change, against the best bound for the new number of slots.
#[test]
fn a_learned_bound_follows_within_half_a_minute() {
    // Short responses of 400 slots are half of the events of this test.
    let is_run = |server: &Server| crate::full() || server.slots < 200;
    for server in SERVERS.into_iter().filter(is_run) {
        for slots in [server.slots / 2, server.slots * 2] {
            let run = |seed| compared(server, seed, 150.0, 90.0, Some((60.0, slots)));
            // A run with few slots has few responses in a minute.
            let runs = if server.slots > 16 { seeds() } else { seeds() * 6 };
            let parts: Vec<f64> = (1..=runs).map(run).collect();
            println!("{} with {slots} slots: {:.3} of {parts:.3?}", server.name, mean(&parts));
            assert!(mean(&parts) >= 0.95, "{} with {slots} slots: {parts:.3?}", server.name);
        }
    }
}

/// Cached prompts start at once, and say nothing about the others.
#[test]
fn cached_prompts_do_not_lower_the_bound() {
    for cached in [1, 3, 5, 8] {
        let server = Server { cached, ..SERVERS[1] };
        let parts: Vec<f64> = (1..=seeds()).map(|seed| steady(server, seed)).collect();
        println!("{cached} of ten: {parts:.3?}");
        assert!(parts.iter().all(|part| *part >= 0.9), "{cached} of ten: {parts:.3?}");
    }
}
