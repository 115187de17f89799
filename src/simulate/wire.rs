//! A transport that can reset or send garbage on command.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const RESET: u8 = 1;
const GARBAGE: u8 = 2;

/// The fault of a connection, shared by the connection and its responses.
#[derive(Debug, Default)]
pub(super) struct WireFault(AtomicU8);

impl WireFault {
    /// Makes the close of the connection a reset.
    pub(super) fn reset(&self) {
        self.0.store(RESET, Ordering::Relaxed);
    }

    /// Makes the next write send bytes that are not HTTP, and then fail.
    pub(super) fn garble(&self) {
        self.0.store(GARBAGE, Ordering::Relaxed);
    }

    fn is(&self, wire_fault: u8) -> bool {
        self.0.load(Ordering::Relaxed) == wire_fault
    }
}

const NOISE: &[u8] = b"\x16\x03garbage \xff\xfe\x00 this is not HTTP\r\n\r\n";

/// A transport that applies the connection's fault.
pub(super) struct Wire<T> {
    io: T,
    wire_fault: Arc<WireFault>,
    /// Makes the close of `io` a reset, if it can.
    on_reset: fn(&T),
    noise_sent: usize,
}

impl<T> Wire<T> {
    pub(super) fn new(io: T, wire_fault: Arc<WireFault>, on_reset: fn(&T)) -> Self {
        Self { io, wire_fault, on_reset, noise_sent: 0 }
    }
}

impl<T> Drop for Wire<T> {
    fn drop(&mut self) {
        if self.wire_fault.is(RESET) {
            (self.on_reset)(&self.io);
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Wire<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Wire<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.wire_fault.is(GARBAGE) {
            return self.poll_noise(context).map_ok(|()| 0);
        }
        Pin::new(&mut self.io).poll_write(context, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.wire_fault.is(GARBAGE) {
            return self.poll_noise(context).map_ok(|()| 0);
        }
        Pin::new(&mut self.io).poll_write_vectored(context, data)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.wire_fault.is(RESET) {
            // A shutdown would send FIN before the reset.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

impl<T: AsyncWrite + Unpin> Wire<T> {
    /// Writes [`NOISE`], then fails.
    fn poll_noise(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.noise_sent < NOISE.len() {
            let rest = &NOISE[self.noise_sent..];
            self.noise_sent += ready!(Pin::new(&mut self.io).poll_write(context, rest))?;
        }
        ready!(Pin::new(&mut self.io).poll_flush(context))?;
        Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()))
    }
}
