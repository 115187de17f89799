//! The first step of the pipeline: identifies the caller, and checks what the request asks for.

use std::sync::Arc;
use std::time::Duration;

use http::uri::Authority;
use http::{Request, Response, StatusCode};

use crate::account::{Begin, Record, RequestId};
use crate::caller::origin::Foreign;
use crate::caller::{Caller, CallerId, Mode};
use crate::classify::ErrorClass;
use crate::clock::{self, Instant};
use crate::metrics::{HttpRule, Label as _};
use crate::openai::endpoint::Named;
use crate::openai::stainless::SdkHeaders;
use crate::replay::ClientBody;
use crate::response::OwnAnswer;
use crate::rights::{Asked, BodyCheck};
use crate::upstream::headers::Present;

use super::body::Body;
use super::call::Head;
use super::configured_credential::ConfiguredCredential;
use super::deadline::{self, Deadline};
use super::keep_alive::KeepAlive;
use super::refusals::{refuse, refuse_unknown};
use super::{Client, Policy, Proxy, rights, upgrade};

/// A request whose head was read and whose body was not.
pub(super) struct Opened {
    pub(super) since: Instant,
    pub(super) policy: Arc<Policy>,
    pub(super) caller: Arc<Caller>,
    pub(super) head: Box<Head>,
    pub(super) incoming: ClientBody,
    pub(super) record: Box<Record>,
    pub(super) upgrade: Option<Box<upgrade::UpgradeRequest>>,
    /// Whether it carries a configured credential upstream, not the caller's own.
    pub(super) swapped: bool,
    pub(super) body_check: BodyCheck,
}

impl Opened {
    /// The mode that selects the path. WebSocket handshakes always take that of `enforce`; in other
    /// modes they are admitted at once.
    pub(super) fn mode(&self) -> Mode {
        if self.upgrade.is_some() { Mode::Enforce } else { self.head.mode }
    }
}

impl Proxy {
    /// Reads a request's head, or refuses it.
    pub(super) fn open(
        &self,
        mut request: Request<ClientBody>,
        client: Client<'_>,
    ) -> Result<Opened, Box<Response<Body>>> {
        let since = clock::now();
        let upgrade = upgrade::requested(&mut request);
        let policy = self.policies.current();
        let (parts, incoming) = request.into_parts();
        let present = Present::of(&parts.headers);
        let named = Named::by(parts.uri.path());
        if let Some(requests) = self.account.metrics().worker_requests.get(self.worker) {
            requests.inc();
        }
        let sdk = SdkHeaders::of(&parts.headers);
        let begin = |caller: CallerId| {
            let (id, trace) = self.random(|rng| {
                (RequestId::new(rng), self.account.trace(&parts.headers, present.is_traced, rng))
            });
            let sdk_retries = sdk.retry_count.unwrap_or(0);
            self.account.begin(&Begin { id, caller, endpoint: named.endpoint, sdk_retries, trace }, since)
        };
        let identified = match policy.callers.identify(&parts.headers, client.names, clock::wall) {
            Ok(identified) => identified,
            Err(why) => {
                let record = begin(policy.callers.nobody().id);
                return Err(Box::new(refuse_unknown(record, &why, client.address)));
            }
        };
        let caller = Arc::clone(identified.caller);
        let mut record = begin(caller.id);
        let authority = parts.uri.authority().map(Authority::as_str);
        if let Err(foreign) = identified.check_origin(&parts.headers, authority) {
            return Err(Box::new(self.refuse_foreign(foreign, record)));
        }
        let mut body_check = BodyCheck::Nothing;
        if let Some(rights) = policy.rights_of(caller.id) {
            let asked = Asked {
                method: &parts.method,
                path: parts.uri.path(),
                query: parts.uri.query(),
                headers: &parts.headers,
                endpoint: named.endpoint,
                upgrade: upgrade.is_some(),
            };
            match rights.check(&asked) {
                Ok(check) => body_check = check,
                Err(refused) => return Err(Box::new(rights::refuse(&refused, record))),
            }
        }
        let home = policy.upstreams.home().of_worker(self.worker);
        if upgrade.is_some() && !home.tunnels().allows(parts.uri.path()) {
            self.account.metrics().http_refusals.inc(HttpRule::Upgrade);
            return Err(Box::new(refuse(upgrade::not_allowed(), record)));
        }
        let target = home.target();
        let swapped = identified.is_swapped();
        let longest = caller.max_deadline.unwrap_or(Duration::MAX);
        let stated = if present.is_for_weir { parts.headers.get(deadline::DEADLINE) } else { None };
        let deadline = Deadline::of(stated, sdk, since, policy.max_wait, longest);
        let configured = ConfiguredCredential::of(&self.policies, caller.id, identified.content());
        let parts = (parts, &present);
        let mut head = Head::read(parts, named, &identified, client.address, &policy, target, deadline);
        head.configured = configured;
        head.keep_alive = KeepAlive::of(&policy, &head, record.id(), self.account.metrics());
        record.set_deadline(head.deadline.turn);
        Ok(Opened { since, policy, caller, head, incoming, record, upgrade, swapped, body_check })
    }

    fn refuse_foreign(&self, foreign: Foreign, record: Box<Record>) -> Response<Body> {
        let (rule, message) = match foreign {
            Foreign::Host => (
                HttpRule::ForeignHost,
                "The Host is not a name of this listener, and the request shows no Weir key. Call it by a loopback name, or add \
                 the name to server.hosts.",
            ),
            Foreign::Site => (
                HttpRule::CrossSite,
                "A web page of another site may not spend the configured credential. Send a Weir key, or add the page's host to \
                 server.hosts.",
            ),
        };
        self.account.metrics().http_refusals.inc(rule);
        let own = OwnAnswer {
            status: StatusCode::FORBIDDEN,
            code: rule.name().into(),
            ..OwnAnswer::new(ErrorClass::WeirNotAllowed, message)
        };
        refuse(own, record)
    }
}
