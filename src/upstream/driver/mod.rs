//! The work on a connection's bytes, done in the task whose request the connection serves.
//!
//! hyper hands over a connection in two halves: a handle that takes requests, and a future that
//! reads and writes. The usual place of that future is a task of its own. What it reads is then
//! written to the caller in another task's turn, and a busy worker takes that turn only after it
//! has read from every other connection of the batch: a chunk waits for its neighbors. Polled by
//! the request's own task, a chunk is read and written in one go.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use tokio::task::{AbortHandle, coop};

use crate::clock;

/// Rounds of one poll. Two are enough, unless the runtime wants its thread back: then each round
/// asks for another.
const ROUNDS: usize = 3;

/// The future that reads and writes, and where it is polled. Dropping it closes the connection at
/// once.
pub(super) struct Driver {
    place: Place,
    bell: Arc<Bell>,
    /// The bell, as the work takes it.
    waker: Waker,
    /// Whom the bell wakes: a copy, to compare without its lock.
    listener: Waker,
    /// Whether what waits is to be polled although nothing rang: it was ready, and has not been
    /// polled since.
    look: bool,
}

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

enum Place {
    /// With whoever uses the connection.
    Here(Work),
    /// In a task of its own.
    Task(AbortHandle),
    /// The connection has ended.
    Ended,
}

impl Driver {
    /// The driver of a connection whose bytes `work` moves.
    pub(super) fn new(work: impl Future<Output = ()> + Send + 'static) -> Self {
        let bell = Arc::new(Bell { state: AtomicU8::new(RUNG), listener: Mutex::new(Waker::noop().clone()) });
        Self {
            place: Place::Here(Box::pin(work)),
            waker: Waker::from(Arc::clone(&bell)),
            bell,
            listener: Waker::noop().clone(),
            look: false,
        }
    }

    /// Moves bytes, then polls what waits for them, for as long as one gives the other something to
    /// do.
    ///
    /// `waiting` is what only that work can make ready, and is left out while it had nothing to do.
    /// Once it is ready, another may wait.
    pub(super) fn poll_with<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut waiting: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        if matches!(self.place, Place::Task(_)) {
            return waiting(cx);
        }
        self.listen(cx.waker());
        for _ in 0..ROUNDS {
            if self.bell.answer() {
                self.work();
                self.look = true;
            }
            if std::mem::take(&mut self.look) {
                // Nothing but the work can make it ready, and the work has just been done: it need
                // not ring.
                if let Poll::Ready(item) = waiting(&mut Context::from_waker(Waker::noop())) {
                    self.look = true;
                    self.bell.hush();
                    return Poll::Ready(item);
                }
                // Nothing but that, and the runtime: a task whose budget is spent is not told what
                // is ready, and is to come again.
                if !coop::has_budget_remaining() {
                    self.look = true;
                    break;
                }
            }
            if self.bell.hush() {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Says that the connection is about to be used: there is something to do for the next poll,
    /// and nobody to wake for it.
    pub(super) fn claim(&mut self) {
        self.bell.state.store(RUNG, Ordering::Release);
    }

    /// Leaves the connection to `watcher`, which is woken when there is something to do and then
    /// calls this again. Tells whether the connection is still open.
    pub(super) fn rest(&mut self, watcher: &Waker) -> bool {
        self.listen(watcher);
        for _ in 0..ROUNDS {
            if self.bell.answer() {
                self.work();
            }
            if self.bell.hush() {
                return self.is_here();
            }
        }
        watcher.wake_by_ref();
        self.is_here()
    }

    /// The same for a connection whose last bytes were taken in this very turn: nothing but that
    /// can have rung since.
    pub(super) fn rest_unseen(&mut self, watcher: &Waker) -> bool {
        self.listen(watcher);
        self.bell.state.store(QUIET, Ordering::Release);
        self.is_here()
    }

    /// Lets the connection go on by itself, whoever waits for it.
    pub(super) fn detach(&mut self) {
        if let Place::Here(work) = std::mem::replace(&mut self.place, Place::Ended) {
            self.place = Place::Task(clock::spawn(work).abort_handle());
        }
    }

    /// Moves bytes one last time: those that say goodbye, once the handle of the connection is
    /// gone.
    pub(super) fn finish(mut self) {
        self.work();
    }

    fn work(&mut self) {
        if let Place::Here(work) = &mut self.place
            && work.as_mut().poll(&mut Context::from_waker(&self.waker)).is_ready()
        {
            self.place = Place::Ended;
        }
    }

    fn is_here(&self) -> bool {
        matches!(self.place, Place::Here(_))
    }

    fn listen(&mut self, listener: &Waker) {
        if !self.listener.will_wake(listener) {
            self.listener.clone_from(listener);
            self.bell.set_listener(listener.clone());
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if let Place::Task(task) = &self.place {
            task.abort();
        }
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match &self.place {
            Place::Here(_) => "here",
            Place::Task(_) => "task",
            Place::Ended => "ended",
        };
        out.debug_struct("Driver").field("place", &place).finish_non_exhaustive()
    }
}

/// Rung when the work has something to do. It wakes its listener only when that is not at work
/// already: taking what was read rings in every poll.
#[derive(Debug)]
struct Bell {
    state: AtomicU8,
    listener: Mutex<Waker>,
}

/// Nothing to do.
const QUIET: u8 = 0;
/// The listener is at work.
const ANSWERED: u8 = 1;
/// There is something to do, and the listener knows, or is about to look by itself.
const RUNG: u8 = 2;

impl Bell {
    /// Whether there is something to do; from now on the listener is at work.
    fn answer(&self) -> bool {
        self.state.swap(ANSWERED, Ordering::AcqRel) == RUNG
    }

    /// Whether there is nothing more to do: from now on the listener is woken.
    fn hush(&self) -> bool {
        self.state.compare_exchange(ANSWERED, QUIET, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    fn set_listener(&self, listener: Waker) {
        *self.listener.lock().unwrap_or_else(PoisonError::into_inner) = listener;
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.swap(RUNG, Ordering::AcqRel) == QUIET {
            self.listener.lock().unwrap_or_else(PoisonError::into_inner).wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests;
