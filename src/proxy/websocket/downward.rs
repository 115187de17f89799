//! The upstream's direction: each message is read before its end goes on, and few are kept back.

use bytes::{Bytes, BytesMut};

use crate::websocket::{Data, Part, Reader, Sender, Violation};

/// A message up to this many bytes goes on once it is whole; a longer one as it comes.
const WHOLE: usize = 64 << 10;
/// Of a longer message this much of its end is kept: the usage stands there, and the lane where it
/// is not at the beginning.
const TAIL: usize = 16 << 10;

/// Reads the upstream's frames.
pub(super) struct Downward {
    reader: Reader,
    /// What has come: first what may go on, then what was read of a message that is not whole, then
    /// what was not read.
    pub(super) buffer: BytesMut,
    ready: usize,
    read: usize,
    /// The beginning and the end of a message that did not come at once.
    head: Vec<u8>,
    tail: Vec<u8>,
    length: usize,
    /// The message goes on as it comes.
    streaming: bool,
}

/// A message of the upstream's.
pub(super) struct Message<'a> {
    pub(super) head: &'a [u8],
    /// Its end, where that is not part of `head`.
    pub(super) tail: &'a [u8],
    /// Bytes of its payload.
    pub(super) length: usize,
    /// Its frames, where all of them are still here.
    pub(super) frames: Option<&'a [u8]>,
}

/// What came from the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// Nothing that is whole.
    Nothing,
    /// A message: it is to be looked at, and then to pass or to be kept.
    Message,
    /// A close frame, which is passed on.
    Close,
}

impl Downward {
    pub(super) fn new() -> Self {
        Self {
            reader: Reader::new(Sender::Server),
            buffer: BytesMut::new(),
            ready: 0,
            read: 0,
            head: Vec::new(),
            tail: Vec::new(),
            length: 0,
            streaming: false,
        }
    }

    /// Reads on.
    ///
    /// # Errors
    /// When the upstream breaks the protocol: nothing that follows can be read.
    pub(super) fn next(&mut self) -> Result<Came, Violation> {
        loop {
            match self.reader.next(&self.buffer[self.read..])? {
                None => return Ok(Came::Nothing),
                Some(Part::Control(kind, length)) => {
                    self.read += length;
                    // It must not wait for the rest of the message that it stands in.
                    self.streaming |= !self.reader.is_between_messages();
                    self.ready = self.read;
                    if kind == crate::websocket::Kind::Close {
                        return Ok(Came::Close);
                    }
                }
                Some(Part::Data(data)) => {
                    if self.data(data) {
                        return Ok(Came::Message);
                    }
                }
            }
        }
    }

    /// Takes a part of a message; whether the message ends here.
    fn data(&mut self, data: Data) -> bool {
        if data.first {
            self.head.clear();
            self.tail.clear();
            self.length = 0;
            self.streaming = false;
        }
        let payload = self.read + data.header..self.read + data.length;
        self.length += payload.len();
        self.read += data.length;
        if data.first && data.last && self.length <= WHOLE {
            // It is read where it lies.
            return true;
        }
        let payload = &self.buffer[payload];
        let (head, rest) = payload.split_at(payload.len().min(WHOLE - self.head.len()));
        self.head.extend_from_slice(head);
        self.tail.extend_from_slice(&rest[rest.len().saturating_sub(TAIL)..]);
        if self.tail.len() > TAIL {
            self.tail.drain(..self.tail.len() - TAIL);
        }
        self.streaming |= self.read - self.ready > WHOLE;
        if self.streaming {
            self.ready = self.read;
        }
        data.last
    }

    /// The message that has just ended.
    pub(super) fn message(&self) -> Message<'_> {
        let frames = (!self.streaming).then(|| &self.buffer[self.ready..self.read]);
        match frames {
            Some(frames) if self.head.is_empty() => {
                let payload = &frames[frames.len() - self.length..];
                Message { head: payload, tail: &[], length: self.length, frames: Some(frames) }
            }
            frames => Message { head: &self.head, tail: &self.tail, length: self.length, frames },
        }
    }

    /// The message that has just ended may go on.
    pub(super) fn pass(&mut self) {
        self.ready = self.read;
        self.forget();
    }

    /// The message that has just ended does not go on: what stands before it does.
    pub(super) fn keep(&mut self) -> Bytes {
        let before = self.buffer.split_to(self.ready).freeze();
        drop(self.buffer.split_to(self.read - self.ready));
        (self.ready, self.read) = (0, 0);
        self.forget();
        before
    }

    fn forget(&mut self) {
        self.head = Vec::new();
        self.tail = Vec::new();
    }

    /// What may go on now.
    pub(super) fn take(&mut self) -> Bytes {
        self.read -= self.ready;
        self.buffer.split_to(std::mem::take(&mut self.ready)).freeze()
    }

    /// Whether a message of Weir's may stand behind what was taken: between two messages, or before
    /// one of which nothing was.
    pub(super) fn is_at_boundary(&self) -> bool {
        self.reader.is_between_messages() || !self.streaming
    }

    /// All that is left, when the upstream ends in the middle of a message.
    pub(super) fn rest(&mut self) -> Bytes {
        (self.ready, self.read) = (0, 0);
        std::mem::take(&mut self.buffer).freeze()
    }
}
