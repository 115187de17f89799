//! The state that all turns of a session share: its caller, and facts of its handshake.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;

use crate::admission::{Ask, Cost, EVERYBODY, Route, Scope, Turn};
use crate::caller::{Caller, CredentialId, Mode};
use crate::clock::Instant;
use crate::openai::Endpoint;
use crate::pool::UpstreamId;
use crate::proxy::{Policy, Proxy};
use crate::rights::Rights;

/// The context of a session.
pub(in crate::proxy) struct Context {
    pub(in crate::proxy) proxy: Arc<Proxy>,
    pub(in crate::proxy) caller: Arc<Caller>,
    pub(in crate::proxy) endpoint: Endpoint,
    pub(in crate::proxy) mode: Mode,
    pub(in crate::proxy) credential: CredentialId,
    /// The session's upstream, to which all turns go.
    pub(in crate::proxy) upstream: UpstreamId,
    pub(in crate::proxy) route: Route,
    /// The credential's name, equal in all replicas.
    pub(in crate::proxy) credential_name: u64,
    /// The longest wait of a turn for admission.
    pub(in crate::proxy) patience: Duration,
    /// The handshake's trace headers, and those that reports keep.
    pub(in crate::proxy) headers: HeaderMap,
    /// The caller's rights at the handshake, if they restrict models. They hold for the whole
    /// session.
    pub(in crate::proxy) rights: Option<Arc<Rights>>,
    /// The longest client message, in bytes.
    pub(in crate::proxy) longest: usize,
}

impl Context {
    /// Whether the session has lanes, each with turns in sequence. Realtime has one conversation
    /// instead.
    pub(super) fn has_lanes(&self) -> bool {
        self.endpoint == Endpoint::Responses
    }

    pub(super) fn scope(&self, policy: &Policy, model: Option<&str>) -> Arc<Scope> {
        let name = || if policy.one_scope { EVERYBODY } else { self.credential_name };
        self.proxy.scopes.resolve_named(self.credential, model, name)
    }

    pub(super) fn ask(&self, cost: Cost, bytes: usize, deadline: Instant, turn: Turn, mode: Mode) -> Ask {
        Ask {
            caller: self.caller.id,
            weight: self.caller.weight,
            lane: self.caller.lane,
            cost,
            body_bytes: bytes,
            deadline,
            head_due: false,
            turn,
            mode,
            route: self.route,
        }
    }

    pub(super) fn random<T>(&self, draw: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        self.proxy.random(draw)
    }
}
