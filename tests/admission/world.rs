//! A world of callers, one scope's machine and an upstream, as one loop over events: no clock, no
//! threads, no sleep.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use weir::internals::admission::machine::{
    Arrival, Attempt, Claim, HeadReport, Machine, Outcome, Request, Route, Ticket, Turn,
};
use weir::internals::admission::{
    Cost, Key, LimitReport, LimitReports, Moment, RefusalNumbers, Refused, RetryPayment, Settings, Slot,
};
use weir::internals::caller::{CallerId, Lane, Mode};
use weir::internals::classify::ErrorClass;
use weir::internals::clock::{self, Instant};
use weir::internals::simulate::limiter::{Dimension, Joint, Level, Price};

/// The tokens of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Tokens {
    /// Always the same.
    Fixed(u64),
    /// Log-normal with this median and sigma, capped at the third number.
    LogNormal { median: f64, sigma: f64, most: u64 },
    /// As likely in each octave between these.
    LogUniform(f64, f64),
}

/// One caller's traffic.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) caller: u16,
    /// The index of the Weir that it uses.
    pub(crate) weir: usize,
    pub(crate) weight: u32,
    pub(crate) lane: Lane,
    /// Requests a second, as a Poisson stream; 0 for none.
    pub(crate) rate: f64,
    /// Requests that are there at the start.
    pub(crate) backlog: u32,
    /// The number of callers that send one request at a time, the next when the last is answered.
    pub(crate) closed: u32,
    pub(crate) tokens: Tokens,
    pub(crate) from: f64,
    pub(crate) until: f64,
    /// Seconds that its callers wait,
    pub(crate) patience: f64,
    /// for the answer's head, and not only for their turn.
    pub(crate) head_due: bool,
}

impl Source {
    pub(crate) fn new(caller: u16) -> Self {
        Self {
            caller,
            weir: 0,
            weight: 1,
            lane: Lane::Interactive,
            rate: 0.0,
            backlog: 0,
            closed: 0,
            tokens: Tokens::Fixed(100),
            from: 0.0,
            until: f64::INFINITY,
            patience: 60.0,
            head_due: false,
        }
    }

    pub(crate) fn rate(mut self, rate: f64) -> Self {
        self.rate = rate;
        self
    }

    pub(crate) fn tokens(mut self, tokens: Tokens) -> Self {
        self.tokens = tokens;
        self
    }
}

/// What another consumer takes of the limits, in parts of them, changing by a schedule.
#[derive(Clone, Debug)]
pub(crate) struct Others {
    /// The parts that it takes, one after another.
    pub(crate) parts: Vec<f64>,
    /// Seconds for each.
    pub(crate) each: f64,
}

/// How the upstream is on a span of time.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Weather {
    /// This part of the attempts fails with a 500.
    Flaky(f64),
    /// Every attempt fails with a 503 that says overloaded, after this delay in seconds.
    Overloaded(f64),
    /// Nobody listens.
    Refused,
    /// No answer ever comes; calls give up after their patience.
    Stall,
}

/// An upstream that counts by a rule of its own, and answers in its own way.
pub(crate) trait Stranger: std::fmt::Debug {
    /// A request comes.
    fn take(&mut self, price: Price, at: f64) -> Strange;

    /// The answer to a request that it took has ended.
    fn ended(&mut self) {}

    /// Its limit is multiplied by this factor.
    fn scale(&mut self, _factor: f64) {}
}

/// What a [`Stranger`] answers.
#[derive(Clone, Debug)]
pub(crate) enum Strange {
    /// It takes the request, and answers with this extra delay in seconds; after the head the
    /// answer lasts for `body` seconds.
    Taken { limits: LimitReports, later: f64, body: f64 },
    /// It refuses it.
    Refused { class: ErrorClass, numbers: Option<RefusalNumbers>, hint: Option<Duration> },
    /// It answers with a failure.
    Failed(ErrorClass),
}

/// A refusal on its way.
#[derive(Clone, Copy, Debug)]
struct OnItsWay {
    class: ErrorClass,
    numbers: Option<RefusalNumbers>,
    hint: Option<Duration>,
}

/// Everything about one run.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) upstream: Joint,
    /// What stands in the place of the upstream.
    pub(crate) stranger: Option<Box<dyn Stranger>>,
    /// The part of every limit that each Weir may use by its configuration.
    pub(crate) shares: Vec<f64>,
    /// When the stranger's limit is multiplied by a factor.
    pub(crate) scales: Vec<(f64, f64)>,
    pub(crate) headers: bool,
    /// 429s carry Limit, Used, Requested.
    pub(crate) numbers: bool,
    /// 429s carry a time to wait.
    pub(crate) hint: bool,
    /// Seconds at most from the send to the upstream's accounting, uniform.
    pub(crate) before: f64,
    /// Seconds at most from the accounting to the head, uniform; told as processing time.
    pub(crate) after: f64,
    /// The part of the answers whose head takes a minute.
    pub(crate) slow: f64,
    /// What the upstream charges for a token that was estimated.
    pub(crate) charged: f64,
    pub(crate) others: Option<Others>,
    /// Changes of a limit: when, which, to what.
    pub(crate) changes: Vec<(f64, Dimension, u64)>,
    /// Bad weather: from, until, what.
    pub(crate) weather: Vec<(f64, f64, Weather)>,
    pub(crate) sources: Vec<Source>,
    pub(crate) settings: Settings,
    pub(crate) seconds: f64,
    /// Use and waits are measured from here on.
    pub(crate) measured_from: f64,
    pub(crate) measured_until: f64,
    pub(crate) seed: u64,
}

impl Scenario {
    pub(crate) fn new(upstream: Joint) -> Self {
        Self {
            upstream,
            stranger: None,
            shares: vec![1.0],
            scales: Vec::new(),
            headers: true,
            numbers: true,
            hint: true,
            before: 1.0,
            after: 1.0,
            slow: 0.0,
            charged: 1.0,
            others: None,
            changes: Vec::new(),
            weather: Vec::new(),
            sources: Vec::new(),
            settings: Settings::default(),
            seconds: 360.0,
            measured_from: 120.0,
            measured_until: f64::INFINITY,
            seed: 1,
        }
    }
}

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    pub(crate) offered: u64,
    pub(crate) offered_first_minute: u64,
    pub(crate) accepted: u64,
    pub(crate) refused_upstream: u64,
    /// Rate limits that one request met, at most.
    pub(crate) most_refusals_of_one: u32,
    /// Upstream 429s by minute.
    pub(crate) refused_by_minute: Vec<u64>,
    /// Those of attempts that were sent after the first 429 had come back.
    pub(crate) refused_knowingly: Vec<u64>,
    /// Accepted cost (requests, tokens) in the measured time.
    pub(crate) used: (u64, u64),
    /// What others took in that time.
    pub(crate) others: (u64, u64),
    pub(crate) measured: f64,
    pub(crate) waits: Vec<f64>,
    /// (predicted, happened) of those that waited.
    pub(crate) predictions: Vec<(f64, f64)>,
    pub(crate) deadline_refused: u64,
    pub(crate) other_refused: u64,
    /// Tokens served in the measured time, by caller.
    pub(crate) served: BTreeMap<u16, u64>,
    /// Waits by caller.
    pub(crate) waits_of: BTreeMap<u16, Vec<f64>>,
    /// The most that others were ever said to take, as a part of a limit.
    pub(crate) foreign: f64,
    /// When the last answer came.
    pub(crate) finished: f64,
    pub(crate) late: u64,
    /// Answers whose head came after the deadline of their call.
    pub(crate) answered_late: u64,
    pub(crate) in_flight_end: u32,
    pub(crate) answered: BTreeMap<u16, u64>,
    /// Calls that failed for good, and when.
    pub(crate) failed: Vec<f64>,
    /// When attempts went upstream.
    pub(crate) attempts: Vec<f64>,
    /// When the calls answered were answered, and how long each took from its arrival.
    pub(crate) done: Vec<(f64, f64)>,
    /// How long calls that were refused had waited.
    pub(crate) refused_after: Vec<f64>,
    /// When answers ended, how long after the send their heads had come, and to which caller.
    pub(crate) heads: Vec<(f64, f64, u16)>,
    /// The first turns of calls, by caller, in the order of time.
    pub(crate) turns: BTreeMap<u16, Vec<Served>>,
    /// Calls that were refused before their deadline: caller, when, and that deadline.
    pub(crate) early: Vec<(u16, Moment, Moment)>,
    /// How far the level that Weir tells was from what the upstream counted, in parts of the limit,
    /// every two seconds of the measured time.
    pub(crate) levels: Vec<f64>,
    /// When, the level that Weir tells and what the upstream counted, in parts of the limit.
    pub(crate) track: Vec<(f64, f64, f64)>,
    /// What an upstream that was asked without a pause from the last change of a limit on would
    /// have taken in the measured time.
    pub(crate) ideal: u64,
}

impl Report {
    pub(crate) fn refused_from(&self, minute: usize) -> u64 {
        self.refused_by_minute.iter().skip(minute).sum()
    }

    pub(crate) fn percentile(&self, part: f64) -> f64 {
        percentile(&self.waits, part)
    }

    /// Of the calls that were refused early until a moment: those that could not have been served
    /// without another call missing its deadline, and all.
    ///
    /// Each refused call is put in its place in the order of deadlines: it takes the turn of the
    /// first call of its caller that has a later deadline, that call takes the next turn, and so
    /// on. One of them misses its deadline, or one need not wait: then there was a free turn.
    pub(crate) fn refused_rightly(&self, until: Moment) -> (usize, usize) {
        let refused: Vec<_> = self.early.iter().filter(|(_, at, _)| *at < until).collect();
        let misses = |&&&(caller, at, deadline): &&&(u16, Moment, Moment)| {
            let Some(turns) = self.turns.get(&caller) else { return true };
            let mut pushed = deadline;
            for turn in &turns[turns.partition_point(|turn| turn.at <= at)..] {
                if turn.at > pushed {
                    return true;
                }
                if turn.since == turn.at {
                    return false;
                }
                pushed = pushed.max(turn.deadline);
            }
            false
        };
        (refused.iter().filter(misses).count(), refused.len())
    }
}

/// A call that had its turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Served {
    since: Moment,
    at: Moment,
    deadline: Moment,
}

pub(crate) fn percentile(values: &[f64], part: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    if values.is_empty() {
        return 0.0;
    }
    values[((values.len() - 1) as f64 * part).round() as usize]
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
    /// When each machine is pumped next.
    pump_at: Vec<Moment>,
    report: Report,
    others_debt: (f64, f64),
    /// When the first 429 came back.
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

    /// Compares what Weir tells of the limits with what the upstream counts.
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

    /// What the upstream would take in the measured time, were it asked all the time from now on.
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

    fn send(&mut self, id: u64, mut attempt: Attempt) {
        let weir = self.weir_of(id);
        self.machines[weir].sent(&mut attempt, self.now);
        let measured = self.is_measured();
        let slow = self.rng.f64() < self.scenario.slow;
        let seconds = self.seconds();
        self.report.attempts.push(seconds);
        let weather = self
            .scenario
            .weather
            .iter()
            .find(|(from, until, _)| (*from..*until).contains(&seconds))
            .map(|found| found.2);
        let before = self.rng.f64() * self.scenario.before;
        let after = if slow { 60.0 } else { self.rng.f64() * self.scenario.after };
        let call = self.calls.get_mut(&id).unwrap();
        if self.now > call.deadline {
            self.report.late += 1;
        }
        let wait = self.now.seconds_since(call.first);
        let caller = self.scenario.sources[call.source].caller;
        if call.attempts == 0 {
            let turn = Served { since: call.first, at: self.now, deadline: call.deadline };
            self.report.turns.entry(caller).or_default().push(turn);
        }
        if measured {
            self.report.waits.push(wait);
            self.report.waits_of.entry(caller).or_default().push(wait);
            if let Some(predicted) = attempt.predicted() {
                self.report.predictions.push((predicted.as_secs_f64(), wait));
            }
        }
        call.sent = self.now;
        call.attempt = Some(attempt);
        call.attempts += 1;
        call.weather = match weather {
            Some(Weather::Flaky(part)) if self.rng.f64() >= part => None,
            weather => weather,
        };
        if let Some(weather) = call.weather {
            let head = match weather {
                Weather::Flaky(_) => self.now.plus_seconds(before + after),
                Weather::Overloaded(seconds) => self.now.plus_seconds(seconds),
                Weather::Refused => self.now.plus_seconds(0.002),
                Weather::Stall => call.deadline,
            };
            self.push(head, Event::Head(id));
            return;
        }
        call.accounted = self.now.plus_seconds(before);
        call.head = call.accounted.plus_seconds(after);
        let accounted = call.accounted;
        self.push(accounted, Event::Accounted(id));
    }

    fn accounted(&mut self, id: u64) {
        let seconds = self.seconds();
        let call = &self.calls[&id];
        let tokens = (call.cost.tokens as f64 * self.scenario.charged).ceil() as u64;
        let price = Price { requests: u64::from(call.cost.requests), tokens };
        let strange = match &mut self.scenario.stranger {
            Some(stranger) => stranger.take(price, seconds),
            None => self.known(price),
        };
        let measured = self.is_measured();
        let call = self.calls.get_mut(&id).unwrap();
        match strange {
            Strange::Taken { limits, later, body } => {
                (call.refused, call.limits, call.body) = (None, limits, body);
                call.head = call.head.plus_seconds(later);
                self.report.accepted += 1;
                if measured {
                    self.report.used.0 += price.requests;
                    self.report.used.1 += price.tokens;
                    let caller = self.scenario.sources[call.source].caller;
                    *self.report.served.entry(caller).or_default() += call.cost.tokens;
                }
            }
            Strange::Refused { class, numbers, hint } => {
                call.limits = LimitReports::default();
                self.report.refused_upstream += 1;
                let minute = (seconds / 60.0) as usize;
                if self.report.refused_by_minute.len() <= minute {
                    self.report.refused_by_minute.resize(minute + 1, 0);
                }
                self.report.refused_by_minute[minute] += 1;
                self.report.refused_knowingly.resize(minute + 1, 0);
                if self.first_news.is_some_and(|first| call.sent >= first) {
                    self.report.refused_knowingly[minute] += 1;
                }
                call.refused = Some(OnItsWay { class, numbers, hint });
            }
            Strange::Failed(class) => {
                call.limits = LimitReports::default();
                call.failed = Some(class);
                call.head = call.accounted;
                self.report.refused_upstream += 1;
            }
        }
        let head = call.head;
        self.push(head, Event::Head(id));
    }

    /// What the upstream of the scenario answers.
    fn known(&mut self, price: Price) -> Strange {
        let now = self.instant();
        if let Err(refusal) = self.scenario.upstream.try_take(price, now) {
            let slot = slot(refusal.dimension);
            let numbers = RefusalNumbers {
                slot,
                window: None,
                limit: refusal.refusal.limit,
                used: Some(refusal.refusal.used),
                requested: Some(refusal.refusal.requested),
                wait: Some(refusal.refusal.wait),
                apart: false,
            };
            let class = match slot {
                Slot::RequestsPerMinute | Slot::RequestsPerDay => ErrorClass::RateLimitRequests,
                Slot::TokensPerMinute | Slot::TokensPerDay => ErrorClass::RateLimitTokens,
            };
            return Strange::Refused {
                class,
                numbers: self.scenario.numbers.then_some(numbers),
                hint: if self.scenario.hint { numbers.wait } else { None },
            };
        }
        let mut limits = LimitReports::default();
        if self.scenario.headers {
            let [requests, requests_a_day, tokens, tokens_a_day] =
                Dimension::ALL.map(|dimension| self.scenario.upstream.level(dimension, now));
            limits.requests = report(requests.or(requests_a_day));
            limits.tokens = report(tokens.or(tokens_a_day));
        }
        Strange::Taken { limits, later: 0.0, body: 0.0 }
    }

    fn head(&mut self, id: u64) {
        let call = self.calls.get_mut(&id).unwrap();
        let mut attempt = call.attempt.take().unwrap();
        if let Some(class) = call.failed.take() {
            self.failed(id, attempt, class, true);
            return;
        }
        if let Some(weather) = call.weather.take() {
            let (class, answers) = match weather {
                Weather::Flaky(_) => (ErrorClass::InternalServerError, true),
                Weather::Overloaded(_) => (ErrorClass::Overloaded, true),
                Weather::Refused => (ErrorClass::ConnectionRefused, false),
                Weather::Stall => (ErrorClass::TimeoutResponse, false),
            };
            self.failed(id, attempt, class, answers);
            return;
        }
        let processing = Some(self.now.since(call.accounted));
        let refused = call.refused.take();
        let (report, body) = (HeadReport { limits: std::mem::take(&mut call.limits), processing }, call.body);
        let weir = self.weir_of(id);
        let machine = &mut self.machines[weir];
        machine.head(&mut attempt, &report, self.now);
        match refused {
            None if body > 0.0 => {
                machine.accepted(&mut attempt, self.now);
                machine.began(&mut attempt, self.now);
                self.calls.get_mut(&id).unwrap().attempt = Some(attempt);
                self.push(self.now.plus_seconds(body), Event::End(id));
                self.pump(weir);
            }
            None => self.answered(id, attempt),
            Some(OnItsWay { class, numbers, hint }) => {
                self.first_news.get_or_insert(self.now);
                let call = self.calls.get_mut(&id).unwrap();
                let earlier = call.refusals;
                call.refusals += 1;
                self.report.most_refusals_of_one = self.report.most_refusals_of_one.max(call.refusals);
                let outcome = Outcome::RateLimited { class, numbers, hint, words: None, earlier };
                let ticket: Ticket = self.machines[weir].settle(attempt, outcome, self.now).unwrap();
                self.pump(weir);
                self.arrive(id, Turn::Requeued(ticket));
            }
        }
    }

    fn end(&mut self, id: u64) {
        let attempt = self.calls.get_mut(&id).unwrap().attempt.take().unwrap();
        self.answered(id, attempt);
    }

    fn answered(&mut self, id: u64, attempt: Attempt) {
        let weir = self.weir_of(id);
        if let Some(stranger) = &mut self.scenario.stranger {
            stranger.ended();
        }
        self.machines[weir].settle(attempt, Outcome::Done, self.now);
        let call = self.calls.remove(&id).unwrap();
        let source = &self.scenario.sources[call.source];
        let (caller, is_closed) = (source.caller, source.closed > 0);
        self.report.answered_late += u64::from(call.head > call.deadline);
        self.report.finished = self.seconds();
        self.report.done.push((self.seconds(), self.now.seconds_since(call.first)));
        self.report.heads.push((self.seconds(), call.head.seconds_since(call.sent), caller));
        if let Some(payment) = call.retrying {
            self.machines[weir].retry_ended(payment);
        }
        *self.report.answered.entry(caller).or_default() += 1;
        if is_closed {
            self.push(self.now, Event::Closed(call.source));
        }
        self.pump(weir);
    }

    fn failed(&mut self, id: u64, mut attempt: Attempt, class: ErrorClass, answers: bool) {
        let weir = self.weir_of(id);
        if answers {
            self.machines[weir].head(&mut attempt, &HeadReport::default(), self.now);
        }
        self.machines[weir].settle(attempt, Outcome::Failed(class), self.now);
        let call = self.calls.get_mut(&id).unwrap();
        if let Some(payment) = call.retrying.take() {
            self.machines[weir].retry_ended(payment);
        }
        let patience_left = call.deadline > self.now.plus_seconds(1.0);
        let retryable = class != ErrorClass::TimeoutResponse;
        if retryable
            && patience_left
            && call.attempts < 6
            && let Ok(payment) = self.machines[weir].withdraw(weir::internals::retry::cost(class), self.now)
        {
            call.retrying = Some(payment);
            let ceiling = (0.5 * 2.0_f64.powi(call.attempts as i32 - 1)).min(8.0);
            let delay = 0.05 + self.rng.f64() * ceiling;
            self.push(self.now.plus_seconds(delay), Event::Retry(id));
        } else {
            let call = self.calls.remove(&id).unwrap();
            let seconds = self.seconds();
            self.report.failed.push(seconds);
            if self.scenario.sources[call.source].closed > 0 {
                self.at(seconds, Event::Closed(call.source));
            }
        }
        self.pump(weir);
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

fn slot(dimension: Dimension) -> Slot {
    match dimension {
        Dimension::RequestsPerMinute => Slot::RequestsPerMinute,
        Dimension::RequestsPerDay => Slot::RequestsPerDay,
        Dimension::TokensPerMinute => Slot::TokensPerMinute,
        Dimension::TokensPerDay => Slot::TokensPerDay,
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
