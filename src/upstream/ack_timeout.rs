//! How long data sent upstream may stay unacknowledged (`TCP_USER_TIMEOUT`), by how much was sent.
//!
//! The timeout detects a peer that vanished; without it the kernel retries for 15 minutes. But it
//! also ends connections to a live peer that does not read: Linux counts the time for which the
//! peer's receive window is full, although the peer answers each probe (RFC 9293, section 3.8.6.1,
//! asks to keep such a connection open). A server that is busy may read a large request only when
//! the ones before it are done. So the short timeout holds only while all that was sent since the
//! peer's last byte fits into a usual receive window, and a long one beyond it. Keep-alive probes
//! detect a peer that vanishes after it has acknowledged everything.

use std::time::Duration;

#[cfg(target_os = "linux")]
use socket2::SockRef;
use tokio::net::TcpStream;

/// Bytes that fit into the receive window of a peer that has read everything before: Linux,
/// Windows and macOS offer at least 64,000 bytes at first.
const USUAL_WINDOW: usize = 48 << 10;
/// The timeout while no more than [`USUAL_WINDOW`] is unanswered: a live peer acknowledges that
/// within a round trip, however long its response takes.
const SHORT: Duration = Duration::from_secs(15);
/// The timeout beyond it: for this time a busy server may leave a request unread, and for no longer
/// does a request wait for a peer that vanished.
const LONG: Duration = Duration::from_mins(2);

/// The bytes sent to a peer since it sent anything, and which timeout holds.
#[derive(Debug)]
pub(super) struct AckTimeout {
    unanswered: usize,
    is_short: bool,
}

impl AckTimeout {
    /// Sets the timeout of a new connection.
    pub(super) fn new(tcp: &TcpStream) -> Self {
        set(tcp, SHORT);
        Self { unanswered: 0, is_short: true }
    }

    /// Counts bytes that the kernel accepted.
    pub(super) fn sent(&mut self, bytes: usize, tcp: &TcpStream) {
        self.unanswered = self.unanswered.saturating_add(bytes);
        if self.is_short && self.unanswered > USUAL_WINDOW {
            self.is_short = false;
            set(tcp, LONG);
        }
    }

    /// Notes that the peer sent something.
    pub(super) fn heard(&mut self, tcp: &TcpStream) {
        self.unanswered = 0;
        if !self.is_short {
            self.is_short = true;
            set(tcp, SHORT);
        }
    }
}

/// Sets the timeout where the system has one; the connection works without.
fn set(tcp: &TcpStream, timeout: Duration) {
    #[cfg(target_os = "linux")]
    drop(SockRef::from(tcp).set_tcp_user_timeout(Some(timeout)));
    #[cfg(not(target_os = "linux"))]
    let _ = (tcp, timeout);
}
