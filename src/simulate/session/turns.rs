//! The messages of a WebSocket session: lanes, turns and response events.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Uri};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Message;

use crate::clock;

use super::super::Simulator;
use super::super::answer::{Content, Reply};
use super::super::body::Cut;
use super::super::errors::ApiError;
use super::super::fault::JOB_HEADER;
use super::super::route::Kind;
use super::Handshake;

/// The maximum number of concurrent responses of a session. Further creates wait.
const MAX_CONCURRENT: usize = 16;
/// The maximum number of named lanes of a session.
const MAX_NAMED_LANES: usize = 32;
const MAX_NAME_LENGTH: usize = 256;

/// The name of a lane; `None` for the default lane.
type Name = Option<String>;

/// The state shared by the lanes of a session.
pub(super) struct Shared {
    simulator: Simulator,
    handshake: Arc<Handshake>,
    concurrent: Semaphore,
    /// The id of each lane's last response.
    cache: Mutex<HashMap<Name, String>>,
    out: mpsc::Sender<String>,
}

impl Shared {
    pub(super) fn new(
        simulator: Simulator,
        handshake: Arc<Handshake>,
        out: mpsc::Sender<String>,
    ) -> Arc<Self> {
        Arc::new(Self {
            simulator,
            handshake,
            concurrent: Semaphore::new(MAX_CONCURRENT),
            cache: Mutex::default(),
            out,
        })
    }
}

pub(super) async fn serve(
    socket: WebSocketStream<TokioIo<Upgraded>>,
    mut frames: mpsc::Receiver<String>,
    shared: &Arc<Shared>,
) {
    let (mut write, mut read) = socket.split();
    let mut lanes: HashMap<Name, mpsc::UnboundedSender<Value>> = HashMap::new();
    let mut tasks: JoinSet<Result<(), Cut>> = JoinSet::new();
    if shared.handshake.realtime {
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
                    return shared.handshake.wire_fault.reset();
                }
            }
            message = read.next() => {
                let text = match message {
                    Some(Ok(Message::Text(text))) => text.as_str().to_owned(),
                    Some(Ok(Message::Binary(data))) => String::from_utf8_lossy(&data).into_owned(),
                    Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
                    // tungstenite buffers the reply to a close until a flush.
                    Some(Ok(Message::Close(_)) | Err(_)) | None => {
                        write.flush().await.ok();
                        return;
                    }
                };
                let event = match request(&text, lanes.keys().flatten().count(), |name| lanes.contains_key(name)) {
                    Ok(Some(event)) => event,
                    Ok(None) => continue,
                    Err(refusal) => {
                        // Written directly: sending to `frames` here could wait for this loop.
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

/// Parses a message. Returns a create, `None` for a message that is ignored, or the error event to
/// send.
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
    if name.is_some() && named >= MAX_NAMED_LANES && !is_known(&name) {
        let message = "This WebSocket connection has reached its maximum number of distinct stream IDs (32). Reuse an existing \
                       stream_id or open a new WebSocket connection.";
        return Err(refusal(name.as_deref(), "websocket_stream_limit_reached", message, Some("stream_id")));
    }
    Ok(Some(event))
}

fn is_valid(name: &str) -> bool {
    (1..=MAX_NAME_LENGTH).contains(&name.len())
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

/// Runs the turns of one lane in sequence.
async fn run_lane(
    shared: Arc<Shared>,
    name: Name,
    mut turns: mpsc::UnboundedReceiver<Value>,
) -> Result<(), Cut> {
    while let Some(create) = turns.recv().await {
        let Ok(_one) = shared.concurrent.acquire().await else { return Ok(()) };
        shared.turn(&name, create).await?;
    }
    Ok(())
}

impl Shared {
    async fn turn(&self, name: &Name, create: Value) -> Result<(), Cut> {
        let parent = create["previous_response_id"].as_str().map(str::to_owned);
        if let Some(parent) = &parent
            && !self.can_continue(parent)
        {
            let message = format!("Previous response with id '{parent}' not found.");
            let refusal = refusal(
                name.as_deref(),
                "previous_response_not_found",
                &message,
                Some("previous_response_id"),
            );
            return self.send(name, refusal).await;
        }
        let events = match self.reply(create).await? {
            Ok(events) => events,
            Err(error) => {
                self.forget(name, parent.as_deref());
                return self.send(name, error).await;
            }
        };
        let pace = self.simulator.state().settings.chunk_delay;
        for event in events {
            if let ("response.completed" | "response.incomplete", Some(id)) =
                (event["type"].as_str().unwrap_or_default(), event["response"]["id"].as_str())
            {
                self.cache.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), id.to_owned());
            }
            self.send(name, event).await?;
            if !pace.is_zero() {
                clock::sleep(pace).await;
            }
        }
        Ok(())
    }

    /// Whether a response with this id can be continued.
    fn can_continue(&self, id: &str) -> bool {
        let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let mut store = self.simulator.0.store.lock().unwrap_or_else(PoisonError::into_inner);
        cache.values().any(|cached| cached == id) || store.of(Kind::Response).find(id).is_some()
    }

    /// Removes the response that a failed turn continued from its lane's cache.
    fn forget(&self, name: &Name, parent: Option<&str>) {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if parent.is_some() && cache.get(name).map(String::as_str) == parent {
            cache.remove(name);
        }
    }

    /// The response events of a create, or an error event.
    async fn reply(&self, mut create: Value) -> Result<Result<Vec<Value>, Value>, Cut> {
        let mut headers = self.handshake.headers.clone();
        for header in ["x-simulate", JOB_HEADER] {
            let value = create["metadata"][header].as_str().and_then(|text| HeaderValue::from_str(text).ok());
            if let Some(value) = value {
                headers.insert(HeaderName::from_static(header), value);
            }
        }
        let warms_up = create["generate"] == json!(false);
        if self.handshake.realtime {
            create = create["response"].take();
            if !create.is_object() {
                create = json!({});
            }
            let said = create["instructions"].take();
            // Without instructions the API would use the conversation, which is not kept here.
            create["input"] = if said.is_string() { said } else { json!("Hi") };
            create["model"] = json!(self.handshake.model.as_deref().unwrap_or("gpt-realtime"));
        }
        create["stream"] = json!(true);
        let body = Bytes::from(create.to_string());
        let request = Request::builder().method(Method::POST).uri(Uri::from_static("/v1/responses")).body(());
        let (mut parts, ()): (Parts, ()) = request.unwrap_or_default().into_parts();
        parts.headers = headers;
        let result = self.simulator.turn(&parts, body, warms_up, &self.handshake.wire_fault).await?;
        Ok(match result {
            (reply, limits) if reply.status.is_success() => Ok(self.events(&reply, &limits, warms_up)),
            (reply, _) => Err(error_of(&reply)),
        })
    }

    fn events(&self, reply: &Reply, limits: &[Value], warms_up: bool) -> Vec<Value> {
        let Content::Events { events, .. } = &reply.content else { return Vec::new() };
        let mut sent: Vec<Value> = events.iter().filter_map(event_of).collect();
        if warms_up {
            let last = sent.len().saturating_sub(1);
            let mut place = 0;
            sent.retain(|_| {
                place += 1;
                place == 1 || place > last
            });
            for event in &mut sent {
                event["response"]["output"] = json!([]);
            }
        }
        if self.handshake.realtime {
            for event in &mut sent {
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
            sent.insert(1.min(sent.len()), limits);
        }
        sent
    }

    async fn send(&self, name: &Name, mut event: Value) -> Result<(), Cut> {
        if let Some(name) = name {
            event["stream_id"] = json!(name);
        }
        self.out.send(event.to_string()).await.map_err(|_| Cut)
    }
}

/// Parses the data of a server-sent event.
fn event_of(bytes: &Bytes) -> Option<Value> {
    let text = std::str::from_utf8(bytes).ok()?;
    let data = text.lines().find_map(|line| line.strip_prefix("data: "))?;
    serde_json::from_str(data).ok()
}

/// Converts an error response to an error event that contains its headers.
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
