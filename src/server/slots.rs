//! The limits on the number of connections.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;

use crate::clock::{self, Instant};

use super::watch::Activity;
use super::{Counters, Settings};
use crate::metrics::Bound;

/// The connections of all workers, counted in total and by peer.
#[derive(Debug)]
pub struct Slots {
    limit: usize,
    limit_per_peer: usize,
    room: usize,
    /// Notified when a slot is freed while all file descriptors were in use.
    freed: Notify,
    taken: Mutex<Taken>,
    counters: Arc<Counters>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    /// Bounded by `all`: a peer without a connection has no entry.
    by_peer: HashMap<IpAddr, usize>,
    /// Connections by slot number; bounded by `all`.
    watched: HashMap<u64, Idle>,
    next: u64,
    /// When idle connections were last scanned for.
    last_scan: Option<Instant>,
}

/// A connection, and since when the scans have seen it idle.
#[derive(Debug)]
struct Idle {
    activity: Weak<Activity>,
    since: Option<(u32, Instant)>,
}

/// Shortest idle time after which a connection may be closed for a new one.
const MIN_IDLE: Duration = Duration::from_millis(500);
/// Interval between two scans for idle connections.
const SCAN_INTERVAL: Duration = Duration::from_millis(100);
/// Most connections that one scan closes.
const MAX_CLOSED_PER_SCAN: usize = 16;
/// Longest time that a new connection waits for an idle one to close.
const MAX_WAIT: Duration = Duration::from_secs(1);

/// A connection's share of the limits, returned on drop.
#[derive(Debug)]
pub struct Slot {
    slots: Arc<Slots>,
    peer: IpAddr,
    number: u64,
}

impl Slot {
    /// Registers the connection as one that may be closed for a new one while it is idle.
    pub(super) fn watch(&self, activity: &Arc<Activity>) {
        let idle = Idle { activity: Arc::downgrade(activity), since: None };
        self.slots.taken().watched.insert(self.number, idle);
    }
}

impl Slots {
    /// Creates the slots that the settings allow.
    pub fn new(settings: &Settings, counters: Arc<Counters>) -> Arc<Self> {
        Arc::new(Self {
            limit: settings.connections,
            limit_per_peer: settings.connections_per_peer,
            room: settings.room,
            freed: Notify::new(),
            taken: Mutex::default(),
            counters,
        })
    }

    /// Waits until a file descriptor is available for another connection; until then new
    /// connections stay in the kernel's accept queue. Counts the wait, and closes idle connections.
    /// Supports a single waiter.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub async fn room(&self) {
        self.close_idle(clock::now());
        if self.taken().all < self.room {
            return;
        }
        self.counters.reach(Bound::OpenFiles);
        while self.taken().all >= self.room {
            self.close_idle(clock::now());
            // More connections may become idle meanwhile.
            clock::timeout_at(clock::now() + SCAN_INTERVAL, self.freed.notified()).await.ok();
        }
    }

    /// Like [`Self::take`], but if the total limit is reached, waits briefly for an idle connection
    /// to close.
    ///
    /// # Cancel safety
    /// Dropping the future takes no slot.
    pub async fn take_or_make(self: &Arc<Self>, peer: IpAddr) -> Result<Slot, Bound> {
        let until = clock::now() + MAX_WAIT;
        loop {
            if self.taken().all < self.limit || clock::now() >= until || !self.close_idle(clock::now()) {
                return self.take(peer);
            }
            clock::timeout_at(clock::now() + SCAN_INTERVAL, self.freed.notified()).await.ok();
        }
    }

    /// Scans for idle connections when 90 % of the bound are open, and asks those idle long enough
    /// to close when all are. Returns whether any is idle.
    fn close_idle(&self, now: Instant) -> bool {
        let bound = self.room.min(self.limit);
        let mut taken = self.taken();
        let taken = &mut *taken;
        if taken.all < bound - bound / 10 {
            return false;
        }
        if taken.last_scan.is_some_and(|last_scan| now < last_scan + SCAN_INTERVAL) {
            return taken.watched.values().any(|idle| idle.since.is_some());
        }
        taken.last_scan = Some(now);
        let mut left = if taken.all >= bound { MAX_CLOSED_PER_SCAN } else { 0 };
        let mut found = false;
        for idle in taken.watched.values_mut() {
            let Some(activity) = idle.activity.upgrade() else { continue };
            let progress = activity.idle_at();
            found |= progress.is_some();
            match (progress, idle.since) {
                (Some(now_at), Some((at, since))) if now_at == at => {
                    if left > 0 && now >= since + MIN_IDLE {
                        left -= 1;
                        activity.request_close();
                    }
                }
                (Some(at), _) => idle.since = Some((at, now)),
                (None, _) => idle.since = None,
            }
        }
        found
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a slot for a connection from `peer`, or counts and returns the limit that was reached.
    pub fn take(self: &Arc<Self>, peer: IpAddr) -> Result<Slot, Bound> {
        let peer = peer.to_canonical();
        let mut taken = self.taken();
        let reached = if taken.all >= self.limit {
            Some(Bound::Connections)
        } else if taken.by_peer.get(&peer).is_some_and(|count| *count >= self.limit_per_peer) {
            Some(Bound::ConnectionsPerPeer)
        } else {
            None
        };
        if let Some(limit) = reached {
            self.counters.reach(limit);
            return Err(limit);
        }
        taken.all += 1;
        *taken.by_peer.entry(peer).or_default() += 1;
        self.counters.open_more();
        taken.next += 1;
        Ok(Slot { slots: Arc::clone(self), peer, number: taken.next })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.slots.taken();
        let was_full = taken.all >= self.slots.room.min(self.slots.limit);
        taken.watched.remove(&self.number);
        taken.all -= 1;
        if let Some(count) = taken.by_peer.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                taken.by_peer.remove(&self.peer);
            }
        }
        drop(taken);
        self.slots.counters.open_less();
        if was_full {
            self.slots.freed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_there_is_no_file_for_waits_until_there_is_one() {
        let settings = Settings { room: 2, ..Settings::default() };
        let counters = Arc::new(Counters::default());
        let slots = Slots::new(&settings, Arc::clone(&counters));
        let peer = "10.0.0.1".parse().unwrap();
        slots.room().await;
        let first = slots.take(peer).unwrap();
        slots.room().await;
        let _second = slots.take(peer).unwrap();
        assert_eq!(counters.reached(Bound::OpenFiles), 0);
        let soon = clock::now() + Duration::from_secs(1);
        assert!(clock::timeout_at(soon, slots.room()).await.is_err());
        assert_eq!(counters.reached(Bound::OpenFiles), 1);
        drop(first);
        slots.room().await;
        // A notification without a waiter frees no slot.
        let _third = slots.take(peer).unwrap();
        assert!(clock::timeout_at(clock::now() + Duration::from_secs(1), slots.room()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn at_the_bound_the_idle_yield_to_newcomers_and_the_busy_do_not() {
        let settings = Settings { connections: 3, ..Settings::default() };
        let slots = Slots::new(&settings, Arc::default());
        let peer = "10.0.0.1".parse().unwrap();
        let activities: [Arc<Activity>; 3] = Default::default();
        let mut taken: Vec<Slot> = activities.iter().map(|_| slots.take(peer).unwrap()).collect();
        for (slot, activity) in taken.iter().zip(&activities) {
            slot.watch(activity);
        }
        // The first waits for its first request, the second serves one, the third is idle after
        // one.
        let _busy = activities[1].begin();
        drop(activities[2].begin());
        let began = clock::now();
        let newcomer = clock::spawn({
            let slots = Arc::clone(&slots);
            async move { slots.take_or_make(peer).await }
        });
        while !activities[2].take_close_request() {
            assert!(clock::now() < began + MAX_WAIT);
            clock::sleep(Duration::from_millis(10)).await;
        }
        assert!(clock::now() >= began + MIN_IDLE);
        assert!(!activities[0].take_close_request() && !activities[1].take_close_request());
        drop(taken.pop());
        assert!(newcomer.await.unwrap().is_ok());
        // No other connection is idle: the next one is refused at once.
        let began = clock::now();
        let _again = activities[0].begin();
        let _all = slots.take(peer);
        assert_eq!(slots.take_or_make(peer).await.err(), Some(Bound::Connections));
        assert!(clock::now() - began < MAX_WAIT);
    }

    #[test]
    fn counts_in_all_and_by_peer() {
        let settings = Settings { connections: 3, connections_per_peer: 2, ..Settings::default() };
        let counters = Arc::new(Counters::default());
        let slots = Slots::new(&settings, Arc::clone(&counters));
        let [one, mapped, two] = ["10.0.0.1", "::ffff:10.0.0.1", "10.0.0.2"].map(|ip| ip.parse().unwrap());
        let first = slots.take(one).unwrap();
        let _second = slots.take(mapped).unwrap();
        assert_eq!(slots.take(one).unwrap_err(), Bound::ConnectionsPerPeer);
        let _third = slots.take(two).unwrap();
        assert_eq!(slots.take(two).unwrap_err(), Bound::Connections);
        drop(first);
        assert_eq!(counters.open(), 2);
        let _again = slots.take(one).unwrap();
        assert_eq!(counters.reached(Bound::Connections), 1);
        assert_eq!(counters.reached(Bound::ConnectionsPerPeer), 1);
    }
}
