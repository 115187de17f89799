//! How many connections there may be.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Counters, Limit, Settings};

/// The connections of all workers, counted in all and by peer.
#[derive(Debug)]
pub struct Slots {
    limit: usize,
    limit_per_peer: usize,
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
            taken: Mutex::default(),
            counters,
        })
    }

    /// A slot for a connection from `peer`, or the limit that is reached, which is counted.
    pub fn take(self: &Arc<Self>, peer: IpAddr) -> Result<Slot, Limit> {
        let peer = peer.to_canonical();
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
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
        let mut taken = self.slots.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all -= 1;
        if let Some(count) = taken.by_peer.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                taken.by_peer.remove(&self.peer);
            }
        }
        self.slots.counters.open_less();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
