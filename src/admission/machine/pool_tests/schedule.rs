//! Random schedules of requests, failures and reloads over several members.

use super::*;

/// What a random run did.
#[derive(Default)]
struct Run {
    granted: u32,
    refused: u32,
    cancelled: u32,
}

fn limits(rng: &mut fastrand::Rng) -> LimitSettings {
    LimitSettings {
        requests_per_minute: rng.bool().then(|| rng.u64(300..6_000)),
        in_flight: (rng.u8(..) < 60).then(|| rng.u32(1..5)),
        ..LimitSettings::default()
    }
}

/// On every path (grant, requeue, retry, probe, spill; observed requests between them): no grant to
/// a member that is out, paused, full or gone, nor to another than the one that a request is bound
/// to; none after its deadline or before its time; each request ends once; what idles has no use.
#[test]
#[expect(
    clippy::too_many_lines,
    clippy::type_complexity,
    reason = "one schedule, with all that may happen in it"
)]
fn whatever_happens_no_member_gets_what_it_must_not_and_no_request_is_lost() {
    let (mut total, mut probes, mut retried) = (0, 0, 0);
    for seed in 0..300 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let count = rng.u16(1..6);
        let members: Vec<MemberSettings> =
            (0..count).map(|id| member(UpstreamId(id), rng.u32(0..3), limits(&mut rng))).collect();
        let spill_after = rng.bool().then(|| Duration::from_millis(rng.u64(0..5_000)));
        let mut machine = machine(members, spill_after);
        let (mut waiting, mut flying): (Vec<(Key, Request)>, Vec<(Attempt, Request)>) =
            (Vec::new(), Vec::new());
        let (mut run, mut offered, mut now) = (Run::default(), 0, Moment::START);
        // Seen before each step: what a grant of this step is judged by.
        for step in 0..1_200 {
            now = now.plus(Duration::from_millis(rng.u64(1..60)));
            let before: Vec<(u32, Option<u32>, Moment)> = machine
                .members
                .all()
                .map(|one| (one.in_flight, one.limits_bound(), one.limits.paused_until()))
                .collect();
            let mut begin = |attempt: Attempt,
                             request: Request,
                             machine: &mut Machine<u64>,
                             run: &mut Run,
                             flying: &mut Vec<(Attempt, Request)>| {
                let member = machine.members.of(attempt.member);
                let judged = attempt.granted == now && request.mode == Mode::Enforce;
                assert!(!member.retired, "seed {seed}: a member that is gone");
                let outage = member.breaker.outage().is_some();
                assert!(
                    !outage || attempt.probe || !judged,
                    "seed {seed}, step {step}: a failing member got a request"
                );
                assert!(
                    !member.spent.is_open() || attempt.quota_probe || !judged,
                    "seed {seed}: one without money did"
                );
                if let Some(bound) = member.limits_bound().filter(|_| judged) {
                    assert!(member.in_flight <= bound, "seed {seed}: {} of {bound}", member.in_flight);
                }
                let paused = before[usize::from(attempt.member)].2;
                assert!(
                    paused <= now || attempt.probe || !judged,
                    "seed {seed}: a paused member got a request"
                );
                assert!(request.route.pin.is_none_or(|pin| pin == member.id), "seed {seed}: another member");
                if let Turn::Requeued(ticket) = request.turn
                    && request.route.after == Some(member.id)
                {
                    assert!(ticket.not_before <= now || !judged, "seed {seed}: before its time");
                }
                let is_late = attempt.granted > request.deadline;
                assert!(!is_late || request.mode != Mode::Enforce, "seed {seed}: after its deadline");
                probes += u32::from(attempt.is_probe());
                run.granted += 1;
                let mut attempt = attempt;
                machine.sent(&mut attempt, now);
                flying.push((attempt, request));
            };
            if step < 1_000 && rng.u8(..) < 140 {
                let mut new = request(now.plus(Duration::from_millis(rng.u64(100..20_000))));
                new.caller = CallerId(rng.u16(0..4));
                new.lane = if rng.bool() { Lane::Interactive } else { Lane::Background };
                new.route.pin = (rng.u8(..) < 60).then(|| UpstreamId(rng.u16(0..count)));
                new.route.once = rng.bool();
                new.mode = if rng.u8(..) < 20 { Mode::Observe } else { Mode::Enforce };
                offered += 1;
                match machine.arrive(&new, now, &mut Vec::new()) {
                    Arrival::Granted(attempt) => begin(attempt, new, &mut machine, &mut run, &mut flying),
                    Arrival::Waiting(key) => waiting.push((key, new)),
                    Arrival::Refused(_) => run.refused += 1,
                }
            }
            machine.pump(now, &mut Vec::new());
            for (key, request) in std::mem::take(&mut waiting) {
                if rng.u8(..) < 2 {
                    machine.cancel(key, now);
                    run.cancelled += 1;
                    continue;
                }
                match machine.claim(key, |_| {}) {
                    Claim::Granted(attempt) => begin(attempt, request, &mut machine, &mut run, &mut flying),
                    Claim::Refused(_) => run.refused += 1,
                    Claim::Pending => waiting.push((key, request)),
                    Claim::Moved(_) => panic!("there is nowhere else"),
                }
            }
            // Ends after the claims: what was granted is judged by what was known then.
            for _ in 0..rng.usize(0..4) {
                if flying.is_empty() {
                    break;
                }
                let (mut attempt, mut request) = flying.swap_remove(rng.usize(..flying.len()));
                let upstream = attempt.upstream();
                // One of them fails for a third of the time.
                let ill = upstream.0 == 0 && (step / 400) % 3 == 1;
                let outcome = match rng.u8(0..200) {
                    0..10 => Outcome::Dropped,
                    10 => Outcome::QuotaExhausted(Some(UpstreamWords {
                        code: None,
                        ..UpstreamWords::of_status(401)
                    })),
                    11..30 => Outcome::RateLimited {
                        class: ErrorClass::RateLimitRequests,
                        numbers: None,
                        words: None,
                        hint: rng.bool().then(|| Duration::from_millis(rng.u64(0..4_000))),
                        earlier: rng.u32(0..3),
                    },
                    _ if ill => Outcome::Failed(ErrorClass::Overloaded),
                    _ => Outcome::Done,
                };
                machine.head(&mut attempt, &HeadReport::default(), now);
                let has_failed = matches!(outcome, Outcome::Failed(_));
                let ticket = machine.settle(attempt, outcome, now);
                let retry = || {
                    let payment = machine.withdraw(retry::cost(ErrorClass::Overloaded), now).ok()?;
                    machine.retry_ended(payment);
                    Some(Turn::Retry)
                };
                let again = ticket.map(Turn::Requeued).or_else(|| has_failed.then(retry).flatten());
                if let Some(turn) = again.filter(|_| rng.bool()) {
                    run.granted -= 1;
                    request.turn = turn;
                    request.route.after = Some(upstream);
                    let not_before = request.barred_until();
                    match machine.arrive(&request, now, &mut Vec::new()) {
                        Arrival::Granted(mut attempt) => {
                            let is_free = attempt.upstream() != upstream || request.mode != Mode::Enforce;
                            assert!(is_free || not_before <= now, "seed {seed}: before its time");
                            retried += u32::from(turn == Turn::Retry);
                            run.granted += 1;
                            machine.sent(&mut attempt, now);
                            flying.push((attempt, request));
                        }
                        Arrival::Waiting(key) => waiting.push((key, request)),
                        Arrival::Refused(_) => run.refused += 1,
                    }
                }
                machine.pump(now, &mut Vec::new());
            }
        }
        for (attempt, _) in flying {
            machine.settle(attempt, Outcome::Done, now);
        }
        now = now.plus(Duration::from_mins(2));
        machine.pump(now, &mut Vec::new());
        for (key, _) in waiting {
            match machine.claim(key, |_| {}) {
                Claim::Granted(attempt) => {
                    machine.settle(attempt, Outcome::Done, now);
                    run.granted += 1;
                }
                Claim::Refused(_) => run.refused += 1,
                Claim::Pending | Claim::Moved(_) => panic!("seed {seed}: a request is lost"),
            }
        }
        assert_eq!((machine.waiting(), machine.in_flight()), (0, 0), "seed {seed}");
        let later = now.plus(Duration::from_mins(2));
        let used: Vec<f64> =
            machine.members.all().flat_map(|one| one.limits.status(later)).map(|limit| limit.level).collect();
        assert!(used.iter().all(|level| *level <= 0.0), "seed {seed}: {used:?}");
        assert_eq!(run.granted + run.refused + run.cancelled, offered, "seed {seed}: each ends once");
        total += run.granted;
    }
    assert!(total > 30_000 && probes > 100 && retried > 100, "{total} granted, {probes}, {retried}");
}
