//! Taking connections from the kernel and dealing them to the workers.

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

/// Pause after the process ran out of files: the connections it has must close before it can take
/// others.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections and deals each to the seat with the fewest.
#[derive(Debug)]
pub struct Acceptor {
    listener: TcpListener,
    seats: Vec<Place>,
    slots: Arc<Slots>,
    counters: Arc<Counters>,
    draining: Draining,
}

#[derive(Debug)]
struct Place {
    /// Not bounded by itself: each message holds a slot, and those are.
    deal: mpsc::UnboundedSender<Dealt>,
    connections: Arc<AtomicUsize>,
}

/// Where a worker gets its connections from.
#[derive(Debug)]
pub struct Seat {
    dealt: mpsc::UnboundedReceiver<Dealt>,
}

/// A connection on its way to a worker.
#[derive(Debug)]
pub(super) struct Dealt {
    pub(super) stream: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) hold: Hold,
}

/// What a connection holds as long as it lives.
#[derive(Debug)]
pub struct Hold {
    slot: Slot,
    seat: Arc<AtomicUsize>,
}

impl Hold {
    /// Lets the connection be closed for a newcomer when it is idle.
    pub(super) fn watch(&self, activity: &Arc<Activity>) {
        self.slot.watch(activity);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.seat.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Acceptor {
    /// An acceptor for `listener`, and a seat for each of `workers` (at least one).
    pub fn new(
        listener: TcpListener,
        workers: usize,
        slots: Arc<Slots>,
        counters: Arc<Counters>,
        draining: Draining,
    ) -> (Self, Vec<Seat>) {
        let (seats, places) = (0..workers.max(1))
            .map(|_| {
                let (deal, dealt) = mpsc::unbounded_channel();
                (Seat { dealt }, Place { deal, connections: Arc::default() })
            })
            .unzip();
        (Self { listener, seats: places, slots, counters, draining }, seats)
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
                    // The worker's own runtime is to watch it; a stream that can't be given up by
                    // this one is closed.
                    if let Ok(slot) = slots.take_or_make(peer.ip()).await
                        && let Ok(stream) = stream.into_std()
                    {
                        next = deal(&seats, next, stream, peer, slot);
                    }
                }
                Err(error) if is_exhausted(&error) => {
                    counters.reach(Bound::OpenFiles);
                    if throttle.allow(clock::now()).is_some() {
                        tracing::warn!(%error, "no more connections can be accepted until others close");
                    }
                    clock::sleep(PAUSE).await;
                }
                // The client was gone before it was accepted; the next one may not be.
                Err(_) => counters.fail_accept(),
            }
        }
        // Those that the kernel has connected and that nobody accepted would be reset with the
        // listener's end.
        let listener = listener.into_std()?;
        while let Ok((stream, peer)) = listener.accept() {
            if stream.set_nonblocking(true).is_ok()
                && let Ok(slot) = slots.take(peer.ip())
            {
                next = deal(&seats, next, stream, peer, slot);
            }
        }
        Ok(())
    }
}

/// Deals a connection to the seat with the fewest, looking from `next` on; answers where to look
/// from then.
fn deal(seats: &[Place], next: usize, stream: TcpStream, peer: SocketAddr, slot: Slot) -> usize {
    let from_next = (0..seats.len()).map(|offset| (next + offset) % seats.len());
    let Some(chosen) = from_next.min_by_key(|index| seats[*index].connections.load(Ordering::Relaxed)) else {
        return next;
    };
    let seat = &seats[chosen];
    seat.connections.fetch_add(1, Ordering::Relaxed);
    let hold = Hold { slot, seat: Arc::clone(&seat.connections) };
    // A worker that is gone takes no more; dropping the connection closes it.
    drop(seat.deal.send(Dealt { stream, peer, hold }));
    (chosen + 1) % seats.len()
}

impl Seat {
    /// The next connection; `None` once the acceptor has ended and all were taken.
    pub(super) async fn next(&mut self) -> Option<Dealt> {
        self.dealt.recv().await
    }
}
