//! WebSocket sessions: `/responses` in WebSocket mode, and a minimal Realtime session.
//!
//! Each `response.create` is handled like a POST to `/responses` with the handshake's headers. Its
//! response is sent as messages. `x-simulate` and `x-job-id` in its `metadata` act as headers. The
//! rules are those of the guide "WebSocket mode" of developers.openai.com: one lane per
//! `stream_id`, at most 32 named lanes, at most 16 concurrent responses, and a cache of each lane's
//! last response, which a failed turn clears. tungstenite does the framing.

mod turns;

use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use bytes::Bytes;
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::Simulator;
use super::body::Body;
use super::credential::identify;
use super::wire::WireFault;
use turns::Shared;

/// The capacity of a session's queue of outgoing messages.
const OUTGOING_CAPACITY: usize = 64;
/// The GUID that RFC 6455, section 4.2.2, appends to the key.
const ACCEPT_GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The slot for a connection's session, which runs after hyper has released the connection.
pub(super) type SessionSlot = Mutex<Option<Session>>;

/// A session whose handshake was accepted.
#[derive(Debug)]
pub(super) struct Session {
    simulator: Simulator,
    upgraded: OnUpgrade,
    handshake: Arc<Handshake>,
}

/// The relevant parts of the handshake request.
#[derive(Debug)]
struct Handshake {
    headers: HeaderMap,
    realtime: bool,
    /// The model in the query.
    model: Option<String>,
    wire_fault: Arc<WireFault>,
}

/// Responds to a WebSocket handshake. `None` if the request is no handshake.
pub(super) fn accept_handshake(
    simulator: &Simulator,
    request: &mut Request<Incoming>,
    wire_fault: &Arc<WireFault>,
    session_slot: &SessionSlot,
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
    let handshake =
        Handshake { headers: request.headers().clone(), realtime, model, wire_fault: Arc::clone(wire_fault) };
    let mut response = Response::new(Body::whole(Bytes::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept(&key));
    let protocols = handshake.headers.get(SEC_WEBSOCKET_PROTOCOL).and_then(|value| value.to_str().ok());
    let chosen =
        protocols.and_then(|offered| offered.split(',').map(str::trim).find(|one| *one == "realtime"));
    if chosen.is_some() {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("realtime"));
    }
    let session = Session {
        simulator: simulator.clone(),
        upgraded: hyper::upgrade::on(request),
        handshake: Arc::new(handshake),
    };
    *session_slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(session);
    Some(response)
}

fn accept(key: &HeaderValue) -> HeaderValue {
    let text = [key.as_bytes(), ACCEPT_GUID.as_bytes()].concat();
    let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, &text);
    HeaderValue::try_from(BASE64.encode(digest)).unwrap_or(HeaderValue::from_static(""))
}

impl Session {
    /// Runs the session until the client closes it or a fault ends it.
    pub(super) async fn run(self) {
        let Ok(upgraded) = self.upgraded.await else { return };
        let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
        let (out, frames) = mpsc::channel(OUTGOING_CAPACITY);
        let shared = Shared::new(self.simulator, self.handshake, out);
        turns::serve(socket, frames, &shared).await;
    }
}
