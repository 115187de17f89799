//! Writes of several parts, as one plain write where they are small.
//!
//! hyper hands over a message's head and body, or a chunk's three parts, as a list. The kernel
//! takes some 190 ns longer for a list (`writev`) than for one buffer (`send`), which is more than
//! it takes to copy a few KiB.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Most bytes, of all parts together, that are copied into one write.
const SMALL: usize = 4 << 10;

/// A byte stream whose small parts are written as one.
#[derive(Debug)]
pub struct Gathered<I>(I);

impl<I> Gathered<I> {
    /// Writes to `io`: the socket itself, since what encrypts or watches above it hands its parts
    /// on.
    pub fn new(io: I) -> Self {
        Self(io)
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Gathered<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Gathered<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let io = Pin::new(&mut self.0);
        if let [only] = parts {
            return io.poll_write(cx, only);
        }
        if parts.iter().map(|part| part.len()).sum::<usize>() > SMALL {
            return io.poll_write_vectored(cx, parts);
        }
        let mut space = [MaybeUninit::<u8>::uninit(); SMALL];
        let mut gathered = ReadBuf::uninit(&mut space);
        for part in parts {
            gathered.put_slice(part);
        }
        io.poll_write(cx, gathered.filled())
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// Takes what it is given, and remembers in how many parts.
    #[derive(Default)]
    struct Sink {
        taken: Vec<u8>,
        writes: Vec<usize>,
    }

    impl AsyncWrite for Sink {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.taken.extend_from_slice(bytes);
            self.writes.push(1);
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            parts: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            for part in parts {
                self.taken.extend_from_slice(part);
            }
            self.writes.push(parts.len());
            Poll::Ready(Ok(parts.iter().map(|part| part.len()).sum()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn small_parts_are_one_write_and_large_ones_a_list() {
        for (lengths, writes) in [
            (&[][..], 1),
            (&[9], 1),
            (&[100_000], 1),
            (&[700, 900], 1),
            (&[5, 0, 200, 2], 1),
            (&[SMALL - 1, 1], 1),
            (&[SMALL, 1], 2),
            (&[6, 70_000, 2], 3),
        ] {
            let bytes: Vec<u8> = (0..=250).cycle().take(lengths.iter().sum()).collect();
            let mut rest = &bytes[..];
            let parts: Vec<IoSlice<'_>> =
                lengths.iter().map(|length| IoSlice::new(rest.split_off(..*length).unwrap())).collect();
            let mut io = Gathered::new(Sink::default());
            let written =
                Pin::new(&mut io).poll_write_vectored(&mut Context::from_waker(Waker::noop()), &parts);
            assert!(matches!(written, Poll::Ready(Ok(length)) if length == bytes.len()), "{lengths:?}");
            assert_eq!((io.0.taken, io.0.writes), (bytes, vec![writes]), "{lengths:?}");
        }
    }
}
