//! The future of a request that waits for its turn.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::admission::machine::{Arrival, Claim};
use crate::admission::permit::Permit;
use crate::admission::queue::Key;
use crate::admission::refusal::Refused;
use crate::clock;

use super::Scope;

/// A request in the queue.
///
/// # Cancel safety
/// Dropping it leaves the queue at once and gives back what was granted meanwhile.
#[derive(Debug)]
#[must_use = "who does not wait leaves the queue"]
pub struct Waiting {
    pub(super) scope: Arc<Scope>,
    pub(super) key: Option<Key>,
}

impl Future for Waiting {
    type Output = Result<Permit, Refused>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let Some(key) = self.key else { return Poll::Ready(Err(Refused::Draining)) };
            // `with` starts a driver again where the last one died with its worker.
            let claim = self.scope.with(clock::now(), |machine, _, _| {
                machine.claim(key, |waker| match waker {
                    Some(waker) => waker.clone_from(context.waker()),
                    None => *waker = Some(context.waker().clone()),
                })
            });
            if matches!(claim, Claim::Pending) {
                return Poll::Pending;
            }
            self.key = None;
            match claim {
                Claim::Pending => {}
                Claim::Granted(attempt) => {
                    return Poll::Ready(Ok(Permit::new(Arc::clone(&self.scope), attempt)));
                }
                Claim::Refused(refused) => return Poll::Ready(Err(refused)),
                Claim::Moved(request) => {
                    let scope = Arc::clone(self.scope.current());
                    let arrival = scope
                        .with(clock::now(), |machine, moment, wake| machine.adopt(&request, moment, wake));
                    self.scope = scope;
                    match arrival {
                        Arrival::Granted(attempt) => {
                            return Poll::Ready(Ok(Permit::new(Arc::clone(&self.scope), attempt)));
                        }
                        Arrival::Refused(refused) => return Poll::Ready(Err(refused)),
                        // Claimed again at once, to leave the waker there.
                        Arrival::Waiting(key) => self.key = Some(key),
                    }
                    if self.scope.merged_into.get().is_some() {
                        self.scope.evacuate(clock::now());
                    }
                }
            }
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.scope.with(clock::now(), |machine, moment, wake| {
                machine.cancel(key, moment);
                machine.pump(moment, wake);
            });
        }
    }
}
