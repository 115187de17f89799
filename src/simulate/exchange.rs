//! One request and its response, step by step.

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
use super::answer::{self, Content, Question, Reply};
use super::ask::Ask;
use super::body::{Body, Cut};
use super::credential::{fnv1a, identify};
use super::dialect::Dialect;
use super::errors::ApiError;
use super::fault::{Directive, Encoding, Fault, JOB_HEADER};
use super::latency::Latency;
use super::limiter::Price;
use super::manner::Manner;
use super::multipart::{self, Part};
use super::route::{Inference, Route};
use super::schedule::OutageKind;
use super::session;
use super::settings::LimitHeaders;
use super::wire::Fate;

/// Counts a request as under way until its body has ended or was dropped.
#[derive(Debug)]
pub(super) struct UnderWay(Simulator, Option<OwnedSemaphorePermit>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.state().recorder.left();
    }
}

impl Simulator {
    /// Answers one request. An error closes the connection without an answer.
    pub(super) async fn exchange(
        &self,
        mut request: Request<Incoming>,
        fate: Arc<Fate>,
        place: &session::Place,
    ) -> Result<Response<Body>, Cut> {
        if let Some(agreed) = session::agree(self, &mut request, &fate, place) {
            return Ok(agreed);
        }
        let (parts, body) = request.into_parts();
        if parts.uri.path().starts_with("/simulate/") {
            return Ok(self.control(&parts, body).await);
        }
        let (mut manner, attempt, mut under_way) = self.arrive(&parts, fate);
        let directive = Directive::parse(&parts.headers);
        let read = Limited::new(body, manner.settings.max_body).collect().await;
        let (reply, fault) = match (read, directive) {
            (Ok(body), Ok(directive)) => {
                manner.directive = directive;
                // Boxed, because a connection holds it only while a request is under way.
                Box::pin(self.work(&parts, body.to_bytes(), attempt, &mut manner)).await?
            }
            (Ok(_), Err(problem)) => (bad_request(Some("x-simulate"), &problem.to_string()), None),
            (Err(error), _) if error.is::<LengthLimitError>() => (error_reply("payload_too_large"), None),
            (Err(_), _) => return Err(Cut),
        };
        self.state().recorder.answered(reply.status.as_u16());
        under_way.1 = manner.slot.take();
        Ok(manner.dress(reply, fault).map(|body| body.with(under_way)))
    }

    /// Counts a new request, and decides how it is answered.
    fn arrive(&self, parts: &Parts, fate: Arc<Fate>) -> (Manner, u32, UnderWay) {
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
        let manner = Manner {
            settings,
            directive: Directive::default(),
            accepted: Encoding::accepted(&parts.headers),
            fate,
            request_id,
            account: None,
            processing: None,
            levels: None,
            all_levels: None,
            slot: None,
        };
        (manner, attempt, UnderWay(self.clone(), None))
    }

    /// Answers one turn of a session, and says how its limits stand. One that only warms up is
    /// charged nothing.
    pub(super) async fn turn(
        &self,
        parts: &Parts,
        body: Bytes,
        warms_up: bool,
        fate: &Arc<Fate>,
    ) -> Result<(Reply, Vec<Value>), Cut> {
        let (mut manner, attempt, _under_way) = self.arrive(parts, Arc::clone(fate));
        manner.directive = match Directive::parse(&parts.headers) {
            Ok(directive) => Directive { free: warms_up, ..directive },
            Err(problem) => return Ok((bad_request(Some("x-simulate"), &problem.to_string()), Vec::new())),
        };
        let (reply, _) = Box::pin(self.work(parts, body, attempt, &mut manner)).await?;
        self.state().recorder.answered(reply.status.as_u16());
        let now = manner.all_levels.unwrap_or_default();
        let limits = [("requests", now.requests), ("tokens", now.tokens)].into_iter().filter_map(|(name, level)| {
            let level = level?;
            let reset = level.reset.as_secs_f64();
            Some(json!({ "name": name, "limit": level.limit, "remaining": level.remaining, "reset_seconds": reset }))
        });
        Ok((reply, limits.collect()))
    }

    /// The steps from a complete request to its response, with the fault that the body gets.
    async fn work(
        &self,
        parts: &Parts,
        body: Bytes,
        attempt: u32,
        manner: &mut Manner,
    ) -> Result<(Reply, Option<Fault>), Cut> {
        let settings = Arc::clone(&manner.settings);
        self.wait(manner.directive.before, settings.before).await;
        let outage = self.weather(clock::now()).outage;
        match outage {
            Some(OutageKind::Refused) => {
                manner.fate.reset();
                return Err(Cut);
            }
            Some(OutageKind::Fault(fault)) => {
                return self.fail(fault, manner).await.map(|reply| (reply, None));
            }
            None => {}
        }
        match identify(&settings, &parts.headers) {
            Ok(account) => manner.account = Some(account),
            Err(denied) => {
                let mut reply = Reply::error(denied.error);
                reply.content = Content::Whole(json!({ "error": denied.object }).to_string().into());
                return Ok((reply, None));
            }
        }
        let path = parts.uri.path();
        let is_known = settings.dialect.is_none_or(|dialect| dialect.knows(path));
        let route = if is_known { Route::of(&parts.method, path) } else { Route::Unknown };
        if manner.directive.echo || route == Route::Echo {
            return Ok((echo(parts, &body), None));
        }
        let form = multipart::parts(&parts.headers, &body).unwrap_or_default();
        let ask = match read_ask(route, &body, &form) {
            Ok(ask) => ask,
            Err(reply) => return Ok((*reply, None)),
        };
        let fault = self.state().draw_fault(&manner.directive, attempt);
        if let Some(fault @ Fault::Error(_)) = fault
            && !settings.count_failed
        {
            return self.fail(fault, manner).await.map(|reply| (reply, None));
        }
        if let Route::Inference(work) = route
            && !manner.directive.free
        {
            if let Some(refused) = self.admit(work, &ask, manner) {
                return Ok((refused, None));
            }
            let told = match settings.limit_headers {
                LimitHeaders::AsMeasured => {
                    work.tells_limits(ask.streams()) && !matches!(fault, Some(Fault::Error(_)))
                }
                LimitHeaders::All => true,
                LimitHeaders::None => false,
            };
            if !told || manner.directive.without_limit_headers {
                manner.levels = None;
            }
        }
        if let Some(slots) = &self.0.slots {
            let Ok(slot) = slots.take().await else {
                return Ok((settings.dialect.unwrap_or(Dialect::Openai).full(), None));
            };
            manner.slot = Some(slot);
        }
        manner.processing = Some(self.wait(manner.directive.after, settings.after).await);
        let question = Question {
            route,
            query: parts.uri.query().unwrap_or_default(),
            ask: &ask,
            form: &form,
            serial: self.next_serial(),
            created: clock::wall().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
            words: manner.directive.chunks.unwrap_or(settings.output_tokens),
        };
        match fault {
            None => Ok((answer::answer(&question, &self.0.store), None)),
            Some(Fault::HiddenErrorStream(error)) if ask.streams() => {
                self.note(Fault::HiddenErrorStream(error));
                Ok((Reply::events(answer::hidden_error(&question, error), 0), None))
            }
            Some(fault) if fault.spoils_the_body() => {
                self.note(fault);
                Ok((answer::answer(&question, &self.0.store), Some(fault)))
            }
            Some(fault) => self.fail(fault, manner).await.map(|reply| (reply, None)),
        }
    }

    /// Applies a fault that needs no regular response.
    async fn fail(&self, fault: Fault, manner: &Manner) -> Result<Reply, Cut> {
        self.note(fault);
        match fault {
            Fault::Error(error) | Fault::HiddenErrorStream(error) => {
                let mut reply = Reply::error(error);
                if manner.settings.retry_after && error.suggests_retry() {
                    reply.headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
                }
                Ok(reply)
            }
            Fault::StallHead | Fault::StallBody | Fault::SlowBody => std::future::pending().await,
            Fault::Garbage => {
                manner.fate.garble();
                Ok(Reply::json("{}"))
            }
            Fault::ResetBeforeHead
            | Fault::ResetMidBody
            | Fault::Truncate
            | Fault::CloseWithoutDone
            | Fault::LieContentLength => {
                manner.fate.reset();
                Err(Cut)
            }
        }
    }

    fn note(&self, fault: Fault) {
        let mut state = self.state();
        let second = state.second(clock::now());
        state.recorder.failed(second, fault.as_str());
    }

    /// Asks the limiter. Returns the refusal, if it is one.
    fn admit(&self, work: Inference, ask: &Ask, manner: &mut Manner) -> Option<Reply> {
        let account = manner.account.clone().unwrap_or_default();
        let price =
            Price { requests: 1, tokens: ask.charged(flat_charge(work, ask), manner.settings.charge) };
        let (result, levels) = self.state().admit(&account, ask.model(), price, clock::now());
        manner.levels = Some(levels);
        manner.all_levels = Some(levels);
        let refused = result.err()?;
        if manner.settings.limit_headers != LimitHeaders::All {
            manner.levels = None;
        }
        let dialect = manner.settings.dialect.unwrap_or(Dialect::Openai);
        let body = dialect.refusal(&refused, ask.model(), &account.organization);
        let json = HeaderValue::from_static("application/json; charset=utf-8");
        let mut reply = Reply::new(StatusCode::TOO_MANY_REQUESTS, json, body);
        if manner.settings.retry_after && !refused.refusal.too_large {
            // Whole seconds, at least one, as documented.
            let seconds = refused.refusal.wait.as_millis().div_ceil(1_000).max(1);
            reply.headers.insert(RETRY_AFTER, HeaderValue::from(u64::try_from(seconds).unwrap_or(u64::MAX)));
        }
        Some(reply)
    }

    /// Waits as asked for, else as configured. Returns how long that was.
    async fn wait(&self, asked: Option<Duration>, usual: Latency) -> Duration {
        let time = match (asked, usual) {
            (Some(time), _) | (None, Latency::Fixed(time)) => time,
            (None, drawn) => drawn.sample(&mut self.state().rng),
        };
        if !time.is_zero() {
            clock::sleep(time).await;
        }
        time
    }
}

/// Tokens above the input that were measured for a request of this kind.
fn flat_charge(work: Inference, ask: &Ask) -> u64 {
    match work {
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

/// Parses the body of a request with a model; other requests are not parsed.
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

/// Returns the request's own content in the response.
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
