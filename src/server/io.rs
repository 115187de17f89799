//! A connection's byte stream that reports its activity.

use bytes::{Buf, Bytes};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::task::coop;

use crate::clock::{self, Instant, Timer};
use crate::replay::{LINGER, LINGER_SILENCE};

use super::accept::ConnectionGuard;
use super::edge::Render;
use super::parse_error;
use super::watch::Activity;

/// The client connection preface of HTTP/2 (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A byte stream that first yields the bytes read ahead, and reports reads and writes to its
/// [`Activity`].
#[derive(Debug)]
pub(super) struct Watched<I> {
    io: I,
    /// The bytes read ahead: at most a preface, and empty after the first reads.
    ahead: Box<[u8]>,
    activity: Arc<Activity>,
    /// Held here because an upgraded connection outlives its HTTP and still counts.
    _guard: Option<ConnectionGuard>,
    linger: Option<Linger>,
    /// Renders the response to an unparsable request.
    render: Render,
    /// The unwritten rest of that response.
    own_answer: Option<Bytes>,
}

/// A delayed close, for a client that still sends after its response. Closing at once would make
/// the kernel reset the connection, and the client could lose the response (RFC 9112, section 9.6).
#[derive(Debug)]
struct Linger {
    silence: Timer,
    end: Instant,
}

impl<I> Watched<I> {
    pub(super) fn new(
        io: I,
        ahead: Box<[u8]>,
        activity: Arc<Activity>,
        guard: Option<ConnectionGuard>,
        render: Render,
    ) -> Self {
        Self { io, ahead, activity, _guard: guard, linger: None, render, own_answer: None }
    }
}

impl<I: AsyncRead + Unpin> Watched<I> {
    /// Reads at most [`MAX_READ`] bytes.
    fn poll_read_some(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let io = Pin::new(&mut self.io);
        if buf.remaining() <= MAX_READ {
            return io.poll_read(cx, buf);
        }
        let mut some = ReadBuf::new(buf.initialize_unfilled_to(MAX_READ));
        let read = io.poll_read(cx, &mut some);
        let taken = some.filled().len();
        buf.advance(taken);
        read
    }

    /// Reads and discards until the client closes, is silent, or the time is over.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(linger) = &mut self.linger else { return Poll::Ready(()) };
        let mut dropped = [0; 4096];
        loop {
            let mut buffer = ReadBuf::new(&mut dropped);
            let now = match Pin::new(&mut self.io).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => clock::now(),
                Poll::Ready(_ended) => return Poll::Ready(()),
                Poll::Pending => return linger.silence.poll_fired(cx),
            };
            if now >= linger.end {
                return Poll::Ready(());
            }
            linger.silence.reset(linger.end.min(now + LINGER_SILENCE));
        }
    }
}

/// Reads until it is known whether the client speaks HTTP/2. Returns that, and the bytes read.
///
/// # Errors
/// The connection failed, or ended without a byte.
pub(super) async fn sniff<I: AsyncRead + Unpin>(io: &mut I) -> io::Result<(bool, Box<[u8]>)> {
    let mut start = [0; PREFACE.len()];
    let mut read = 0;
    loop {
        let more = io.read(&mut start[read..]).await?;
        read += more;
        let same = start[..read] == PREFACE[..read];
        if more == 0 && read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if !same || more == 0 || read == PREFACE.len() {
            return Ok((same && read == PREFACE.len(), Box::from(&start[..read])));
        }
    }
}

/// Most bytes of one read. hyper doubles a connection's read buffer, for the rest of its life, when
/// a read fills it. This is one byte less than twice hyper's smallest buffer, so that no buffer
/// grows past that, whatever clients send.
const MAX_READ: usize = (16 << 10) - 1;

/// The cost of one HTTP/2 read, in units of a task's coop budget (128). Without it, a connection
/// would read all available requests before the tasks of its streams run. Until those tasks run,
/// each request keeps its header map and its read buffer: several times the memory of a waiting
/// request.
const READ_COST: u32 = 43;

/// Spends `steps` units of the task's coop budget; the read has already spent one.
fn spend(steps: u32, cx: &mut Context<'_>) {
    for _ in 1..steps {
        match coop::poll_proceed(cx) {
            Poll::Ready(step) => step.made_progress(),
            Poll::Pending => return,
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Watched<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            let ahead = std::mem::take(&mut self.ahead);
            let (now, later) = ahead.split_at(ahead.len().min(buf.remaining()));
            buf.put_slice(now);
            self.ahead = later.into();
            self.activity.read();
            // Read on at once: hyper doubles its buffer if a head arrives in two reads.
            if buf.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            let follows = Pin::new(&mut self.io).poll_read(cx, buf);
            return if follows.is_ready() { follows } else { Poll::Ready(Ok(())) };
        }
        let read = self.poll_read_some(cx, buf);
        if read.is_ready() {
            self.activity.read();
            if self.activity.http2 {
                spend(READ_COST, cx);
            }
        }
        read
    }
}

impl<I: AsyncWrite + Unpin> Watched<I> {
    fn note(&self, written: &Poll<io::Result<usize>>, cx: &mut Context<'_>) {
        let taken = match written {
            Poll::Pending => None,
            Poll::Ready(Ok(taken)) => Some(*taken),
            Poll::Ready(Err(_)) => Some(usize::MAX),
        };
        self.activity.write(taken, cx);
    }

    /// If `buf` is hyper's response to an unparsable request, writes Weir's response instead; else
    /// returns `None`.
    fn poll_own_answer(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Option<Poll<io::Result<usize>>> {
        if self.own_answer.is_none() {
            if self.activity.http2 || !self.activity.has_unclaimed_bytes() {
                return None;
            }
            self.own_answer = Some(parse_error::answer(buf, self.render)?);
        }
        while let Some(rest) = self.own_answer.as_mut().filter(|rest| !rest.is_empty()) {
            match Pin::new(&mut self.io).poll_write(cx, rest) {
                Poll::Ready(Ok(written)) if written > 0 => rest.advance(written),
                Poll::Ready(Ok(_)) => return Some(Poll::Ready(Err(io::ErrorKind::WriteZero.into()))),
                Poll::Ready(Err(error)) => return Some(Poll::Ready(Err(error))),
                Poll::Pending => return Some(Poll::Pending),
            }
        }
        self.own_answer = None;
        Some(Poll::Ready(Ok(buf.len())))
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(written) = self.poll_own_answer(cx, buf) {
            return written;
        }
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.note(&written, cx);
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.linger.is_none() {
            ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
            if self.activity.http2 || !self.activity.client_may_send() {
                return Poll::Ready(Ok(()));
            }
            let now = clock::now();
            self.linger = Some(Linger { silence: Timer::new(now + LINGER_SILENCE), end: now + LINGER });
        }
        self.poll_linger(cx).map(Ok)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [only] = bufs
            && let Some(written) = self.poll_own_answer(cx, only)
        {
            return written;
        }
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.note(&written, cx);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use tokio::io::{AsyncWriteExt, duplex};

    use super::*;
    use crate::server::Refusal;

    fn render(_: Refusal) -> http::Response<Bytes> {
        http::Response::new(Bytes::new())
    }

    /// hyper doubles its buffer, for the rest of the connection, when a head arrives in two reads.
    #[tokio::test(start_paused = true)]
    async fn what_was_read_ahead_comes_with_what_follows() {
        let head = b"GET /v1/models HTTP/1.1\r\nhost: weir\r\n\r\n";
        let (mut client, mut io) = duplex(1024);
        client.write_all(head).await.unwrap();
        let (http2, ahead) = sniff(&mut io).await.unwrap();
        assert!(!http2 && ahead.len() < head.len());
        let mut watched = Watched::new(io, ahead, Arc::default(), None, render);
        let mut read = [0; 1024];
        assert_eq!(watched.read(&mut read).await.unwrap(), head.len());
        assert_eq!(&read[..head.len()], head);
        client.write_all(b"more").await.unwrap();
        assert_eq!(watched.read(&mut read).await.unwrap(), 4);
    }

    /// Discarded bodies are read too: buffers that grow with them are memory without a bound.
    #[tokio::test(start_paused = true)]
    async fn no_read_fills_a_buffer_that_hyper_would_double() {
        const GROWN: usize = 16 << 10;
        let (mut client, io) = duplex(4 * GROWN);
        client.write_all(&vec![7; 3 * GROWN]).await.unwrap();
        let mut watched = Watched::new(io, Box::default(), Arc::default(), None, render);
        let mut buffer = vec![0; 2 * GROWN];
        let mut left = 3 * GROWN;
        while left > 0 {
            let read = watched.read(&mut buffer).await.unwrap();
            assert!(read > 0 && read < GROWN, "{read}");
            assert!(buffer[..read].iter().all(|byte| *byte == 7));
            left -= read;
        }
    }

    /// Number of reads that a task makes before it yields, if there is always more to read.
    async fn reads_at_once(http2: bool) -> usize {
        let (mut client, io) = duplex(1024);
        client.write_all(&[7; 1024]).await.unwrap();
        let mut watched =
            Watched::new(io, Box::default(), Activity::new(http2, Arc::default()), None, render);
        // The coop budget is renewed when the task is scheduled.
        tokio::task::yield_now().await;
        let mut reads = 0;
        let mut read = [0];
        poll_fn(|cx| {
            while Pin::new(&mut watched).poll_read(cx, &mut ReadBuf::new(&mut read)).is_ready() {
                reads += 1;
            }
            Poll::Ready(())
        })
        .await;
        reads
    }

    /// Otherwise all requests of a connection would be held in full before the first is compacted.
    #[tokio::test(start_paused = true)]
    async fn the_streams_of_a_connection_have_their_turn_between_its_reads() {
        assert_eq!(clock::spawn(reads_at_once(true)).await.unwrap(), 3);
        assert!(clock::spawn(reads_at_once(false)).await.unwrap() >= 100);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_read_ahead_waits_for_nothing_and_for_room() {
        let (mut client, mut io) = duplex(1024);
        client.write_all(b"GET /").await.unwrap();
        let (_, ahead) = sniff(&mut io).await.unwrap();
        let mut watched = Watched::new(io, ahead, Arc::default(), None, render);
        let mut read = [0; 4];
        assert_eq!(watched.read(&mut read).await.unwrap(), 4);
        assert_eq!(watched.read(&mut read).await.unwrap(), 1);
        assert!(
            clock::timeout_at(clock::now() + Duration::from_secs(1), watched.read(&mut read)).await.is_err()
        );
        drop(client);
        assert_eq!(watched.read(&mut read).await.unwrap(), 0);
    }
}
