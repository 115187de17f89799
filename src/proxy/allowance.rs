//! What a caller's own budget and ceiling let it send: asked before admission, which knows the
//! upstream's limits.

use std::future::Future;
use std::pin::Pin;

use super::Proxy;
use super::answer;
use super::body::Body;
use super::conversation::Conversation;
use crate::account::{ErrorDetail, Record};
use crate::admission::{CeilingRefusal, Cost, Scope};
use crate::caller::{Caller, Mode};
use crate::clock::{self, Instant};
use crate::metrics::{QueueRefusal, WouldHave};
use crate::response::{self, OwnAnswer};
use crate::spending::Spent;
use http::Response;

/// A turn under a ceiling that has yet to come.
pub(super) type Turn = Pin<Box<dyn Future<Output = Result<(), CeilingRefusal>> + Send>>;

/// What a caller's own bounds say of a request.
pub(super) enum Allowance {
    /// It may join the queue.
    Now,
    /// It may when this is ready.
    Later(Turn),
    /// It may not.
    Never(Box<OwnAnswer>),
}

impl Proxy {
    /// Reserves a request's price in its caller's budgets. Where one is spent and the mode is to
    /// enforce, it is told.
    pub(super) fn reserve(
        &self,
        caller: &Caller,
        scope: &Scope,
        tokens: u64,
        mode: Mode,
        record: &mut Record,
    ) -> Option<Box<Spent>> {
        match self.account.spending().reserve(caller.id, scope.family(), tokens, clock::wall) {
            Ok(None) => None,
            Ok(Some(budgets)) => {
                record.draws_from(budgets);
                None
            }
            Err(_) if mode != Mode::Enforce => {
                self.account.metrics().observe_would.inc(WouldHave::Refused);
                None
            }
            Err(spent) => Some(spent),
        }
    }

    /// What the caller's ceilings say of a request whose budget is not spent.
    pub(super) fn allowance(
        &self,
        (caller, scope): (&Caller, &Scope),
        (cost, mode): (Cost, Mode),
        spent: Option<&Spent>,
        deadline: Instant,
        now: Instant,
    ) -> Allowance {
        if let Some(spent) = spent {
            return self.never(response::budget_spent(spent));
        }
        if mode != Mode::Enforce {
            return Allowance::Now;
        }
        match self.scopes.ceilings().take(caller.id, scope.family(), cost, deadline, now) {
            Ok(None) => Allowance::Now,
            Ok(Some(turn)) => Allowance::Later(Box::pin(turn.wait())),
            Err(refusal) => self.never(self.random(|rng| response::ceiling(&refusal, rng))),
        }
    }

    fn never(&self, own: OwnAnswer) -> Allowance {
        self.account.metrics().queue_refusals.inc(QueueRefusal::CallerLimit);
        Allowance::Never(Box::new(own))
    }
}

impl Conversation<'_> {
    /// What the caller's own bounds say of this request.
    pub(super) fn own_allowance(&self, now: Instant) -> Allowance {
        let head = &self.call.head;
        let of = (self.caller, &*self.scope);
        self.proxy.allowance(of, (self.call.cost, head.mode), head.spent.as_deref(), head.deadline.turn, now)
    }

    /// Ends the request with an answer of Weir's.
    #[expect(clippy::boxed_local, reason = "it is boxed where it is kept, and comes from there")]
    pub(super) fn refuse_own(mut self, own: Box<OwnAnswer>) -> Response<Body> {
        self.keep_headers();
        let detail = ErrorDetail::masked(Some(&own.message), None, Some(&own.code), None);
        self.record.failed(own.class, Some(detail));
        answer::own(*own, self.record)
    }
}
