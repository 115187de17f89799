//! Accepts connections from the kernel and distributes them to the workers.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::classify::is_exhausted;
use crate::clock;
use crate::telemetry::LogThrottle;

use super::drain::Phase;
use super::watch::Activity;
use super::{Counters, Draining, Slot, Slots};
use crate::metrics::Bound;

/// Pause after the process ran out of file descriptors: some connections must close before it can
/// accept others.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections and sends each to the worker with the fewest.
#[derive(Debug)]
pub struct Acceptor {
    listener: TcpListener,
    seats: Vec<WorkerHandle>,
    slots: Arc<Slots>,
    counters: Arc<Counters>,
    draining: Draining,
}

#[derive(Debug)]
struct WorkerHandle {
    /// Unbounded, because each message holds a slot and the slots are bounded.
    sender: mpsc::UnboundedSender<Accepted>,
    connections: Arc<AtomicUsize>,
}

/// The receiving end of a worker: the connections that the acceptor assigns to it.
#[derive(Debug)]
pub struct Seat {
    receiver: mpsc::UnboundedReceiver<Accepted>,
}

/// An accepted connection on its way to a worker.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) stream: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) guard: ConnectionGuard,
}

/// A guard that counts a connection until it closes: its slot, and its worker's count.
#[derive(Debug)]
pub struct ConnectionGuard {
    slot: Slot,
    seat: Arc<AtomicUsize>,
}

impl ConnectionGuard {
    /// Registers the connection as one that may be closed for a new one while it is idle.
    pub(super) fn watch(&self, activity: &Arc<Activity>) {
        self.slot.watch(activity);
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.seat.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Acceptor {
    /// Creates an acceptor for `listener`, and a receiver for each of `workers` (at least one).
    pub fn new(
        listener: TcpListener,
        workers: usize,
        slots: Arc<Slots>,
        counters: Arc<Counters>,
        draining: Draining,
    ) -> (Self, Vec<Seat>) {
        let (seats, handles) = (0..workers.max(1))
            .map(|_| {
                let (sender, receiver) = mpsc::unbounded_channel();
                (Seat { receiver }, WorkerHandle { sender, connections: Arc::default() })
            })
            .unzip();
        (Self { listener, seats: handles, slots, counters, draining }, seats)
    }

    /// Accepts until a drain begins, then closes the listener. With one worker, run it on that
    /// worker's runtime.
    ///
    /// # Errors
    /// When the runtime can't watch the listener.
    pub async fn run(self) -> io::Result<()> {
        let Self { listener, seats, slots, counters, mut draining } = self;
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let mut next = 0;
        let mut throttle = LogThrottle::default();
        loop {
            let accept = async {
                slots.room().await;
                listener.accept().await
            };
            let accepted = tokio::select! {
                biased;
                () = draining.reached(Phase::Begun) => break,
                accepted = accept => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    // The worker's runtime must drive the stream. A stream that this runtime can't
                    // release is closed.
                    if let Ok(slot) = slots.take_or_make(peer.ip()).await
                        && let Ok(stream) = stream.into_std()
                    {
                        next = dispatch(&seats, next, stream, peer, slot);
                    }
                }
                Err(error) if is_exhausted(&error) => {
                    counters.reach(Bound::OpenFiles);
                    if throttle.allow(clock::now()).is_some() {
                        tracing::warn!(%error, "no more connections can be accepted until others close");
                    }
                    clock::sleep(PAUSE).await;
                }
                // The client closed before the connection was accepted.
                Err(_) => counters.fail_accept(),
            }
        }
        // Closing the listener would reset the connections that wait in the kernel's accept queue.
        let listener = listener.into_std()?;
        while let Ok((stream, peer)) = listener.accept() {
            if stream.set_nonblocking(true).is_ok()
                && let Ok(slot) = slots.take(peer.ip())
            {
                next = dispatch(&seats, next, stream, peer, slot);
            }
        }
        Ok(())
    }
}

/// Sends a connection to the worker with the fewest; ties go to the first from `next` on. Returns
/// the next starting index.
fn dispatch(seats: &[WorkerHandle], next: usize, stream: TcpStream, peer: SocketAddr, slot: Slot) -> usize {
    let from_next = (0..seats.len()).map(|offset| (next + offset) % seats.len());
    let Some(chosen) = from_next.min_by_key(|index| seats[*index].connections.load(Ordering::Relaxed)) else {
        return next;
    };
    let seat = &seats[chosen];
    seat.connections.fetch_add(1, Ordering::Relaxed);
    let guard = ConnectionGuard { slot, seat: Arc::clone(&seat.connections) };
    // If the worker has ended, the send fails and drops the connection, which closes it.
    drop(seat.sender.send(Accepted { stream, peer, guard }));
    (chosen + 1) % seats.len()
}

impl Seat {
    /// The next connection, or `None` once the acceptor has ended and the queue is empty.
    pub(super) async fn next(&mut self) -> Option<Accepted> {
        self.receiver.recv().await
    }
}
