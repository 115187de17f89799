//! `limits.share`: several instances with one key, each with a fraction of every limit.

use weir::internals::simulate::limiter::{Dimension, Joint, Shape};

use crate::matrix::SHAPES;
use crate::world::{Scenario, Source, Tokens, run};

const LIMIT: u64 = 1200;
/// The duration of a run, and the start of the measurement, in seconds.
const SECONDS: (f64, f64) = (480.0, 180.0);

/// The used fraction of the limit by two instances with these shares, each busy or idle; and the
/// 429s after the first minutes.
fn used(shape: Shape, shares: [f64; 2], busy: [bool; 2]) -> ([f64; 2], u64) {
    let mut scenario = Scenario::new(Joint::new().with(Dimension::RequestsPerMinute, LIMIT, shape));
    (scenario.seconds, scenario.measured_from) = SECONDS;
    (scenario.before, scenario.after) = (0.01, 0.6);
    (scenario.numbers, scenario.hint) = (false, false);
    scenario.shares = shares.to_vec();
    scenario.settings.queue.max_waiting_per_caller = 20_000;
    for weir in (0..2).filter(|weir| busy[*weir]) {
        let mut source = Source::new(weir as u16).tokens(Tokens::Fixed(1));
        (source.weir, source.backlog, source.patience) = (weir, 10_000, 1e6);
        scenario.sources.push(source);
    }
    let report = run(scenario);
    let measured = LIMIT as f64 * (SECONDS.0 - SECONDS.1) / 60.0;
    let part = |caller: u16| report.served.get(&caller).copied().unwrap_or(0) as f64 / measured;
    ([part(0), part(1)], report.refused_from(3))
}

/// The other instance's use of its share does not reduce ours: both run at half of the limit.
#[test]
fn two_halves_make_a_whole() {
    for (name, shape) in SHAPES {
        let (parts, refused) = used(shape, [0.5, 0.5], [true, true]);
        println!("two halves, {name}: {parts:.3?}, {refused} 429s");
        assert!(parts.iter().all(|part| (0.46..=0.51).contains(part)), "{name}: {parts:?}");
        assert!(refused <= 5, "{name}: {refused}");
    }
}

/// No instance exceeds its share, and a small share is not reduced by a large one.
#[test]
fn unequal_shares_are_kept() {
    for (name, shape) in SHAPES {
        let (parts, refused) = used(shape, [0.8, 0.2], [true, true]);
        let (alone, _) = used(shape, [0.3, 0.7], [true, false]);
        println!("0.8 and 0.2, {name}: {parts:.3?}, {refused} 429s; 0.3 alone: {:.3}", alone[0]);
        assert!((0.74..=0.82).contains(&parts[0]) && (0.18..=0.21).contains(&parts[1]), "{name}: {parts:?}");
        assert!(refused <= 5, "{name}: {refused}");
        assert!((0.28..=0.31).contains(&alone[0]), "{name}: {alone:?}");
    }
}
