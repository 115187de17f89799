//! Replays recorded requests through the admission state machine, against the model of the limiter,
//! on a simulated clock.
//!
//! One loop over events: nothing waits, and equal input gives equal output. A request's arrival,
//! cost, deadline, response times and faults are recorded. Its admission, rate limits and retries
//! are simulated.

mod attempts;
mod limits;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use crate::admission::machine::{Arrival, Attempt, Claim, Machine, Outcome, Request, Route, Turn};
use crate::admission::{Cost, Key, LimitReports, Moment, Refused, RetryPayment};
use crate::caller::{CallerId, Mode};
use crate::classify::ErrorClass;
use crate::clock::{self, Instant};
use crate::retry::Policy;
use crate::simulate::limiter::{Joint, JointRefusal};

use super::plan::Plan;
use super::recording::{Course, End, Outage, Recorded, Recording};

/// The interval at which replicas learn how much the others send.
const EXCHANGE: Duration = Duration::from_secs(1);
/// Requests between two reports of progress.
const REPORT: usize = 20_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// The limits at this index of the plan apply.
    Limits(u32),
    /// The head of a request's response arrives.
    Head(u32),
    /// Its response ends.
    Ended(u32),
    /// Its backoff before a retry ends.
    Retry(u32),
    /// Its caller leaves.
    Left(u32),
    /// This machine has work that is due.
    Due(u16),
    /// The replicas exchange the amounts sent.
    Exchange,
}

/// A request under way.
struct Call {
    machine: u16,
    /// When it entered the queue for its current attempt.
    asked: Moment,
    key: Option<Key>,
    /// When its current attempt was sent.
    sent: Moment,
    attempt: Option<Attempt>,
    answer: Answer,
    /// Attempts, except those refused by a rate limit.
    attempts: u32,
    refusals: u32,
    /// Recorded faults used so far.
    faults: usize,
    paid: Option<RetryPayment>,
    course: Course,
}

/// The upstream's response.
#[derive(Clone)]
enum Answer {
    Good(LimitReports),
    Limited(JointRefusal),
    Fault(ErrorClass),
}

/// Replays a recording. Returns the courses in the order of its requests; `progress` gets the
/// number of requests that have arrived.
pub(super) fn replay(
    recording: &Recording,
    outages: &[Outage],
    plan: &Plan,
    progress: &mut dyn FnMut(usize),
) -> Vec<Course> {
    let settings = Arc::new(plan.settings());
    let seed = |number: u16| plan.seed.wrapping_add(u64::from(number));
    let machines: Vec<_> = (0..plan.replicas.max(1))
        .map(|number| Machine::new(Arc::clone(&settings), "", seed(number + 1), Moment::START))
        .collect();
    let begin = recording.requests.first().map_or(0, |request| request.arrived);
    let count = machines.len();
    let mut world = World {
        recording,
        outages,
        plan,
        begin,
        base: clock::now(),
        now: Moment::START,
        due: vec![Moment::NEVER; count],
        sent: vec![(0.0, 0.0); count],
        machines,
        limiter: plan.limiter(),
        events: BinaryHeap::new(),
        calls: std::iter::repeat_with(|| None).take(recording.requests.len()).collect(),
        courses: recording.requests.iter().map(|request| request.course).collect(),
        open: 0,
        typical_head: recording.typical_head(),
        policy: Policy::default(),
        rng: fastrand::Rng::with_seed(seed(0)),
        wake: Vec::new(),
    };
    world.run(progress);
    world.courses
}

struct World<'a> {
    recording: &'a Recording,
    outages: &'a [Outage],
    plan: &'a Plan,
    /// The arrival of the first request.
    begin: u64,
    /// The limiter's clock at the start.
    base: Instant,
    now: Moment,
    machines: Vec<Machine<u32>>,
    /// When each machine must run next.
    due: Vec<Moment>,
    /// The amounts that each machine had sent at the last exchange.
    sent: Vec<(f64, f64)>,
    limiter: Joint,
    events: BinaryHeap<Reverse<(Moment, Event)>>,
    calls: Vec<Option<Box<Call>>>,
    courses: Vec<Course>,
    open: usize,
    typical_head: f32,
    policy: Policy,
    rng: fastrand::Rng,
    wake: Vec<u32>,
}

impl World<'_> {
    fn run(&mut self, progress: &mut dyn FnMut(usize)) {
        for (index, (at, _)) in (0_u32..).zip(&self.plan.limits).skip(1) {
            self.at(*at, Event::Limits(index));
        }
        if self.machines.len() > 1 {
            self.share(&[]);
            self.at(Moment::START.plus(EXCHANGE), Event::Exchange);
        }
        let recording = self.recording;
        for (index, recorded) in (0_u32..).zip(&recording.requests) {
            let arrived = Moment::from_nanos(recorded.arrived - self.begin);
            while let Some(Reverse((at, event))) =
                self.events.peek().copied().filter(|next| next.0.0 <= arrived)
            {
                self.events.pop();
                self.now = at;
                self.handle(event);
            }
            self.now = arrived;
            self.begin_call(index, recorded);
            if (index as usize).is_multiple_of(REPORT) {
                progress(index as usize);
            }
        }
        while self.open > 0
            && let Some(Reverse((at, event))) = self.events.pop()
        {
            self.now = at;
            self.handle(event);
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Limits(index) => self.change_limits(index),
            Event::Head(index) => self.head(index),
            Event::Ended(index) => self.ended(index),
            Event::Retry(index) => self.ask(index, Turn::Retry),
            Event::Left(index) => self.leave(index),
            Event::Due(machine) => {
                if self.now >= self.due[usize::from(machine)] {
                    self.due[usize::from(machine)] = Moment::NEVER;
                    self.machines[usize::from(machine)].pump(self.now, &mut self.wake);
                    self.follow_up(machine);
                }
            }
            Event::Exchange => {
                let sent: Vec<(f64, f64)> = (self.machines.iter())
                    .map(|machine| machine.demand(self.now))
                    .map(|demand| (demand.sent_requests, demand.sent_tokens))
                    .collect();
                self.share(&sent);
                // Without other events a repeating one would never end.
                if !self.events.is_empty() {
                    self.at(self.now.plus(EXCHANGE), Event::Exchange);
                }
            }
        }
    }

    fn begin_call(&mut self, index: u32, recorded: &Recorded) {
        let machine = if self.machines.len() > 1 { self.rng.usize(..self.machines.len()) } else { 0 };
        self.calls[index as usize] = Some(Box::new(Call {
            machine: u16::try_from(machine).unwrap_or(0),
            asked: self.now,
            key: None,
            sent: Moment::START,
            attempt: None,
            answer: Answer::Good(LimitReports::default()),
            attempts: 0,
            refusals: 0,
            faults: 0,
            paid: None,
            course: Course { waited: 0.0, sent: None, rate_limits: 0, end: End::Refused },
        }));
        self.open += 1;
        if let Some(left) = recorded.left {
            self.at(self.now.plus_seconds(f64::from(left)), Event::Left(index));
        }
        self.ask(index, Turn::First);
    }

    fn request(&self, index: u32, turn: Turn) -> Request {
        let recorded = &self.recording.requests[index as usize];
        let arrived = Moment::from_nanos(recorded.arrived - self.begin);
        Request {
            caller: CallerId(recorded.caller),
            weight: self.plan.weights[usize::from(recorded.caller)].unwrap_or(recorded.weight),
            lane: recorded.lane,
            cost: Cost { requests: 1, tokens: u64::from(recorded.tokens), endpoint: recorded.endpoint },
            bytes: recorded.bytes as usize,
            deadline: arrived.plus(Duration::from_nanos(recorded.patience)),
            head_due: false,
            turn,
            mode: Mode::Enforce,
            route: Route::default(),
        }
    }

    fn ask(&mut self, index: u32, turn: Turn) {
        let request = self.request(index, turn);
        let Some(call) = &mut self.calls[index as usize] else { return };
        call.asked = self.now;
        let machine = call.machine;
        match self.machines[usize::from(machine)].arrive(&request, self.now, &mut self.wake) {
            Arrival::Granted(attempt) => self.send(index, attempt),
            Arrival::Refused(refused) => self.refused(index, &refused),
            Arrival::Waiting(key) => {
                call.key = Some(key);
                self.claim(index);
            }
        }
        self.follow_up(machine);
    }

    fn claim(&mut self, index: u32) {
        let Some(call) = &mut self.calls[index as usize] else { return };
        let Some(key) = call.key else { return };
        match self.machines[usize::from(call.machine)].claim(key, |waker| *waker = Some(index)) {
            Claim::Pending => {}
            Claim::Granted(attempt) => self.send(index, attempt),
            Claim::Refused(refused) => self.refused(index, &refused),
            // There is no other scope that it could have been merged into.
            Claim::Moved(_) => self.finish(index, End::Refused),
        }
    }

    /// Starts the requests that a machine admits, and schedules its next run.
    fn follow_up(&mut self, machine: u16) {
        while let Some(index) = self.wake.pop() {
            self.claim(index);
        }
        let due = self.machines[usize::from(machine)].due();
        if due < self.due[usize::from(machine)] {
            self.due[usize::from(machine)] = due.max(self.now);
            self.at(due.max(self.now), Event::Due(machine));
        }
    }

    fn ended(&mut self, index: u32) {
        let Some(call) = self.calls[index as usize].as_deref_mut() else { return };
        let machine = call.machine;
        if let Some(attempt) = call.attempt.take() {
            let of = &mut self.machines[usize::from(machine)];
            of.settle(attempt, Outcome::Done, self.now);
            of.pump(self.now, &mut self.wake);
        }
        self.finish(index, End::Answered);
        self.follow_up(machine);
    }

    fn leave(&mut self, index: u32) {
        let Some(call) = self.calls[index as usize].as_deref_mut() else { return };
        let Some(key) = call.key.take() else { return };
        let machine = call.machine;
        call.course.waited += seconds(self.now.since(call.asked));
        let of = &mut self.machines[usize::from(machine)];
        of.cancel(key, self.now);
        of.pump(self.now, &mut self.wake);
        self.finish(index, End::Left);
        self.follow_up(machine);
    }

    fn refused(&mut self, index: u32, refused: &Refused) {
        let now = self.now;
        let Some(call) = self.calls[index as usize].as_deref_mut() else { return };
        call.course.waited += seconds(now.since(call.asked));
        // A request with an attempt ends with that attempt's result.
        let end = match refused {
            _ if call.attempts > 0 => End::Failed,
            Refused::Deadline { .. }
            | Refused::Told { .. }
            | Refused::QueueFull { .. }
            | Refused::CallerLimit { .. }
            | Refused::BreakerOpen { .. }
            | Refused::QuotaExhausted(_)
            | Refused::Draining => End::Refused,
        };
        self.finish(index, end);
    }

    fn finish(&mut self, index: u32, end: End) {
        if let Some(mut call) = self.calls[index as usize].take() {
            if let Some(payment) = call.paid.take() {
                self.machines[usize::from(call.machine)].retry_ended(payment);
            }
            self.courses[index as usize] = Course { end, ..call.course };
            self.open -= 1;
        }
    }

    fn instant(&self) -> Instant {
        self.base + Duration::from_nanos(self.now.as_nanos())
    }

    fn at(&mut self, at: Moment, event: Event) {
        self.events.push(Reverse((at.max(self.now), event)));
    }
}

fn seconds(span: Duration) -> f32 {
    span.as_secs_f32()
}
