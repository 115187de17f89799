//! Reads request bodies: small ones are kept for further attempts, large ones are streamed.
//!
//! Reading a body makes hyper send `100 Continue`: to refuse a request without its body, do so
//! before calling [`Replay::read_for`].

mod body;
mod budget;
mod client_body;
mod client_waker;
mod pace;
mod progress;
mod read;
mod trailers;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;

pub use body::Body;
pub use budget::{Budget, Held};
pub use client_body::{ClientBody, LINGER, LINGER_SILENCE};
pub use client_waker::ClientWaker;
pub use progress::BodyProgress;
pub use read::ReadError;
pub use trailers::strip_trailers;

use crate::metrics::ReplaySkip;
use crate::openai::ModelSearch;
use budget::Reservation;
use read::Rest;

/// Limits on reading and keeping request bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Largest body in bytes that is kept for further attempts; larger ones are streamed and sent
    /// once.
    pub keep: usize,
    /// Bytes of a larger body that are read ahead to price it.
    pub prefix: usize,
    /// Largest body in bytes that is accepted.
    pub limit: u64,
    /// Longest time without a byte from the client.
    pub idle: Duration,
    /// Lowest average rate of a client after `grace`, in bytes per second; 0 disables it.
    pub rate: u32,
    /// Time before the rate is enforced.
    pub grace: Duration,
}

impl Default for Settings {
    /// 8 MiB kept, 64 KiB read ahead, 2 GiB at most, 30 s idle, 240 B/s after 5 s (the rate is
    /// Kestrel's default).
    fn default() -> Self {
        Self {
            keep: 8 << 20,
            prefix: 64 << 10,
            limit: 2 << 30,
            idle: Duration::from_secs(30),
            rate: 240,
            grace: Duration::from_secs(5),
        }
    }
}

/// A request's body, read as far as it is kept.
///
/// The proxy reads from a [`ClientBody`], tests from any body.
#[derive(Debug)]
pub struct Replay<B = ClientBody> {
    kind: Kind<B>,
}

#[derive(Debug)]
enum Kind<B> {
    /// The complete body.
    Whole {
        bytes: Bytes,
        trailers: Option<Arc<HeaderMap>>,
        /// Released when the last body that shares the bytes is dropped.
        reservation: Option<Arc<Reservation>>,
    },
    /// The first bytes of a body; the rest can be read once.
    Streamed {
        prefix: Bytes,
        /// Boxed: most bodies are complete, and each is moved with its request.
        rest: Option<Box<Rest<B>>>,
        /// The reason why it is not kept; `None` if keeping it was not intended.
        why: Option<ReplaySkip>,
        progress: BodyProgress,
    },
}

impl<B> Replay<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// [`Replay::read_for`] without a search for the model.
    #[cfg(test)]
    pub async fn read(body: B, settings: &Settings, budget: &Arc<Budget>) -> Result<Self, ReadError> {
        Self::read_for(body, settings, budget, ModelSearch::Skip).await
    }

    /// Reads a body: all of it if it may be kept, otherwise a prefix. A body that is too large to
    /// keep is read on until its model is found; `model_search` is the format to search.
    ///
    /// # Errors
    /// The client leaves, stalls, is too slow, sends invalid framing, or announces or sends more
    /// than the limit.
    ///
    /// # Cancel safety
    /// Dropping the future drops the body and releases its reservation.
    pub async fn read_for(
        body: B,
        settings: &Settings,
        budget: &Arc<Budget>,
        model_search: ModelSearch,
    ) -> Result<Self, ReadError> {
        read::read(body, settings, budget, model_search).await.map(|kind| Self { kind })
    }

    /// A body that is streamed, once, without being read first.
    pub fn unread(body: B, settings: &Settings, budget: &Arc<Budget>) -> Self {
        if body.is_end_stream() {
            return Self::empty();
        }
        Self { kind: read::unread(body, settings, budget) }
    }
}

impl<B> Replay<B> {
    /// An empty body.
    pub fn empty() -> Self {
        Self { kind: Kind::Whole { bytes: Bytes::new(), trailers: None, reservation: None } }
    }

    /// The bytes read so far, for pricing: all of the body if it [can be
    /// repeated](Self::can_repeat).
    pub fn bytes(&self) -> &Bytes {
        match &self.kind {
            Kind::Whole { bytes, .. } => bytes,
            Kind::Streamed { prefix, .. } => prefix,
        }
    }

    /// Whether the body can be sent again.
    pub fn can_repeat(&self) -> bool {
        matches!(self.kind, Kind::Whole { .. })
    }

    /// The reason why the body was not kept, if keeping it was intended.
    pub fn skipped(&self) -> Option<ReplaySkip> {
        match &self.kind {
            Kind::Whole { .. } => None,
            Kind::Streamed { why, .. } => *why,
        }
    }

    /// A body for the next attempt; `None` if the body was streamed and already taken.
    pub fn body(&mut self) -> Option<Body<B>> {
        match &mut self.kind {
            Kind::Whole { bytes, trailers, reservation } => {
                Some(Body::whole(bytes.clone(), trailers.clone(), reservation.clone()))
            }
            Kind::Streamed { prefix, rest, progress, .. } => {
                rest.take().map(|rest| Body::streamed(std::mem::take(prefix), rest, progress))
            }
        }
    }

    /// The progress of a body that is not kept.
    pub fn progress(&self) -> Option<BodyProgress> {
        match &self.kind {
            Kind::Whole { .. } => None,
            Kind::Streamed { progress, .. } => Some(progress.clone()),
        }
    }
}
