//! How long data sent upstream may stay unacknowledged (`TCP_USER_TIMEOUT`), by how much was sent.
//!
//! The timeout detects a peer that vanished; without it the kernel retries for 15 minutes. But it
//! also ends connections to a live peer that does not read: Linux counts the time for which the
//! peer's receive window is full, although the peer answers each probe (RFC 9293, section 3.8.6.1,
//! asks to keep such a connection open). A server that is busy may read a large request only when
//! the ones before it are done. So the timeout holds only while all that was sent since the peer's
//! last byte fits into a usual receive window. Keep-alive probes detect a peer that vanishes after
//! it has acknowledged everything, with the timeout or without.

use std::time::Duration;

#[cfg(target_os = "linux")]
use socket2::SockRef;
use tokio::net::TcpStream;

/// Bytes that fit into the receive window of a peer that has read everything before: Linux,
/// Windows and macOS offer at least 64,000 bytes at first.
const USUAL_WINDOW: usize = 48 << 10;
/// The timeout while no more than [`USUAL_WINDOW`] is unanswered: a live peer acknowledges that
/// within a round trip, however long its response takes.
const TIMEOUT: Duration = Duration::from_secs(15);

/// The bytes sent to a peer since it sent anything, and whether the timeout holds.
#[derive(Debug)]
pub(super) struct AckTimeout {
    unanswered: usize,
    is_set: bool,
}

impl AckTimeout {
    /// Sets the timeout of a new connection.
    pub(super) fn new(tcp: &TcpStream) -> Self {
        set(tcp, Some(TIMEOUT));
        Self { unanswered: 0, is_set: true }
    }

    /// Counts bytes that the kernel accepted.
    pub(super) fn sent(&mut self, bytes: usize, tcp: &TcpStream) {
        self.unanswered = self.unanswered.saturating_add(bytes);
        if self.is_set && self.unanswered > USUAL_WINDOW {
            self.is_set = false;
            set(tcp, None);
        }
    }

    /// Notes that the peer sent something.
    pub(super) fn heard(&mut self, tcp: &TcpStream) {
        self.unanswered = 0;
        if !self.is_set {
            self.is_set = true;
            set(tcp, Some(TIMEOUT));
        }
    }
}

/// Sets or removes the timeout where the system has one; the connection works without.
fn set(tcp: &TcpStream, timeout: Option<Duration>) {
    #[cfg(target_os = "linux")]
    drop(SockRef::from(tcp).set_tcp_user_timeout(timeout));
    #[cfg(not(target_os = "linux"))]
    let _ = (tcp, timeout);
}
