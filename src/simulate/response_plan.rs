//! Builds the HTTP response from a reply: headers, content encoding, pace, and faults of the body.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use tokio::sync::OwnedSemaphorePermit;

use super::answer::{Content, Reply};
use super::body::{Body, Step};
use super::dialect::{Dialect, Levels};
use super::fault::{Directive, Encoding, Fault};
use super::settings::{Account, Settings};
use super::wire::WireFault;

/// The number of pieces of a body with the fault `slow-body`.
const SLOW_PIECES: usize = 32;
const SLOW_PAUSE: Duration = Duration::from_millis(250);
/// The delay between the last data and a reset, so that the data is sent.
const BEFORE_CUT: Duration = Duration::from_millis(10);

/// The properties of a response other than its content.
pub(super) struct ResponsePlan {
    pub(super) settings: Arc<Settings>,
    pub(super) directive: Directive,
    pub(super) accepted: Encoding,
    pub(super) wire_fault: Arc<WireFault>,
    pub(super) request_id: u128,
    pub(super) account: Option<Account>,
    pub(super) processing: Option<Duration>,
    /// The limits reported in the headers.
    pub(super) levels: Option<Levels>,
    /// The limits, whether or not the headers report them.
    pub(super) all_levels: Option<Levels>,
    /// The slot that the response occupies.
    pub(super) slot: Option<OwnedSemaphorePermit>,
}

impl ResponsePlan {
    /// Builds the response: adds headers, encoding, pace and the fault of the body.
    pub(super) fn build(&self, reply: Reply, fault: Option<Fault>) -> Response<Body> {
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
                if let Some(length) = announced_length(fault, whole.len(), events) {
                    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
                }
                Body::paced(self.fault_steps(fault, whole), Arc::clone(&self.wire_fault))
            }
        };
        response.map(|()| body)
    }

    fn write_headers(&self, headers: &mut HeaderMap) {
        let text = |value: String| HeaderValue::try_from(value).unwrap_or(HeaderValue::from_static(""));
        headers.insert("x-request-id", text(format!("req_{:032x}", self.request_id)));
        match self.settings.dialect.filter(|dialect| *dialect != Dialect::Openai) {
            Some(dialect) => dialect.write(self.levels, headers),
            None => self.write_own(headers),
        }
        for (name, value) in &self.directive.answer_headers {
            headers.insert(*name, value.clone());
        }
    }

    /// Writes the headers of OpenAI's API.
    fn write_own(&self, headers: &mut HeaderMap) {
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
        Dialect::Openai.write(self.levels, headers);
    }

    /// The content encoding: what the client accepts for JSON, as in the API. Streams and files are
    /// encoded only on request of the directive.
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
        Body::paced(steps, Arc::clone(&self.wire_fault))
    }

    fn fault_steps(&self, fault: Fault, whole: Bytes) -> VecDeque<Step> {
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

/// The `content-length` of a body with a fault. `None` for a stream, and for a body that ends early
/// but cleanly.
fn announced_length(fault: Fault, length: usize, events: bool) -> Option<usize> {
    if fault == Fault::LieContentLength {
        return Some(length + 64);
    }
    let is_announced = matches!(fault, Fault::ResetMidBody | Fault::StallBody | Fault::SlowBody);
    (is_announced && !events).then_some(length)
}
