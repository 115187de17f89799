//! Admission and retries as [tower] layers, for a Rust service that calls the API directly, without
//! Weir as a proxy.
//!
//! [`AdmissionLayer`] delays each request until it fits the limits, so that the API need not answer
//! 429, and learns the limits from the responses. [`RetryLayer`] around it retries failed requests,
//! with a backoff, a budget and a deadline. Both use the proxy's `admission`, `classify` and
//! `retry`, and so decide as it does.
//!
//! ```no_run
//! # use std::time::Duration;
//! # use weir::layers::{AdmissionLayer, RetryLayer, Settings};
//! # fn client<S>(https: S) -> impl Sized {
//! let settings = Settings::new().requests_per_minute(500).max_wait(Duration::from_secs(30));
//! tower::ServiceBuilder::new()
//!     .layer(RetryLayer::new(&settings))
//!     .layer(AdmissionLayer::new(&settings))
//!     .service(https)
//! # }
//! ```
//!
//! The inner service takes `http::Request<B>` and may be any HTTP client. `B` is cloned: once to
//! price the request, and once for each attempt, so it should be cheap to clone, as
//! `http_body_util::Full<Bytes>` is. The response's body is passed on as it arrives; when it ends,
//! or is dropped, the attempt is settled. The futures of these services may be dropped at any time:
//! that leaves the queue, or returns the permit.
//!
//! Only the proxy handles errors inside a 200 response, truncated streams, and callers with their
//! shares.
//!
//! [tower]: https://docs.rs/tower

mod admission;
mod answer;
mod error;
mod retry;
mod settings;
#[cfg(test)]
mod tests;

pub use admission::{Admission, AdmissionLayer};
pub use answer::AnswerBody;
pub use error::Error;
pub use retry::{Retry, RetryLayer};
pub use settings::Settings;

use std::sync::Arc;

use crate::admission::{Scope, Ticket, Turn};
use crate::classify::Classified;
use crate::clock::Instant;
use crate::retry::Safety;

/// Data about an attempt that the retry layer passes to admission, as an extension of the request.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    turn: Turn,
    /// Rate limits that the request met before.
    requeues: u32,
    /// The latest time for the request's admission.
    deadline: Instant,
}

/// Data about an error that admission passes to the retry layer, as an extension of the response.
#[derive(Clone, Debug)]
struct Refusal {
    scope: Arc<Scope>,
    classified: Arc<Classified>,
    safety: Safety,
    /// The request's place at the head of its queue, after a rate limit.
    place: Option<Ticket>,
}
