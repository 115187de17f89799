//! The upstreams of a policy: their connections, credentials and model names.

use std::sync::Arc;

use http::HeaderMap;

use crate::caller::Credential;
use crate::pool::{Owners, UpstreamId};
use crate::upstream::{Target, Upstream};

/// All upstreams of a policy: one, or the members of a pool.
#[derive(Clone, Debug)]
pub struct Upstreams {
    /// The pool's home upstream, or the only one.
    home: Arc<PoolMember>,
    others: Vec<Arc<PoolMember>>,
    /// Whether each member has its own credential, which replaces the request's.
    swaps: bool,
    owners: Arc<Owners>,
}

/// One upstream as a destination of requests.
#[derive(Debug)]
pub struct PoolMember {
    /// The upstream's number.
    pub id: UpstreamId,
    /// Its connections, by worker.
    connections: Box<[Upstream]>,
    /// The credential of requests to this pool member, if members have their own.
    pub credential: Option<Credential>,
    /// Renamed models: the name in the request, and the name at this upstream.
    names: Vec<(Box<str>, Box<str>)>,
}

impl Upstreams {
    /// A single upstream, with each worker's connections.
    #[cfg(any(test, feature = "internals"))]
    pub fn one(connections: Box<[Upstream]>) -> Self {
        let home = PoolMember::new(UpstreamId::default(), connections, None, Vec::new());
        Self::of(Arc::new(home), Vec::new(), Arc::default())
    }

    /// A pool of a home upstream and others. `owners` stores which of them owns which object.
    pub fn of(home: Arc<PoolMember>, others: Vec<Arc<PoolMember>>, owners: Arc<Owners>) -> Self {
        let swaps = std::iter::once(&home).chain(&others).any(|member| member.credential.is_some());
        Self { home, others, swaps, owners }
    }

    /// The pool's home upstream, or the only one.
    pub fn home(&self) -> &Arc<PoolMember> {
        &self.home
    }

    /// The upstream with this number.
    pub fn member(&self, id: UpstreamId) -> Option<&Arc<PoolMember>> {
        if self.home.id == id {
            return Some(&self.home);
        }
        self.others.iter().find(|member| member.id == id)
    }

    /// Whether there is more than one upstream.
    pub fn is_pool(&self) -> bool {
        !self.others.is_empty()
    }

    /// Whether each upstream has its own credential.
    pub(super) fn swaps(&self) -> bool {
        self.swaps
    }

    /// The owners of objects.
    pub(super) fn owners(&self) -> &Arc<Owners> {
        &self.owners
    }
}

impl PoolMember {
    /// An upstream with each worker's connections.
    ///
    /// # Panics
    /// `connections` is empty.
    pub fn new(
        id: UpstreamId,
        connections: Box<[Upstream]>,
        credential: Option<Credential>,
        names: Vec<(Box<str>, Box<str>)>,
    ) -> Self {
        assert!(!connections.is_empty(), "there is a worker");
        Self { id, connections, credential, names }
    }

    /// The connections of one worker.
    pub fn of_worker(&self, worker: usize) -> &Upstream {
        &self.connections[worker % self.connections.len()]
    }

    /// The connections of all workers.
    pub fn connections(&self) -> &[Upstream] {
        &self.connections
    }

    /// The upstream's address.
    pub fn target(&self) -> &Target {
        self.connections[0].target()
    }

    /// The upstream's name for a model, if it is renamed.
    pub(super) fn name_of(&self, model: &str) -> Option<&str> {
        self.names.iter().find(|(known, _)| **known == *model).map(|(_, name)| &**name)
    }

    /// Sets this upstream's credential in the headers, and removes any other.
    pub(super) fn bear(&self, headers: &mut HeaderMap) {
        match &self.credential {
            Some(credential) => credential.apply(headers),
            None => Credential::remove(headers),
        }
    }
}
