//! Upstream to client: each message is inspected before its end is relayed; few are held back.

use bytes::{Bytes, BytesMut};

use crate::websocket::{Data, Part, Reader, Sender, Violation};

/// Messages up to this many bytes are relayed when complete, longer ones as they arrive.
const MAX_WHOLE: usize = 64 << 10;
/// Bytes kept from the end of a longer message: it contains the usage, and the lane if the start
/// does not.
const TAIL: usize = 16 << 10;

/// Parses the upstream's frames.
pub(super) struct Downward {
    reader: Reader,
    /// The received bytes in order: those to relay, those parsed of an incomplete message, those
    /// not yet parsed.
    pub(super) buffer: BytesMut,
    ready: usize,
    read: usize,
    /// The start and the end of a message that arrived in parts.
    head: Vec<u8>,
    tail: Vec<u8>,
    length: usize,
    /// Whether the message is relayed as it arrives.
    streaming: bool,
}

/// A message of the upstream.
pub(super) struct Message<'a> {
    pub(super) head: &'a [u8],
    /// Its end, if not part of `head`.
    pub(super) tail: &'a [u8],
    /// Payload length, in bytes.
    pub(super) length: usize,
    /// Its frames, if none has been relayed yet.
    pub(super) frames: Option<&'a [u8]>,
}

/// The next item received from the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// Nothing complete.
    Nothing,
    /// A message, to be inspected and then relayed or held back.
    Message,
    /// A close frame, which is relayed.
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

    /// Parses the received bytes up to the next item.
    ///
    /// # Errors
    /// The upstream violated the protocol; nothing after that can be parsed.
    pub(super) fn next(&mut self) -> Result<Received, Violation> {
        loop {
            match self.reader.next(&self.buffer[self.read..])? {
                None => return Ok(Received::Nothing),
                Some(Part::Control(kind, length)) => {
                    self.read += length;
                    // A close frame must not wait for the rest of the message around it.
                    self.streaming |= !self.reader.is_between_messages();
                    self.ready = self.read;
                    if kind == crate::websocket::Kind::Close {
                        return Ok(Received::Close);
                    }
                }
                Some(Part::Data(data)) => {
                    if self.data(data) {
                        return Ok(Received::Message);
                    }
                }
            }
        }
    }

    /// Handles a part of a message. Returns whether the message ends with it.
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
        if data.first && data.last && self.length <= MAX_WHOLE {
            // The message is complete in the buffer, so no copy is needed.
            return true;
        }
        let payload = &self.buffer[payload];
        let (head, rest) = payload.split_at(payload.len().min(MAX_WHOLE - self.head.len()));
        self.head.extend_from_slice(head);
        self.tail.extend_from_slice(&rest[rest.len().saturating_sub(TAIL)..]);
        if self.tail.len() > TAIL {
            self.tail.drain(..self.tail.len() - TAIL);
        }
        self.streaming |= self.read - self.ready > MAX_WHOLE;
        if self.streaming {
            self.ready = self.read;
        }
        data.last
    }

    /// The message that just ended.
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

    /// Marks the message that just ended for relaying.
    pub(super) fn pass(&mut self) {
        self.ready = self.read;
        self.forget();
    }

    /// Removes the message that just ended, and returns the bytes before it.
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

    /// The bytes to relay now.
    pub(super) fn take(&mut self) -> Bytes {
        self.read -= self.ready;
        self.buffer.split_to(std::mem::take(&mut self.ready)).freeze()
    }

    /// Whether Weir may send its own message after the bytes taken: between two messages, or before
    /// one of which nothing was relayed.
    pub(super) fn is_at_boundary(&self) -> bool {
        self.reader.is_between_messages() || !self.streaming
    }

    /// All remaining bytes, when the upstream ends in the middle of a message.
    pub(super) fn rest(&mut self) -> Bytes {
        (self.ready, self.read) = (0, 0);
        std::mem::take(&mut self.buffer).freeze()
    }
}
