//! How many connections there may be.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::{Counters, Limit, Settings};

/// The connections of all workers, counted in all and by peer.
#[derive(Debug)]
pub struct Slots {
    limit: usize,
    limit_per_peer: usize,
    room: usize,
    /// Told when a connection ends that was the last for which there was room.
    freed: Notify,
    taken: Mutex<Taken>,
    counters: Arc<Counters>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    /// Bounded by `all`: a peer without a connection has no entry.
    by_peer: HashMap<IpAddr, usize>,
}

/// A connection's place among those allowed; free again on drop.
#[derive(Debug)]
pub struct Slot {
    slots: Arc<Slots>,
    peer: IpAddr,
}

impl Slots {
    /// As many slots as the settings allow.
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

    /// Waits until there are files for one more connection: the others stay with the kernel, which has a queue for them. Where there
    /// are none, that is counted. For one waiter.
    ///
    /// # Cancel safety
    /// Nothing is taken.
    pub async fn room(&self) {
        while self.taken().all >= self.room {
            self.counters.reach(Limit::OpenFiles);
            self.freed.notified().await;
        }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A slot for a connection from `peer`, or the limit that is reached, which is counted.
    pub fn take(self: &Arc<Self>, peer: IpAddr) -> Result<Slot, Limit> {
        let peer = peer.to_canonical();
        let mut taken = self.taken();
        let reached = if taken.all >= self.limit {
            Some(Limit::Connections)
        } else if taken.by_peer.get(&peer).is_some_and(|count| *count >= self.limit_per_peer) {
            Some(Limit::ConnectionsPerPeer)
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
        Ok(Slot { slots: Arc::clone(self), peer })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.slots.taken();
        let was_full = taken.all >= self.slots.room;
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
    use std::time::Duration;

    use super::*;
    use crate::clock;

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
        assert_eq!(counters.reached(Limit::OpenFiles), 0);
        let soon = clock::now() + Duration::from_secs(1);
        assert!(clock::timeout_at(soon, slots.room()).await.is_err());
        assert_eq!(counters.reached(Limit::OpenFiles), 1);
        drop(first);
        slots.room().await;
        // A word that came when nobody waited is no room.
        let _third = slots.take(peer).unwrap();
        assert!(clock::timeout_at(clock::now() + Duration::from_secs(1), slots.room()).await.is_err());
    }

    #[test]
    fn counts_in_all_and_by_peer() {
        let settings = Settings { connections: 3, connections_per_peer: 2, ..Settings::default() };
        let counters = Arc::new(Counters::default());
        let slots = Slots::new(&settings, Arc::clone(&counters));
        let [one, mapped, two] = ["10.0.0.1", "::ffff:10.0.0.1", "10.0.0.2"].map(|ip| ip.parse().unwrap());
        let first = slots.take(one).unwrap();
        let _second = slots.take(mapped).unwrap();
        assert_eq!(slots.take(one).unwrap_err(), Limit::ConnectionsPerPeer);
        let _third = slots.take(two).unwrap();
        assert_eq!(slots.take(two).unwrap_err(), Limit::Connections);
        drop(first);
        assert_eq!(counters.open(), 2);
        let _again = slots.take(one).unwrap();
        assert_eq!(counters.reached(Limit::Connections), 1);
        assert_eq!(counters.reached(Limit::ConnectionsPerPeer), 1);
    }
}
