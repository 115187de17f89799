//! A connection that can be made to break.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const RESET: u8 = 1;
const GARBAGE: u8 = 2;

/// The planned end of a connection. Shared by the connection and the responses on it.
#[derive(Debug, Default)]
pub(super) struct Fate(AtomicU8);

impl Fate {
    /// Closing the connection will reset it.
    pub(super) fn reset(&self) {
        self.0.store(RESET, Ordering::Relaxed);
    }

    /// The next write sends bytes that are not HTTP, and then the connection breaks.
    pub(super) fn garble(&self) {
        self.0.store(GARBAGE, Ordering::Relaxed);
    }

    fn is(&self, fate: u8) -> bool {
        self.0.load(Ordering::Relaxed) == fate
    }
}

const NOISE: &[u8] = b"\x16\x03garbage \xff\xfe\x00 this is not HTTP\r\n\r\n";

/// The transport under a connection.
pub(super) struct Wire<T> {
    io: T,
    fate: Arc<Fate>,
    /// Makes the transport's close a reset, where it can.
    on_reset: fn(&T),
    noise_sent: usize,
}

impl<T> Wire<T> {
    pub(super) fn new(io: T, fate: Arc<Fate>, on_reset: fn(&T)) -> Self {
        Self { io, fate, on_reset, noise_sent: 0 }
    }
}

impl<T> Drop for Wire<T> {
    fn drop(&mut self) {
        if self.fate.is(RESET) {
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
        if self.fate.is(GARBAGE) {
            return self.poll_noise(context).map_ok(|()| 0);
        }
        Pin::new(&mut self.io).poll_write(context, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.fate.is(GARBAGE) {
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
        if self.fate.is(RESET) {
            // A shutdown would say a clean goodbye before the reset.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

impl<T: AsyncWrite + Unpin> Wire<T> {
    /// Writes the noise, then fails.
    fn poll_noise(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.noise_sent < NOISE.len() {
            let rest = &NOISE[self.noise_sent..];
            self.noise_sent += ready!(Pin::new(&mut self.io).poll_write(context, rest))?;
        }
        ready!(Pin::new(&mut self.io).poll_flush(context))?;
        Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()))
    }
}
