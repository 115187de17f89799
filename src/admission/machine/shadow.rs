//! What enforcing would have done with the requests of the observe mode: the same queue and limits,
//! on virtual requests that are answered as soon as they go.
//!
//! The real requests are sent at once, whatever the limits allow, so the real levels say nothing of
//! a world in which they had waited. The shadow has levels of its own; of the real limits it knows
//! their sizes.

use std::time::Duration;

use crate::admission::limits::{Cost, LimitReports, Limits, Slot, Times};
use crate::admission::moment::{Moment, duration};
use crate::admission::queue::{Queue, Waiter};
use crate::admission::refusal::Refused;
use crate::admission::settings::{LimitSettings, Settings};

use super::attempt::Would;
use super::request::Request;

/// The sizes of the limits are looked at once in this time.
const LOOK: Duration = Duration::from_secs(1);

/// A virtual queue before virtual limits.
#[derive(Debug)]
pub(super) struct Shadow {
    limits: Limits,
    queue: Queue<()>,
    /// How far its time has come.
    now: Moment,
    looked: Option<Moment>,
}

impl Shadow {
    pub(super) fn new(limits: &LimitSettings, now: Moment) -> Self {
        Self { limits: Limits::new(limits, now), queue: Queue::new(), now, looked: None }
    }

    /// Takes over the sizes of the real limits, now and then.
    pub(super) fn learn(&mut self, real: &Limits, now: Moment) {
        if self.looked.is_some_and(|looked| !now.is_after(looked, LOOK)) {
            return;
        }
        self.looked = Some(now);
        let mut limits = LimitSettings { share: real.share(), ..LimitSettings::default() };
        for limit in real.status(now) {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a float's cast saturates"
            )]
            let size = Some((limit.limit.round() as u64).max(1));
            match limit.slot {
                Slot::RequestsPerMinute => limits.requests_per_minute = size,
                Slot::TokensPerMinute => limits.tokens_per_minute = size,
                Slot::RequestsPerDay => limits.requests_per_day = size,
                Slot::TokensPerDay => limits.tokens_per_day = size,
            }
        }
        self.limits.configure(&limits, now);
    }

    /// A request comes: what enforcing would do with it. `share` says what a cost takes of the real
    /// limits.
    pub(super) fn arrive(
        &mut self,
        request: &Request,
        settings: &Settings,
        share: impl Fn(Cost) -> f64,
        now: Moment,
    ) -> Would {
        self.advance(settings, &share, now);
        let background = settings.queue.background_share;
        let (caller, lane) = (request.caller, request.lane);
        let ahead = self.queue.ahead(caller, lane, request.deadline, background);
        let ahead = self.limits.charge_of(ahead.requests, ahead.tokens);
        let wait = duration(self.limits.predict(ahead, self.limits.charge(request.cost), now));
        if now.plus(wait) > request.deadline {
            return Would::Refuse(Refused::Deadline { predicted: wait, retry_after: wait });
        }
        if self.queue.room(caller, lane, request.bytes, &settings.queue_of(caller)).is_err() {
            return Would::Refuse(Refused::QueueFull { retry_after: wait });
        }
        let waiter = Waiter::new(request.cost, request.bytes, now, request.deadline, 0.0);
        let owner = (caller, lane, request.weight);
        let key = self.queue.push(waiter, owner, share(request.cost), now, now);
        self.advance(settings, &share, now);
        if self.queue.find(key).is_none() { Would::Pass } else { Would::Delay(wait) }
    }

    /// Lets time pass: each virtual request goes at its moment.
    fn advance(&mut self, settings: &Settings, share: &impl Fn(Cost) -> f64, now: Moment) {
        let background = settings.queue.background_share;
        while let Some(next) = self.queue.next(background, share) {
            let waiter = self.queue.waiter(next.key);
            let (cost, since) = (waiter.cost, waiter.since);
            let charge = self.limits.charge(cost);
            self.now = self.now.max(since);
            let at = self.now.plus(self.limits.wait(charge, true, 0, self.now));
            if let Some(late) = self.queue.expired(at.min(now)) {
                self.queue.withdraw(late);
                self.queue.remove(late);
                continue;
            }
            if at > now {
                break;
            }
            self.now = at;
            self.queue.serve(next.key, share(cost), background, at);
            self.queue.remove(next.key);
            self.limits.take(cost, charge, at.since(since), 0, at);
            let marks = self.limits.sent(cost, at);
            let times = Times { sent: at, head: at, processing: None };
            self.limits.told(&LimitReports::default(), cost, charge, marks, &times, at);
            self.limits.accepted(charge, marks, true, at, at);
        }
        self.now = self.now.max(now);
    }
}
