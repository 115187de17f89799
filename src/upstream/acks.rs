//! A stream's small parts, acknowledged two at a time.
//!
//! Linux acknowledges each small part at once while nothing is sent the other way: a packet of its
//! own for each chunk, some 14 % of what a chunk costs a proxy. Told otherwise it waits for the
//! next part, or for 40 ms, as RFC 1122 (4.2.3.2) has it, and returns to its old way by itself when
//! no next part came in time.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::peek::Peek;

/// Small parts in a row after which the kernel is told, and told again.
///
/// A server that leaves Nagle's algorithm on holds its next part back until the last one is
/// acknowledged: it may stall once for 40 ms whenever the kernel is told, so that is to happen to
/// less than one part in a hundred.
const STREAM: u8 = 128;

/// Most bytes of a small part: a larger one spans packets, of which every second is acknowledged
/// anyway.
const SMALL: usize = 2 << 10;

/// A TCP connection to an upstream.
#[derive(Debug)]
pub struct DelayedAcks {
    tcp: TcpStream,
    /// Small parts in a row.
    parts: u8,
    peek: Peek,
}

impl DelayedAcks {
    pub(super) fn new(tcp: TcpStream, peek: Peek) -> Self {
        Self { tcp, parts: 0, peek }
    }

    /// Whether the peer has closed the connection, by the socket's own word.
    fn is_closed(&self) -> bool {
        match SockRef::from(&self.tcp).peek(&mut [MaybeUninit::uninit()]) {
            Ok(bytes) => bytes == 0,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }

    fn count(&mut self, length: usize) {
        if !(1..=SMALL).contains(&length) {
            self.parts = 0;
            return;
        }
        self.parts += 1;
        if self.parts == STREAM {
            self.parts = 0;
            // An improvement that a system may decline, or not have.
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
            self.count(buf.filled().len() - before);
        } else if self.peek.take() && self.is_closed() {
            return Poll::Ready(Ok(()));
        }
        read
    }
}

impl AsyncWrite for DelayedAcks {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.parts = 0;
        Pin::new(&mut self.tcp).poll_write(cx, bytes)
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
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.parts = 0;
        Pin::new(&mut self.tcp).poll_write_vectored(cx, parts)
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
        (DelayedAcks::new(near, Peek::default()), far)
    }

    /// Has the far end send a part and reads it, so often.
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
        relay(&mut near, &mut far, 200, STREAM - 1).await;
        assert!(near.tcp.quickack().unwrap(), "the row is short");
        near.write_all(b"request").await.unwrap();
        // What is sent may change the kernel's mind by itself.
        near.tcp.set_quickack(true).unwrap();
        relay(&mut near, &mut far, 200, STREAM - 1).await;
        relay(&mut near, &mut far, SMALL + 1, 2).await;
        assert!(near.tcp.quickack().unwrap(), "it was no row");
        // The kernel returns to its old way when no part comes for 40 ms: it is told again with
        // each row.
        for _ in 0..100 {
            relay(&mut near, &mut far, 200, STREAM).await;
            if !near.tcp.quickack().unwrap() {
                return;
            }
        }
        panic!("it is still acknowledged at once");
    }
}
