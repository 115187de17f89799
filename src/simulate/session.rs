//! Sessions over WebSocket: `/responses` in WebSocket mode, and a Realtime session in outline.
//!
//! Each `response.create` goes the way of a POST to `/responses` with the handshake's headers:
//! latency, key, limiter, faults. What would be its answer comes as messages. A create's `metadata`
//! may have `x-simulate` and `x-simulate-job`, which count as those headers. The rules are those of
//! developers.openai.com, guide "WebSocket mode": a lane for each `stream_id`, 32 with a name, 16
//! answers at once, a cache of each lane's last response, which a failed turn of the lane empties.
//! Frames are tungstenite's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Message, Role};

use crate::clock;

use super::Simulator;
use super::answer::{Content, Reply};
use super::body::{Body, Cut};
use super::credential::identify;
use super::errors::ApiError;
use super::fault::JOB_HEADER;
use super::wire::Fate;

/// Answers of one session under way at once; further creates wait.
const AT_ONCE: usize = 16;
/// Lanes of one session with a name.
const NAMED_LANES: usize = 32;
const LONGEST_NAME: usize = 256;
/// Messages of a session that wait to be written.
const WAITING: usize = 64;
/// What RFC 6455, section 4.2.2, appends to a key.
const ACCEPT: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Where the session of a connection is left for when its HTTP is over.
pub(super) type Place = Mutex<Option<Session>>;

/// A session that was agreed on.
#[derive(Debug)]
pub(super) struct Session {
    simulator: Simulator,
    upgraded: OnUpgrade,
    asked: Arc<Asked>,
}

/// What its handshake asked for.
#[derive(Debug)]
struct Asked {
    headers: HeaderMap,
    realtime: bool,
    /// The model in the query.
    model: Option<String>,
    fate: Arc<Fate>,
}

/// Answers a handshake for a session; nothing where the request asks for none.
pub(super) fn agree(
    simulator: &Simulator,
    request: &mut Request<Incoming>,
    fate: &Arc<Fate>,
    place: &Place,
) -> Option<Response<Body>> {
    let key = request.headers().get(SEC_WEBSOCKET_KEY)?.clone();
    request
        .headers()
        .get(UPGRADE)
        .filter(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"))?;
    let path = request.uri().path();
    let realtime = path.ends_with("/realtime");
    if !realtime && !path.ends_with("/responses") {
        return None;
    }
    let settings = Arc::clone(&simulator.state().settings);
    if let Err(denied) = identify(&settings, request.headers()) {
        let body = Bytes::from(json!({ "error": denied.object }).to_string());
        let mut response = Response::new(Body::whole(body));
        *response.status_mut() = denied.error.status;
        response
            .headers_mut()
            .insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        return Some(response);
    }
    let query = request.uri().query().unwrap_or_default();
    let model = query.split('&').find_map(|pair| pair.strip_prefix("model=")).map(str::to_owned);
    let asked = Asked { headers: request.headers().clone(), realtime, model, fate: Arc::clone(fate) };
    let mut response = Response::new(Body::whole(Bytes::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept(&key));
    let protocols = asked.headers.get(SEC_WEBSOCKET_PROTOCOL).and_then(|value| value.to_str().ok());
    let chosen =
        protocols.and_then(|offered| offered.split(',').map(str::trim).find(|one| *one == "realtime"));
    if chosen.is_some() {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("realtime"));
    }
    let session = Session {
        simulator: simulator.clone(),
        upgraded: hyper::upgrade::on(request),
        asked: Arc::new(asked),
    };
    *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(session);
    Some(response)
}

fn accept(key: &HeaderValue) -> HeaderValue {
    let text = [key.as_bytes(), ACCEPT.as_bytes()].concat();
    let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, &text);
    HeaderValue::try_from(BASE64.encode(digest)).unwrap_or(HeaderValue::from_static(""))
}

/// The name of a lane; none for the default one.
type Name = Option<String>;

/// What the lanes of a session share.
struct Shared {
    simulator: Simulator,
    asked: Arc<Asked>,
    at_once: Semaphore,
    /// Of each lane its last response.
    cache: Mutex<HashMap<Name, String>>,
    out: mpsc::Sender<String>,
}

impl Session {
    /// Runs the session until the client leaves or a fault ends it.
    pub(super) async fn run(self) {
        let Ok(upgraded) = self.upgraded.await else { return };
        let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
        let (out, frames) = mpsc::channel(WAITING);
        let shared = Arc::new(Shared {
            simulator: self.simulator,
            asked: self.asked,
            at_once: Semaphore::new(AT_ONCE),
            cache: Mutex::default(),
            out,
        });
        serve(socket, frames, &shared).await;
    }
}

async fn serve(
    socket: WebSocketStream<TokioIo<Upgraded>>,
    mut frames: mpsc::Receiver<String>,
    shared: &Arc<Shared>,
) {
    let (mut write, mut read) = socket.split();
    let mut lanes: HashMap<Name, mpsc::UnboundedSender<Value>> = HashMap::new();
    let mut tasks: JoinSet<Result<(), Cut>> = JoinSet::new();
    if shared.asked.realtime {
        let session =
            json!({ "type": "session.created", "event_id": "event_0", "session": { "type": "realtime" } });
        shared.out.send(session.to_string()).await.ok();
    }
    loop {
        tokio::select! {
            Some(frame) = frames.recv() => {
                if write.send(Message::text(frame)).await.is_err() {
                    return;
                }
            }
            Some(ended) = tasks.join_next(), if !tasks.is_empty() => {
                if matches!(ended, Ok(Err(Cut))) {
                    return shared.asked.fate.reset();
                }
            }
            message = read.next() => {
                let text = match message {
                    Some(Ok(Message::Text(text))) => text.as_str().to_owned(),
                    Some(Ok(Message::Binary(data))) => String::from_utf8_lossy(&data).into_owned(),
                    Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
                    // The echo of a close is in tungstenite's buffer until it is flushed.
                    Some(Ok(Message::Close(_)) | Err(_)) | None => {
                        write.flush().await.ok();
                        return;
                    }
                };
                let event = match request(&text, lanes.keys().flatten().count(), |name| lanes.contains_key(name)) {
                    Ok(Some(event)) => event,
                    Ok(None) => continue,
                    Err(refusal) => {
                        // What is written here does not wait for itself to be read.
                        if write.send(Message::text(refusal.to_string())).await.is_err() {
                            return;
                        }
                        continue;
                    }
                };
                let name: Name = event["stream_id"].as_str().map(str::to_owned);
                let lane = lanes.entry(name.clone()).or_insert_with(|| {
                    let (sender, turns) = mpsc::unbounded_channel();
                    tasks.spawn(run_lane(Arc::clone(shared), name, turns));
                    sender
                });
                lane.send(event).ok();
            }
        }
    }
}

/// Reads a message: a create, nothing for what is only taken note of, or the error that it is
/// answered with.
fn request(text: &str, named: usize, is_known: impl Fn(&Name) -> bool) -> Result<Option<Value>, Value> {
    let Ok(event @ Value::Object(_)) = serde_json::from_str::<Value>(text) else {
        return Err(refusal(None, "invalid_json", "The message is not a JSON object.", None));
    };
    match event["type"].as_str() {
        Some("response.create") => {}
        Some(kind)
            if kind.starts_with("input_audio_buffer.")
                || kind.starts_with("conversation.")
                || matches!(kind, "session.update" | "response.cancel" | "response.steer") =>
        {
            return Ok(None);
        }
        Some(_) | None => {
            return Err(refusal(
                None,
                "invalid_event",
                "The message is of no type that is known here.",
                Some("type"),
            ));
        }
    }
    let name = match &event["stream_id"] {
        Value::Null => None,
        Value::String(name) if is_valid(name) => Some(name.clone()),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
            let message = "The 'stream_id' field must be a non-empty string with at most 256 characters and may only contain \
                           letters, numbers, underscores, hyphens, and periods.";
            return Err(refusal(None, "invalid_stream_id", message, Some("stream_id")));
        }
    };
    if name.is_some() && named >= NAMED_LANES && !is_known(&name) {
        let message = "This WebSocket connection has reached its maximum number of distinct stream IDs (32). Reuse an existing \
                       stream_id or open a new WebSocket connection.";
        return Err(refusal(name.as_deref(), "websocket_stream_limit_reached", message, Some("stream_id")));
    }
    Ok(Some(event))
}

fn is_valid(name: &str) -> bool {
    (1..=LONGEST_NAME).contains(&name.len())
        && name.chars().all(|letter| letter.is_ascii_alphanumeric() || "_-.".contains(letter))
}

fn refusal(lane: Option<&str>, code: &str, message: &str, param: Option<&str>) -> Value {
    let error = json!({ "type": "invalid_request_error", "code": code, "message": message, "param": param });
    error_event(lane, 400, &error)
}

fn error_event(lane: Option<&str>, status: u16, error: &Value) -> Value {
    let mut event = json!({ "type": "error", "status": status, "error": error });
    if let Some(lane) = lane {
        event["stream_id"] = json!(lane);
    }
    event
}

/// Runs the turns of one lane, one after the other.
async fn run_lane(
    shared: Arc<Shared>,
    name: Name,
    mut turns: mpsc::UnboundedReceiver<Value>,
) -> Result<(), Cut> {
    while let Some(create) = turns.recv().await {
        let Ok(_one) = shared.at_once.acquire().await else { return Ok(()) };
        shared.turn(&name, create).await?;
    }
    Ok(())
}

impl Shared {
    async fn turn(&self, name: &Name, create: Value) -> Result<(), Cut> {
        let parent = create["previous_response_id"].as_str().map(str::to_owned);
        if let Some(parent) = &parent
            && !self.knows(parent)
        {
            let message = format!("Previous response with id '{parent}' not found.");
            let refusal = refusal(
                name.as_deref(),
                "previous_response_not_found",
                &message,
                Some("previous_response_id"),
            );
            return self.say(name, refusal).await;
        }
        let events = match self.reply(create).await? {
            Ok(events) => events,
            Err(error) => {
                self.forget(name, parent.as_deref());
                return self.say(name, error).await;
            }
        };
        let pace = self.simulator.state().settings.chunk_delay;
        for event in events {
            if let ("response.completed" | "response.incomplete", Some(id)) =
                (event["type"].as_str().unwrap_or_default(), event["response"]["id"].as_str())
            {
                self.cache.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), id.to_owned());
            }
            self.say(name, event).await?;
            if !pace.is_zero() {
                clock::sleep(pace).await;
            }
        }
        Ok(())
    }

    /// Whether a response can be continued here.
    fn knows(&self, id: &str) -> bool {
        let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let mut store = self.simulator.0.store.lock().unwrap_or_else(PoisonError::into_inner);
        cache.values().any(|cached| cached == id) || store.responses.find(id).is_some()
    }

    /// A lane's failed turn forgets what it continued.
    fn forget(&self, name: &Name, parent: Option<&str>) {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if parent.is_some() && cache.get(name).map(String::as_str) == parent {
            cache.remove(name);
        }
    }

    /// The events that a create is answered with, or the error.
    async fn reply(&self, mut create: Value) -> Result<Result<Vec<Value>, Value>, Cut> {
        let mut headers = self.asked.headers.clone();
        for header in ["x-simulate", JOB_HEADER] {
            let asked = create["metadata"][header].as_str().and_then(|text| HeaderValue::from_str(text).ok());
            if let Some(value) = asked {
                headers.insert(HeaderName::from_static(header), value);
            }
        }
        let warms_up = create["generate"] == json!(false);
        if self.asked.realtime {
            create = create["response"].take();
            if !create.is_object() {
                create = json!({});
            }
            let said = create["instructions"].take();
            // Without instructions it is the conversation that is answered, of which nothing is
            // kept here.
            create["input"] = if said.is_string() { said } else { json!("Hi") };
            create["model"] = json!(self.asked.model.as_deref().unwrap_or("gpt-realtime"));
        }
        create["stream"] = json!(true);
        let body = Bytes::from(create.to_string());
        let request = Request::builder().method(Method::POST).uri(Uri::from_static("/v1/responses")).body(());
        let (mut parts, ()): (Parts, ()) = request.unwrap_or_default().into_parts();
        parts.headers = headers;
        let told = self.simulator.turn(&parts, body, warms_up, &self.asked.fate).await?;
        Ok(match told {
            (reply, limits) if reply.status.is_success() => Ok(self.events(&reply, &limits, warms_up)),
            (reply, _) => Err(error_of(&reply)),
        })
    }

    fn events(&self, reply: &Reply, limits: &[Value], warms_up: bool) -> Vec<Value> {
        let Content::Events { events, .. } = &reply.content else { return Vec::new() };
        let mut told: Vec<Value> = events.iter().filter_map(event_of).collect();
        if warms_up {
            let last = told.len().saturating_sub(1);
            let mut place = 0;
            told.retain(|_| {
                place += 1;
                place == 1 || place > last
            });
            for event in &mut told {
                event["response"]["output"] = json!([]);
            }
        }
        if self.asked.realtime {
            for event in &mut told {
                if matches!(
                    event["type"].as_str(),
                    Some("response.completed" | "response.incomplete" | "response.failed")
                ) {
                    event["type"] = json!("response.done");
                }
                event["event_id"] = json!("event_1");
            }
            let limits =
                json!({ "type": "rate_limits.updated", "event_id": "event_1", "rate_limits": limits });
            told.insert(1.min(told.len()), limits);
        }
        told
    }

    async fn say(&self, name: &Name, mut event: Value) -> Result<(), Cut> {
        if let Some(name) = name {
            event["stream_id"] = json!(name);
        }
        self.out.send(event.to_string()).await.map_err(|_| Cut)
    }
}

/// The data of an event of a stream.
fn event_of(bytes: &Bytes) -> Option<Value> {
    let text = std::str::from_utf8(bytes).ok()?;
    let data = text.lines().find_map(|line| line.strip_prefix("data: "))?;
    serde_json::from_str(data).ok()
}

/// An error answer as an event: its headers stand in the error.
fn error_of(reply: &Reply) -> Value {
    let mut error = match &reply.content {
        Content::Whole(body) => serde_json::from_slice::<Value>(body).unwrap_or_default()["error"].take(),
        Content::Events { .. } => Value::Null,
    };
    if !error.is_object() {
        let known = ApiError::with_status(reply.status.as_u16()).map(ApiError::object);
        error = known.unwrap_or_else(|| json!({ "message": "", "type": "server_error", "code": null }));
    }
    let headers: serde_json::Map<String, Value> = reply
        .headers
        .iter()
        .filter(|(name, _)| **name != http::header::CONTENT_TYPE)
        .filter_map(|(name, value)| Some((name.as_str().to_owned(), json!(value.to_str().ok()?))))
        .collect();
    if !headers.is_empty() {
        error["headers"] = Value::Object(headers);
    }
    error_event(None, reply.status.as_u16(), &error)
}
