//! Drives a connection's I/O in the task of the request that uses it.
//!
//! hyper splits a connection into a handle for requests and a future for I/O. Usually that future
//! is spawned. Its data then reaches the caller in another task's turn, and a busy worker runs that
//! task only after it has read from all other ready connections, which delays each chunk. Polled by
//! the request's own task, a chunk is read and written in one turn.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use tokio::task::{AbortHandle, coop};

use crate::clock;

/// Most iterations of one poll. Two suffice, unless the coop budget is spent, when each iteration
/// would request another.
const ROUNDS: usize = 3;

/// A connection's I/O future, and where it is polled. Dropping it closes the connection at once.
pub(super) struct Driver {
    driven: Driven,
    wake_flag: Arc<WakeFlag>,
    /// A waker for `wake_flag`, passed to the I/O future.
    waker: Waker,
    /// A copy of the waker in `wake_flag`, to compare without its lock.
    listener: Waker,
    /// Whether the waiting future must be polled without a wake: it was ready, and has not been
    /// polled since.
    poll_waiting: bool,
}

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

enum Driven {
    /// By the user of the connection.
    Inline(Work),
    /// In a separate task.
    Spawned(AbortHandle),
    /// Not at all: the connection has ended.
    Ended,
}

impl Driver {
    /// Creates a driver for the I/O future `work`.
    pub(super) fn new(work: impl Future<Output = ()> + Send + 'static) -> Self {
        let wake_flag = Arc::new(WakeFlag {
            state: AtomicU8::new(SIGNALED),
            listener: Mutex::new(Waker::noop().clone()),
        });
        Self {
            driven: Driven::Inline(Box::pin(work)),
            waker: Waker::from(Arc::clone(&wake_flag)),
            wake_flag,
            listener: Waker::noop().clone(),
            poll_waiting: false,
        }
    }

    /// Polls the I/O future and then `waiting`, as long as one makes progress for the other.
    ///
    /// Only the I/O future can make `waiting` ready, so `waiting` is not polled if I/O had nothing
    /// to do. Once it is ready, another may be passed.
    pub(super) fn poll_with<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut waiting: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        if matches!(self.driven, Driven::Spawned(_)) {
            return waiting(cx);
        }
        self.register(cx.waker());
        for _ in 0..ROUNDS {
            if self.wake_flag.take() {
                self.work();
                self.poll_waiting = true;
            }
            if std::mem::take(&mut self.poll_waiting) {
                // Only the I/O future can make it ready, and that was just polled: no wake is
                // needed.
                if let Poll::Ready(item) = waiting(&mut Context::from_waker(Waker::noop())) {
                    self.poll_waiting = true;
                    self.wake_flag.set_idle();
                    return Poll::Ready(item);
                }
                // Exception: once the task's coop budget is spent, resources report Pending
                // although they are ready, and tokio reschedules the task. Poll again next time.
                if !coop::has_budget_remaining() {
                    self.poll_waiting = true;
                    break;
                }
            }
            if self.wake_flag.set_idle() {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Marks the I/O future as ready: the connection is about to be used by the calling task.
    pub(super) fn mark_ready(&mut self) {
        self.wake_flag.state.store(SIGNALED, Ordering::Release);
    }

    /// Polls the I/O of an idle connection. `watcher` is woken when it is ready, and must then call
    /// this again. Returns whether the connection is still open.
    pub(super) fn park(&mut self, watcher: &Waker) -> bool {
        self.register(watcher);
        for _ in 0..ROUNDS {
            if self.wake_flag.take() {
                self.work();
            }
            if self.wake_flag.set_idle() {
                return self.is_open();
            }
        }
        watcher.wake_by_ref();
        self.is_open()
    }

    /// Registers `watcher` without polling, right after the connection's last bytes were read: it
    /// can't have become ready since. Returns whether the connection is still open.
    pub(super) fn park_unpolled(&mut self, watcher: &Waker) -> bool {
        self.register(watcher);
        self.wake_flag.state.store(IDLE, Ordering::Release);
        self.is_open()
    }

    /// Spawns the I/O future as a separate task.
    pub(super) fn detach(&mut self) {
        if let Driven::Inline(work) = std::mem::replace(&mut self.driven, Driven::Ended) {
            self.driven = Driven::Spawned(clock::spawn(work).abort_handle());
        }
    }

    /// Polls the I/O future a last time, after the connection's handle was dropped, to write the
    /// shutdown.
    pub(super) fn finish(mut self) {
        self.work();
    }

    fn work(&mut self) {
        if let Driven::Inline(work) = &mut self.driven
            && work.as_mut().poll(&mut Context::from_waker(&self.waker)).is_ready()
        {
            self.driven = Driven::Ended;
        }
    }

    fn is_open(&self) -> bool {
        matches!(self.driven, Driven::Inline(_))
    }

    fn register(&mut self, listener: &Waker) {
        if !self.listener.will_wake(listener) {
            self.listener.clone_from(listener);
            self.wake_flag.set_listener(listener.clone());
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if let Driven::Spawned(task) = &self.driven {
            task.abort();
        }
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let driven = match &self.driven {
            Driven::Inline(_) => "here",
            Driven::Spawned(_) => "task",
            Driven::Ended => "ended",
        };
        out.debug_struct("Driver").field("driven", &driven).finish_non_exhaustive()
    }
}

/// A flag that is set when the I/O future is ready. It wakes the listener only while that is idle,
/// because each read sets the flag during a poll.
#[derive(Debug)]
struct WakeFlag {
    state: AtomicU8,
    listener: Mutex<Waker>,
}

/// Not ready; the listener must be woken.
const IDLE: u8 = 0;
/// The listener is polling.
const BUSY: u8 = 1;
/// Ready, and the listener knows it or will check.
const SIGNALED: u8 = 2;

impl WakeFlag {
    /// Clears the flag and marks the listener as polling. Returns whether the flag was set.
    fn take(&self) -> bool {
        self.state.swap(BUSY, Ordering::AcqRel) == SIGNALED
    }

    /// Marks the listener as idle, so that it is woken. Returns `false` if the flag was set
    /// meanwhile.
    fn set_idle(&self) -> bool {
        self.state.compare_exchange(BUSY, IDLE, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    fn set_listener(&self, listener: Waker) {
        *self.listener.lock().unwrap_or_else(PoisonError::into_inner) = listener;
    }
}

impl Wake for WakeFlag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.swap(SIGNALED, Ordering::AcqRel) == IDLE {
            self.listener.lock().unwrap_or_else(PoisonError::into_inner).wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests;
