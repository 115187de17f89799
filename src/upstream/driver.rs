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
mod tests {
    use std::collections::VecDeque;
    use std::future::poll_fn;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// Counts how often it wakes.
    #[derive(Default)]
    struct Listener(AtomicUsize);

    impl Wake for Listener {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Listener {
        fn new() -> (Arc<Self>, Waker) {
            let listener = Arc::new(Self::default());
            (Arc::clone(&listener), Waker::from(listener))
        }

        fn woken(&self) -> usize {
            self.0.swap(0, Ordering::Relaxed)
        }
    }

    /// A connection in memory: what came from the far end, what was read of it, and who waits for
    /// either.
    #[derive(Default)]
    struct Line {
        come: VecDeque<Option<u8>>,
        read: VecDeque<u8>,
        reader: Option<Waker>,
        waiting: Option<Waker>,
    }

    type Shared = Arc<Mutex<Line>>;

    fn ring(waker: &mut Option<Waker>) {
        if let Some(waker) = waker.take() {
            waker.wake();
        }
    }

    /// Something from the far end; `None` is its end.
    fn comes(line: &Shared, item: Option<u8>) {
        let mut line = line.lock().unwrap();
        line.come.push_back(item);
        ring(&mut line.reader);
    }

    /// A driver that reads one item at a time, and the next only when that one was taken, as
    /// hyper's does.
    fn driver(line: &Shared) -> Driver {
        let line = Arc::clone(line);
        Driver::new(poll_fn(move |cx| {
            let mut line = line.lock().unwrap();
            line.reader = Some(cx.waker().clone());
            if line.read.is_empty() {
                match line.come.pop_front() {
                    Some(Some(item)) => {
                        line.read.push_back(item);
                        ring(&mut line.waiting);
                    }
                    Some(None) => {
                        ring(&mut line.waiting);
                        return Poll::Ready(());
                    }
                    None => {}
                }
            }
            Poll::Pending
        }))
    }

    fn take(line: &Shared, cx: &mut Context<'_>) -> Poll<u8> {
        let mut line = line.lock().unwrap();
        if let Some(item) = line.read.pop_front() {
            ring(&mut line.reader);
            return Poll::Ready(item);
        }
        line.waiting = Some(cx.waker().clone());
        Poll::Pending
    }

    #[test]
    fn what_has_come_is_there_in_the_same_poll_and_wakes_nobody() {
        let line = Shared::default();
        let mut driver = driver(&line);
        let (listener, waker) = Listener::new();
        let mut cx = Context::from_waker(&waker);
        for _ in 0..3 {
            for item in 1..=5 {
                comes(&line, Some(item));
            }
            listener.woken();
            for item in 1..=5 {
                assert_eq!(driver.poll_with(&mut cx, |cx| take(&line, cx)), Poll::Ready(item));
            }
            assert!(driver.poll_with(&mut cx, |cx| take(&line, cx)).is_pending());
            assert_eq!(listener.woken(), 0, "the halves rang for each other");
        }
        comes(&line, Some(6));
        comes(&line, Some(7));
        assert_eq!(listener.woken(), 1, "it knows after the first");
    }

    #[test]
    fn nothing_is_polled_while_nothing_has_happened() {
        let line = Shared::default();
        let mut driver = driver(&line);
        let (_, waker) = Listener::new();
        let mut cx = Context::from_waker(&waker);
        let mut polls = 0;
        for _ in 0..9 {
            assert!(
                driver
                    .poll_with(&mut cx, |cx| {
                        polls += 1;
                        take(&line, cx)
                    })
                    .is_pending()
            );
        }
        assert_eq!(polls, 1);
    }

    #[test]
    fn the_last_to_ask_is_woken() {
        let line = Shared::default();
        let mut driver = driver(&line);
        let listeners = [Listener::new(), Listener::new(), Listener::new()];
        for (asks, (_, waker)) in listeners.iter().enumerate() {
            assert!(driver.poll_with(&mut Context::from_waker(waker), |cx| take(&line, cx)).is_pending());
            comes(&line, Some(1));
            for (other, (listener, _)) in listeners.iter().enumerate() {
                assert_eq!(listener.woken(), usize::from(other == asks), "{asks} asked");
            }
            assert!(driver.poll_with(&mut Context::from_waker(waker), |cx| take(&line, cx)).is_ready());
        }
        // From the last one that used it to the one that watches over it.
        let (watcher, waker) = Listener::new();
        assert!(driver.rest(&waker));
        comes(&line, None);
        assert_eq!((watcher.woken(), listeners[2].0.woken()), (1, 0));
        assert!(!driver.rest(&waker), "it has ended");
    }

    #[test]
    fn work_that_never_rests_gives_the_thread_back_and_is_called_again() {
        let mut driver = Driver::new(poll_fn(|cx| {
            cx.waker().wake_by_ref();
            Poll::Pending
        }));
        let (listener, waker) = Listener::new();
        let mut cx = Context::from_waker(&waker);
        for _ in 0..5 {
            assert!(driver.poll_with(&mut cx, |_| Poll::<()>::Pending).is_pending());
            assert_eq!(listener.woken(), 1);
        }
        assert!(driver.rest(&waker));
        assert_eq!(listener.woken(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_only_for_the_tasks_budget_is_polled_again() {
        let line = Shared::default();
        let mut driver = driver(&line);
        let (answer, mut answered) = tokio::sync::oneshot::channel();
        answer.send("answer").unwrap();
        let mut spent = false;
        let asking = poll_fn(|cx| {
            if !std::mem::replace(&mut spent, true) {
                clock::spend_budget(cx);
            }
            driver.poll_with(cx, |cx| Pin::new(&mut answered).poll(cx))
        });
        let until = clock::now() + std::time::Duration::from_secs(1);
        assert_eq!(clock::timeout_at(until, asking).await.expect("it is told"), Ok("answer"));
    }

    #[test]
    fn a_claimed_connection_is_looked_at_once_more_and_wakes_nobody_before() {
        let line = Shared::default();
        let mut driver = driver(&line);
        let (watcher, waker) = Listener::new();
        assert!(driver.rest(&waker));
        driver.claim();
        comes(&line, Some(1));
        assert_eq!(watcher.woken(), 0);
        let (_, waker) = Listener::new();
        assert_eq!(driver.poll_with(&mut Context::from_waker(&waker), |cx| take(&line, cx)), Poll::Ready(1));
    }

    #[tokio::test(start_paused = true)]
    async fn detached_it_goes_on_by_itself_until_it_is_dropped() {
        let line = Shared::default();
        let mut driver = driver(&line);
        driver.detach();
        for item in 1..=3 {
            comes(&line, Some(item));
            assert_eq!(poll_fn(|cx| driver.poll_with(cx, |cx| take(&line, cx))).await, item);
        }
        comes(&line, Some(4));
        tokio::task::yield_now().await;
        assert_eq!(line.lock().unwrap().read, [4], "nobody asked for it");
        assert!(!driver.rest(Waker::noop()), "it is nobody's to keep");
        drop(driver);
        comes(&line, Some(5));
        tokio::task::yield_now().await;
        assert_eq!(Arc::strong_count(&line), 1, "the connection is closed");
    }
}
