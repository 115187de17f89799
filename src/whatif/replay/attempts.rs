//! The attempts of a replay: their results upstream, and the reactions to them.

use crate::admission::LimitReports;
use crate::admission::machine::{Attempt, HeadReport, Outcome, Turn};
use crate::classify::ErrorClass;
use crate::retry::{Decision, Safety, Situation, decide};
use crate::simulate::limiter::Price;

use super::super::recording::{self, End};
use super::{Answer, Duration, Event, Moment, World, seconds};

impl World<'_> {
    pub(super) fn send(&mut self, index: u32, mut attempt: Attempt) {
        let recorded = &self.recording.requests[index as usize];
        let tokens = f64::from(recorded.tokens) * self.plan.charge_ratio;
        let price = Price { requests: 1, tokens: recording::nanos(tokens.ceil() * 1e-6) };
        let at = self.begin.saturating_add(self.now.as_nanos());
        let outage = self.outages.iter().find(|outage| (outage.from..outage.until).contains(&at));
        let fault = self.calls[index as usize]
            .as_deref()
            .and_then(|call| self.recording.failures_of(recorded).get(call.faults).copied());
        let (answer, head) = if let Some(outage) = outage {
            (Answer::Fault(outage.class), outage.head)
        } else {
            let typical = recorded.head.unwrap_or(self.typical_head);
            match (self.take(price), fault) {
                (Err(refusal), _) => (Answer::Limited(refusal), typical),
                (Ok(_), Some(fault)) => (Answer::Fault(fault.class), fault.head),
                (Ok(reports), None) => (Answer::Good(reports), typical),
            }
        };
        let Some(call) = &mut self.calls[index as usize] else { return };
        self.machines[usize::from(call.machine)].sent(&mut attempt, self.now);
        call.faults += usize::from(outage.is_none() && fault.is_some() && matches!(answer, Answer::Fault(_)));
        call.course.waited += seconds(self.now.since(call.asked));
        call.course.sent = Some(seconds(self.now.since(Moment::from_nanos(recorded.arrived - self.begin))));
        call.attempts += 1;
        (call.answer, call.attempt, call.key, call.sent) = (answer, Some(attempt), None, self.now);
        self.at(self.now.plus_seconds(f64::from(head)), Event::Head(index));
    }

    pub(super) fn head(&mut self, index: u32) {
        let recorded = self.recording.requests[index as usize];
        let Some(call) = self.calls[index as usize].as_deref_mut() else { return };
        let Some(mut attempt) = call.attempt.take() else { return };
        let (machine, answer) = (call.machine, call.answer.clone());
        let limits =
            if let Answer::Good(limits) = &answer { limits.clone() } else { LimitReports::default() };
        let report = HeadReport { limits, processing: Some(self.now.since(call.sent)) };
        let of = &mut self.machines[usize::from(machine)];
        of.head(&mut attempt, &report, self.now);
        if let Some(payment) = call.paid.take() {
            of.retry_ended(payment);
        }
        match answer {
            Answer::Good(_) => {
                of.accepted(&mut attempt, self.now);
                if recorded.input > 0 {
                    attempt.used(u64::from(recorded.input));
                }
                call.attempt = Some(attempt);
                self.at(self.now.plus_seconds(f64::from(recorded.body)), Event::Ended(index));
            }
            Answer::Limited(refusal) if refusal.refusal.too_large => {
                of.settle(attempt, Outcome::Failed(ErrorClass::RequestExceedsLimit), self.now);
                self.finish(index, End::TooLarge);
            }
            Answer::Limited(refusal) => self.limited(index, attempt, &refusal),
            Answer::Fault(class) => self.failed(index, attempt, class),
        }
        self.machines[usize::from(machine)].pump(self.now, &mut self.wake);
        self.follow_up(machine);
    }

    fn failed(&mut self, index: u32, attempt: Attempt, class: ErrorClass) {
        let decision = self.decide(index, class, None);
        let Some(call) = self.calls[index as usize].as_deref_mut() else { return };
        let of = &mut self.machines[usize::from(call.machine)];
        of.settle(attempt, Outcome::Failed(class), self.now);
        if let Decision::After { delay, cost } = decision
            && let Ok(payment) = of.withdraw(cost, self.now)
        {
            call.paid = Some(payment);
            self.at(self.now.plus(delay), Event::Retry(index));
        } else {
            self.finish(index, End::Failed);
        }
    }

    pub(super) fn decide(&mut self, index: u32, class: ErrorClass, hint: Option<Duration>) -> Decision {
        let request = self.request(index, Turn::Retry);
        let Some(call) = self.calls[index as usize].as_deref() else {
            return Decision::Stop(crate::retry::StopReason::Final);
        };
        let situation = Situation {
            attempts: call.attempts.saturating_sub(call.refusals).max(1),
            requeues: call.refusals,
            hint,
            left: request.deadline.since(self.now),
            queue: self.machines[usize::from(call.machine)].predict(&request, self.now),
            ..Situation::new(class, Safety::Repeatable)
        };
        decide(&situation, &self.policy, &mut self.rng)
    }
}
