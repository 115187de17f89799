//! The handling of one request, from its arrival to its response.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;

use crate::clock;

use super::Simulator;
use super::answer::{self, Content, Reply, ReplyInput};
use super::ask::Ask;
use super::body::{Body, Cut};
use super::credential::{fnv1a, identify};
use super::dialect::Dialect;
use super::errors::ApiError;
use super::fault::{Directive, Encoding, Fault, JOB_HEADER};
use super::latency::Latency;
use super::limiter::Price;
use super::multipart::{self, Part};
use super::response_plan::ResponsePlan;
use super::route::{Inference, Route};
use super::schedule::OutageKind;
use super::session;
use super::settings::LimitHeaders;
use super::wire::WireFault;

/// Guard of a request in flight: counts it, and holds its slot, until the response body is dropped.
#[derive(Debug)]
pub(super) struct InFlight(Simulator, Option<OwnedSemaphorePermit>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.state().recorder.left();
    }
}

impl Simulator {
    /// Handles one request. An error closes the connection without a response.
    pub(super) async fn exchange(
        &self,
        mut request: Request<Incoming>,
        wire_fault: Arc<WireFault>,
        session_slot: &session::SessionSlot,
    ) -> Result<Response<Body>, Cut> {
        if let Some(response) = session::accept_handshake(self, &mut request, &wire_fault, session_slot) {
            return Ok(response);
        }
        let (parts, body) = request.into_parts();
        if parts.uri.path().starts_with("/simulate/") {
            return Ok(self.control(&parts, body).await);
        }
        let (mut plan, attempt, mut in_flight) = self.arrive(&parts, wire_fault);
        let directive = Directive::parse(&parts.headers);
        let read = Limited::new(body, plan.settings.max_body).collect().await;
        let (reply, fault) = match (read, directive) {
            (Ok(body), Ok(directive)) => {
                plan.directive = directive;
                // Boxed, so that idle connections do not reserve its memory.
                Box::pin(self.handle(&parts, body.to_bytes(), attempt, &mut plan)).await?
            }
            (Ok(_), Err(problem)) => (bad_request(Some("x-simulate"), &problem.to_string()), None),
            (Err(error), _) if error.is::<LengthLimitError>() => (error_reply("payload_too_large"), None),
            (Err(_), _) => return Err(Cut),
        };
        self.state().recorder.answered(reply.status.as_u16());
        in_flight.1 = plan.slot.take();
        Ok(plan.build(reply, fault).map(|body| body.with(in_flight)))
    }

    /// Counts a new request, and prepares its response.
    fn arrive(&self, parts: &Parts, wire_fault: Arc<WireFault>) -> (ResponsePlan, u32, InFlight) {
        let job = parts.headers.get(JOB_HEADER).and_then(|value| value.to_str().ok());
        let declares_retry =
            parts.headers.get("x-stainless-retry-count").is_some_and(|count| count.as_bytes() != b"0");
        let (settings, attempt, request_id) = {
            let now = clock::now();
            let mut state = self.state();
            let second = state.second(now);
            let attempt = state.recorder.arrived(second, job, declares_retry);
            (Arc::clone(&state.settings), attempt, state.rng.u128(..))
        };
        let plan = ResponsePlan {
            settings,
            directive: Directive::default(),
            accepted: Encoding::accepted(&parts.headers),
            wire_fault,
            request_id,
            account: None,
            processing: None,
            levels: None,
            all_levels: None,
            slot: None,
        };
        (plan, attempt, InFlight(self.clone(), None))
    }

    /// Handles one turn of a WebSocket session. Returns the reply and the limits' levels. A turn
    /// with `warms_up` is not charged.
    pub(super) async fn turn(
        &self,
        parts: &Parts,
        body: Bytes,
        warms_up: bool,
        wire_fault: &Arc<WireFault>,
    ) -> Result<(Reply, Vec<Value>), Cut> {
        let (mut plan, attempt, _in_flight) = self.arrive(parts, Arc::clone(wire_fault));
        plan.directive = match Directive::parse(&parts.headers) {
            Ok(directive) => Directive { free: warms_up, ..directive },
            Err(problem) => return Ok((bad_request(Some("x-simulate"), &problem.to_string()), Vec::new())),
        };
        let (reply, _) = Box::pin(self.handle(parts, body, attempt, &mut plan)).await?;
        self.state().recorder.answered(reply.status.as_u16());
        let now = plan.all_levels.unwrap_or_default();
        let limits = [("requests", now.requests), ("tokens", now.tokens)].into_iter().filter_map(|(name, level)| {
            let level = level?;
            let reset = level.reset.as_secs_f64();
            Some(json!({ "name": name, "limit": level.limit, "remaining": level.remaining, "reset_seconds": reset }))
        });
        Ok((reply, limits.collect()))
    }

    /// Handles a complete request. Returns the reply and the fault of its body, if any.
    async fn handle(
        &self,
        parts: &Parts,
        body: Bytes,
        attempt: u32,
        plan: &mut ResponsePlan,
    ) -> Result<(Reply, Option<Fault>), Cut> {
        let settings = Arc::clone(&plan.settings);
        self.wait(plan.directive.before, settings.before).await;
        let outage = self.outage_status(clock::now()).outage;
        match outage {
            Some(OutageKind::Refused) => {
                plan.wire_fault.reset();
                return Err(Cut);
            }
            Some(OutageKind::Fault(fault)) => {
                return self.fail(fault, plan).await.map(|reply| (reply, None));
            }
            None => {}
        }
        match identify(&settings, &parts.headers) {
            Ok(account) => plan.account = Some(account),
            Err(denied) => {
                let mut reply = Reply::error(denied.error);
                reply.content = Content::Whole(json!({ "error": denied.object }).to_string().into());
                return Ok((reply, None));
            }
        }
        let path = parts.uri.path();
        let is_known = settings.dialect.is_none_or(|dialect| dialect.has_path(path));
        let route = if is_known { Route::of(&parts.method, path) } else { Route::Unknown };
        if plan.directive.echo || route == Route::Echo {
            return Ok((echo(parts, &body), None));
        }
        let form = multipart::parts(&parts.headers, &body).unwrap_or_default();
        let ask = match read_ask(route, &body, &form) {
            Ok(ask) => ask,
            Err(reply) => return Ok((*reply, None)),
        };
        let fault = self.state().draw_fault(&plan.directive, attempt);
        if let Some(fault @ Fault::Error(_)) = fault
            && !settings.count_failed
        {
            return self.fail(fault, plan).await.map(|reply| (reply, None));
        }
        if let Route::Inference(endpoint) = route
            && !plan.directive.free
        {
            if let Some(refused) = self.admit(endpoint, &ask, plan) {
                return Ok((refused, None));
            }
            let reported = match settings.limit_headers {
                LimitHeaders::AsMeasured => {
                    endpoint.reports_limits(ask.streams()) && !matches!(fault, Some(Fault::Error(_)))
                }
                LimitHeaders::All => true,
                LimitHeaders::None => false,
            };
            if !reported || plan.directive.without_limit_headers {
                plan.levels = None;
            }
        }
        if let Some(slots) = &self.0.slots {
            let Ok(slot) = slots.take().await else {
                return Ok((settings.dialect.unwrap_or(Dialect::Openai).full(), None));
            };
            plan.slot = Some(slot);
        }
        plan.processing = Some(self.wait(plan.directive.after, settings.after).await);
        let input = ReplyInput {
            route,
            query: parts.uri.query().unwrap_or_default(),
            ask: &ask,
            form: &form,
            serial: self.next_serial(),
            created: clock::wall().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
            words: plan.directive.chunks.unwrap_or(settings.output_tokens),
        };
        match fault {
            None => Ok((answer::answer(&input, &self.0.store), None)),
            Some(Fault::HiddenErrorStream(error)) if ask.streams() => {
                self.count_fault(Fault::HiddenErrorStream(error));
                Ok((Reply::events(answer::hidden_error(&input, error), 0), None))
            }
            Some(fault) if fault.is_body_fault() => {
                self.count_fault(fault);
                Ok((answer::answer(&input, &self.0.store), Some(fault)))
            }
            Some(fault) => self.fail(fault, plan).await.map(|reply| (reply, None)),
        }
    }

    /// Applies a fault that replaces the regular response.
    async fn fail(&self, fault: Fault, plan: &ResponsePlan) -> Result<Reply, Cut> {
        self.count_fault(fault);
        match fault {
            Fault::Error(error) | Fault::HiddenErrorStream(error) => {
                let mut reply = Reply::error(error);
                if plan.settings.retry_after && error.suggests_retry() {
                    reply.headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
                }
                Ok(reply)
            }
            Fault::StallHead | Fault::StallBody | Fault::SlowBody => std::future::pending().await,
            Fault::Garbage => {
                plan.wire_fault.garble();
                Ok(Reply::json("{}"))
            }
            Fault::ResetBeforeHead
            | Fault::ResetMidBody
            | Fault::Truncate
            | Fault::CloseWithoutDone
            | Fault::LieContentLength => {
                plan.wire_fault.reset();
                Err(Cut)
            }
        }
    }

    fn count_fault(&self, fault: Fault) {
        let mut state = self.state();
        let second = state.second(clock::now());
        state.recorder.failed(second, fault.as_str());
    }

    /// Charges the limiter. Returns the error response if it refuses the request.
    fn admit(&self, endpoint: Inference, ask: &Ask, plan: &mut ResponsePlan) -> Option<Reply> {
        let account = plan.account.clone().unwrap_or_default();
        let price =
            Price { requests: 1, tokens: ask.charged(flat_charge(endpoint, ask), plan.settings.charge) };
        let (result, levels) = self.state().admit(&account, ask.model(), price, clock::now());
        plan.levels = Some(levels);
        plan.all_levels = Some(levels);
        let refused = result.err()?;
        if plan.settings.limit_headers != LimitHeaders::All {
            plan.levels = None;
        }
        let dialect = plan.settings.dialect.unwrap_or(Dialect::Openai);
        let body = dialect.refusal(&refused, ask.model(), &account.organization);
        let json = HeaderValue::from_static("application/json; charset=utf-8");
        let mut reply = Reply::new(StatusCode::TOO_MANY_REQUESTS, json, body);
        if plan.settings.retry_after && !refused.refusal.too_large {
            // Whole seconds, at least one, as documented.
            let seconds = refused.refusal.wait.as_millis().div_ceil(1_000).max(1);
            reply.headers.insert(RETRY_AFTER, HeaderValue::from(u64::try_from(seconds).unwrap_or(u64::MAX)));
        }
        Some(reply)
    }

    /// Waits for the requested latency, else a sample of the configured one. Returns the latency.
    async fn wait(&self, requested: Option<Duration>, usual: Latency) -> Duration {
        let time = match (requested, usual) {
            (Some(time), _) | (None, Latency::Fixed(time)) => time,
            (None, drawn) => drawn.sample(&mut self.state().rng),
        };
        if !time.is_zero() {
            clock::sleep(time).await;
        }
        time
    }
}

/// The tokens charged in addition to the input, as measured for this kind of request.
fn flat_charge(endpoint: Inference, ask: &Ask) -> u64 {
    match endpoint {
        Inference::Chat => ask.message_count() + 2,
        Inference::Responses if ask.tools.is_some_and(|tools| tools.elements > 0) => 19 + 217,
        Inference::Responses => 19,
        Inference::Completions
        | Inference::Embeddings
        | Inference::Moderations
        | Inference::Speech
        | Inference::Transcription
        | Inference::Images => 0,
    }
}

/// Parses the body of a request that names a model. Other requests are not parsed.
fn read_ask(route: Route<'_>, body: &Bytes, form: &[Part]) -> Result<Ask, Box<Reply>> {
    if !matches!(route, Route::Inference(_) | Route::ResponseInputTokens) {
        return Ok(Ask::default());
    }
    if !form.is_empty() {
        return Ok(Ask { model: multipart::field(form, "model").map(str::to_owned), ..Ask::default() });
    }
    let ask: Ask = serde_json::from_slice(body).map_err(|_| Box::new(bad_request(None, NOT_JSON)))?;
    if ask.model().is_empty() && needs_model(route) {
        return Err(Box::new(bad_request(None, "you must provide a model parameter")));
    }
    if ask.model().contains("does-not-exist") {
        let responses = route == Route::Inference(Inference::Responses);
        let name = if responses { "model_not_found_400" } else { "model_not_found" };
        return Err(Box::new(error_reply(name)));
    }
    Ok(ask)
}

const NOT_JSON: &str = "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP \
    library correctly. The OpenAI API expects a JSON payload, but what was sent was not valid JSON. If you have trouble \
    figuring out how to fix this, please contact us through our help center at help.openai.com.)";

fn needs_model(route: Route<'_>) -> bool {
    !matches!(
        route,
        Route::ResponseInputTokens | Route::Inference(Inference::Moderations | Inference::Images)
    )
}

fn bad_request(param: Option<&str>, message: &str) -> Reply {
    Reply::refuse(StatusCode::BAD_REQUEST, None, param, message)
}

fn error_reply(name: &str) -> Reply {
    Reply::error(ApiError::named(name).unwrap_or(&ApiError::all()[0]))
}

/// A response that contains the request.
fn echo(parts: &Parts, body: &Bytes) -> Reply {
    const WHOLE: usize = 64 << 10;
    let headers: Vec<_> = parts
        .headers
        .iter()
        .map(|(name, value)| json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())]))
        .collect();
    Reply::object(&json!({
        "object": "echo",
        "method": parts.method.as_str(),
        "path": parts.uri.path(),
        "query": parts.uri.query(),
        "version": format!("{:?}", parts.version),
        "headers": headers,
        "body": {
            "length": body.len(),
            "fnv1a64": format!("{:016x}", fnv1a(body)),
            "base64": (body.len() <= WHOLE).then(|| BASE64.encode(body)),
        },
    }))
}
