//! The configuration of request handling.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use super::{FirstEventTimeout, Upstreams};
use crate::caller::{Callers, Mode};
use crate::estimate::Estimator;
use crate::openai::Endpoint;
use crate::replay;
use crate::retry;
use crate::rights::Rights;
use crate::stream;
use crate::upstream::headers::Forwarded;

/// The configuration of request handling; a reload replaces all of it.
#[derive(Debug)]
pub struct Policy {
    /// The upstreams.
    pub upstreams: Upstreams,
    /// The callers that may use this Weir.
    pub callers: Callers,
    /// The rights of each caller, by its number; `None` for unrestricted ones.
    pub rights: Vec<Option<Arc<Rights>>>,
    /// The mode of callers without their own.
    pub mode: Mode,
    /// Whether all credentials share one set of limits, whatever the upstream's headers report.
    pub one_scope: bool,
    /// The longest wait for admission, for callers without a timeout.
    pub max_wait: Duration,
    /// The longest wait for a response's head.
    pub response_timeout: Option<Duration>,
    /// The longest wait for the first event of a stream.
    pub first_event_timeout: Option<FirstEventTimeout>,
    /// How `Forwarded` and the `X-Forwarded-*` fields are treated.
    pub forwarded: Forwarded,
    /// The estimator of requests' tokens.
    pub estimator: Estimator,
    /// The retry policy.
    pub retry: retry::Policy,
    /// Endpoints that are never retried.
    pub never_retried: Vec<Endpoint>,
    /// How responses are relayed.
    pub stream: stream::Settings,
    /// Longest time in which a client may read nothing of a response.
    pub write_timeout: Duration,
    /// Longest time that a stream's head is held for its first event; 0 disables it.
    pub hold: Duration,
    /// Time without a response after which a streaming request gets an early head and comments.
    pub keepalive: Option<Duration>,
    /// How request bodies are read and kept.
    pub replay: replay::Settings,
    /// How request bodies are read and kept whose models are checked.
    pub checked_replay: replay::Settings,
    /// Request headers that reports keep.
    pub report_headers: Vec<HeaderName>,
    /// Whether reports keep the request's body.
    pub report_request_data: bool,
    /// Whether quoted parts of kept error messages are masked.
    pub mask_messages: bool,
}
