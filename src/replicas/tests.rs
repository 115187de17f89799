//! Many replicas before one Redis, in simulated time: every interleaving of their exchanges that a seed can think of.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use super::beat::{Beat, ScopeKey, WHOLE};
use super::demand::Need;
use super::fair;
use super::lease::Leases;
use crate::clock::{self, Instant};

const KEY: ScopeKey = ScopeKey { owner: 1, family: 2 };
const INTERVAL: Duration = Duration::from_secs(1);

/// Milliseconds.
type Time = u64;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    /// It writes what it wants.
    Send,
    /// Redis executes it.
    Execute { beat: String, remove: Vec<String>, began: Time },
    /// It reads what Redis found.
    Receive { new: bool, beats: Vec<(String, Vec<u8>)>, began: Time },
}

struct Replica {
    id: String,
    leases: Leases,
    need: u32,
    /// Nothing of it runs before.
    paused_until: Time,
    /// Redis can't be reached from it.
    cut: bool,
    /// It ended; what it uses no longer counts.
    ended: bool,
    born: Time,
    clock_ahead: Duration,
}

struct World {
    start: Instant,
    now: Time,
    redis: BTreeMap<String, Vec<u8>>,
    replicas: Vec<Replica>,
    steps: BinaryHeap<Reverse<(Time, u64, usize, Step)>>,
    order: u64,
    rng: fastrand::Rng,
    expected: usize,
    /// The most that was in use at once, and by how much replicas that just began may exceed the whole.
    most: i64,
}

impl World {
    fn new(seed: u64, expected: usize) -> Self {
        Self {
            start: clock::now(),
            now: 0,
            redis: BTreeMap::new(),
            replicas: Vec::new(),
            steps: BinaryHeap::new(),
            order: 0,
            rng: fastrand::Rng::with_seed(seed),
            expected,
            most: i64::MIN,
        }
    }

    fn with(seed: u64, needs: &[u32]) -> Self {
        let mut world = Self::new(seed, 2);
        for need in needs {
            world.join(*need);
        }
        world
    }

    fn join(&mut self, need: u32) {
        let id = format!("{:032x}", self.rng.u128(..));
        let leases = Leases::new(id.clone(), INTERVAL, self.expected);
        let born = self.now;
        let clock_ahead = Duration::ZERO;
        self.replicas.push(Replica {
            id,
            leases,
            need,
            paused_until: 0,
            cut: false,
            ended: false,
            born,
            clock_ahead,
        });
        let at = self.now + self.rng.u64(..1000);
        self.plan(at, self.replicas.len() - 1, Step::Send);
    }

    fn plan(&mut self, at: Time, replica: usize, step: Step) {
        self.order += 1;
        self.steps.push(Reverse((at, self.order, replica, step)));
    }

    fn clock(&self, replica: usize, time: Time) -> Instant {
        self.start + Duration::from_millis(time) + self.replicas[replica].clock_ahead
    }

    fn run(&mut self, until: Time) {
        while let Some(Reverse((at, ..))) = self.steps.peek()
            && *at <= until
        {
            let Some(Reverse((at, _, index, step))) = self.steps.pop() else { return };
            self.now = at;
            self.step(index, step);
            self.check();
        }
        self.now = until;
    }

    fn step(&mut self, index: usize, step: Step) {
        if self.replicas[index].ended {
            return;
        }
        // What is under way to Redis arrives, whether its sender runs or not.
        if self.replicas[index].paused_until > self.now && !matches!(step, Step::Execute { .. }) {
            self.plan(self.replicas[index].paused_until, index, step);
            return;
        }
        let now = self.clock(index, self.now);
        let delay = self.rng.u64(1..150);
        let replica = &mut self.replicas[index];
        match step {
            Step::Send => {
                replica.leases.lapse(now);
                replica.leases.needs(&[(KEY, Need { part: replica.need, ..Need::default() })]);
                if replica.cut {
                    replica.leases.failed(now);
                    let at = self.now + self.rng.u64(200..1000);
                    self.plan(at, index, Step::Send);
                } else {
                    let outgoing = replica.leases.outgoing();
                    let began = self.now;
                    let step = Step::Execute { beat: outgoing.beat, remove: outgoing.remove, began };
                    self.plan(self.now + delay, index, step);
                }
            }
            Step::Execute { beat, remove, began } => {
                for id in remove {
                    self.redis.remove(&id);
                }
                let new = self.redis.insert(replica.id.clone(), beat.into_bytes()).is_none();
                let beats = self.redis.clone().into_iter().collect();
                self.plan(self.now + delay, index, Step::Receive { new, beats, began });
            }
            Step::Receive { new, beats, began } => {
                let began = self.clock(index, began);
                let replica = &mut self.replicas[index];
                replica.leases.lapse(now);
                replica.leases.exchanged(new, &beats, began, now);
                let pause = if replica.leases.is_hungry() { 225..250 } else { 900..1000 };
                let at = self.now + self.rng.u64(pause);
                self.plan(at, index, Step::Send);
            }
        }
    }

    fn used(&self, index: usize) -> u32 {
        let leases = &self.replicas[index].leases;
        leases.parts().find(|(key, ..)| *key == KEY).map_or(0, |(_, used, _)| used)
    }

    fn all(&self) -> Vec<u32> {
        (0..self.replicas.len())
            .filter(|index| !self.replicas[*index].ended)
            .map(|index| self.used(index))
            .collect()
    }

    fn check(&mut self) {
        let mut sum: i64 = 0;
        let mut known = 0;
        for (index, replica) in self.replicas.iter().enumerate().filter(|(_, replica)| !replica.ended) {
            known += 1;
            sum += i64::from(self.used(index));
            if replica.born + 5000 > self.now {
                // It may not know of anybody, nor anybody of it.
                sum -= i64::from(fair::floor(known.min(self.expected)));
            }
        }
        self.most = self.most.max(sum);
    }

    fn forget_most(&mut self) {
        self.most = i64::MIN;
    }

    #[track_caller]
    fn assert_within(&self, parts: f64) {
        assert!(self.most <= whole(parts), "{} at once, of {}", self.most, whole(parts));
    }

    /// How far the parts are from those that one who knew all would give, as a part of the whole, at most.
    fn distance(&self) -> f64 {
        let live: Vec<usize> =
            (0..self.replicas.len()).filter(|index| !self.replicas[*index].ended).collect();
        let needs: Vec<u32> = live.iter().map(|index| self.replicas[*index].need).collect();
        let fair = fair::parts(&needs, 0);
        let off = live.iter().zip(fair).map(|(index, fair)| f64::from(self.used(*index).abs_diff(fair)));
        off.fold(0.0, f64::max) / f64::from(WHOLE)
    }

    fn end(&mut self, index: usize, goodbye: bool) {
        self.replicas[index].ended = true;
        if goodbye {
            self.redis.insert(self.replicas[index].id.clone(), Beat::Bye.text().into_bytes());
        }
    }

    fn cut(&mut self, cut: bool) {
        self.replicas.iter_mut().for_each(|replica| replica.cut = cut);
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a few times the whole")]
fn whole(parts: f64) -> i64 {
    (parts * f64::from(WHOLE)) as i64
}

fn needs(rng: &mut fastrand::Rng, replicas: usize) -> Vec<u32> {
    (0..replicas)
        .map(|_| match rng.u8(..3) {
            0 => rng.u32(..WHOLE / 100),
            1 => rng.u32(..WHOLE),
            _ => rng.u32(WHOLE..WHOLE * 20),
        })
        .collect()
}

#[test]
fn any_number_of_replicas_agree_and_never_on_more_than_the_whole() {
    let mut rng = fastrand::Rng::with_seed(11);
    for seed in 0..16 {
        let replicas = if seed == 0 { 50 } else { rng.usize(2..=12) };
        let mut world = World::with(seed, &needs(&mut rng, replicas));
        world.run(20_000);
        world.assert_within(1.0);
        assert!(world.distance() < 0.012, "{seed}: {replicas} are off by {}", world.distance());
        let in_use: u32 = world.all().iter().sum();
        assert!(in_use > WHOLE / 100 * 97, "{seed}: {replicas} use {in_use}");
    }
}

#[test]
fn needs_that_change_move_the_parts_within_seconds_and_nobody_exceeds_the_whole() {
    let mut rng = fastrand::Rng::with_seed(12);
    for seed in 0..10 {
        let replicas = rng.usize(2..=10);
        let mut world = World::with(seed, &needs(&mut rng, replicas));
        world.run(10_000);
        for _ in 0..20 {
            let until = world.now + rng.u64(100..4000);
            let changed = rng.usize(..replicas);
            world.replicas[changed].need = needs(&mut rng, 1)[0];
            world.run(until);
        }
        world.assert_within(1.0);
        let until = world.now + 6000;
        world.run(until);
        world.assert_within(1.0);
        assert!(world.distance() < 0.03, "{seed}: {replicas} are off by {}", world.distance());
    }
}

#[test]
fn an_idle_replica_s_part_is_the_busy_one_s_until_it_is_needed() {
    let mut world = World::with(1, &[WHOLE * 3, 0, 0]);
    world.run(10_000);
    assert!(world.used(0) > 950_000, "{:?}", world.all());
    world.replicas[1].need = WHOLE;
    world.run(13_500);
    assert!(world.used(1) > 400_000, "{:?}", world.all());
    world.assert_within(1.0);
}

#[test]
fn who_comes_and_goes_does_so_without_excess() {
    let mut rng = fastrand::Rng::with_seed(13);
    for seed in 0..16 {
        let mut world = World::with(seed, &needs(&mut rng, 3));
        world.run(8_000);
        for round in 0..10 {
            match rng.u8(..3) {
                0 => world.join(needs(&mut rng, 1)[0]),
                1 if world.all().len() > 1 => {
                    let live: Vec<usize> =
                        (0..world.replicas.len()).filter(|index| !world.replicas[*index].ended).collect();
                    world.end(live[rng.usize(..live.len())], round % 2 == 0);
                }
                _ => {}
            }
            let until = world.now + rng.u64(500..6000);
            world.run(until);
        }
        world.assert_within(1.0);
        let until = world.now + 25_000;
        world.run(until);
        world.assert_within(1.0);
        assert!(world.distance() < 0.012, "{seed}: {} are off by {}", world.all().len(), world.distance());
    }
}

#[test]
fn a_goodbye_gives_way_within_two_intervals_and_a_crash_within_the_lease() {
    for goodbye in [true, false] {
        let mut world = World::with(2, &[WHOLE * 3, WHOLE * 3]);
        world.run(10_000);
        world.end(0, goodbye);
        world.run(12_500);
        assert_eq!(world.used(1) > 900_000, goodbye, "{:?}", world.all());
        world.run(25_500);
        assert!(world.used(1) > 900_000, "{:?}", world.all());
    }
}

#[test]
fn without_redis_parts_stay_and_then_are_even() {
    let mut rng = fastrand::Rng::with_seed(14);
    for seed in 0..8 {
        let replicas = rng.usize(2..=10);
        let mut world = World::with(seed, &needs(&mut rng, replicas));
        world.run(15_000);
        let before = world.all();
        world.cut(true);
        world.forget_most();
        world.run(23_000);
        // What was under way when it broke may still have been received.
        let moved =
            before.iter().zip(world.all()).filter(|(before, now)| before.abs_diff(*now) > WHOLE / 20).count();
        assert!(moved <= 2, "{seed}: {before:?} {:?}", world.all());
        world.run(60_000);
        world.assert_within(1.0);
        assert!(world.all().iter().all(|part| *part == fair::even(replicas)), "{seed}: {:?}", world.all());
        if rng.bool() {
            world.redis.clear();
        }
        world.cut(false);
        world.run(80_000);
        world.assert_within(1.0);
        assert!(world.distance() < 0.012, "{seed}: {replicas} are off by {}", world.distance());
    }
}

#[test]
fn without_redis_from_the_start_nobody_takes_the_whole() {
    let mut world = World::with(3, &[WHOLE * 3, WHOLE * 3]);
    world.cut(true);
    world.run(30_000);
    assert_eq!(world.all(), [WHOLE / 2, WHOLE / 2]);
    world.assert_within(1.0);
    world.cut(false);
    world.run(40_000);
    world.assert_within(1.0);
}

#[test]
fn who_alone_is_cut_off_adds_no_more_than_its_even_part() {
    let mut rng = fastrand::Rng::with_seed(15);
    for seed in 0..8 {
        let replicas = rng.usize(2..=8);
        let mut world = World::with(seed, &vec![WHOLE * 2; replicas]);
        world.run(12_000);
        world.forget_most();
        world.replicas[0].cut = true;
        world.run(60_000);
        world.assert_within(1.0 + 1.0 / replicas as f64);
        world.replicas[0].cut = false;
        world.run(66_000);
        world.forget_most();
        world.run(90_000);
        world.assert_within(1.0);
        assert!(world.distance() < 0.012, "{seed}: off by {}", world.distance());
    }
}

#[test]
fn what_is_flushed_is_told_anew_and_nothing_moves() {
    let mut rng = fastrand::Rng::with_seed(16);
    for seed in 0..8 {
        let replicas = rng.usize(2..=10);
        let mut world = World::with(seed, &needs(&mut rng, replicas));
        world.run(15_000);
        let before = world.all();
        for round in 0..5 {
            world.redis.clear();
            world.run(16_000 + round * 700);
        }
        world.run(25_000);
        world.assert_within(1.0);
        let moved = before.iter().zip(world.all()).map(|(before, now)| before.abs_diff(now)).max();
        assert!(moved < Some(WHOLE / 30), "{seed}: {before:?} {:?}", world.all());
    }
}

#[test]
fn a_process_that_stood_still_takes_nothing_back_that_others_took_over() {
    let mut rng = fastrand::Rng::with_seed(17);
    for seed in 0..12 {
        let replicas = rng.usize(2..=6);
        let mut world = World::with(seed, &vec![WHOLE * 2; replicas]);
        world.run(12_000);
        world.forget_most();
        let pause = rng.u64(1_000..60_000);
        world.replicas[0].paused_until = world.now + pause;
        // While it stands still it sends nothing; what counts is what it does when it wakes up.
        let used = world.used(0);
        world.run(12_000 + pause - 1);
        world.assert_within(1.0 + f64::from(used) / f64::from(WHOLE));
        world.forget_most();
        world.run(12_000 + pause + 20_000);
        world.assert_within(1.0 + 1.0 / replicas as f64);
        world.forget_most();
        world.run(12_000 + pause + 30_000);
        world.assert_within(1.0);
        assert!(world.distance() < 0.012, "{seed}: off by {}", world.distance());
    }
}

#[test]
fn a_clock_that_jumps_forward_costs_its_replica_a_moment_and_nobody_else_anything() {
    let mut world = World::with(4, &[WHOLE * 2; 4]);
    world.run(12_000);
    world.replicas[2].clock_ahead = Duration::from_hours(1);
    world.run(30_000);
    world.assert_within(1.0);
    assert!(world.distance() < 0.012, "off by {}", world.distance());
    assert_eq!(world.replicas[2].leases.replicas(), 4);
}

#[test]
fn needs_that_tremble_do_not_make_parts_tremble() {
    let mut world = World::with(5, &[WHOLE * 2, WHOLE, WHOLE * 3, WHOLE / 20]);
    world.run(15_000);
    let (mut changes, mut before) = (0, world.all());
    for second in 15..135 {
        for replica in &mut world.replicas {
            let base = if replica.need > WHOLE / 2 { WHOLE * 2 } else { WHOLE / 20 };
            replica.need = base / 10 * world.rng.u32(8..12);
        }
        world.run(second * 1000);
        let now = world.all();
        changes +=
            before.iter().zip(&now).filter(|(before, now)| before.abs_diff(**now) > WHOLE / 50).count();
        before = now;
    }
    world.assert_within(1.0);
    assert!(changes <= 4, "{changes} changes");
    assert!(before[..3].iter().all(|part| *part > 290_000), "{before:?}");
}

#[test]
fn nonsense_in_redis_takes_nothing_from_anybody_for_long() {
    let mut world = World::with(6, &[WHOLE * 2; 3]);
    world.run(12_000);
    world.redis.insert("stranger".to_owned(), b"\xff\xfe".to_vec());
    let greedy = format!("1 7 1000\n{:016x}.{:016x} 4294967295 5 5 5", KEY.owner, KEY.family);
    world.redis.insert("greedy".to_owned(), greedy.into_bytes());
    world.run(20_000);
    assert!(world.all().iter().all(|part| *part > 200_000), "what is in use stays: {:?}", world.all());
    world.run(45_000);
    world.assert_within(1.0);
    assert!(world.distance() < 0.012, "{:?}", world.all());
    assert!(!world.redis.contains_key("greedy") && !world.redis.contains_key("stranger"));
}
