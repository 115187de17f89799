//! One side's connection, with a queue of outgoing bytes.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

/// The maximum size of one read, in bytes.
const READ: usize = 16 << 10;
/// The size of the queue, in bytes, at which reading for this connection pauses.
const FULL: usize = 64 << 10;
/// The maximum number of chunks in one write.
const PIECES: usize = 16;

/// A connection with a queue of outgoing bytes. Its read buffer is allocated only while it contains
/// data.
#[derive(Debug)]
pub struct Link<T> {
    io: T,
    out: VecDeque<Bytes>,
    queued: usize,
    /// Whether bytes were written and not flushed: TLS buffers records until then.
    unflushed: bool,
    ended: bool,
    shutdown: Shutdown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shutdown {
    No,
    Wanted,
    Done,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Link<T> {
    /// A link over an open connection.
    pub fn new(io: T) -> Self {
        Self { io, out: VecDeque::new(), queued: 0, unflushed: false, ended: false, shutdown: Shutdown::No }
    }

    /// Whether the other side has closed its direction, or the connection failed.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether the queue is full, so that nothing more should be read for this link.
    pub fn is_full(&self) -> bool {
        self.queued >= FULL
    }

    /// Queues bytes to be written; after [`Link::finish`] they are dropped.
    pub fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() && self.shutdown == Shutdown::No {
            self.queued += bytes.len();
            self.out.push_back(bytes);
        }
    }

    /// Closes this direction once everything is written.
    pub fn finish(&mut self) {
        if self.shutdown == Shutdown::No {
            self.shutdown = Shutdown::Wanted;
        }
    }

    /// Reads once. Returns the number of bytes; 0 at the end.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut BytesMut) -> Poll<io::Result<usize>> {
        into.reserve(READ);
        let read = ready!(pin!(self.io.read_buf(into)).poll(cx));
        self.ended |= matches!(read, Ok(0) | Err(_));
        Poll::Ready(read)
    }

    /// Writes the queue; ready once it is empty. Adds the bytes written to `moved`.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, moved: &mut u64) -> Poll<io::Result<()>> {
        let written = self.poll_write_all(cx, moved);
        self.ended |= matches!(written, Poll::Ready(Err(_)));
        written
    }

    fn poll_write_all(&mut self, cx: &mut Context<'_>, moved: &mut u64) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let mut slices = [IoSlice::new(&[]); PIECES];
            let pieces =
                self.out.iter().zip(&mut slices).map(|(piece, slice)| *slice = IoSlice::new(piece)).count();
            let mut written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, &slices[..pieces]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            *moved += written as u64;
            self.queued -= written;
            self.unflushed = true;
            while let Some(front) = self.out.front_mut()
                && written > 0
            {
                let taken = front.len().min(written);
                front.advance(taken);
                written -= taken;
                if front.is_empty() {
                    self.out.pop_front();
                }
            }
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            self.unflushed = false;
        }
        if self.shutdown == Shutdown::Wanted {
            ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
            self.shutdown = Shutdown::Done;
        }
        Poll::Ready(Ok(()))
    }
}
