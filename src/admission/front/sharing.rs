//! What the replicas share of a scope, and what is kept of it over a restart.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::Scope;
use crate::admission::knowledge::{Knowledge, PeerUpdate};
use crate::admission::limits::{Demand, Part};
use crate::admission::memory::Learned;
use crate::clock;

impl Scope {
    /// Whose limits these are, as all replicas name it: the upstream's organization and project,
    /// else the credential.
    pub fn shared_name(&self) -> u64 {
        self.shared_name.load(Relaxed)
    }

    /// The models' family.
    pub fn family(&self) -> &str {
        &self.family
    }

    /// What the scope sent, and what it would send if it were let.
    pub fn demand(&self) -> Demand {
        let now = self.moment(clock::now());
        self.lock().machine.demand(now)
    }

    /// Changes the part of the limits that is this replica's, where several share them.
    pub fn set_part(self: &Arc<Self>, part: Part) {
        self.with(clock::now(), |machine, moment, wake| {
            machine.set_part(part, moment);
            machine.pump(moment, wake);
        });
    }

    /// What it knows of its upstream that other replicas can use.
    pub fn knowledge(&self) -> Knowledge {
        let now = self.moment(clock::now());
        self.lock().machine.knowledge(now)
    }

    /// What it keeps over a restart, and for how long it was not used.
    pub(in crate::admission) fn learned(&self) -> (Vec<Learned>, std::time::Duration) {
        let now = self.moment(clock::now());
        let machine = &self.lock().machine;
        (machine.learned(now), now.since(machine.asked()))
    }

    /// Applies a fact about the upstream, received from another replica.
    pub fn apply_peer_update(self: &Arc<Self>, update: &PeerUpdate) {
        self.with(clock::now(), |machine, moment, wake| {
            machine.apply_peer_update(update, moment);
            machine.pump(moment, wake);
        });
    }
}
