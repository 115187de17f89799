//! What the configuration says about requests.

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

/// What the configuration says about requests; a reload replaces it whole.
#[derive(Debug)]
pub struct Policy {
    /// Where requests go.
    pub upstreams: Upstreams,
    /// Who may use this Weir.
    pub callers: Callers,
    /// What each caller may use, by its number; nothing for one that may use everything.
    pub rights: Vec<Option<Arc<Rights>>>,
    /// What is done for callers without a mode of their own.
    pub mode: Mode,
    /// Whether all credentials share one set of limits, whatever the upstream's headers say.
    pub one_scope: bool,
    /// The longest wait for a turn of a caller that names no timeout.
    pub max_wait: Duration,
    /// The longest wait for a response head, whatever the caller allows.
    pub response_timeout: Option<Duration>,
    /// The longest wait for the first event of a stream.
    pub first_event_timeout: Option<FirstEventTimeout>,
    /// What becomes of `Forwarded` and its kin.
    pub forwarded: Forwarded,
    /// How requests are priced.
    pub estimator: Estimator,
    /// What is tried again, and how.
    pub retry: retry::Policy,
    /// Endpoints that are never attempted twice.
    pub never_retried: Vec<Endpoint>,
    /// How answers are relayed.
    pub stream: stream::Settings,
    /// How long a client may take none of an answer.
    pub write_timeout: Duration,
    /// How long a stream's head is held for its first event; 0 turns it off.
    pub hold: Duration,
    /// How long a streaming request is silent before it gets its head and comments.
    pub keepalive: Option<Duration>,
    /// How request bodies are read and kept.
    pub replay: replay::Settings,
    /// The same for bodies whose models are checked.
    pub checked_replay: replay::Settings,
    /// Headers that a report keeps.
    pub report_headers: Vec<HeaderName>,
    /// Whether a report keeps the request's body.
    pub report_request_data: bool,
    /// Whether quoted parts of error messages are masked in what is kept.
    pub mask_messages: bool,
}
