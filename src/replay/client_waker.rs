//! The waker of a client's connection over HTTP/1, which a body that has come whole does not wake.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};

thread_local! {
    /// Whether this thread is taking a piece of a body from hyper.
    static TAKES: Cell<bool> = const { Cell::new(false) };
}

/// Wakes the task that moves a client's connection.
///
/// hyper wakes the connection whenever a piece of a body was taken from it, so that it reads on.
/// That costs another poll of the task, which is at work already, for each request; of a body that
/// has come whole there is nothing to read.
#[derive(Debug, Default)]
pub struct ClientWaker {
    task: Mutex<Option<Waker>>,
    /// Whether it was woken by the taking of a piece.
    reads_on: AtomicBool,
    /// Whether the body of the last request may still come.
    pub(super) body_open: AtomicBool,
}

impl ClientWaker {
    /// Notes the task that moves the connection, and tells whether it was another one before.
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

    /// Whether the body of the last request may still come.
    pub fn has_open_body(&self) -> bool {
        self.body_open.load(Ordering::Relaxed)
    }

    /// Takes a piece of a body from hyper; [`Self::taken`] follows.
    pub(super) fn take<T>(take: impl FnOnce() -> T) -> T {
        TAKES.set(true);
        let _taken = Taken;
        take()
    }

    /// A piece was taken: the connection reads on, unless that made the body `whole`.
    pub(super) fn taken(&self, whole: bool) {
        if self.reads_on.load(Ordering::Relaxed) {
            self.reads_on.store(false, Ordering::Relaxed);
            if !whole {
                self.wake_task();
            }
        }
    }
}

/// Also where hyper panics.
struct Taken;

impl Drop for Taken {
    fn drop(&mut self) {
        TAKES.set(false);
    }
}

impl Wake for ClientWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if TAKES.get() {
            self.reads_on.store(true, Ordering::Relaxed);
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
