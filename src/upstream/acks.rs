//! Delayed TCP acknowledgments for streams of small chunks.
//!
//! Linux acknowledges each small segment at once while nothing is sent the other way: one packet
//! per chunk, about 14 % of a proxy's cost per chunk. With `TCP_QUICKACK` off it waits for the next
//! segment, or for 40 ms (RFC 1122, section 4.2.3.2). It turns quick acknowledgments on again by
//! itself when no segment arrives in time.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::ack_timeout::AckTimeout;
use super::close_check::CloseCheck;

/// Consecutive small reads after which quick acknowledgments are turned off, and off again.
///
/// A server with Nagle's algorithm enabled holds its next segment until the last one is
/// acknowledged, and so may stall for 40 ms each time. Below one chunk in a hundred, that is
/// acceptable.
const SMALL_READS: u8 = 128;

/// Largest small read, in bytes: a larger one spans several segments, of which every second is
/// acknowledged anyway.
const MAX_SMALL: usize = 2 << 10;

/// A TCP connection to an upstream, with delayed acknowledgments for small chunks, and a timeout
/// for the peer's acknowledgments.
#[derive(Debug)]
pub struct DelayedAcks {
    tcp: TcpStream,
    /// Consecutive small reads.
    small_reads: u8,
    close_check: CloseCheck,
    timeout: AckTimeout,
}

impl DelayedAcks {
    pub(super) fn new(tcp: TcpStream, close_check: CloseCheck) -> Self {
        let timeout = AckTimeout::new(&tcp);
        Self { tcp, small_reads: 0, close_check, timeout }
    }

    /// Whether the socket reports that the peer closed the connection.
    fn is_closed(&self) -> bool {
        match SockRef::from(&self.tcp).peek(&mut [MaybeUninit::uninit()]) {
            Ok(bytes) => bytes == 0,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }

    /// Counts what was written, which ends a row of small reads.
    fn sent(&mut self, written: &Poll<io::Result<usize>>) {
        self.small_reads = 0;
        if let Poll::Ready(Ok(bytes)) = written {
            self.timeout.sent(*bytes, &self.tcp);
        }
    }

    fn count(&mut self, length: usize) {
        if !(1..=MAX_SMALL).contains(&length) {
            self.small_reads = 0;
            return;
        }
        self.small_reads += 1;
        if self.small_reads == SMALL_READS {
            self.small_reads = 0;
            // An optimization, which the system may not support.
            #[cfg(target_os = "linux")]
            drop(self.tcp.set_quickack(false));
        }
    }
}

impl AsyncRead for DelayedAcks {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.tcp).poll_read(cx, buf);
        if read.is_ready() {
            let this = &mut *self;
            this.count(buf.filled().len() - before);
            this.timeout.heard(&this.tcp);
        } else if self.close_check.take() && self.is_closed() {
            return Poll::Ready(Ok(()));
        }
        read
    }
}

impl AsyncWrite for DelayedAcks {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.tcp).poll_write(cx, bytes);
        self.sent(&written);
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.tcp).poll_write_vectored(cx, slices);
        self.sent(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (DelayedAcks, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let far = listener.accept().await.unwrap().0;
        far.set_nodelay(true).unwrap();
        (DelayedAcks::new(near, CloseCheck::default()), far)
    }

    /// Sends `length` bytes from the far end and reads them, `times` times.
    async fn relay(near: &mut DelayedAcks, far: &mut TcpStream, length: usize, times: u8) {
        let mut part = vec![0; length];
        for _ in 0..times {
            far.write_all(&part).await.unwrap();
            near.read_exact(&mut part).await.unwrap();
        }
    }

    #[tokio::test]
    async fn only_a_long_row_of_small_parts_is_acknowledged_late() {
        let (mut near, mut far) = pair().await;
        relay(&mut near, &mut far, 200, SMALL_READS - 1).await;
        assert!(near.tcp.quickack().unwrap(), "the row is short");
        near.write_all(b"request").await.unwrap();
        // The write may have changed the kernel's mode.
        near.tcp.set_quickack(true).unwrap();
        relay(&mut near, &mut far, 200, SMALL_READS - 1).await;
        relay(&mut near, &mut far, MAX_SMALL + 1, 2).await;
        assert!(near.tcp.quickack().unwrap(), "it was no row");
        // The kernel turns quick acknowledgments on again when no segment arrives for 40 ms, so
        // this repeats.
        for _ in 0..100 {
            relay(&mut near, &mut far, 200, SMALL_READS).await;
            if !near.tcp.quickack().unwrap() {
                return;
            }
        }
        panic!("it is still acknowledged at once");
    }
}
