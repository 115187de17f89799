//! A request's body as it was read: kept for the next attempt where it is small enough, streamed
//! where it is not.
//!
//! Reading is what makes hyper answer `Expect: 100-continue`: whoever wants to refuse a request
//! without its body does so before calling [`Replay::read_for`].

mod body;
mod budget;
mod client_body;
mod client_waker;
mod pace;
mod passage;
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
pub use passage::Passage;
pub use read::ReadError;
pub use trailers::strip_trailers;

use crate::metrics::ReplaySkip;
use crate::openai::Look;
use budget::Reservation;
use read::Rest;

/// Limits on the reading and keeping of request bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Bytes of one body that are kept for another attempt; larger bodies stream through and are
    /// not repeated.
    pub keep: usize,
    /// Bytes of a body that is too large to be kept which are still read ahead, so that it can be
    /// priced.
    pub prefix: usize,
    /// Bytes of a body above which the request is refused.
    pub limit: u64,
    /// Time without any byte from the client after which it is given up.
    pub idle: Duration,
    /// Bytes a second that a client must keep up on average once `grace` is over; 0 turns it off.
    pub rate: u32,
    /// Time that a client has before its rate counts.
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
    /// All of it is here.
    Whole {
        bytes: Bytes,
        trailers: Option<Arc<HeaderMap>>,
        /// Gives the bytes back to the budget when the last body that shares them is gone.
        reservation: Option<Arc<Reservation>>,
    },
    /// The first bytes are here, the rest is still to come, once.
    Streamed {
        prefix: Bytes,
        /// Boxed: most bodies are whole, and each is moved about with its request.
        rest: Option<Box<Rest<B>>>,
        /// Nothing where it was not to be kept.
        why: Option<ReplaySkip>,
        passage: Passage,
    },
}

impl<B> Replay<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// [`Replay::read_for`] without a look for the model.
    #[cfg(test)]
    pub async fn read(body: B, settings: &Settings, budget: &Arc<Budget>) -> Result<Self, ReadError> {
        Self::read_for(body, settings, budget, Look::Nowhere).await
    }

    /// Reads a body: all of it if it may be kept, otherwise a prefix; and reads on for the model of
    /// one that is too large to be kept: `look` says in what form it stands.
    ///
    /// # Errors
    /// When the client leaves, stalls, is too slow, breaks the framing, or announces or sends more
    /// than the limit.
    ///
    /// # Cancel safety
    /// Dropping the future drops the body and gives back what was reserved.
    pub async fn read_for(
        body: B,
        settings: &Settings,
        budget: &Arc<Budget>,
        look: Look,
    ) -> Result<Self, ReadError> {
        read::read(body, settings, budget, look).await.map(|kind| Self { kind })
    }

    /// A body that is sent as it comes, once; nothing of it is read before.
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

    /// The bytes that were read, for pricing: all of the body if it [can be
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

    /// Why the body was not kept, though it was to be.
    pub fn skipped(&self) -> Option<ReplaySkip> {
        match &self.kind {
            Kind::Whole { .. } => None,
            Kind::Streamed { why, .. } => *why,
        }
    }

    /// A body for the next attempt; `None` when the only one was already taken.
    pub fn body(&mut self) -> Option<Body<B>> {
        match &mut self.kind {
            Kind::Whole { bytes, trailers, reservation } => {
                Some(Body::whole(bytes.clone(), trailers.clone(), reservation.clone()))
            }
            Kind::Streamed { prefix, rest, passage, .. } => {
                rest.take().map(|rest| Body::streamed(std::mem::take(prefix), rest, passage))
            }
        }
    }

    /// What passes of a body that is not kept.
    pub fn passage(&self) -> Option<Passage> {
        match &self.kind {
            Kind::Whole { .. } => None,
            Kind::Streamed { passage, .. } => Some(passage.clone()),
        }
    }
}
