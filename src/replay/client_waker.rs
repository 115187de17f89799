//! The waker of a client's HTTP/1 connection, which ignores wakes for bodies that have arrived in
//! full.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};

thread_local! {
    /// Whether this thread is polling hyper for a body frame.
    static TAKING_FRAME: Cell<bool> = const { Cell::new(false) };
}

/// Wakes the task that drives a client's connection.
///
/// hyper wakes the connection whenever a body frame was taken, so that it reads on. For each
/// request this costs another poll of a task that is already running. If the body has arrived in
/// full there is nothing to read, so the wake is ignored.
#[derive(Debug, Default)]
pub struct ClientWaker {
    task: Mutex<Option<Waker>>,
    /// Whether a wake came from taking a body frame.
    taken_wake: AtomicBool,
    /// Whether the last request's body may still be arriving.
    pub(super) body_open: AtomicBool,
}

impl ClientWaker {
    /// Sets the task that drives the connection. Returns whether it was another one before.
    pub fn listen(&self, task: &Waker) -> bool {
        let mut listener = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        let is_another = !listener.as_ref().is_some_and(|listener| listener.will_wake(task));
        if is_another {
            *listener = Some(task.clone());
        }
        is_another
    }

    /// Wakes the task.
    pub fn wake_task(&self) {
        if let Some(task) = &*self.task.lock().unwrap_or_else(PoisonError::into_inner) {
            task.wake_by_ref();
        }
    }

    /// Whether the last request's body may still be arriving.
    pub fn has_open_body(&self) -> bool {
        self.body_open.load(Ordering::Relaxed)
    }

    /// Polls hyper for a body frame; [`Self::taken`] must follow.
    pub(super) fn take<T>(take: impl FnOnce() -> T) -> T {
        TAKING_FRAME.set(true);
        let _taken = Taken;
        take()
    }

    /// Handles the wake of a frame that was taken: wakes the connection unless the body is now
    /// `whole`.
    pub(super) fn taken(&self, whole: bool) {
        if self.taken_wake.load(Ordering::Relaxed) {
            self.taken_wake.store(false, Ordering::Relaxed);
            if !whole {
                self.wake_task();
            }
        }
    }
}

/// Clears the flag on drop, also if hyper panics.
struct Taken;

impl Drop for Taken {
    fn drop(&mut self) {
        TAKING_FRAME.set(false);
    }
}

impl Wake for ClientWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if TAKING_FRAME.get() {
            self.taken_wake.store(true, Ordering::Relaxed);
        } else {
            self.wake_task();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn it_wakes_the_task_but_for_a_body_that_is_whole() {
        let (task, client) = (Arc::new(Task::default()), Arc::new(ClientWaker::default()));
        let woken = || task.0.swap(0, Ordering::Relaxed);
        let waker = Waker::from(Arc::clone(&client));
        waker.wake_by_ref();
        assert!(client.listen(&Waker::from(Arc::clone(&task))));
        waker.wake_by_ref();
        assert_eq!(woken(), 1);
        for (whole, wakes) in [(false, 1), (true, 0)] {
            ClientWaker::take(|| waker.wake_by_ref());
            assert_eq!(woken(), 0, "it is not known yet whether there is more");
            client.taken(whole);
            assert_eq!(woken(), wakes);
            client.taken(false);
            assert_eq!(woken(), 0, "nothing was taken");
        }
        ClientWaker::take(|| {
            std::thread::scope(|threads| threads.spawn(|| waker.wake_by_ref()).join().unwrap());
        });
        assert_eq!(woken(), 1, "another thread takes nothing");
    }
}
