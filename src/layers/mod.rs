//! Admission and retries as [tower] layers, for a Rust service that calls the API itself, without a
//! proxy between.
//!
//! [`AdmissionLayer`] waits for each request's turn, so that the API has no reason to answer 429,
//! and learns the limits from the answers. [`RetryLayer`] around it repeats what is worth
//! repeating, with a backoff, a budget and a deadline. Both decide as the proxy does: its
//! `admission`, `classify` and `retry` are what they call.
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
//! The service within takes `http::Request<B>` and may be any HTTP client. `B` is cloned: once for
//! the price of the request, and once for each attempt, so it should be cheap to clone, as
//! `http_body_util::Full<Bytes>` is. The answer's body is passed on as it comes; when it ends, or
//! is dropped, the attempt is settled. A future of these services may be dropped at any time: that
//! leaves the queue, or gives back what was granted.
//!
//! What they leave to the proxy: errors that stand in a 200, answers that the API streams to
//! nobody, callers and their shares.
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
