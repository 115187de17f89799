//! Writes of several parts, as one plain write where they are small.
//!
//! hyper hands over a message's head and body, or a chunk's three parts, as a list. The kernel takes some 190 ns longer for a
//! list (`writev`) than for one buffer (`send`), which is more than it takes to copy a few KiB.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncWrite, ReadBuf};

/// Parts of this many bytes together are copied; it costs as much as a list does at about twice the size.
const SMALL: usize = 4 << 10;

/// Writes `parts`, or a beginning of them, and returns how many bytes were written.
///
/// # Errors
/// Those of `io`.
pub fn poll_write<W: AsyncWrite>(
    io: Pin<&mut W>,
    cx: &mut Context<'_>,
    parts: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
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
            let mut sink = Sink::default();
            let written = poll_write(Pin::new(&mut sink), &mut Context::from_waker(Waker::noop()), &parts);
            assert!(matches!(written, Poll::Ready(Ok(length)) if length == bytes.len()), "{lengths:?}");
            assert_eq!((sink.taken, sink.writes), (bytes, vec![writes]), "{lengths:?}");
        }
    }
}
