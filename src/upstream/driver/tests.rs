use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::atomic::AtomicUsize;

use super::*;

/// Counts its wakes.
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

/// An in-memory connection: received items, items read, and the wakers of both.
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

/// Delivers an item from the far end; `None` is its end.
fn comes(line: &Shared, item: Option<u8>) {
    let mut line = line.lock().unwrap();
    line.come.push_back(item);
    ring(&mut line.reader);
}

/// A driver that, like hyper, reads one item at a time, and the next only once that was consumed.
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
    // From the last user to the watcher of idle connections.
    let (watcher, waker) = Listener::new();
    assert!(driver.park(&waker));
    comes(&line, None);
    assert_eq!((watcher.woken(), listeners[2].0.woken()), (1, 0));
    assert!(!driver.park(&waker), "it has ended");
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
    assert!(driver.park(&waker));
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
    assert!(driver.park(&waker));
    driver.mark_ready();
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
    assert!(!driver.park(Waker::noop()), "it is nobody's to keep");
    drop(driver);
    comes(&line, Some(5));
    tokio::task::yield_now().await;
    assert_eq!(Arc::strong_count(&line), 1, "the connection is closed");
}
