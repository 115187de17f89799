use super::*;

fn at(seconds: f64) -> Moment {
    Moment::START.plus_seconds(seconds)
}

#[test]
fn answers_that_are_no_streams_raise_the_bound_where_nothing_leads() {
    let mut found = Concurrency::of_first_events();
    for step in 0..6 {
        let now = at(f64::from(step));
        let flights: Vec<Flight> = (1..=found.bound()).map(|of| found.sent(100, of)).collect();
        assert!(!found.takes(found.bound()));
        for flight in flights {
            found.ended(flight, None, 1.0, now);
        }
    }
    assert!(found.bound() >= 512, "{}", found.bound());
}

#[test]
fn a_refusal_lowers_the_bound_to_what_was_taken_once() {
    let mut found = Concurrency::of_first_events();
    let flights: Vec<Flight> = (1..=16).map(|of| found.sent(100, of)).collect();
    for (flight, others) in flights[8..].iter().zip((8..16).rev()) {
        found.refused(Some(*flight), others, at(0.1));
    }
    assert_eq!(found.bound(), 8);
    // It is tried again after a while, by one more, and no earlier.
    for (seconds, bound) in [(1.0, 8), (2.0, 8), (40.0, 8), (41.0, 9)] {
        let sent: Vec<Flight> = (1..=8).map(|of| found.sent(100, of)).collect();
        found.takes(8);
        for flight in sent {
            found.began(flight, 0.1, at(seconds + 0.1));
        }
        assert_eq!(found.bound(), bound, "at {seconds} s");
    }
    let ninth = found.sent(100, 9);
    found.refused(Some(ninth), 8, at(42.1));
    assert_eq!(found.bound(), 8);
}

#[test]
fn a_burst_of_refusals_leads_to_what_was_kept_whatever_their_order() {
    // Ten were sent before anything was known, and four are kept.
    let mut found = Concurrency::of_refusals(10);
    for others in (4..10).rev() {
        found.refused(None, others, at(0.1));
    }
    assert_eq!(found.bound(), 5, "half of them at least");
    let fifth = found.sent(100, 5);
    found.refused(Some(fifth), 4, at(0.21));
    assert_eq!(found.bound(), 4);
    // What was sent before says nothing new once an answer came.
    let (first, second) = (found.sent(100, 1), found.sent(100, 2));
    found.ended(first, None, 0.1, at(0.4));
    found.refused(Some(Flight { round: 0, ..second }), 1, at(0.4));
    assert_eq!(found.bound(), 4);
}

#[test]
fn each_try_that_is_refused_doubles_the_time_to_the_next() {
    let mut found = Concurrency::of_refusals(4);
    found.refused(None, 4, at(0.0));
    let mut tries = Vec::new();
    for tick in 1..2_000 {
        let now = at(f64::from(tick) * 0.1);
        let sent: Vec<Flight> = (1..=found.bound()).map(|of| found.sent(100, of)).collect();
        found.takes(found.bound());
        if found.bound() > 4 {
            tries.push(tick / 10);
            found.refused(Some(sent[4]), 4, now);
        }
        sent.into_iter().take(4).for_each(|flight| found.ended(flight, None, 0.1, now));
    }
    assert_eq!(tries, [4, 12, 28, 60, 124]);
}

#[test]
fn sizes_have_their_classes() {
    let classes = [0, 31, 32, 47, 48, 63, 64, 96, u64::MAX >> 1].map(size);
    assert_eq!(classes, [0, 0, 0, 0, 1, 1, 2, 3, SIZES - 1]);
    assert!((0..1 << 18).map(size).all(|class| class < SIZES));
}
