//! The server: it accepts connections, passes their requests on, and writes the responses. It knows
//! nothing about callers.
//!
//! There is one exclusive listener. An [`Acceptor`] sends its connections to [`Seat`]s, one for
//! each worker. A [`Front`] serves a connection: TLS, the choice of HTTP/1.1 or HTTP/2, the
//! timeouts and limits that protect other clients, [`request_rules`], and the response after a
//! panic.

mod accept;
mod body;
mod certificate_names;
mod connection;
mod counters;
mod drain;
mod edge;
pub mod request_rules;
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

pub use accept::{Acceptor, ConnectionGuard, Seat};
pub use body::EdgeBody;
pub use connection::{ConnectionInfo, Front};
pub use counters::Counters;
pub use drain::{Drain, Draining, Phase};
pub use edge::{Refusal, Render};
pub use inherited::Inherited;
pub use listen::{BindError, bind};
pub use request_rules::Rule;
pub use slots::{Slot, Slots};
pub use takeover::{Predecessor, hand_over};
pub use tls::ServerTls;

/// Limits on connections and their requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Most connections, over all workers.
    pub connections: usize,
    /// Most connections from one address.
    pub connections_per_peer: usize,
    /// Most connections for which there are file descriptors; more wait in the kernel's accept
    /// queue.
    pub room: usize,
    /// Timeout of the TLS handshake.
    pub handshake_timeout: Duration,
    /// Timeout of a request's head, from its first byte; for the first request, from the
    /// connection's start.
    pub head_timeout: Duration,
    /// Longest wait for a connection's next request.
    pub idle_timeout: Duration,
    /// Longest time in which a client reads nothing of a pending response.
    pub write_timeout: Duration,
    /// Most bytes of a request's head.
    pub header_bytes: usize,
    /// Most header fields of a request. With any value but 100, hyper allocates for each request.
    pub header_count: usize,
    /// Unread bytes of an HTTP/1 response at which Weir stops to read it from the upstream: half of
    /// `server.answer_buffer`. One chunk more may be held.
    pub unwritten: usize,
    /// Most concurrent streams of an HTTP/2 connection.
    pub streams: u32,
    /// Whether HTTP/2 is enabled.
    pub http2: bool,
}

impl Default for Settings {
    /// 10,000 connections, all of which may come from one peer; no bound by file descriptors; 10 s
    /// handshake, 30 s head, 75 s idle, 60 s write; 64 KiB and 100 headers; 32 KiB unwritten; 1,000
    /// streams.
    ///
    /// One peer may use all: behind a load balancer, or beside one service, there is only one. The
    /// idle timeout is longer than the 60 s of common clients, so that the client closes first and
    /// no request arrives on a closing connection.
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
