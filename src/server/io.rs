//! A connection's bytes, watched.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::task::coop;

use super::accept::Hold;
use super::watch::Activity;

/// What every HTTP/2 connection begins with (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A byte stream that reports what happens on it, after bytes that were read ahead.
#[derive(Debug)]
pub(super) struct Watched<I> {
    io: I,
    /// At most a preface, and nothing soon.
    ahead: Box<[u8]>,
    activity: Arc<Activity>,
    /// An upgraded connection outlives its HTTP; it still counts as one.
    _hold: Option<Hold>,
}

impl<I> Watched<I> {
    pub(super) fn new(io: I, ahead: Box<[u8]>, activity: Arc<Activity>, hold: Option<Hold>) -> Self {
        Self { io, ahead, activity, _hold: hold }
    }
}

/// Reads until it is clear whether the client begins with HTTP/2's preface; the bytes read come along.
///
/// # Errors
/// When the connection breaks, or ends without a byte.
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

/// What a read over HTTP/2 costs of the 128 steps that the runtime gives a task until the others have their turn. A connection
/// reads all that there is before the tasks of its streams run: until then each request is held as it came, its headers in a
/// map and in the read buffers, which is several times what it takes to wait.
const READ: u32 = 43;

/// Spends so many steps, one of which was spent already.
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
            // What follows comes in the same read: hyper doubles a buffer that a piece of a head was left in.
            if buf.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            let follows = Pin::new(&mut self.io).poll_read(cx, buf);
            return if follows.is_ready() { follows } else { Poll::Ready(Ok(())) };
        }
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        if read.is_ready() {
            self.activity.read();
            if self.activity.http2 {
                spend(READ, cx);
            }
        }
        read
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Watched<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.activity.write(written.is_pending());
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.activity.write(written.is_pending());
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
    use crate::clock;

    /// hyper doubles its buffer, for as long as the connection lasts, when a head comes in two reads.
    #[tokio::test(start_paused = true)]
    async fn what_was_read_ahead_comes_with_what_follows() {
        let head = b"GET /v1/models HTTP/1.1\r\nhost: weir\r\n\r\n";
        let (mut client, mut io) = duplex(1024);
        client.write_all(head).await.unwrap();
        let (http2, ahead) = sniff(&mut io).await.unwrap();
        assert!(!http2 && ahead.len() < head.len());
        let mut watched = Watched::new(io, ahead, Arc::default(), None);
        let mut read = [0; 1024];
        assert_eq!(watched.read(&mut read).await.unwrap(), head.len());
        assert_eq!(&read[..head.len()], head);
        client.write_all(b"more").await.unwrap();
        assert_eq!(watched.read(&mut read).await.unwrap(), 4);
    }

    /// Reads that a task makes before it must let the others go on, of a connection on which there is always more to read.
    async fn reads_at_once(http2: bool) -> usize {
        let (mut client, io) = duplex(1024);
        client.write_all(&[7; 1024]).await.unwrap();
        let mut watched = Watched::new(io, Box::default(), Activity::new(http2), None);
        // A step's budget begins with it.
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

    /// The requests of a connection would all be held as they came before the first of them is packed.
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
        let mut watched = Watched::new(io, ahead, Arc::default(), None);
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
