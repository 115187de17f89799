//! Sessions over WebSocket: `/responses` in WebSocket mode, and a Realtime session in outline.
//!
//! Each `response.create` goes the way of a POST to `/responses` with the handshake's headers:
//! latency, key, limiter, faults. What would be its answer comes as messages. A create's `metadata`
//! may have `x-simulate` and `x-simulate-job`, which count as those headers. The rules are those of
//! developers.openai.com, guide "WebSocket mode": a lane for each `stream_id`, 32 with a name, 16
//! answers at once, a cache of each lane's last response, which a failed turn of the lane empties.
//! Frames are tungstenite's.

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
use super::wire::Fate;
use turns::Shared;

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

impl Session {
    /// Runs the session until the client leaves or a fault ends it.
    pub(super) async fn run(self) {
        let Ok(upgraded) = self.upgraded.await else { return };
        let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
        let (out, frames) = mpsc::channel(WAITING);
        let shared = Shared::new(self.simulator, self.asked, out);
        turns::serve(socket, frames, &shared).await;
    }
}
