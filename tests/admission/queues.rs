//! `limits.in_flight = "auto"`: a model server that queues what is beyond its slots, on a clock of
//! its own.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;

use weir::internals::admission::machine::{
    Arrival, Attempt, Claim, HeadReport, Machine, Outcome, Request, Route, Turn,
};
use weir::internals::admission::{Cost, Key, LimitSettings, Moment, Settings};
use weir::internals::caller::{CallerId, Lane, Mode};

/// A server, and what is asked of it.
#[derive(Clone, Copy, Debug)]
struct Server {
    name: &'static str,
    slots: usize,
    /// Tokens of a prompt: the fewest and the most. The server reads 8,000 a second.
    prompt: (f64, f64),
    /// Seconds that an answer takes on average from its first event on,
    answer: f64,
    /// and whether they are spread as widely as an exponential distribution, or half of the mean to
    /// both sides.
    wide: bool,
    /// The number of prompts in ten that are in the server's cache: their first event comes at
    /// once.
    cached: u64,
}

const SERVERS: [Server; 5] = [
    Server { name: "small", slots: 8, prompt: (400.0, 600.0), answer: 3.0, wide: false, cached: 0 },
    Server { name: "large", slots: 64, prompt: (1500.0, 2500.0), answer: 5.0, wide: true, cached: 0 },
    Server { name: "mixed prompts", slots: 16, prompt: (100.0, 8000.0), answer: 4.0, wide: true, cached: 0 },
    Server { name: "short answers", slots: 200, prompt: (50.0, 400.0), answer: 1.0, wide: false, cached: 0 },
    Server { name: "four slots", slots: 4, prompt: (300.0, 300.0), answer: 3.0, wide: true, cached: 0 },
];

/// Callers that send again as soon as they are answered, for each slot.
const CALLERS: usize = 8;
/// First events within this number of seconds of the sending count.
const PROMPT: f64 = 2.0;

#[derive(Clone, Copy, Debug)]
enum Event {
    First(u64),
    End(u64),
    Change(usize),
    Pump,
}

struct Call {
    attempt: Option<Attempt>,
    key: Option<Key>,
    sent: Moment,
    first: Moment,
}

/// One run: the machine of a scope before a server.
struct Run {
    server: Server,
    machine: Machine<u64>,
    events: BinaryHeap<Reverse<(Moment, u64, u64)>>,
    kinds: HashMap<u64, Event>,
    calls: HashMap<u64, Call>,
    waiting: VecDeque<u64>,
    serving: usize,
    now: Moment,
    next: (u64, u64),
    seed: u64,
    /// Answers with a prompt first event that ended after `from`.
    good: u32,
    from: f64,
    pump_at: Moment,
}

impl Run {
    fn new(server: Server, limits: LimitSettings, seed: u64, from: f64) -> Self {
        let settings = Arc::new(Settings { limits, ..Settings::default() });
        Self {
            server,
            machine: Machine::new(settings, "family", seed, Moment::START),
            events: BinaryHeap::new(),
            kinds: HashMap::new(),
            calls: HashMap::new(),
            waiting: VecDeque::new(),
            serving: 0,
            now: Moment::START,
            next: (0, 0),
            seed,
            good: 0,
            from,
            pump_at: Moment::NEVER,
        }
    }

    /// Runs for a time; at another one the server has another number of slots.
    fn go(mut self, seconds: f64, change: Option<(f64, usize)>) -> u32 {
        if let Some((at, slots)) = change {
            self.at(at, Event::Change(slots));
        }
        let most = self.server.slots.max(change.map_or(0, |(_, slots)| slots));
        for _ in 0..most * CALLERS {
            self.offer();
        }
        self.serve();
        let end = Moment::START.plus_seconds(seconds);
        while let Some(Reverse((at, event, _))) = self.events.pop() {
            if at > end {
                break;
            }
            self.now = at;
            match self.kinds.remove(&event).unwrap() {
                Event::First(call) => self.first(call),
                Event::End(call) => self.end(call),
                Event::Change(slots) => self.server.slots = slots,
                Event::Pump => self.pump(),
            }
            self.serve();
        }
        self.good
    }

    /// A number from 0 to 1 that belongs to a call, whichever run it is in.
    fn chance(&self, call: u64, of: u64) -> f64 {
        fastrand::Rng::with_seed(self.seed ^ (call * 3 + of).wrapping_mul(0x9e37_79b9_7f4a_7c15)).f64()
    }

    fn tokens(&self, call: u64) -> f64 {
        let (least, most) = self.server.prompt;
        least * (most / least).powf(self.chance(call, 0))
    }

    fn offer(&mut self) {
        self.next.0 += 1;
        let id = self.next.0;
        let tokens = self.tokens(id) as u64;
        let request = Request {
            caller: CallerId(0),
            weight: 1,
            lane: Lane::Interactive,
            cost: Cost { requests: 1, tokens, ..Cost::default() },
            bytes: 1000,
            deadline: Moment::NEVER,
            head_due: false,
            turn: Turn::First,
            mode: Mode::Enforce,
            route: Route::default(),
        };
        let call = Call { attempt: None, key: None, sent: self.now, first: self.now };
        self.calls.insert(id, call);
        let mut wake = Vec::new();
        match self.machine.arrive(&request, self.now, &mut wake) {
            Arrival::Granted(attempt) => self.send(id, attempt),
            Arrival::Waiting(key) => {
                self.calls.get_mut(&id).unwrap().key = Some(key);
                self.claim(id);
            }
            Arrival::Refused(refused) => panic!("{refused:?}"),
        }
        self.after(wake);
    }

    fn claim(&mut self, id: u64) {
        let key = self.calls[&id].key.unwrap();
        match self.machine.claim(key, |waker| *waker = Some(id)) {
            Claim::Pending => {}
            Claim::Granted(attempt) => self.send(id, attempt),
            Claim::Refused(refused) => panic!("{refused:?}"),
            Claim::Moved(_) => unreachable!("there is one machine"),
        }
    }

    fn pump(&mut self) {
        self.pump_at = Moment::NEVER;
        let mut wake = Vec::new();
        self.machine.pump(self.now, &mut wake);
        self.after(wake);
    }

    fn after(&mut self, wake: Vec<u64>) {
        for id in wake {
            self.claim(id);
        }
        let due = self.machine.due();
        if due < self.pump_at {
            self.pump_at = due.max(self.now);
            self.push(self.pump_at, Event::Pump);
        }
    }

    fn send(&mut self, id: u64, mut attempt: Attempt) {
        self.machine.sent(&mut attempt, self.now);
        let call = self.calls.get_mut(&id).unwrap();
        (call.attempt, call.sent) = (Some(attempt), self.now);
        self.waiting.push_back(id);
    }

    /// The server takes from its queue what it has slots for.
    fn serve(&mut self) {
        while self.serving < self.server.slots
            && let Some(id) = self.waiting.pop_front()
        {
            self.serving += 1;
            let is_cached = self.chance(id, 1) * 10.0 < self.server.cached as f64;
            let reading = if is_cached { 0.02 } else { 0.05 + self.tokens(id) / 8000.0 };
            self.push(self.now.plus_seconds(reading), Event::First(id));
        }
    }

    fn first(&mut self, id: u64) {
        let chance = self.chance(id, 2);
        let spread = if self.server.wide { -(1.0 - chance).ln() } else { 0.5 + chance };
        let call = self.calls.get_mut(&id).unwrap();
        call.first = self.now;
        let attempt = call.attempt.as_mut().unwrap();
        self.machine.head(attempt, &HeadReport::default(), self.now);
        self.machine.accepted(attempt, self.now);
        self.machine.began(attempt, self.now);
        self.push(self.now.plus_seconds(self.server.answer * spread), Event::End(id));
        self.pump();
    }

    fn end(&mut self, id: u64) {
        self.serving -= 1;
        let call = self.calls.remove(&id).unwrap();
        self.machine.settle(call.attempt.unwrap(), Outcome::Done, self.now);
        let is_measured = self.now.seconds_since(Moment::START) > self.from;
        self.good += u32::from(is_measured && call.first.seconds_since(call.sent) <= PROMPT);
        self.pump();
        self.offer();
    }

    fn at(&mut self, seconds: f64, event: Event) {
        self.push(Moment::START.plus_seconds(seconds), event);
    }

    fn push(&mut self, at: Moment, event: Event) {
        self.next.1 += 1;
        self.kinds.insert(self.next.1, event);
        self.events.push(Reverse((at, self.next.1, 0)));
    }
}

const AUTO: LimitSettings = LimitSettings {
    requests_per_minute: None,
    tokens_per_minute: None,
    requests_per_day: None,
    tokens_per_day: None,
    share: 1.0,
    in_flight: None,
    finds_in_flight: true,
};

/// Static bounds that are tried for a number of slots.
fn bounds(slots: usize) -> Vec<u32> {
    let parts = [0.9, 1.0, 1.1, 1.25, 1.5, 2.0];
    let bounds = parts.iter().map(|part| (slots as f64 * part) as u32);
    bounds.chain([slots as u32 + 1]).collect()
}

/// The goodput with a found bound, as a part of that with the best static one.
fn compared(server: Server, seed: u64, seconds: f64, from: f64, change: Option<(f64, usize)>) -> f64 {
    let run = |limits| Run::new(server, limits, seed, from).go(seconds, change);
    let slots = change.map_or(server.slots, |(_, slots)| slots);
    let fixed = |bound| run(LimitSettings { in_flight: Some(bound), finds_in_flight: false, ..AUTO });
    let best = bounds(slots).into_iter().map(fixed).max().unwrap();
    f64::from(run(AUTO)) / f64::from(best)
}

/// A time that is long enough for 2,000 answers and no longer than five minutes, after a minute of
/// learning.
fn steady(server: Server, seed: u64) -> f64 {
    let seconds = (2000.0 / server.slots as f64 * server.answer).clamp(30.0, 300.0);
    compared(server, seed, 60.0 + seconds, 60.0, None)
}

fn seeds() -> u64 {
    if crate::full() { 20 } else { 3 }
}

fn mean(parts: &[f64]) -> f64 {
    parts.iter().sum::<f64>() / parts.len() as f64
}

#[test]
fn a_found_bound_is_as_good_as_the_best_static_one() {
    for server in SERVERS {
        let parts: Vec<f64> = (1..=seeds()).map(|seed| steady(server, seed)).collect();
        println!("{}: {parts:.3?}", server.name);
        assert!(parts.iter().all(|part| *part >= 0.95), "{}: {parts:.3?}", server.name);
    }
}

/// From the thirtieth second after the change on, against the best bound for the slots that there
/// are then.
#[test]
fn a_found_bound_follows_within_half_a_minute() {
    for server in SERVERS {
        for slots in [server.slots / 2, server.slots * 2] {
            let run = |seed| compared(server, seed, 150.0, 90.0, Some((60.0, slots)));
            // A run of few slots has few answers in a minute.
            let runs = if server.slots > 16 { seeds() } else { seeds() * 4 };
            let parts: Vec<f64> = (1..=runs).map(run).collect();
            println!("{} with {slots} slots: {:.3} of {parts:.3?}", server.name, mean(&parts));
            assert!(mean(&parts) >= 0.95, "{} with {slots} slots: {parts:.3?}", server.name);
        }
    }
}

/// What the server has in its cache begins at once, and is no measure of the rest.
#[test]
fn cached_prompts_are_no_reason_for_a_low_bound() {
    for cached in [1, 3, 5, 8] {
        let server = Server { cached, ..SERVERS[1] };
        let parts: Vec<f64> = (1..=seeds()).map(|seed| steady(server, seed)).collect();
        println!("{cached} of ten: {parts:.3?}");
        assert!(parts.iter().all(|part| *part >= 0.9), "{cached} of ten: {parts:.3?}");
    }
}
