//! Several members behind one queue: whatever happens, none gets a request that it must not get,
//! and no request is lost.

mod schedule;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::admission::refusal::UpstreamWords;
use crate::admission::settings::{LimitSettings, MemberSettings};
use crate::caller::CallerId;
use crate::pool::UpstreamId;
use crate::retry;

const A: UpstreamId = UpstreamId(0);
const B: UpstreamId = UpstreamId(1);

fn member(id: UpstreamId, priority: u32, limits: LimitSettings) -> MemberSettings {
    MemberSettings {
        id,
        name: format!("u{}", id.0).into(),
        priority,
        limits: Some(limits),
        models: Vec::new(),
    }
}

fn per_minute(requests: u64) -> LimitSettings {
    LimitSettings { requests_per_minute: Some(requests), ..LimitSettings::default() }
}

fn machine(members: Vec<MemberSettings>, spill_after: Option<Duration>) -> Machine<u64> {
    let settings = Settings { members, spill_after, ..Settings::default() };
    Machine::new(Arc::new(settings), "f", 3, Moment::START)
}

fn request(deadline: Moment) -> Request {
    Request {
        caller: CallerId(0),
        weight: 1,
        lane: Lane::Interactive,
        cost: Cost { requests: 1, tokens: 10, ..Cost::default() },
        bytes: 10,
        deadline,
        head_due: false,
        turn: Turn::First,
        mode: Mode::Enforce,
        route: Route::default(),
    }
}

fn at(seconds: f64) -> Moment {
    Moment::START.plus_seconds(seconds)
}

/// Lets every waiting request go on, from `from` to `to` seconds.
fn serve(machine: &mut Machine<u64>, keys: &mut Vec<Key>, from: f64, to: f64) -> BTreeMap<u16, u32> {
    let mut served = BTreeMap::new();
    for now in (0..).map(|step| from + f64::from(step) * 0.01).take_while(|now| *now < to + 0.005).map(at) {
        machine.pump(now, &mut Vec::new());
        keys.retain(|key| match machine.claim(*key, |_| {}) {
            Claim::Granted(attempt) => {
                *served.entry(attempt.upstream().0).or_default() += 1;
                succeed(machine, attempt, now);
                false
            }
            Claim::Pending => true,
            Claim::Refused(refused) => panic!("{refused:?} at {now:?}"),
            Claim::Moved(_) => panic!("there is nowhere else"),
        });
    }
    served
}

/// The whole course of an attempt that is answered well.
fn succeed(machine: &mut Machine<u64>, mut attempt: Attempt, now: Moment) {
    machine.sent(&mut attempt, now);
    machine.head(&mut attempt, &HeadReport::default(), now);
    machine.settle(attempt, Outcome::Done, now);
}

fn go(machine: &mut Machine<u64>, request: &Request, now: Moment) -> Option<Attempt> {
    match machine.arrive(request, now, &mut Vec::new()) {
        Arrival::Granted(mut attempt) => {
            machine.sent(&mut attempt, now);
            Some(attempt)
        }
        Arrival::Waiting(_) | Arrival::Refused(_) => None,
    }
}

#[test]
fn a_lower_priority_takes_what_the_better_one_cannot_serve_in_time() {
    for (spill_after, deadline, expected) in [(None, 60.0, false), (None, 3.0, true), (Some(1), 60.0, true)] {
        let spill_after = spill_after.map(Duration::from_secs);
        let mut machine =
            machine(vec![member(A, 0, per_minute(60)), member(B, 1, per_minute(6000))], spill_after);
        let mut keys = Vec::new();
        let mut spilled = 0;
        for number in 0..50 {
            let now = at(f64::from(number) * 0.001);
            match machine.arrive(&request(at(deadline)), now, &mut Vec::new()) {
                Arrival::Granted(attempt) => {
                    spilled += u32::from(attempt.upstream() == B);
                    succeed(&mut machine, attempt, now);
                }
                Arrival::Waiting(key) => keys.push(key),
                Arrival::Refused(refused) => panic!("{refused:?}"),
            }
        }
        let served = serve(&mut machine, &mut keys, 0.1, deadline - 0.1);
        spilled += served.get(&B.0).copied().unwrap_or(0);
        assert!(keys.is_empty(), "{} wait in vain", keys.len());
        assert_eq!(spilled > 0, expected, "{spill_after:?} {deadline}: {spilled}");
        assert!(spilled < 50, "the better one is used too");
    }
}

#[test]
fn a_refused_request_goes_to_another_member_at_once_and_not_back_before_its_time() {
    let mut machine = machine(vec![member(A, 0, per_minute(600)), member(B, 0, per_minute(600))], None);
    let now = at(1.0);
    let attempt = go(&mut machine, &request(at(60.0)), now).expect("it is free");
    let (refused_by, other) = if attempt.upstream() == A { (A, B) } else { (B, A) };
    let outcome = Outcome::RateLimited {
        class: ErrorClass::RateLimitRequests,
        numbers: None,
        words: None,
        hint: Some(Duration::from_secs(20)),
        earlier: 0,
    };
    let ticket = machine.settle(attempt, outcome, now).expect("a rate limit gives one");
    let route = Route { after: Some(refused_by), ..Route::default() };
    let again = Request { turn: Turn::Requeued(ticket), route, ..request(at(60.0)) };
    let attempt = go(&mut machine, &again, now).expect("another one is free");
    assert_eq!(attempt.upstream(), other);
    machine.settle(attempt, Outcome::Done, now);
    // Only the one that refused is left: the time that it named holds.
    let pinned = Request { route: Route { pin: Some(refused_by), ..route }, ..again };
    assert!(go(&mut machine, &pinned, at(2.0)).is_none());
}

#[test]
fn who_is_out_gets_probes_alone_and_what_waits_goes_to_others() {
    let mut machine = machine(vec![member(A, 0, per_minute(6000)), member(B, 1, per_minute(6000))], None);
    let spent = UpstreamWords { code: Some("insufficient_quota".into()), ..UpstreamWords::of_status(429) };
    let attempt = go(&mut machine, &request(at(60.0)), at(0.1)).expect("it is free");
    assert_eq!(attempt.upstream(), A);
    machine.settle(attempt, Outcome::QuotaExhausted(Some(spent)), at(0.2));
    let mut probes = 0;
    for second in 1..200 {
        let now = at(f64::from(second));
        let attempt = go(&mut machine, &request(now.plus(Duration::from_mins(1))), now).expect("B serves");
        if attempt.upstream() == A {
            probes += 1;
            let spent = UpstreamWords { code: None, ..UpstreamWords::of_status(401) };
            machine.settle(attempt, Outcome::QuotaExhausted(Some(spent)), now);
        } else {
            machine.settle(attempt, Outcome::Done, now);
        }
    }
    // After 2, 4, 8, 16, 32 and 60 s, and once a minute from then on.
    assert!((6..=7).contains(&probes), "{probes} probes in 200 s");
    // A good answer to a probe brings it back.
    let mut back = 0;
    for second in 200..400 {
        let now = at(f64::from(second));
        let attempt = go(&mut machine, &request(now.plus(Duration::from_mins(1))), now).expect("one serves");
        back += u32::from(attempt.upstream() == A);
        machine.settle(attempt, Outcome::Done, now);
    }
    assert!(back > 130, "{back} of 200");
}

#[test]
fn what_only_one_can_serve_waits_for_it_and_holds_up_nobody() {
    let mut machine = machine(vec![member(A, 0, per_minute(60)), member(B, 0, per_minute(6000))], None);
    let pinned = Request { route: Route { pin: Some(A), ..Route::default() }, ..request(at(50.0)) };
    let mut keys = Vec::new();
    for _ in 0..40 {
        match machine.arrive(&pinned, at(0.0), &mut Vec::new()) {
            Arrival::Granted(attempt) => {
                assert_eq!(attempt.upstream(), A);
                succeed(&mut machine, attempt, at(0.0));
            }
            Arrival::Waiting(key) => keys.push(key),
            Arrival::Refused(refused) => panic!("{refused:?}"),
        }
    }
    assert!(keys.len() > 10, "{} wait", keys.len());
    let mut free = Vec::new();
    for _ in 0..50 {
        match machine.arrive(&request(at(50.0)), at(0.1), &mut Vec::new()) {
            Arrival::Granted(attempt) => {
                assert_eq!(attempt.upstream(), B, "A is waited for");
                succeed(&mut machine, attempt, at(0.1));
            }
            Arrival::Waiting(key) => free.push(key),
            Arrival::Refused(refused) => panic!("{refused:?}"),
        }
    }
    let mut others = free.clone();
    let served = serve(&mut machine, &mut others, 0.1, 1.0);
    assert!(others.is_empty() && served.get(&A.0).is_none_or(|count| *count < 5), "{served:?}");
    let served = serve(&mut machine, &mut keys, 1.0, 45.0);
    assert!(keys.is_empty(), "{served:?}: {} still wait", keys.len());
}

#[test]
fn a_reload_keeps_what_is_known_of_a_member_by_its_name() {
    let settings = |members| Arc::new(Settings { members, ..Settings::default() });
    let (a, b) = (member(A, 0, LimitSettings::default()), member(B, 1, LimitSettings::default()));
    let mut machine: Machine<u64> = Machine::new(settings(vec![a.clone()]), "f", 3, Moment::START);
    let kept =
        |machine: &Machine<u64>| machine.members.all().map(|one| (one.id, one.granted)).collect::<Vec<_>>();
    for second in 0..5 {
        let attempt = go(&mut machine, &request(at(60.0)), at(f64::from(second))).expect("it is free");
        machine.settle(attempt, Outcome::Done, at(f64::from(second)));
    }
    let running = go(&mut machine, &request(at(60.0)), at(5.0)).expect("it is free");
    let of = |ids: &[UpstreamId]| ids.iter().map(|id| (*id, Arc::default())).collect::<Vec<_>>();
    machine.configure(settings(vec![b.clone(), a]), "f", of(&[B, A]), at(6.0));
    assert_eq!(kept(&machine), [(A, 6), (B, 0)]);
    machine.configure(settings(vec![b]), "f", of(&[B]), at(7.0));
    machine.settle(running, Outcome::Done, at(7.5));
    let attempt = go(&mut machine, &request(at(60.0)), at(8.0)).expect("the other serves");
    assert_eq!(attempt.upstream(), B, "the one that is gone gets nothing");
}
