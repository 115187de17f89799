//! WebSocket upgrades, for the paths that the configuration allows.
//!
//! The handshake is a request: its caller is identified and its credential replaced. It counts
//! against no limit and does not queue; each turn of its session does
//! ([`websocket`](super::websocket)). It waits only while the upstream is down. Afterwards the
//! connection counts as a session. Handshakes are never retried: WebSocket clients must reconnect
//! anyway.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri, Version};
use hyper::upgrade::OnUpgrade;

use super::answer::{self, Notes};
use super::attempt::{AttemptOutcome, HeadVerdict, judge, latest_head, report_head};
use super::body::Body;
use super::destination::Destination;
use super::priced_request::{FailedAttempt, PricedRequest};
use super::websocket::{Context, Session};
use super::{Proxy, settle};
use crate::admission::{Admission, Ask, Cost, Permit, Refused, Route, Turn, Would};
use crate::caller::{self, Caller, Mode};
use crate::classify::{ErrorClass, Failure, FailureKind};
use crate::clock::{self, Instant};
use crate::metrics::Bound;
use crate::pool::UpstreamId;
use crate::replay::ClientBody;
use crate::response::OwnAnswer;
use crate::rights::Rights;
use crate::upstream::headers;
use crate::upstream::upgrade::{self, Switched, TunnelEnd, TunnelSlot, Upgrade};

const PROTOCOL: HeaderName = header::SEC_WEBSOCKET_PROTOCOL;
const EXTENSIONS: HeaderName = header::SEC_WEBSOCKET_EXTENSIONS;
/// The headers of the trace context.
const TRACE_HEADERS: [HeaderName; 2] =
    [HeaderName::from_static("traceparent"), HeaderName::from_static("tracestate")];
/// Browsers can't set headers, and send the API key as a subprotocol with this prefix.
const KEY_PROTOCOL: &[u8] = b"openai-insecure-api-key.";
/// The retry hint when all sessions are in use. The real time is unknown; a client that retries
/// every few seconds does no harm.
const NEXT_SLOT: Duration = Duration::from_secs(5);
/// Longest model name in a query, in bytes.
const MAX_MODEL: usize = 256;

/// A client's request to upgrade to WebSocket.
pub(super) struct UpgradeRequest {
    protocol: HeaderValue,
    client: OnUpgrade,
}

/// The caller of a session.
pub(super) struct SessionCaller {
    pub(super) proxy: Arc<Proxy>,
    pub(super) caller: Arc<Caller>,
    /// Whether the request carries a configured credential.
    pub(super) swapped: bool,
    /// When the request arrived.
    pub(super) since: Instant,
}

/// The WebSocket upgrade that a request asks for, if any. Other protocols are ignored, as RFC 9110
/// (section 7.8) allows.
pub(super) fn requested(request: &mut Request<ClientBody>) -> Option<Box<UpgradeRequest>> {
    // Other requests cost only the first comparison.
    if *request.method() != Method::GET
        || !request.headers().contains_key(header::UPGRADE)
        || request.version() != Version::HTTP_11
    {
        return None;
    }
    let protocol = upgrade::asked_for(request.headers())?;
    let websocket = protocol.as_bytes().eq_ignore_ascii_case(b"websocket");
    websocket.then(|| Box::new(UpgradeRequest { protocol, client: hyper::upgrade::on(request) }))
}

/// The session's model, from the query.
pub(super) fn model(uri: &Uri) -> Option<Box<str>> {
    let mut pairs = uri.query()?.split('&').filter_map(|pair| pair.split_once('='));
    let (_, model) = pairs.find(|(name, _)| *name == "model")?;
    (!model.is_empty() && model.len() <= MAX_MODEL).then(|| model.into())
}

/// The response to an upgrade of a path that is not configured.
pub(super) fn not_allowed() -> OwnAnswer {
    let message = "upstream.websocket.paths does not allow an upgrade to WebSocket for this path.";
    OwnAnswer {
        status: StatusCode::FORBIDDEN,
        code: "upgrade".into(),
        ..OwnAnswer::new(ErrorClass::BadRequest, message)
    }
}

impl PricedRequest<'_> {
    /// Makes the one attempt, and on success switches the connection to WebSocket.
    pub(super) async fn upgrade(
        mut self,
        requested: UpgradeRequest,
        session: SessionCaller,
        now: Instant,
    ) -> Response<Body> {
        let home = self.policy.upstreams.home().of_worker(self.proxy.worker);
        let Some(slot) = home.tunnels().take() else {
            return self.no_slot();
        };
        // Only the turns count against limits.
        self.call.cost = Cost { requests: 0, tokens: 0, ..self.call.cost };
        let (mut permit, granted) = match self.admit_handshake(now).await {
            Ok(admitted) => admitted,
            Err(refused) => return self.turned_away(&refused, None),
        };
        self.record.attempt(Duration::ZERO, permit.is_probe(), granted);
        if permit.asks_quota() {
            self.record.quota_probed();
        }
        self.record.goes_to(permit.upstream());
        let to = Destination::of(&permit, self.policy, &self.proxy.policies, true);
        let outcome = match self.handshake(&requested, &to, session.swapped, &mut permit, granted).await {
            Ok(Upgrade::Switched(head, switched)) => {
                return self.switch(head, switched, requested, slot, permit, session);
            }
            Ok(Upgrade::Declined(response)) => {
                match judge(response, &self.call, &to, &mut permit, &mut self.record, self.policy) {
                    HeadVerdict::Now(outcome) => outcome,
                    HeadVerdict::Later(reading) => reading.await,
                }
            }
            Err(failure) => AttemptOutcome::Failed(failure),
        };
        match FailedAttempt::of(outcome) {
            Ok(answer) => self.succeed(answer, permit),
            Err(failed) => {
                self.record.attempt_failed(failed.class, clock::now());
                let classified = failed.classified.as_deref();
                settle::failed(permit, failed.class, &failed.result, classified);
                self.pass_on(failed, false)
            }
        }
    }

    /// A permit at once, or, while the upstream is down, after a wait like any other request.
    async fn admit_handshake(&mut self, now: Instant) -> Result<(Permit, Instant), Refused> {
        let at_once = Ask { mode: Mode::Observe, ..self.ask(Turn::First) };
        if self.call.head.mode == Mode::Enforce
            && let Admission::Granted(permit) = self.scope.ask(&at_once, now)
            && !matches!(permit.would(), Would::Refuse(Refused::BreakerOpen { .. }))
        {
            return Ok((permit, now));
        }
        self.admit(Turn::First, now).await
    }

    /// Whether the session's frames are parsed: not in `bypass`, unless its caller's models are
    /// restricted.
    fn is_read(&self) -> bool {
        self.call.head.mode != Mode::Bypass || self.bounded_rights().is_some()
    }

    fn bounded_rights(&self) -> Option<Arc<Rights>> {
        let rights = self.policy.rights_of(self.caller.id)?;
        rights.bounded_models().is_some().then(|| Arc::clone(rights))
    }

    async fn handshake(
        &mut self,
        requested: &UpgradeRequest,
        to: &Destination,
        swapped: bool,
        permit: &mut Permit,
        now: Instant,
    ) -> Result<Upgrade, Failure> {
        let head_by = latest_head(&self.call, self.policy);
        let Some(mut request) = self.call.request(to, self.record.model()) else {
            return Err(Failure::unsent(FailureKind::RequestMalformed, "a handshake has no body"));
        };
        if swapped {
            drop_key_protocol(request.headers_mut());
        }
        let is_read = self.is_read();
        if is_read {
            // Compressed frames can't be read, so compression is not offered.
            request.headers_mut().remove(EXTENSIONS);
        }
        upgrade::ask_for(request.headers_mut(), requested.protocol.clone());
        permit.sent_at(now);
        let answered = to.member.of_worker(self.proxy.worker).upgrade(request, head_by).await?;
        if let Upgrade::Switched(head, _) = &answered {
            let agreed = head.headers().get(header::UPGRADE);
            if !agreed.is_some_and(|agreed| agreed.as_bytes().eq_ignore_ascii_case(b"websocket")) {
                return Err(Failure::sent(FailureKind::Malformed, "it switched to another protocol"));
            }
            if is_read && head.headers().contains_key(EXTENSIONS) {
                return Err(Failure::sent(
                    FailureKind::Malformed,
                    "it chose an extension that was not offered",
                ));
            }
        }
        Ok(answered)
    }

    /// Sends the 101 response, and starts to relay frames.
    fn switch(
        mut self,
        head: Response<()>,
        switched: Switched,
        requested: UpgradeRequest,
        mut slot: TunnelSlot,
        mut permit: Permit,
        session: SessionCaller,
    ) -> Response<Body> {
        let now = clock::now();
        let upstream = permit.upstream();
        let (mut head, ()) = head.into_parts();
        report_head(&mut permit, &mut self.record, &head, true, now);
        permit.done_at(now);
        headers::strip_response(&mut head.headers);
        upgrade::ask_for(&mut head.headers, requested.protocol);
        answer::add_notes(&mut head.headers, &self.record, &Notes { class: None, stop_retries: false });
        self.record.answered(head.status, now);
        let (caller, id) = (Arc::clone(&self.caller.name), self.record.id());
        let model = self.record.model().map(Into::into);
        let (context, is_read) = (self.context(session, &slot, upstream), self.is_read());
        self.record.finish(now);
        clock::spawn(async move {
            let report = if is_read {
                let Some((client, upstream, connection)) = switched.open(requested.client).await else {
                    return;
                };
                let report = Session::new(client, upstream, context, model).run(&mut slot).await;
                drop(connection);
                report
            } else {
                let metrics = Arc::clone(context.proxy.account.metrics());
                let report = slot.run(switched, requested.client).await;
                if report.end == TunnelEnd::Idle {
                    metrics.limits_reached.inc(Bound::WebSocketIdle);
                }
                report
            };
            let seconds = (clock::now() - now).as_secs_f64();
            let (up, down, end) = (report.up, report.down, report.end.as_str());
            tracing::info!(request = %id, %caller, up, down, seconds, end, "websocket ended");
        });
        Response::from_parts(head, Body::Whole(Bytes::new()))
    }

    /// The shared context of the session's turns.
    fn context(&self, session: SessionCaller, slot: &TunnelSlot, upstream: UpstreamId) -> Context {
        let (head, policy) = (&self.call.head, self.policy);
        let headers = head.headers.with(|headers| {
            let kept =
                |name: &&HeaderName| TRACE_HEADERS.contains(*name) || policy.report_headers.contains(*name);
            headers
                .iter()
                .filter(|(name, _)| kept(name))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect()
        });
        Context {
            proxy: session.proxy,
            caller: session.caller,
            endpoint: head.endpoint,
            mode: head.mode,
            credential: head.credential,
            route: Route { pin: self.scope.is_pool().then_some(upstream), ..Route::default() },
            upstream,
            credential_name: (policy.callers.lasting_name(self.caller.id))
                .unwrap_or_else(|| head.headers.with(caller::credential_name)),
            patience: head.deadline.turn.saturating_duration_since(session.since),
            headers,
            rights: self.bounded_rights(),
            longest: slot.limits().message,
        }
    }

    fn no_slot(mut self) -> Response<Body> {
        self.record.account().metrics().limits_reached.inc(Bound::WebSockets);
        let own = OwnAnswer {
            status: StatusCode::TOO_MANY_REQUESTS,
            code: "websocket_limit".into(),
            ..OwnAnswer::new(
                ErrorClass::WeirQueueFull,
                "The number of open WebSocket connections has reached upstream.websocket.max.",
            )
        };
        let own = self.proxy.random(|rng| own.retry_after(NEXT_SLOT, rng));
        self.record.failed(own.class, None);
        answer::own(own, self.record)
    }
}

/// Removes the caller's key from the subprotocols: the upstream must only see the configured one.
fn drop_key_protocol(headers: &mut HeaderMap) {
    let header::Entry::Occupied(entry) = headers.entry(PROTOCOL) else { return };
    let (_, values) = entry.remove_entry_mult();
    let kept: Vec<Vec<u8>> = values
        .flat_map(|value| {
            value
                .as_bytes()
                .split(|byte| *byte == b',')
                .map(|it| it.trim_ascii().to_vec())
                .collect::<Vec<_>>()
        })
        .filter(|protocol| !protocol.is_empty() && !protocol.starts_with(KEY_PROTOCOL))
        .collect();
    if let Ok(value) = HeaderValue::from_bytes(&kept.join(&b", "[..]))
        && !kept.is_empty()
    {
        headers.insert(PROTOCOL, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_names_the_model() {
        for (uri, expected) in [
            ("/v1/realtime?model=gpt-realtime", Some("gpt-realtime")),
            ("/v1/realtime?a=b&model=gpt-realtime&c", Some("gpt-realtime")),
            ("/v1/realtime?model=", None),
            ("/v1/realtime?xmodel=a", None),
            ("/v1/realtime", None),
        ] {
            assert_eq!(model(&uri.parse().unwrap()).as_deref(), expected, "{uri}");
        }
    }

    #[test]
    fn a_swapped_key_is_not_sent_as_a_subprotocol() {
        let mut headers = HeaderMap::new();
        headers.append(PROTOCOL, HeaderValue::from_static("realtime, openai-insecure-api-key.sk-own"));
        headers.append(PROTOCOL, HeaderValue::from_static("openai-beta.realtime-v1"));
        drop_key_protocol(&mut headers);
        let left: Vec<_> = headers.get_all(PROTOCOL).iter().collect();
        assert_eq!(left, ["realtime, openai-beta.realtime-v1"]);
        headers.insert(PROTOCOL, HeaderValue::from_static("openai-insecure-api-key.sk-own"));
        drop_key_protocol(&mut headers);
        assert!(!headers.contains_key(PROTOCOL));
    }
}
