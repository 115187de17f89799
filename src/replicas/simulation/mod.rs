//! A simulation of many replicas with one Redis. It interleaves their exchanges at random, by a
//! seed, and measures the resulting traffic with the upstream's bucket.

mod cases;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use super::demand::Need;
use super::lease::Leases;
use super::ledger::{Ledger, Time, divide};
use super::message::{Answer, Call, ScopeKey, WHOLE};
use crate::clock::{self, Instant};

const KEY: ScopeKey = ScopeKey { owner: 1, family: 2 };
const INTERVAL: Duration = Duration::from_secs(1);
/// The upstream's bucket has the size of the limit, and drains within this time in seconds.
const WINDOW: f64 = 60.0;
/// Requests in a window.
const LIMIT: f64 = 6000.0;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// A replica measures its demand, and may start an exchange.
    Measure,
    /// Redis executes a call.
    Execute(Call, Time),
    /// A replica receives the answer.
    Receive(Call, Option<Answer>, Time),
    /// The upstream's level is updated.
    Send,
}

struct Replica {
    id: String,
    leases: Leases,
    need: u32,
    weight: u32,
    /// The throughput in limits: the part in force, and the used fraction of it.
    part: f64,
    used: f64,
    /// Requests sent, for a limit of [`LIMIT`].
    sent: f64,
    /// The backlog of its callers, in limits.
    backlog: f64,
    next: Time,
    began: [Option<Time>; 2],
    waits: bool,
    /// The replica does not run before this time.
    paused_until: Time,
    cut: bool,
    ended: bool,
}

struct World {
    start: Instant,
    now: Time,
    ledger: Ledger,
    replicas: Vec<Replica>,
    steps: BinaryHeap<Reverse<(Time, u64, usize)>>,
    planned: Vec<Step>,
    rng: fastrand::Rng,
    expected: usize,
    /// The upstream's level, the time of its update, and the highest level so far.
    level: f64,
    highest: f64,
    /// The largest sum of parts in use.
    most: u32,
    exchanges: u64,
}

impl World {
    fn with(seed: u64, needs: &[u32]) -> Self {
        let mut world = Self {
            start: clock::now(),
            now: 0,
            ledger: Ledger::default(),
            replicas: Vec::new(),
            steps: BinaryHeap::new(),
            planned: Vec::new(),
            rng: fastrand::Rng::with_seed(seed),
            expected: 2,
            level: 0.0,
            highest: 0.0,
            most: 0,
            exchanges: 0,
        };
        for need in needs {
            world.join(*need);
        }
        world.plan(50, usize::MAX, Step::Send);
        world
    }

    fn join(&mut self, need: u32) {
        let leases = Leases::new(INTERVAL, self.expected);
        let part = f64::from(leases.newcomer()) / f64::from(WHOLE);
        let at = self.now + self.rng.u64(..1000);
        self.replicas.push(Replica {
            id: format!("{:016x}", self.rng.u64(..)),
            leases,
            need,
            weight: 1,
            part,
            used: part,
            sent: 0.0,
            backlog: 0.0,
            next: at,
            began: [None; 2],
            waits: false,
            paused_until: 0,
            cut: false,
            ended: false,
        });
        self.plan(at, self.replicas.len() - 1, Step::Measure);
    }

    fn plan(&mut self, at: Time, replica: usize, step: Step) {
        self.planned.push(step);
        self.steps.push(Reverse((at, self.planned.len() as u64 - 1, replica)));
    }

    fn clock(&self, time: Time) -> Instant {
        self.start + Duration::from_millis(time)
    }

    fn run(&mut self, seconds: f64) {
        let until = self.now + millis(seconds);
        while let Some(&Reverse((at, order, index))) = self.steps.peek()
            && at <= until
        {
            self.steps.pop();
            self.now = at;
            let step =
                std::mem::replace(&mut self.planned[usize::try_from(order).expect("small")], Step::Send);
            self.step(index, step);
            // With many replicas one step changes little: check only a sample of the steps.
            if self.planned.len().is_multiple_of(1 + self.replicas.len() / 20) {
                let in_use = (0..self.replicas.len()).map(|index| self.used(index)).sum();
                self.most = self.most.max(in_use);
            }
        }
        self.now = until;
    }

    fn step(&mut self, index: usize, step: Step) {
        let (now, at) = (self.now, self.clock(self.now));
        if step == Step::Send {
            self.send(0.05);
            self.plan(now + 50, usize::MAX, Step::Send);
            return;
        }
        if self.replicas[index].ended {
            return;
        }
        // A call on its way reaches Redis even if its sender is paused.
        if self.replicas[index].paused_until > now && !matches!(step, Step::Execute(..)) {
            let until = self.replicas[index].paused_until;
            self.plan(until, index, step);
            return;
        }
        let delay = self.rng.u64(1..60);
        match step {
            Step::Send => {}
            Step::Measure => {
                self.measure(index);
                let replica = &mut self.replicas[index];
                replica.leases.lapse(at);
                let [last, before] = replica.began;
                let earliest =
                    last.map_or(0, |last| last + 250).max(before.map_or(0, |before| before + 1000));
                let due = now >= replica.next || replica.leases.wants_exchange() && now >= earliest;
                if due && !replica.waits {
                    (replica.began, replica.waits) = ([Some(now), last], true);
                    let call = replica.leases.outgoing(&replica.id, Vec::new(), at);
                    self.exchanges += 1;
                    let cut = replica.cut;
                    let step = if cut { Step::Receive(call, None, now) } else { Step::Execute(call, now) };
                    self.plan(now + if cut { 200 } else { delay }, index, step);
                }
                self.apply(index);
                self.plan(now + 250, index, Step::Measure);
            }
            Step::Execute(call, began) => {
                let answer = self.ledger.execute(&call, now);
                self.plan(now + delay, index, Step::Receive(call, Some(answer), began));
            }
            Step::Receive(call, answer, began) => {
                self.measure(index);
                let began = self.clock(began);
                let pause = self.rng.u64(900..1000);
                let replica = &mut self.replicas[index];
                replica.waits = false;
                match answer {
                    Some(answer) => replica.leases.exchanged(&call, &answer, began),
                    None => replica.leases.failed(at),
                }
                replica.next = now + pause;
                self.apply(index);
            }
        }
    }

    fn measure(&mut self, index: usize) {
        let replica = &mut self.replicas[index];
        let unused = (1.0 - replica.used / replica.part).clamp(0.0, 1.0);
        let backlog = millionths(replica.backlog / 2.0 * WINDOW);
        let need = Need {
            part: replica.need.max(backlog).min(WHOLE),
            weight: replica.weight,
            unused,
            sent: [replica.sent, 0.0],
        };
        replica.leases.needs(&[(KEY, need)]);
    }

    fn apply(&mut self, index: usize) {
        let replica = &mut self.replicas[index];
        let Some(applied) = replica.leases.applied().remove(&KEY) else { return };
        let part = f64::from(applied.part) / f64::from(WHOLE);
        let gained = part - replica.part;
        replica.used = if gained > 0.0 {
            replica.used + gained * (1.0 - applied.unused_gained)
        } else {
            replica.used * part / replica.part
        };
        replica.part = part;
    }

    /// All replicas send at the rate of their parts, as long as they have a backlog.
    fn send(&mut self, seconds: f64) {
        self.level = (self.level - seconds / WINDOW).max(0.0);
        for index in 0..self.replicas.len() {
            let may = self.used(index) > 0 && self.replicas[index].paused_until <= self.now;
            let replica = &mut self.replicas[index];
            replica.used = (replica.used - replica.part * seconds / WINDOW).max(0.0);
            if replica.ended || !may {
                continue;
            }
            let steady = f64::from(replica.need) / f64::from(WHOLE) * seconds / WINDOW;
            let wanted = replica.backlog + steady;
            let sent = wanted.min((replica.part - replica.used).max(0.0));
            replica.backlog = if replica.need < WHOLE { wanted - sent } else { replica.backlog };
            replica.used += sent;
            replica.sent += sent * LIMIT;
            self.level += sent;
        }
        self.highest = self.highest.max(self.level);
    }

    /// The part that a replica uses: nothing if its lease ended while it was paused.
    fn used(&self, index: usize) -> u32 {
        let replica = &self.replicas[index];
        let over = replica.leases.until().is_some_and(|until| until <= self.clock(self.now));
        if replica.ended || over { 0 } else { millionths(replica.part) }
    }

    fn all(&self) -> Vec<u32> {
        self.live().map(|index| self.used(index)).collect()
    }

    fn live(&self) -> impl Iterator<Item = usize> {
        (0..self.replicas.len()).filter(|index| !self.replicas[*index].ended)
    }

    fn sum(&self) -> u32 {
        self.all().iter().sum()
    }

    #[track_caller]
    fn assert_within(&self, parts: f64) {
        assert!(
            f64::from(self.most) <= parts * f64::from(WHOLE) + 50.0,
            "{} at once: {:?}",
            self.most,
            self.all()
        );
    }

    /// The largest difference between a part and the fair one, as a fraction of the whole.
    fn distance(&self) -> f64 {
        let of = |of: fn(&Replica) -> u32| -> Vec<u64> {
            self.live().map(|index| u64::from(of(&self.replicas[index]))).collect()
        };
        let fair = divide(&of(|one| one.need.min(WHOLE)), &of(|one| one.weight), WHOLE.into());
        let off = self.all().into_iter().zip(fair).map(|(part, fair)| u64::from(part).abs_diff(fair));
        off.max().unwrap_or(0) as f64 / f64::from(WHOLE)
    }

    fn cut(&mut self, cut: bool) {
        self.replicas.iter_mut().for_each(|replica| replica.cut = cut);
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float's cast saturates")]
fn millionths(part: f64) -> u32 {
    (part * f64::from(WHOLE)).round() as u32
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float's cast saturates")]
fn millis(seconds: f64) -> Time {
    (seconds * 1000.0) as Time
}

fn needs(rng: &mut fastrand::Rng, replicas: usize) -> Vec<u32> {
    let one = |rng: &mut fastrand::Rng| match rng.u8(..3) {
        0 => rng.u32(..WHOLE / 100),
        1 => rng.u32(..WHOLE),
        _ => WHOLE,
    };
    (0..replicas).map(|_| one(rng)).collect()
}
