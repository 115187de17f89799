//! The invariants of parts under failures of Redis and of replicas.

use super::*;
use crate::replicas::lease::{LEASE, even, floor};

/// The fraction of the limit that replicas without an entry in the ledger may use.
const BEGINNERS: f64 = 0.02;

/// The maximum that `replicas` replicas may use if they start within one interval: the first
/// assumes one replica, the second two, and so on.
fn beginners(replicas: usize) -> f64 {
    (1..=replicas).map(|known| BEGINNERS / known as f64).sum()
}

#[test]
fn any_number_of_replicas_converges_within_the_whole() {
    let mut rng = fastrand::Rng::with_seed(11);
    for seed in 0..24 {
        let replicas = if seed == 0 { 60 } else { rng.usize(2..=12) };
        let mut world = World::with(seed, &needs(&mut rng, replicas));
        world.run(12.0);
        world.assert_within(1.0 + BEGINNERS);
        assert!(world.distance() < 0.06, "{seed}: {replicas} are off by {}", world.distance());
        assert!(world.sum() > WHOLE / 100 * 97, "{seed}: {replicas} use {}", world.sum());
        assert!(world.highest < 1.0 + BEGINNERS, "{seed}: the upstream's level was {}", world.highest);
        world.exchanges = 0;
        world.run(10.0);
        assert!(world.exchanges <= 20 * replicas as u64 + 2, "{} exchanges of {replicas}", world.exchanges);
    }
}

#[test]
fn a_need_moves_parts_within_two_intervals_and_never_exceeds_the_whole() {
    let mut rng = fastrand::Rng::with_seed(12);
    let mut took = Vec::new();
    for seed in 0..40 {
        let replicas = rng.usize(2..=10);
        let mut world = World::with(seed, &vec![WHOLE; replicas]);
        world.replicas[0].need = 0;
        world.run(15.0);
        assert!(world.used(0) < WHOLE / 40, "{:?}", world.all());
        world.most = 0;
        world.run(rng.f64());
        let began = world.now;
        world.replicas[0].need = WHOLE;
        let fair = even(replicas) / 10 * 9;
        while world.used(0) < fair && world.now < began + 6000 {
            world.run(0.05);
        }
        took.push(world.now - began);
        world.run(5.0);
        world.assert_within(1.0 + BEGINNERS);
    }
    took.sort_unstable();
    assert!(took[took.len() / 2] <= 2000 && took[took.len() - 1] <= 2600, "{took:?}");
}

#[test]
fn a_busy_replica_gets_an_idle_one_s_part_until_it_is_needed() {
    let mut world = World::with(1, &[WHOLE, 0, 0]);
    world.run(10.0);
    assert!(world.used(0) > 950_000, "{:?}", world.all());
    world.replicas[0].need = 0;
    world.run(12.0);
    assert!(world.distance() < 0.02, "all idle: all may begin alike: {:?}", world.all());
}

#[test]
fn callers_get_equal_shares_at_any_replica() {
    // Two callers at one replica, one at each other. Whatever the earlier parts, each caller gets
    // its share within 5 %.
    for seed in 0..20 {
        for replicas in [3, 10] {
            let mut world = World::with(seed, &vec![WHOLE; replicas]);
            world.replicas[0].weight = 2;
            world.run(5.0);
            for idle in [1, 2] {
                // A little less than its fair part: the others get the rest.
                world.replicas[idle].need = WHOLE / 10 * 9 / (u32::try_from(replicas).expect("few") + 1);
                let moment = world.rng.f64();
                world.run(5.0 + moment);
                world.replicas[idle].need = WHOLE;
                world.run(10.0);
                let shares = world.all();
                let fair = f64::from(WHOLE) / (replicas + 1) as f64;
                let each = shares
                    .iter()
                    .enumerate()
                    .map(|(at, part)| f64::from(*part) / if at == 0 { 2.0 } else { 1.0 });
                assert!(each.clone().all(|part| (part / fair - 1.0).abs() < 0.05), "{seed}: {shares:?}");
            }
        }
    }
}

#[test]
fn bursts_of_idle_replicas_and_parts_that_move_never_exceed_a_bucket() {
    let mut rng = fastrand::Rng::with_seed(18);
    for seed in 0..30 {
        let replicas = rng.usize(2..=10);
        let mut world = World::with(seed, &vec![0; replicas]);
        // Long enough for free parts to count as unused.
        world.run(80.0);
        // All at once, each as much as the limit.
        world.replicas.iter_mut().for_each(|replica| replica.backlog = 1.0);
        world.run(1.0);
        assert!(world.highest > 0.9, "{seed}: what is unused can be sent at once: {}", world.highest);
        world.run(rng.f64() * 30.0);
        for _ in 0..30 {
            let which = rng.usize(..replicas);
            match rng.u8(..4) {
                0 => world.replicas[which].backlog += rng.f64(),
                1 => world.replicas[which].backlog = 0.0,
                2 => world.replicas[which].need = needs(&mut rng, 1)[0],
                _ => world.replicas[which].need = 0,
            }
            world.run(rng.f64() * 6.0);
        }
        assert!(world.highest <= 1.0 + BEGINNERS, "{seed}: the upstream's level was {}", world.highest);
        world.assert_within(1.0 + BEGINNERS);
    }
}

#[test]
fn a_killed_replica_s_part_is_free_within_five_intervals_and_a_stopped_one_s_within_two() {
    for (seed, goodbye) in (0..20).flat_map(|seed| [(seed, true), (seed, false)]) {
        let mut world = World::with(seed, &[WHOLE, WHOLE, 0]);
        world.run(12.0);
        world.replicas[0].ended = true;
        if goodbye {
            let call = world.replicas[0].leases.goodbye(&world.replicas[0].id);
            world.ledger.execute(&call, world.now);
        }
        world.run(if goodbye { 2.0 } else { 4.5 });
        assert!(world.used(1) > 900_000, "{seed} {goodbye}: {:?}", world.all());
        world.assert_within(1.0 + BEGINNERS);
    }
}

#[test]
fn replicas_join_and_leave_without_excess() {
    let mut rng = fastrand::Rng::with_seed(13);
    for seed in 0..16 {
        let mut world = World::with(seed, &needs(&mut rng, 3));
        world.run(8.0);
        for _ in 0..10 {
            let live: Vec<usize> = world.live().collect();
            match rng.u8(..3) {
                0 => world.join(needs(&mut rng, 1)[0]),
                1 if live.len() > 1 => world.replicas[live[rng.usize(..live.len())]].ended = true,
                _ => {}
            }
            world.run(0.5 + rng.f64() * 5.0);
        }
        world.run(10.0);
        world.assert_within(1.0 + beginners(world.replicas.len()));
        assert!(
            world.highest <= 1.0 + beginners(world.replicas.len()),
            "{seed}: the upstream's level was {}",
            world.highest
        );
        assert!(world.sum() > WHOLE / 100 * 97, "{seed}: {:?}", world.all());
    }
}

#[test]
fn without_redis_parts_stay_for_the_lease_and_then_are_even() {
    let mut rng = fastrand::Rng::with_seed(14);
    for seed in 0..16 {
        let replicas = rng.usize(2..=10);
        let mut world = World::with(seed, &needs(&mut rng, replicas));
        world.run(15.0);
        let before = world.all();
        world.cut(true);
        world.run(1.0);
        let moved = before.iter().zip(world.all()).filter(|(before, now)| before.abs_diff(*now) > WHOLE / 20);
        assert!(moved.count() <= 2, "{seed}: {before:?} {:?}", world.all());
        world.run(30.0);
        assert!(world.all().iter().all(|part| *part == even(replicas)), "{seed}: {:?}", world.all());
        // Redis comes back, with or without its data.
        if rng.bool() {
            world.ledger = Ledger::default();
        }
        world.cut(false);
        world.run(12.0);
        world.assert_within(1.0 + BEGINNERS);
        assert!(world.highest <= 1.0 + BEGINNERS, "{seed}: the upstream's level was {}", world.highest);
        assert!(world.sum() > WHOLE / 100 * 97, "{seed}: {:?}", world.all());
    }
}

#[test]
fn without_redis_from_the_start_no_replica_takes_the_whole() {
    let mut world = World::with(3, &[WHOLE, WHOLE]);
    world.cut(true);
    world.run(30.0);
    assert_eq!(world.all(), [WHOLE / 2, WHOLE / 2]);
    world.cut(false);
    world.run(10.0);
    world.assert_within(1.0 + BEGINNERS);
}

#[test]
fn a_replica_cut_off_from_redis_adds_at_most_its_even_part() {
    let mut rng = fastrand::Rng::with_seed(15);
    for seed in 0..12 {
        let replicas = rng.usize(2..=8);
        let mut world = World::with(seed, &vec![WHOLE; replicas]);
        world.run(12.0);
        world.replicas[0].cut = true;
        world.run(40.0);
        world.assert_within(1.0 + BEGINNERS + 1.0 / replicas as f64);
        world.replicas[0].cut = false;
        world.run(6.0);
        world.most = 0;
        world.run(10.0);
        world.assert_within(1.0);
    }
}

#[test]
fn after_a_loss_scopes_are_reported_again_and_parts_stay_within_the_whole() {
    let mut rng = fastrand::Rng::with_seed(16);
    for seed in 0..16 {
        let replicas = rng.usize(2..=10);
        let mut world = World::with(seed, &needs(&mut rng, replicas));
        world.run(15.0);
        let before = world.all();
        for _ in 0..5 {
            world.ledger = Ledger::default();
            world.run(rng.f64());
            if rng.u8(..4) == 0 {
                world.join(WHOLE);
            }
        }
        world.run(2.0);
        // Each joining replica may be the first that a ledger sees after a loss; the others keep
        // their parts.
        let within = 1.0 + BEGINNERS * (world.replicas.len() - replicas) as f64;
        world.assert_within(within);
        if world.replicas.len() == replicas {
            let moved = before.iter().zip(world.all()).map(|(before, now)| before.abs_diff(now)).max();
            assert!(moved < Some(WHOLE / 30), "{seed}: {before:?} {:?}", world.all());
        }
        world.run(8.0);
        world.assert_within(within);
        assert!(world.sum() > WHOLE / 100 * 97, "{seed}: {:?}", world.all());
    }
}

#[test]
fn a_paused_process_does_not_take_back_reassigned_parts() {
    let mut rng = fastrand::Rng::with_seed(17);
    for seed in 0..20 {
        let replicas = rng.usize(2..=6);
        let mut world = World::with(seed, &vec![WHOLE; replicas]);
        world.run(12.0);
        let pause = rng.u64(500..40_000);
        world.replicas[0].paused_until = world.now + pause;
        world.run(pause as f64 / 1000.0);
        world.run(3.0);
        // When it resumes it takes an even part until the ledger answers. The lease began with the
        // last exchange before the pause.
        let limit = if pause > 1900 { 1.0 / replicas as f64 } else { 0.0 };
        world.assert_within(1.0 + BEGINNERS + limit);
        world.run(5.0);
        world.most = 0;
        world.run(5.0);
        world.assert_within(1.0);
        assert!(world.distance() < 0.06, "{seed}: {:?}", world.all());
    }
}

#[test]
fn replicas_restarted_together_have_the_limit_within_five_intervals() {
    let mut world = World::with(5, &[WHOLE; 10]);
    world.run(12.0);
    world.replicas.iter_mut().for_each(|replica| replica.ended = true);
    (0..10).for_each(|_| world.join(WHOLE));
    world.run(5.5);
    assert!(world.sum() > WHOLE / 10 * 8, "{:?}", world.all());
    world.assert_within(1.0 + BEGINNERS);
}

#[test]
fn a_new_replica_has_the_minimum_before_its_first_exchange_and_its_floor_after() {
    let mut world = World::with(6, &[WHOLE; 3]);
    assert_eq!(world.all(), [1; 3]);
    world.run(1.2);
    assert!(world.all().iter().all(|part| *part >= floor(3)), "{:?}", world.all());
    assert_eq!(LEASE, 3);
}

/// All start within a second, and a fair part is smaller than the differences that a few replicas
/// tolerate.
#[test]
fn a_thousand_replicas_converge_within_the_whole() {
    let mut world = World::with(19, &vec![WHOLE; 1000]);
    world.run(12.0);
    world.assert_within(1.0 + BEGINNERS);
    assert!(world.sum() > WHOLE / 100 * 97, "{}", world.sum());
    let largest = world.all().into_iter().max();
    assert!(largest <= Some(2 * even(1000)), "{largest:?}");
}

/// The ledger's parts of both replicas stay, whichever reported a scope last.
#[test]
fn idle_scopes_cost_little_and_are_never_forgotten() {
    let (mut ledger, start) = (Ledger::default(), clock::now());
    let mut leases = [Leases::new(INTERVAL, 2), Leases::new(INTERVAL, 2)];
    let key = |family| ScopeKey { owner: 1, family };
    let (mut most, mut reported) = (0, 0);
    for step in 0..400_u64 {
        let now = start + Duration::from_millis(step * 500);
        let (id, own) = (step % 2, &mut leases[usize::from(step % 2 == 1)]);
        let need = |part| Need { part, weight: 1, ..Need::default() };
        let busy = if step > 300 { WHOLE } else { 0 };
        let needs: Vec<_> =
            (0..1000).map(|of| (key(of), need(if of == 7 && id == 0 { busy } else { 20 }))).collect();
        own.needs(&needs);
        let call = own.outgoing(&format!("{id:016x}"), Vec::new(), now);
        if step >= 40 {
            most = most.max(call.lines.len());
            reported += call.lines.len();
        }
        let answer = ledger.execute(&call, step * 500);
        own.exchanged(&call, &answer, now);
    }
    assert!(most <= 80 && reported <= 360 * 80, "{most} {reported}");
    let parts = leases.each_mut().map(Leases::applied);
    assert_eq!(parts[0][&key(7)].part, WHOLE / 100 * 99);
    for of in (0..1000).filter(|of| *of != 7) {
        let sum = parts[0][&key(of)].part + parts[1][&key(of)].part;
        assert!((WHOLE / 100 * 95..=WHOLE).contains(&sum), "{of}: {sum}");
    }
}
