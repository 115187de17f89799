//! The upstreams of a policy: how each is reached, what requests bear there, and what it calls
//! models.

use std::sync::Arc;

use http::HeaderMap;

use crate::caller::Credential;
use crate::pool::{Owners, UpstreamId};
use crate::upstream::{Target, Upstream};

/// All upstreams of a policy: one, or the members of a pool.
#[derive(Clone, Debug)]
pub struct Upstreams {
    /// The pool's home, or the only one.
    home: Arc<Way>,
    others: Vec<Arc<Way>>,
    /// Whether each has its own credential, which requests bear there whatever they came with.
    swaps: bool,
    owners: Arc<Owners>,
}

/// How one upstream is reached.
#[derive(Debug)]
pub struct Way {
    /// Its number.
    pub id: UpstreamId,
    /// Its connections, by worker.
    connections: Box<[Upstream]>,
    /// What requests bear there, where it is one of several that have credentials.
    pub credential: Option<Credential>,
    /// What it calls a model otherwise: the model, and its name there.
    names: Vec<(Box<str>, Box<str>)>,
}

impl Upstreams {
    /// The one upstream of all workers, by the connections of each.
    #[cfg(any(test, feature = "internals"))]
    pub fn one(connections: Box<[Upstream]>) -> Self {
        let home = Way::new(UpstreamId::default(), connections, None, Vec::new());
        Self::of(Arc::new(home), Vec::new(), Arc::default())
    }

    /// A pool with a home and others. `owners` tells whose objects are whose.
    pub fn of(home: Arc<Way>, others: Vec<Arc<Way>>, owners: Arc<Owners>) -> Self {
        let swaps = std::iter::once(&home).chain(&others).any(|way| way.credential.is_some());
        Self { home, others, swaps, owners }
    }

    /// The pool's home, or the only upstream.
    pub fn home(&self) -> &Arc<Way> {
        &self.home
    }

    /// The upstream with this number.
    pub fn way(&self, id: UpstreamId) -> Option<&Arc<Way>> {
        if self.home.id == id {
            return Some(&self.home);
        }
        self.others.iter().find(|way| way.id == id)
    }

    /// Whether requests have a choice.
    pub fn is_pool(&self) -> bool {
        !self.others.is_empty()
    }

    /// Whether each upstream has its own credential.
    pub(super) fn swaps(&self) -> bool {
        self.swaps
    }

    /// Who owns which object.
    pub(super) fn owners(&self) -> &Arc<Owners> {
        &self.owners
    }
}

impl Way {
    /// The way to an upstream by the connections of each worker.
    ///
    /// # Panics
    /// Where there is no worker.
    pub fn new(
        id: UpstreamId,
        connections: Box<[Upstream]>,
        credential: Option<Credential>,
        names: Vec<(Box<str>, Box<str>)>,
    ) -> Self {
        assert!(!connections.is_empty(), "there is a worker");
        Self { id, connections, credential, names }
    }

    /// The connections of a worker.
    pub fn of_worker(&self, worker: usize) -> &Upstream {
        &self.connections[worker % self.connections.len()]
    }

    /// The connections of all workers.
    pub fn connections(&self) -> &[Upstream] {
        &self.connections
    }

    /// Where it is.
    pub fn target(&self) -> &Target {
        self.connections[0].target()
    }

    /// What it calls a model, where that is another name.
    pub(super) fn name_of(&self, model: &str) -> Option<&str> {
        self.names.iter().find(|(known, _)| **known == *model).map(|(_, name)| &**name)
    }

    /// Lets the headers bear its credential, and no other.
    pub(super) fn bear(&self, headers: &mut HeaderMap) {
        match &self.credential {
            Some(credential) => credential.apply(headers),
            None => Credential::remove(headers),
        }
    }
}
