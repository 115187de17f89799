//! The request pipeline: identify the caller, read and price the request, admit, attempt, classify,
//! retry or stop, respond, account.
//!
//! [`Proxy::handle`] chooses by mode: `bypass` and `observe` have their own paths, and
//! `Proxy::enforce` is the pipeline, top to bottom. Each request is one future. Dropping it, as
//! hyper does when the caller leaves, returns the permit, ends the attempt and accounts for the
//! request.

mod allowance;
mod answer;
mod attempt;
mod configured_credential;
mod body;
mod call;
mod priced_request;
mod deadline;
mod destination;
mod response_guard;
mod first_event;
mod forward;
mod held_head;
mod keep_alive;
mod kept_headers;
mod kept_uri;
mod labels;
pub(crate) mod limits;
mod objects;
mod open;
mod policies;
mod policy;
mod refusals;
mod request_lane;
mod rights;
pub(crate) mod settle;
mod shape;
mod stall;
mod upgrade;
mod upstreams;
mod websocket;

use std::convert::Infallible;
use std::future::{self, Future, poll_fn};
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};

use http::{Request, Response};
use http_body::Body as _;
use tracing::Instrument as _;

pub use body::{Body, Relayed};
pub use first_event::FirstEventTimeout;
pub use keep_alive::KeptAlive;
pub use policies::Policies;
pub use policy::Policy;
pub use response_guard::ResponseGuard;
pub use rights::MOST_CHECKED;
pub use stall::Watched;
pub use upstreams::{PoolMember, Upstreams};

use crate::account::{Account, Record, Wait};
use crate::admission::{self, Route, Scopes};
use crate::caller::{self, Caller, Mode};
use crate::clock::{self, Instant};
use crate::metrics::Bound;
use crate::openai::ModelSearch;
use crate::openai::endpoint::deployment;
use crate::replay::{self, ClientBody, ReadError, Replay};
use crate::retry::Safety;

use call::{Call, Head};
use first_event::FirstEvents;
use open::Opened;
use priced_request::PricedRequest;
use refusals::refuse_body;
use stall::Stalls;

/// The client that sent a request.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// The peer's address.
    pub address: IpAddr,
    /// The names in the client's verified certificate.
    pub names: &'a [Box<str>],
}

/// The future of a response.
pub type Answering = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

/// The proxy of one worker. Workers share everything but their upstream connections.
#[derive(Debug)]
pub struct Proxy {
    policies: Arc<Policies>,
    scopes: Scopes,
    account: Arc<Account>,
    kept_bodies: Arc<replay::Budget>,
    worker: usize,
    stalls: Arc<Stalls>,
    first_events: FirstEvents,
    /// Locked only by this worker, so never contended.
    rng: Mutex<fastrand::Rng>,
}

impl Proxy {
    /// Creates the proxy of the worker with this index. `seed` seeds its jitter and request ids.
    pub fn new(
        policies: Arc<Policies>,
        scopes: Scopes,
        account: Arc<Account>,
        kept_bodies: Arc<replay::Budget>,
        worker: usize,
        seed: u64,
    ) -> Arc<Self> {
        let rng = Mutex::new(fastrand::Rng::with_seed(seed));
        let stalls = Stalls::new(Arc::clone(account.metrics()));
        let first_events = FirstEvents::default();
        Arc::new(Self { policies, scopes, account, kept_bodies, worker, stalls, first_events, rng })
    }

    /// Returns the future of a response; it never fails.
    ///
    /// The head is parsed before the future is created, so that the future, which lives while the
    /// request waits, does not store the unparsed request. The future is boxed so that an idle
    /// connection does not reserve space for it.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the queue, ends the current attempt, and accounts for a request
    /// whose caller left.
    pub fn handle(self: &Arc<Self>, request: Request<ClientBody>, client: Client<'_>) -> Answering {
        let opened = match self.open(request, client) {
            Ok(opened) => opened,
            Err(refusal) => return Box::pin(future::ready(Ok(*refusal))),
        };
        let span = tracing::debug_span!(
            "request",
            id = %opened.record.id(),
            caller = %opened.caller.name,
            endpoint = opened.head.endpoint.as_str(),
        );
        // Box each future here: returning it by value would copy the whole state machine, and
        // another async block around it would store `opened` twice.
        let answering: Answering = match opened.mode() {
            Mode::Bypass => Box::pin(Arc::clone(self).bypass(opened)),
            Mode::Observe => Box::pin(Arc::clone(self).observe(opened)),
            Mode::Enforce => match opened.head.keep_alive.clone() {
                None => Box::pin(Arc::clone(self).enforce(opened)),
                Some(keep_alive) => keep_alive.wrap(Box::pin(Arc::clone(self).enforce(opened))),
            },
        };
        if span.is_disabled() { answering } else { Box::pin(answering.instrument(span)) }
    }

    /// Reads and prices the request, and produces the response.
    #[expect(clippy::manual_async_fn, reason = "an async fn stores its arguments twice")]
    fn enforce(
        self: Arc<Self>,
        mut opened: Opened,
    ) -> impl Future<Output = Result<Response<Body>, Infallible>> + Send {
        async move {
            // Read. `opened` is taken apart field by field: local variables would be stored in the
            // future beside it.
            let model_search = opened.head.model_search;
            let reading = self.read(
                opened.incoming,
                opened.policy.replay_for(opened.body_check),
                &mut opened.record,
                opened.since,
                model_search,
            );
            let (body, now) = match reading.await {
                Ok(read) => read,
                Err(error) => return Ok(refuse_body(error, opened.record)),
            };
            let body = match opened.policy.check_body(opened.caller.id, opened.body_check, &opened.head, body)
            {
                Ok(body) => body,
                Err(unchecked) => return Ok(unchecked.refuse(opened.record)),
            };
            opened.head.deadline.request_read(now);
            opened.record.set_deadline(opened.head.deadline.turn);
            // Price.
            let (policy, caller, upgrade) = (&*opened.policy, &*opened.caller, opened.upgrade);
            let priced = self.price(policy, caller, opened.head, body, opened.record, upgrade.is_some());
            if let Some(asked) = upgrade {
                let session = upgrade::SessionCaller {
                    proxy: Arc::clone(&self),
                    caller: Arc::clone(&opened.caller),
                    swapped: opened.swapped,
                    since: opened.since,
                };
                return Ok(Box::pin(priced.upgrade(*asked, session, now)).await);
            }
            Ok(priced.run(now).await)
        }
    }

    /// Prices the request, and resolves its scope.
    fn price<'a>(
        &'a self,
        policy: &'a Policy,
        caller: &'a Caller,
        head: Box<Head>,
        body: Replay,
        mut record: Box<Record>,
        upgrade: bool,
    ) -> PricedRequest<'a> {
        let mut call = Call::price(head, body, policy);
        call.begin_silence();
        if policy.report_request_data {
            record.keep_request_data(call.body.bytes().clone());
        }
        if upgrade {
            call.model = call.head.uri.with(upgrade::model);
        }
        record.set_bytes_in(call.body.bytes().len() as u64);
        record.set_estimate(call.cost.tokens);
        if call.unread {
            self.account.metrics().limits_reached.inc(Bound::UnreadBody);
        }
        // Azure's limits apply to the deployment in the path, whatever model the body names.
        let deployed = call.head.uri.with(|uri| deployment(uri.path()).map(Box::<str>::from));
        let scope = self.scopes.resolve_named(
            call.head.credential,
            deployed.as_deref().or(call.model.as_deref()),
            || {
                if policy.one_scope {
                    admission::EVERYBODY
                } else {
                    let lasting = policy.callers.lasting_name(caller.id);
                    lasting.unwrap_or_else(|| call.head.headers.with(caller::credential_name))
                }
            },
        );
        call.head.spent = self.reserve(caller, &scope, call.cost.tokens, call.head.mode, &mut record);
        if let Some(model) = call.model.take().or(deployed) {
            record.set_model(model);
        }
        record.set_queue(call.head.lane, caller.weight, scope.name());
        let route = if policy.upstreams.is_pool() {
            let pin = objects::owner(&call, &policy.upstreams);
            Route { pin, once: call.safety == Safety::OnlyIfUnsent, ..Route::default() }
        } else {
            Route::default()
        };
        PricedRequest { proxy: self, policy, caller, scope, call, record, requeues: 0, route }
    }

    /// Reads the body, as far as it is kept, and returns when the last byte arrived. Polling the
    /// body also makes hyper send `100 Continue`.
    async fn read(
        &self,
        incoming: ClientBody,
        settings: &replay::Settings,
        record: &mut Record,
        since: Instant,
        model_search: ModelSearch,
    ) -> Result<(Replay, Instant), ReadError> {
        if incoming.is_end_stream() {
            return Ok((Replay::empty(), since));
        }
        let mut reading = pin!(Replay::read_for(incoming, settings, &self.kept_bodies, model_search));
        // Most bodies arrive with their heads, at `since`; the clock is read only for others.
        let mut waited = false;
        let body = poll_fn(|cx| {
            let polled = reading.as_mut().poll(cx);
            waited |= polled.is_pending();
            polled
        })
        .await?;
        let now = if waited { clock::now() } else { since };
        record.waited(Wait::Client, now - since);
        if let Some(why) = body.skipped() {
            self.account.metrics().replay_skipped.inc(why);
        }
        Ok((body, now))
    }

    fn random<T>(&self, draw: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        draw(&mut self.rng.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each request allocates this future, also while it waits. With one byte more than this, the
    /// allocator's size class is 896 bytes.
    #[test]
    fn the_future_of_a_request_is_small() {
        fn size<F>(_: impl Fn(Arc<Proxy>, Opened) -> F) -> usize {
            size_of::<F>()
        }
        let size = size(Proxy::enforce);
        assert!(size <= 768, "{size}");
    }
}
