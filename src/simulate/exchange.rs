//! One request and its answer, step by step.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde_json::json;

use crate::clock;

use super::answer::{self, Content, Question, Reply};
use super::ask::Ask;
use super::body::{Body, Cut, Step};
use super::credential::{fnv1a, identify};
use super::errors::ApiError;
use super::fault::{Directive, Encoding, Fault, JOB_HEADER};
use super::latency::Latency;
use super::limit_headers::{Levels, refusal_body};
use super::limiter::Price;
use super::multipart::{self, Part};
use super::route::{Inference, Route};
use super::schedule::OutageKind;
use super::settings::{Account, LimitHeaders, Settings};
use super::wire::Fate;
use super::{Simulator, base64};

/// A body or a stream that trickles does so in this many pieces.
const SLOW_PIECES: usize = 32;
const SLOW_PAUSE: Duration = Duration::from_millis(250);
/// What was written before a reset gets this long to leave.
const BEFORE_CUT: Duration = Duration::from_millis(10);

/// Counts a request as under way until its body has ended or was dropped.
#[derive(Debug)]
pub(super) struct UnderWay(Simulator);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.state().recorder.left();
    }
}

/// How the answer is to look, whatever it is.
struct Manner {
    settings: Arc<Settings>,
    directive: Directive,
    accepted: Encoding,
    fate: Arc<Fate>,
    request_id: u128,
    account: Option<Account>,
    processing: Option<Duration>,
    levels: Option<Levels>,
}

impl Simulator {
    /// Answers one request. An error closes the connection without an answer.
    pub(super) async fn exchange(
        &self,
        request: Request<Incoming>,
        fate: Arc<Fate>,
    ) -> Result<Response<Body>, Cut> {
        let (parts, body) = request.into_parts();
        if parts.uri.path().starts_with("/simulate/") {
            return Ok(self.control(&parts, body).await);
        }
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
        let under_way = UnderWay(self.clone());
        let directive = Directive::parse(&parts.headers);
        let mut manner = Manner {
            settings,
            directive: Directive::default(),
            accepted: Encoding::accepted(&parts.headers),
            fate,
            request_id,
            account: None,
            processing: None,
            levels: None,
        };
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
        Ok(manner.dress(reply, fault).map(|body| body.with(under_way)))
    }

    /// Everything between a request that was read and an answer to send, with the fault that the body is to meet.
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
        let route = Route::of(&parts.method, parts.uri.path());
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
        if let Route::Inference(work) = route {
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
            Some(fault) => match fault {
                Fault::Error(_)
                | Fault::HiddenErrorStream(_)
                | Fault::ResetBeforeHead
                | Fault::StallHead
                | Fault::Garbage => self.fail(fault, manner).await.map(|reply| (reply, None)),
                Fault::ResetMidBody
                | Fault::StallBody
                | Fault::Truncate
                | Fault::SlowBody
                | Fault::CloseWithoutDone
                | Fault::LieContentLength => {
                    self.note(fault);
                    Ok((answer::answer(&question, &self.0.store), Some(fault)))
                }
            },
        }
    }

    /// Meets a fault without an answer to spoil.
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
        let refused = result.err()?;
        if manner.settings.limit_headers != LimitHeaders::All {
            manner.levels = None;
        }
        let body = refusal_body(&refused, ask.model(), &account.organization);
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

/// Reads what a request with a model asks for; for the others there is nothing to read.
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
    Reply::error(ApiError::named(name).unwrap_or(&super::errors::ALL[0]))
}

/// Tells what arrived, as it arrived.
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
            "base64": (body.len() <= WHOLE).then(|| base64::encode(body)),
        },
    }))
}

impl Manner {
    /// Puts headers, encoding, pace and the fault of the body on an answer.
    fn dress(&self, reply: Reply, fault: Option<Fault>) -> Response<Body> {
        let Reply { status, headers, content } = reply;
        let mut response = Response::new(());
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        self.write_headers(response.headers_mut());
        let (mut pieces, events) = match content {
            Content::Whole(data) => (vec![data], false),
            Content::Events { mut events, closing } => {
                if fault == Some(Fault::CloseWithoutDone) {
                    events.truncate(events.len() - closing.min(events.len()));
                }
                (events, true)
            }
        };
        let encoding = self.encoding(response.headers(), events);
        if let Some(value) = encoding.header() {
            response.headers_mut().insert(CONTENT_ENCODING, value);
            pieces = encoding.encode(pieces);
        }
        let pace = self.directive.chunk_delay.unwrap_or(self.settings.chunk_delay);
        let body = match (fault, pieces.as_slice()) {
            (None, [whole]) if !events => Body::whole(whole.clone()),
            (None | Some(Fault::CloseWithoutDone), _) => self.paced(pieces, pace),
            (Some(fault), _) => {
                let whole = Bytes::from(pieces.concat());
                if let Some(length) = told_length(fault, whole.len(), events) {
                    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
                }
                Body::paced(self.spoil(fault, whole), Arc::clone(&self.fate))
            }
        };
        response.map(|()| body)
    }

    fn write_headers(&self, headers: &mut HeaderMap) {
        let text = |value: String| HeaderValue::try_from(value).unwrap_or(HeaderValue::from_static(""));
        headers.insert("x-request-id", text(format!("req_{:032x}", self.request_id)));
        headers.insert("openai-version", HeaderValue::from_static("2020-10-01"));
        if let (Some(processing), Some(account)) = (self.processing, &self.account) {
            let milliseconds = u64::try_from(processing.as_millis()).unwrap_or(u64::MAX);
            headers.insert("openai-processing-ms", HeaderValue::from(milliseconds));
            for (name, value) in [(ORGANIZATION, &account.organization), (PROJECT, &account.project)] {
                if let Ok(value) = HeaderValue::from_str(value) {
                    headers.insert(name, value);
                }
            }
        }
        if let Some(levels) = self.levels {
            levels.write(headers);
        }
        for (name, value) in &self.directive.answer_headers {
            headers.insert(*name, value.clone());
        }
    }

    /// JSON is encoded for those who accept it, as the API does; streams and files only when asked to.
    fn encoding(&self, headers: &HeaderMap, events: bool) -> Encoding {
        let json =
            headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/json"));
        match self.directive.encoding {
            Some(encoding) => encoding,
            None if self.settings.compress && json && !events => self.accepted,
            None => Encoding::Identity,
        }
    }

    fn paced(&self, pieces: Vec<Bytes>, pace: Duration) -> Body {
        let mut steps = VecDeque::with_capacity(pieces.len() * 2);
        for piece in pieces {
            if !steps.is_empty() && !pace.is_zero() {
                steps.push_back(Step::Wait(pace));
            }
            steps.push_back(Step::Data(piece));
        }
        Body::paced(steps, Arc::clone(&self.fate))
    }

    fn spoil(&self, fault: Fault, whole: Bytes) -> VecDeque<Step> {
        let half = Step::Data(whole.slice(..whole.len() / 2));
        match fault {
            Fault::ResetMidBody => [half, Step::Wait(BEFORE_CUT), Step::Cut].into(),
            Fault::StallBody => [half, Step::Stall].into(),
            Fault::Truncate => [half].into(),
            Fault::SlowBody => {
                let pause = self.directive.chunk_delay.unwrap_or(SLOW_PAUSE);
                let size = whole.len().div_ceil(SLOW_PIECES).max(1);
                let mut steps = VecDeque::new();
                for start in (0..whole.len()).step_by(size) {
                    let end = whole.len().min(start + size);
                    steps.extend([Step::Wait(pause), Step::Data(whole.slice(start..end))]);
                }
                steps
            }
            Fault::LieContentLength
            | Fault::CloseWithoutDone
            | Fault::Error(_)
            | Fault::HiddenErrorStream(_)
            | Fault::ResetBeforeHead
            | Fault::StallHead
            | Fault::Garbage => [Step::Data(whole)].into(),
        }
    }
}

const ORGANIZATION: HeaderName = HeaderName::from_static("openai-organization");
const PROJECT: HeaderName = HeaderName::from_static("openai-project");

/// The `content-length` of a body that meets a fault. One that ends early and cleanly has none, nor has a stream.
fn told_length(fault: Fault, length: usize, events: bool) -> Option<usize> {
    match fault {
        Fault::LieContentLength => Some(length + 64),
        Fault::ResetMidBody | Fault::StallBody | Fault::SlowBody => (!events).then_some(length),
        Fault::Truncate
        | Fault::CloseWithoutDone
        | Fault::Error(_)
        | Fault::HiddenErrorStream(_)
        | Fault::ResetBeforeHead
        | Fault::StallHead
        | Fault::Garbage => None,
    }
}
