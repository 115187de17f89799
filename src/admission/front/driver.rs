//! The task that keeps time for a scope while anything waits in it.

use std::sync::Arc;

use super::Scope;
use crate::admission::moment::Moment;
use crate::clock;

/// The driver's hold on its scope: when its task dies with a worker, those who wait elsewhere start
/// another.
pub(super) struct Driver {
    pub(super) scope: Arc<Scope>,
    pub(super) ended: bool,
}

impl Drop for Driver {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let orphans = {
            let mut inner = self.scope.lock();
            inner.driver = None;
            inner.machine.take_wakers()
        };
        for waker in orphans {
            waker.wake();
        }
    }
}

/// Keeps time for a scope while anything waits in it.
pub(super) async fn drive(mut driver: Driver) {
    let scope = Arc::clone(&driver.scope);
    loop {
        let mut wake = Vec::new();
        let due = {
            let moment = scope.moment(clock::now());
            let mut inner = scope.lock();
            let due = inner.machine.pump(moment, &mut wake);
            let waits = inner.machine.waiting() > 0;
            inner.driver = waits.then_some(due);
            driver.ended = !waits;
            inner.driver
        };
        for waker in wake {
            waker.wake();
        }
        let Some(due) = due else { return };
        let instant = scope.epoch + due.since(Moment::START);
        tokio::select! {
            biased;
            () = scope.earlier.notified() => {}
            () = clock::sleep_until(instant) => {}
        }
    }
}
