//! A discrete event simulation of callers, one scope's state machine and an upstream.

mod answers;
mod report;
mod scenario;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use weir::internals::admission::machine::{Arrival, Attempt, Claim, Machine, Request, Route, Turn};
use weir::internals::admission::{
    Cost, Key, LimitReport, LimitReports, Moment, RefusalNumbers, Refused, RetryPayment,
};
use weir::internals::caller::{CallerId, Mode};
use weir::internals::classify::ErrorClass;
use weir::internals::clock::{self, Instant};
use weir::internals::simulate::limiter::{Dimension, Level, Price};

pub(crate) use report::{Report, Served, percentile};
use scenario::slot;
pub(crate) use scenario::{Others, Scenario, Source, Strange, Stranger, Tokens, Weather};

/// A refusal in transit.
#[derive(Clone, Copy, Debug)]
struct OnItsWay {
    class: ErrorClass,
    numbers: Option<RefusalNumbers>,
    hint: Option<Duration>,
}

#[derive(Debug)]
enum Event {
    Offer(usize),
    Closed(usize),
    Once(usize),
    Accounted(u64),
    Head(u64),
    End(u64),
    Others,
    Change(usize),
    Scale(usize),
    Look,
    Pump(usize),
    Retry(u64),
}

struct Call {
    source: usize,
    cost: Cost,
    deadline: Moment,
    first: Moment,
    key: Option<Key>,
    attempt: Option<Attempt>,
    refused: Option<OnItsWay>,
    limits: LimitReports,
    accounted: Moment,
    head: Moment,
    body: f64,
    sent: Moment,
    weather: Option<Weather>,
    failed: Option<ErrorClass>,
    attempts: u32,
    /// Rate limits that it met.
    refusals: u32,
    retrying: Option<RetryPayment>,
}

pub(crate) struct World {
    scenario: Scenario,
    machines: Vec<Machine<u64>>,
    events: BinaryHeap<Reverse<(Moment, u64)>>,
    payloads: HashMap<u64, Event>,
    sequence: u64,
    calls: HashMap<u64, Call>,
    next_call: u64,
    rng: fastrand::Rng,
    base: Instant,
    now: Moment,
    /// The next run of each machine.
    pump_at: Vec<Moment>,
    report: Report,
    others_debt: (f64, f64),
    /// When the first 429 was received.
    first_news: Option<Moment>,
}

/// Runs a scenario to its end.
pub(crate) fn run(scenario: Scenario) -> Report {
    World::new(scenario).run()
}

impl World {
    pub(crate) fn new(scenario: Scenario) -> Self {
        let machine = |(index, share): (usize, &f64)| {
            let mut settings = scenario.settings.clone();
            settings.limits.share = *share;
            Machine::new(Arc::new(settings), "family", scenario.seed + index as u64, Moment::START)
        };
        let machines = scenario.shares.iter().enumerate().map(machine).collect();
        let rng = fastrand::Rng::with_seed(scenario.seed ^ 0x5eed);
        Self {
            machines,
            events: BinaryHeap::new(),
            payloads: HashMap::new(),
            sequence: 0,
            calls: HashMap::new(),
            next_call: 0,
            rng,
            base: clock::now(),
            now: Moment::START,
            pump_at: vec![Moment::NEVER; scenario.shares.len()],
            report: Report::default(),
            others_debt: (0.0, 0.0),
            first_news: None,
            scenario,
        }
    }

    pub(crate) fn run(mut self) -> Report {
        for index in 0..self.scenario.sources.len() {
            let source = self.scenario.sources[index].clone();
            for _ in 0..source.backlog {
                self.at(source.from, Event::Once(index));
            }
            for _ in 0..source.closed {
                self.at(source.from, Event::Closed(index));
            }
            if source.rate > 0.0 {
                self.at(source.from, Event::Offer(index));
            }
        }
        if self.scenario.others.is_some() {
            self.at(0.0, Event::Others);
        }
        for index in 0..self.scenario.changes.len() {
            self.at(self.scenario.changes[index].0, Event::Change(index));
        }
        for index in 0..self.scenario.scales.len() {
            self.at(self.scenario.scales[index].0, Event::Scale(index));
        }
        self.at(0.0, Event::Look);
        let end = Moment::START.plus_seconds(self.scenario.seconds);
        while let Some(Reverse((at, id))) = self.events.pop() {
            if at > end {
                break;
            }
            self.now = at;
            let event = self.payloads.remove(&id).unwrap();
            self.handle(&event);
        }
        self.report.measured =
            self.scenario.seconds.min(self.scenario.measured_until) - self.scenario.measured_from;
        self.report.in_flight_end = self.machines.iter().map(Machine::in_flight).sum();
        self.report
    }

    fn handle(&mut self, event: &Event) {
        match *event {
            Event::Offer(index) => {
                let source = self.scenario.sources[index].clone();
                if self.seconds() >= source.until {
                    return;
                }
                self.offer(index);
                let gap = -(1.0 - self.rng.f64()).ln() / source.rate;
                self.at(self.seconds() + gap, Event::Offer(index));
            }
            Event::Closed(index) => {
                if self.seconds() < self.scenario.sources[index].until {
                    self.offer(index);
                }
            }
            Event::Once(index) => self.offer(index),
            Event::Accounted(call) => self.accounted(call),
            Event::Head(call) => self.head(call),
            Event::End(call) => self.end(call),
            Event::Retry(call) => self.arrive(call, Turn::Retry),
            Event::Others => self.others(),
            Event::Look => {
                self.look();
                self.at(self.seconds() + 2.0, Event::Look);
            }
            Event::Change(index) => {
                let (_, dimension, limit) = self.scenario.changes[index];
                let now = self.instant();
                self.scenario.upstream.set_limit(dimension, limit, now);
                self.report.ideal = self.ideal();
            }
            Event::Scale(index) => {
                if let Some(stranger) = &mut self.scenario.stranger {
                    stranger.scale(self.scenario.scales[index].1);
                }
            }
            Event::Pump(weir) => {
                if self.now >= self.pump_at[weir] {
                    self.pump_at[weir] = Moment::NEVER;
                    self.pump(weir);
                }
            }
        }
    }

    fn pump(&mut self, weir: usize) {
        let mut wake = Vec::new();
        self.machines[weir].pump(self.now, &mut wake);
        self.after(weir, wake);
    }

    /// Compares Weir's levels with the upstream's.
    fn look(&mut self) {
        let (seconds, instant) = (self.seconds(), self.instant());
        for machine in &self.machines {
            for told in machine.status("", "", self.now).dimensions {
                self.report.foreign = self.report.foreign.max(told.foreign_use);
                let dimension = Dimension::ALL.into_iter().find(|known| slot(*known) == told.slot).unwrap();
                if let Some(level) = self.scenario.upstream.level(dimension, instant) {
                    let limit = level.limit as f64;
                    let (told, counted) = (told.level / limit, 1.0 - level.remaining as f64 / limit);
                    self.report.track.push((seconds, told, counted));
                    if self.is_measured() {
                        self.report.levels.push((told - counted).abs());
                    }
                }
            }
        }
    }

    /// The amount that the upstream would admit in the measured time, under constant load from now
    /// on.
    fn ideal(&self) -> u64 {
        let mut upstream = self.scenario.upstream.clone();
        let (mut at, mut taken) = (self.seconds(), 0);
        while at < self.scenario.seconds {
            let passes =
                upstream.try_take(Price { requests: 1, tokens: 1 }, self.base + Duration::from_secs_f64(at));
            taken += u64::from(passes.is_ok() && at >= self.scenario.measured_from);
            at += if passes.is_ok() { 0.0 } else { 0.002 };
        }
        taken
    }

    fn is_measured(&self) -> bool {
        (self.scenario.measured_from..self.scenario.measured_until).contains(&self.seconds())
    }

    fn weir_of(&self, call: u64) -> usize {
        self.scenario.sources[self.calls[&call].source].weir
    }

    fn offer(&mut self, index: usize) {
        let source = &self.scenario.sources[index];
        let tokens = match source.tokens {
            Tokens::Fixed(tokens) => tokens,
            Tokens::LogNormal { median, sigma, most } => {
                let (one, two) = (self.rng.f64().max(1e-12), self.rng.f64());
                let normal = (-2.0 * one.ln()).sqrt() * (std::f64::consts::TAU * two).cos();
                ((median * (sigma * normal).exp()) as u64).clamp(1, most)
            }
            Tokens::LogUniform(least, most) => (least * (most / least).powf(self.rng.f64())) as u64,
        };
        let deadline = self.now.plus_seconds(source.patience);
        self.report.offered += 1;
        if self.seconds() < 60.0 {
            self.report.offered_first_minute += 1;
        }
        let cost = Cost { requests: 1, tokens, ..Cost::default() };
        let call = self.next_call;
        self.next_call += 1;
        self.calls.insert(
            call,
            Call {
                source: index,
                cost,
                deadline,
                body: 0.0,
                first: self.now,
                key: None,
                attempt: None,
                refused: None,
                limits: LimitReports::default(),
                accounted: Moment::START,
                head: Moment::START,
                sent: Moment::START,
                weather: None,
                failed: None,
                attempts: 0,
                refusals: 0,
                retrying: None,
            },
        );
        self.arrive(call, Turn::First);
    }

    fn arrive(&mut self, id: u64, turn: Turn) {
        let call = &self.calls[&id];
        let source = &self.scenario.sources[call.source];
        let request = Request {
            caller: CallerId(source.caller),
            weight: source.weight,
            lane: source.lane,
            cost: call.cost,
            bytes: 1000,
            deadline: call.deadline,
            head_due: source.head_due,
            turn,
            mode: Mode::Enforce,
            route: Route::default(),
        };
        let (mut wake, weir) = (Vec::new(), source.weir);
        match self.machines[weir].arrive(&request, self.now, &mut wake) {
            Arrival::Granted(attempt) => self.send(id, attempt),
            Arrival::Refused(refused) => self.refused(id, &refused),
            Arrival::Waiting(key) => {
                self.calls.get_mut(&id).unwrap().key = Some(key);
                self.claim(id);
            }
        }
        self.after(weir, wake);
    }

    fn claim(&mut self, id: u64) {
        let key = self.calls[&id].key.unwrap();
        let weir = self.weir_of(id);
        match self.machines[weir].claim(key, |waker| *waker = Some(id)) {
            Claim::Pending => {}
            Claim::Granted(attempt) => self.send(id, attempt),
            Claim::Refused(refused) => self.refused(id, &refused),
            Claim::Moved(_) => unreachable!("there is one machine"),
        }
    }

    fn after(&mut self, weir: usize, wake: Vec<u64>) {
        for id in wake {
            self.claim(id);
        }
        let due = self.machines[weir].due();
        if due < self.pump_at[weir] {
            let at = due.max(self.now);
            self.pump_at[weir] = at;
            self.push(at, Event::Pump(weir));
        }
    }

    fn refused(&mut self, id: u64, refused: &Refused) {
        let call = self.calls.remove(&id).unwrap();
        match refused {
            Refused::Deadline { .. } | Refused::Told { .. } => self.report.deadline_refused += 1,
            Refused::QueueFull { .. }
            | Refused::CallerLimit { .. }
            | Refused::BreakerOpen { .. }
            | Refused::QuotaExhausted(_)
            | Refused::Draining => self.report.other_refused += 1,
        }
        self.report.refused_after.push(self.now.seconds_since(call.first));
        if let Some(payment) = call.retrying {
            self.machines[self.scenario.sources[call.source].weir].retry_ended(payment);
        }
        if matches!(refused, Refused::Deadline { .. }) && call.attempts == 0 && call.deadline > self.now {
            let caller = self.scenario.sources[call.source].caller;
            self.report.early.push((caller, self.now, call.deadline));
        }
        if self.scenario.sources[call.source].closed > 0 {
            self.at(self.seconds() + 1.0, Event::Closed(call.source));
        }
    }

    fn others(&mut self) {
        const TICK: f64 = 0.05;
        let others = self.scenario.others.clone().unwrap();
        let part = others.parts[(self.seconds() / others.each) as usize % others.parts.len()];
        let now = self.instant();
        let mut limits = (0.0, 0.0);
        for (dimension, limit) in [(0, &mut limits.0), (2, &mut limits.1)] {
            if let Some(level) = self.scenario.upstream.level(Dimension::ALL[dimension], now) {
                *limit = level.limit as f64;
            }
        }
        self.others_debt.0 += limits.0 / 60.0 * TICK * part;
        self.others_debt.1 += limits.1 / 60.0 * TICK * part;
        let price = Price { requests: self.others_debt.0 as u64, tokens: self.others_debt.1 as u64 };
        self.others_debt.0 -= price.requests as f64;
        self.others_debt.1 -= price.tokens as f64;
        let measured = self.is_measured();
        if price.requests > 0 || price.tokens > 0 {
            self.scenario.upstream.force(price, now);
            if measured {
                self.report.others.0 += price.requests;
                self.report.others.1 += price.tokens;
            }
        }
        self.at(self.seconds() + TICK, Event::Others);
    }

    fn seconds(&self) -> f64 {
        self.now.seconds_since(Moment::START)
    }

    fn instant(&self) -> Instant {
        self.base + self.now.since(Moment::START)
    }

    fn at(&mut self, seconds: f64, event: Event) {
        self.push(Moment::START.plus_seconds(seconds).max(self.now), event);
    }

    fn push(&mut self, at: Moment, event: Event) {
        self.sequence += 1;
        self.payloads.insert(self.sequence, event);
        self.events.push(Reverse((at, self.sequence)));
    }
}

/// The headers as the API writes them: whole units, milliseconds.
pub(crate) fn report(level: Option<Level>) -> Option<LimitReport> {
    level.map(|level| LimitReport {
        limit: level.limit,
        remaining: level.remaining,
        reset: Some(Duration::from_millis(u64::try_from(level.reset.as_millis()).unwrap())),
    })
}
