use std::time::Duration;

use proptest::prelude::*;

use super::*;

const MINUTE: Duration = Duration::from_mins(1);
const DAY: Duration = Duration::from_hours(24);
const SECOND: Depth = Depth::Of(Duration::from_secs(1));

const SHAPES: [Shape; 5] = [
    Shape::Bucket(Depth::Window),
    Shape::Bucket(SECOND),
    Shape::LyingBucket(SECOND),
    Shape::FixedWindow,
    Shape::SlidingLog,
];

fn deep(limit: u64, window: Duration) -> Limiter {
    Limiter::new(limit, window, Shape::Bucket(Depth::Window))
}

fn truncated(duration: Duration) -> u128 {
    duration.as_millis()
}

#[test]
fn the_waits_of_real_refusals_come_out_to_the_millisecond() {
    let month = Duration::from_hours(24 * 30);
    for (limit, used, requested, window, milliseconds) in [
        (10_000, 8_554, 3_082, MINUTE, 9_816),
        (30_000, 29_937, 385, MINUTE, 644),
        (30_000, 14_567, 24_754, MINUTE, 18_642),
        (200_000, 162_960, 42_288, MINUTE, 1_574),
        (30_000, 18_928, 11_159, MINUTE, 174),
        (30_000, 28_039, 3_906, MINUTE, 3_890),
        (400_000, 248_785, 312_683, MINUTE, 24_220),
        (3, 3, 1, MINUTE, 20_000),
        (1_000, 1_000, 1, DAY, 86_400),
        (200, 200, 1, DAY, 432_000),
        (50, 50, 1, DAY, 1_728_000),
        (2_000, 2_000, 1, DAY, 43_200),
        (100_000, 99_918, 2_094, month, 52_151_040),
    ] {
        let now = Instant::now();
        let mut limiter = deep(limit, window);
        limiter.force(used, now);
        let refusal = limiter.try_take(requested, now).unwrap_err();
        assert_eq!((refusal.limit, refusal.used, refusal.requested), (limit, used, requested));
        assert!(!refusal.too_large);
        assert_eq!(truncated(refusal.wait), milliseconds, "{limit} {used} {requested}");
        let early = refusal.wait.saturating_sub(Duration::from_nanos(1));
        assert!(limiter.check(requested, now + early).is_err(), "not a nanosecond too long");
        assert!(limiter.check(requested, now + refusal.wait).is_ok(), "and long enough");
    }
}

#[test]
fn a_refusal_shows_a_whole_number_and_waits_for_that() {
    // In all five recorded refusals by a limit of requests, `Used` is `Limit` and the wait is the
    // time of one whole request.
    let start = Instant::now();
    let mut limiter = deep(3, MINUTE);
    limiter.force(3, start);
    let later = start + Duration::from_secs(10);
    let refusal = limiter.try_take(1, later).unwrap_err();
    assert_eq!((refusal.used, refusal.wait), (3, Duration::from_secs(20)));
    assert!(limiter.check(1, start + Duration::from_secs(20)).is_ok(), "the true level is what decides");
}

#[test]
fn the_headers_of_real_answers_come_out_to_the_millisecond() {
    for (limit, cost, window, remaining, milliseconds) in [
        (10_000, 1, MINUTE, 9_999, 6),
        (30_000, 1, MINUTE, 29_999, 2),
        (5_000, 1, MINUTE, 4_999, 12),
        (500, 1, MINUTE, 499, 120),
        (3_000, 1, MINUTE, 2_999, 20),
        (250_000, 493, MINUTE, 249_507, 118),
        (10_000_000, 23_748, MINUTE, 9_976_252, 142),
        (150_000_000, 33, MINUTE, 149_999_967, 0),
        (40_000, 26, MINUTE, 39_974, 39),
        (10_000, 1, DAY, 9_999, 8_640),
        (200, 1, DAY, 199, 432_000),
        (60, 1, MINUTE, 59, 1_000),
        (60_000, 3_000, MINUTE, 57_000, 3_000),
    ] {
        let level = deep(limit, window).try_take(cost, Instant::now()).unwrap();
        assert_eq!((level.limit, level.remaining, level.used), (limit, remaining, cost));
        assert_eq!(truncated(level.reset), milliseconds, "{limit} {cost}");
    }
}

#[test]
fn a_reset_counts_fractions_while_remaining_rounds_down() {
    // Recorded: limit 200 a day, remaining 197, reset 20m52.666s: 2.8997 used.
    let start = Instant::now();
    let mut limiter = deep(200, DAY);
    limiter.force(2, start);
    let level = limiter.try_take(1, start + Duration::from_millis(43_334)).unwrap();
    assert_eq!((level.remaining, truncated(level.reset)), (197, 1_252_666));
    // Recorded: limit 100 a day, remaining 98, reset 14m24s: a rest of an earlier request.
    let mut limiter = deep(100, DAY);
    limiter.force(1, start);
    let level = limiter.try_take(1, start + Duration::from_micros(863_999_500)).unwrap();
    assert_eq!((level.remaining, truncated(level.reset)), (98, 864_000));
}

#[test]
fn larger_than_the_limit_never_passes() {
    for shape in SHAPES {
        let mut limiter = Limiter::new(30_000, MINUTE, shape);
        let refusal = limiter.try_take(31_538, Instant::now()).unwrap_err();
        assert!(refusal.too_large, "{shape:?}");
        assert_eq!((refusal.limit, refusal.requested), (30_000, 31_538));
        assert!(limiter.try_take(30_000, Instant::now()).is_ok(), "{shape:?}: a whole window's worth does");
    }
}

#[test]
fn a_limit_of_nothing_divides_by_nothing() {
    for shape in SHAPES {
        for window in [Duration::ZERO, MINUTE, Duration::MAX] {
            let now = Instant::now();
            let mut limiter = Limiter::new(0, window, shape);
            assert!(limiter.try_take(1, now).unwrap_err().too_large);
            assert!(limiter.try_take(0, now).is_ok());
            limiter.force(u64::MAX, now);
            assert_eq!(limiter.level(now).remaining, 0);
        }
        let mut huge = Limiter::new(u64::MAX, DAY, shape);
        let now = Instant::now();
        let expected = u64::from(shape != Shape::Bucket(SECOND));
        assert_eq!(huge.try_take(u64::MAX - 1, now).unwrap().remaining, expected, "{shape:?}");
    }
}

#[test]
fn a_bucket_a_second_deep_admits_a_second_at_once_and_tells_so() {
    let start = Instant::now();
    let mut limiter = Limiter::new(600, MINUTE, Shape::Bucket(SECOND));
    assert_eq!(limiter.level(start).remaining, 10);
    for _ in 0..10 {
        assert!(limiter.try_take(1, start).is_ok());
    }
    let refusal = limiter.try_take(1, start).unwrap_err();
    assert_eq!((refusal.used, refusal.wait), (600, Duration::from_millis(100)));
    let level = limiter.level(start);
    assert_eq!((level.limit, level.remaining, level.reset), (600, 0, Duration::from_secs(1)));
    assert!(limiter.try_take(1, start + refusal.wait).is_ok());
}

#[test]
fn a_cost_above_the_depth_waits_for_a_full_bucket_and_leaves_a_debt() {
    let start = Instant::now();
    let mut limiter = Limiter::new(600, MINUTE, Shape::Bucket(SECOND));
    limiter.try_take(1, start).unwrap();
    let refusal = limiter.try_take(300, start).unwrap_err();
    assert_eq!(refusal.wait, Duration::from_millis(100));
    let now = start + refusal.wait;
    limiter.try_take(300, now).unwrap();
    assert_eq!(limiter.try_take(1, now).unwrap_err().wait, Duration::from_millis(29_100));
}

#[test]
fn a_lying_bucket_tells_of_a_minute_and_enforces_a_second() {
    let start = Instant::now();
    let mut limiter = Limiter::new(600, MINUTE, Shape::LyingBucket(SECOND));
    for taken in 1..=10 {
        assert_eq!(limiter.try_take(1, start).unwrap().remaining, 600 - taken);
    }
    assert_eq!(limiter.try_take(1, start).unwrap_err().wait, Duration::from_millis(100));
    assert_eq!(limiter.level(start).remaining, 590);
}

#[test]
fn a_fixed_window_starts_again_on_its_beat() {
    let start = Instant::now();
    let at = |seconds: u64| start + Duration::from_secs(seconds);
    let mut limiter = Limiter::new(3, MINUTE, Shape::FixedWindow);
    limiter.try_take(1, at(0)).unwrap();
    let level = limiter.try_take(2, at(50)).unwrap();
    assert_eq!((level.remaining, level.reset), (0, Duration::from_secs(10)));
    assert_eq!(limiter.try_take(1, at(59)).unwrap_err().wait, Duration::from_secs(1));
    assert!(limiter.try_take(3, at(60)).is_ok(), "twice the limit within 10 s, as fixed windows allow");
    assert_eq!(limiter.try_take(1, at(60 * 7 - 5)).unwrap().reset, Duration::from_secs(5));
}

#[test]
fn a_sliding_log_frees_each_cost_after_its_own_window() {
    let start = Instant::now();
    let at = |seconds: u64| start + Duration::from_secs(seconds);
    let mut limiter = Limiter::new(10, MINUTE, Shape::SlidingLog);
    limiter.try_take(4, at(0)).unwrap();
    limiter.try_take(6, at(20)).unwrap();
    assert_eq!(limiter.try_take(3, at(30)).unwrap_err().wait, Duration::from_secs(30));
    assert_eq!(limiter.try_take(5, at(30)).unwrap_err().wait, Duration::from_secs(50));
    let level = limiter.try_take(4, at(60)).unwrap();
    assert_eq!((level.remaining, level.reset), (0, MINUTE));
}

#[test]
fn a_changed_limit_keeps_what_is_used() {
    for shape in [Shape::Bucket(Depth::Window), Shape::FixedWindow, Shape::SlidingLog] {
        let now = Instant::now();
        let mut limiter = Limiter::new(600, MINUTE, shape);
        limiter.try_take(100, now).unwrap();
        limiter.set_limit(60, now);
        assert_eq!(limiter.level(now).remaining, 0, "{shape:?}");
        assert!(limiter.try_take(1, now).is_err());
        limiter.set_limit(6_000, now);
        assert_eq!(limiter.level(now).remaining, 5_900);
    }
}

#[test]
fn joint_limits_take_all_or_nothing() {
    let now = Instant::now();
    let shape = Shape::Bucket(Depth::Window);
    let mut joint = Joint::new()
        .with(Dimension::RequestsPerMinute, 10, shape)
        .with(Dimension::TokensPerMinute, 1_000, shape)
        .with(Dimension::RequestsPerDay, 4, shape);
    let price = |tokens| Price { requests: 1, tokens };
    joint.try_take(price(600), now).unwrap();
    let refused = joint.try_take(price(600), now).unwrap_err();
    assert_eq!(
        (refused.dimension, refused.refusal.wait),
        (Dimension::TokensPerMinute, Duration::from_secs(12))
    );
    assert_eq!(joint.level(Dimension::RequestsPerMinute, now).unwrap().remaining, 9, "nothing was taken");
    assert!(joint.level(Dimension::TokensPerDay, now).is_none());
    for _ in 0..3 {
        joint.try_take(price(1), now).unwrap();
    }
    assert_eq!(joint.try_take(price(1), now).unwrap_err().dimension, Dimension::RequestsPerDay);
    let refused = joint.try_take(price(1_001), now).unwrap_err();
    assert!(refused.refusal.too_large, "never is said before not now");
    assert_eq!(refused.dimension, Dimension::TokensPerMinute);
}

#[test]
fn refused_requests_count_where_asked_for() {
    let now = Instant::now();
    let shape = Shape::Bucket(Depth::Window);
    for (count, remaining) in [(false, 9), (true, 8)] {
        let mut joint = Joint::new()
            .with(Dimension::RequestsPerMinute, 10, shape)
            .with(Dimension::TokensPerMinute, 100, shape)
            .counting_refused(count);
        joint.try_take(Price { requests: 1, tokens: 100 }, now).unwrap();
        joint.try_take(Price { requests: 1, tokens: 1 }, now).unwrap_err();
        assert_eq!(joint.level(Dimension::RequestsPerMinute, now).unwrap().remaining, remaining);
        assert_eq!(joint.level(Dimension::TokensPerMinute, now).unwrap().remaining, 0);
    }
}

/// Sequences of (milliseconds since the previous request, cost).
fn schedules() -> impl Strategy<Value = Vec<(u64, u64)>> {
    prop::collection::vec((0_u64..5_000, 1_u64..40), 1..200)
}

proptest! {
    #[test]
    fn no_shape_admits_more_than_it_may(schedule in schedules(), limit in 40_u64..200, pick in 0_usize..5) {
        let shape = SHAPES[pick];
        let start = Instant::now();
        let mut limiter = Limiter::new(limit, MINUTE, shape);
        let mut now = start;
        let mut admitted: Vec<(Instant, u64)> = Vec::new();
        for (gap, cost) in schedule {
            now += Duration::from_millis(gap);
            match limiter.try_take(cost, now) {
                Ok(level) => {
                    prop_assert!(level.remaining <= limit);
                    admitted.push((now, cost));
                }
                Err(refusal) => {
                    prop_assert!(!refusal.too_large && refusal.wait > Duration::ZERO);
                    let mut patient = limiter.clone();
                    prop_assert!(patient.check(cost, now + refusal.wait).is_ok(), "its own wait is enough");
                }
            }
        }
        for (index, &(from, _)) in admitted.iter().enumerate() {
            let mut sum = 0;
            for &(at, cost) in &admitted[index..] {
                sum += cost;
                let span = at - from;
                let refilled = u64::try_from(span.as_millis()).unwrap() * limit; // × 60,000
                let within = match shape {
                    Shape::Bucket(Depth::Window) => sum * 60_000 <= limit * 60_000 + refilled,
                    // One request above the depth may pass when the bucket is full.
                    Shape::Bucket(Depth::Of(_)) | Shape::LyingBucket(_) => {
                        sum * 60_000 <= 60_000 * 40_u64.max(limit / 60 + 1) + refilled
                    }
                    Shape::FixedWindow => span >= MINUTE || sum <= 2 * limit,
                    Shape::SlidingLog => span >= MINUTE || sum <= limit,
                };
                prop_assert!(within, "{shape:?}: {sum} in {span:?}");
            }
        }
        if shape == Shape::FixedWindow {
            // The first window starts with the first request, which always fits.
            let beat = admitted[0].0;
            let mut windows = std::collections::BTreeMap::<u128, u64>::new();
            for (at, cost) in admitted {
                *windows.entry((at - beat).as_millis() / 60_000).or_default() += cost;
            }
            prop_assert!(windows.values().all(|sum| *sum <= limit));
        }
    }

    #[test]
    fn a_saturated_shape_gives_all_that_it_has(limit in 60_u64..600, cost in 1_u64..6, pick in 0_usize..5) {
        // A client that retries exactly after each refusal's wait gets the full rate.
        let shape = SHAPES[pick];
        let start = Instant::now();
        let mut limiter = Limiter::new(limit, MINUTE, shape);
        let (mut now, mut sum) = (start, 0);
        while now < start + 10 * MINUTE {
            match limiter.try_take(cost, now) {
                Ok(_) => sum += cost,
                Err(refusal) => now += refusal.wait,
            }
        }
        prop_assert!(sum + cost * 10 >= limit * 10, "{shape:?}: {sum} of {}", limit * 10);
    }

    #[test]
    fn looking_changes_nothing(schedule in schedules(), limit in 40_u64..200, pick in 0_usize..5) {
        let (mut seen, mut unseen) = (Limiter::new(limit, MINUTE, SHAPES[pick]), Limiter::new(limit, MINUTE, SHAPES[pick]));
        let mut now = Instant::now();
        let first = now;
        for (gap, cost) in schedule {
            if now > first {
                // A fixed window starts with the first call, so only look after that.
                seen.level(now + Duration::from_millis(gap / 3));
                seen.check(cost, now + Duration::from_millis(gap / 2)).ok();
            }
            now += Duration::from_millis(gap);
            prop_assert_eq!(seen.try_take(cost, now), unseen.try_take(cost, now));
        }
    }

    #[test]
    fn time_that_runs_backwards_gives_nothing_away(back in 1_u64..100_000, pick in 0_usize..5) {
        let start = Instant::now() + DAY;
        let mut limiter = Limiter::new(60, MINUTE, SHAPES[pick]);
        limiter.force(60, start);
        prop_assert!(limiter.check(1, start - Duration::from_millis(back)).is_err());
        let level = limiter.level(start);
        prop_assert!(SHAPES[pick] == Shape::LyingBucket(SECOND) || level.remaining == 0);
    }
}
