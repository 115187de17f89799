//! Accepting: connections in, requests up, answers down; nothing here knows what a caller is.
//!
//! One exclusive listener; an [`Acceptor`] deals its connections to [`Seat`]s, one for each worker.
//! A [`Front`] serves a connection: TLS, the choice of HTTP/1.1 or HTTP/2, the clocks and limits
//! that keep one client from harming others, [`hygiene`], and a panic that becomes an answer.

mod accept;
mod body;
mod certificate_names;
mod connection;
mod counters;
mod drain;
mod edge;
pub mod hygiene;
mod inherited;
mod io;
mod listen;
mod parse_error;
mod slots;
mod takeover;
pub mod tls;
mod watch;

#[cfg(test)]
mod tests;

use std::time::Duration;

pub use accept::{Acceptor, Hold, Seat};
pub use body::EdgeBody;
pub use connection::{ConnectionInfo, Front};
pub use counters::Counters;
pub use drain::{Drain, Draining, Phase};
pub use edge::{Refusal, Render};
pub use hygiene::Rule;
pub use inherited::Inherited;
pub use listen::{BindError, bind};
pub use slots::{Slot, Slots};
pub use takeover::{Predecessor, hand_over};
pub use tls::ServerTls;

/// Limits on connections and on what comes over them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Connections at once, over all workers.
    pub connections: usize,
    /// Connections at once from one address.
    pub connections_per_peer: usize,
    /// Connections for which there are files; more wait in the kernel's queue.
    pub room: usize,
    /// Time for the TLS handshake.
    pub handshake_timeout: Duration,
    /// Time for the head of a request, from its first byte; for the first request, from the
    /// connection's start.
    pub head_timeout: Duration,
    /// Time that a connection may wait for its next request.
    pub idle_timeout: Duration,
    /// Time in which a client must take some of an answer that waits to be sent.
    pub write_timeout: Duration,
    /// Bytes of a request's head.
    pub header_bytes: usize,
    /// Headers of a request. Any other value than 100 costs an allocation for each request (hyper).
    pub header_count: usize,
    /// Bytes of an answer that an HTTP/1 client does not take which are held for it here: half of
    /// `server.answer_buffer`, and a piece as it came.
    pub unwritten: usize,
    /// Requests at once over one HTTP/2 connection.
    pub streams: u32,
    /// Whether HTTP/2 is spoken.
    pub http2: bool,
}

impl Default for Settings {
    /// 10,000 connections, 10,000 of one peer, room for all, 10 s handshake, 30 s head, 75 s idle,
    /// 60 s write, 64 KiB and 100 headers, 32 KiB unwritten, 1,000 streams.
    ///
    /// One peer may have all: behind a balancer, or beside one service, there is only one. The idle
    /// time is above the 60 s after which common clients drop a connection, so that the client
    /// closes first and no request meets a connection that is going away.
    fn default() -> Self {
        Self {
            connections: 10_000,
            connections_per_peer: 10_000,
            room: usize::MAX,
            handshake_timeout: Duration::from_secs(10),
            head_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_mins(1),
            header_bytes: 64 << 10,
            header_count: 100,
            unwritten: 32 << 10,
            streams: 1000,
            http2: true,
        }
    }
}
