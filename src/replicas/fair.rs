//! How a limit is divided by need: a pure function.
//!
//! Max-min fair: who needs little gets what it needs, and what that leaves is divided evenly among those who need more. A
//! replica with a long queue takes nothing from one with a short queue beyond its even part. What nobody needs is divided
//! evenly too, so that each has room to begin.

use super::beat::{UNKNOWN, WHOLE};

/// Kept for replicas that need nothing now, all together: 2 %. With the pacer's burst, which no part diminishes, they begin at
/// once, and have their part after two exchanges.
const RESERVE: u32 = WHOLE / 50;
/// Room to grow above the present need, as a part of it: a thirtieth. It is lost to who needs more; a queue makes a need
/// grow at once.
const HEADROOM: u32 = 30;

/// The part of a replica that needs nothing, among so many.
pub(super) fn floor(replicas: usize) -> u32 {
    (RESERVE / count(replicas)).max(1)
}

/// An even part among so many.
pub(super) fn even(replicas: usize) -> u32 {
    (WHOLE / count(replicas)).max(1)
}

/// The parts for these needs, in their order, in millionths; `idle` further replicas need nothing and keep their floor.
///
/// The sum with the idle replicas' floors is at most the whole.
pub(super) fn parts(needs: &[u32], idle: usize) -> Vec<u32> {
    let replicas = needs.len() + idle;
    let floor = floor(replicas);
    let mut left = WHOLE.saturating_sub(floor.saturating_mul(count_of(idle)));
    let wanted = |need: u32| match need {
        UNKNOWN => WHOLE,
        need => need.saturating_add(need / HEADROOM).clamp(floor, WHOLE),
    };
    let mut order: Vec<usize> = (0..needs.len()).collect();
    order.sort_by_key(|&index| wanted(needs[index]));
    let mut parts = vec![0; needs.len()];
    for (done, &index) in order.iter().enumerate() {
        let level = left / count(needs.len() - done);
        let part = wanted(needs[index]).min(level);
        parts[index] = part;
        left -= part;
    }
    let spare = left / count(needs.len());
    for part in &mut parts {
        *part += spare;
    }
    parts
}

fn count_of(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// A divisor.
fn count(number: usize) -> u32 {
    count_of(number).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(parts: &[u32]) -> u64 {
        parts.iter().map(|part| u64::from(*part)).sum()
    }

    #[test]
    fn nobody_s_part_is_too_small_and_all_together_are_the_whole() {
        let mut rng = fastrand::Rng::with_seed(5);
        for _ in 0..20_000 {
            let idle = rng.usize(..20);
            let needs: Vec<u32> = (0..rng.usize(1..=50))
                .map(|_| match rng.u8(..4) {
                    0 => 0,
                    1 => rng.u32(..WHOLE / 50),
                    2 => rng.u32(..WHOLE * 100),
                    _ => UNKNOWN,
                })
                .collect();
            let parts = parts(&needs, idle);
            let floor = floor(needs.len() + idle);
            let all = sum(&parts) + u64::from(floor) * idle as u64;
            assert!(all <= u64::from(WHOLE), "{needs:?} {idle}: {all}");
            assert!(all + 100 >= u64::from(WHOLE), "{needs:?} {idle}: {all} is too little");
            for (index, part) in parts.iter().enumerate() {
                assert!(*part >= floor, "{needs:?} {idle}: {index} has {part}");
                for (other, others) in parts.iter().enumerate() {
                    assert!(
                        needs[index] < needs[other] || part + 1 >= *others,
                        "{needs:?}: who needs more has more"
                    );
                }
            }
        }
    }

    #[test]
    fn who_needs_little_has_it_whatever_the_others_need() {
        let mut rng = fastrand::Rng::with_seed(6);
        for _ in 0..5_000 {
            let replicas = rng.usize(2..=50);
            let mut needs: Vec<u32> = (0..replicas).map(|_| rng.u32(..WHOLE * 3)).collect();
            let modest = WHOLE / count(replicas) * 3 / 5;
            needs[0] = modest;
            assert!(parts(&needs, 0)[0] >= modest + modest / 40, "{needs:?}");
        }
    }

    #[test]
    fn examples() {
        // One is busy, one idles without a scope: the busy one has all but the floor.
        assert_eq!(parts(&[5 * WHOLE], 1), [990_000]);
        // Ten to one, and both need more than there is.
        assert_eq!(parts(&[10 * WHOLE, WHOLE], 0), [500_000, 500_000]);
        // One needs a tenth, the other all.
        assert_eq!(parts(&[100_000, 2 * WHOLE], 0), [103_333, 896_667]);
        // Nobody needs much.
        assert_eq!(parts(&[100_000, 0], 0), [546_666, 453_333]);
        assert_eq!(parts(&[UNKNOWN, UNKNOWN, 0], 0), [496_667, 496_667, 6_666]);
        assert!(parts(&[], 3).is_empty());
    }
}
