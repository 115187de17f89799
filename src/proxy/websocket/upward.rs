//! Client to upstream: complete messages, each parsed before it is relayed.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::turn::Create;
use crate::openai::websocket::client_event;
use crate::replay::{Budget, Held};
use crate::rights::Rights;
use crate::websocket::{CloseCode, Data, Kind, Part, Reader, Sender, unmask};

/// Capacity of the plain-text buffer that is kept between messages, in bytes.
const KEPT_CAPACITY: usize = 16 << 10;

/// Parses the client's frames.
pub(super) struct Upward {
    reader: Reader,
    /// Received bytes that are not parsed yet.
    pub(super) buffer: BytesMut,
    /// The frames of the incomplete message.
    frames: BytesMut,
    /// The payload of the message, unmasked.
    plain: Vec<u8>,
    held: Option<Held>,
    budget: Arc<Budget>,
    longest: usize,
    /// The caller's rights, if they restrict models.
    rights: Option<Arc<Rights>>,
}

/// The next item received from the client.
pub(super) enum Received {
    /// A control frame, to be relayed at once, also in the middle of a message.
    Control(Kind, Bytes),
    /// A complete message.
    Message(Box<Create>),
}

/// The reason why nothing more can be parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unreadable {
    pub(super) code: CloseCode,
    pub(super) reason: &'static str,
}

impl Upward {
    pub(super) fn new(budget: Arc<Budget>, longest: usize, rights: Option<Arc<Rights>>) -> Self {
        Self {
            reader: Reader::new(Sender::Client),
            buffer: BytesMut::new(),
            frames: BytesMut::new(),
            plain: Vec::new(),
            held: None,
            budget,
            longest,
            rights,
        }
    }

    /// The next item in the buffer; `None` until more arrives.
    ///
    /// # Errors
    /// The client violated the protocol or a limit; nothing after that may be parsed.
    pub(super) fn next(&mut self) -> Result<Option<Received>, Unreadable> {
        loop {
            let part = self.reader.next(&self.buffer).map_err(|violation| Unreadable {
                code: CloseCode::ProtocolError,
                reason: violation.what(),
            })?;
            match part {
                None => return Ok(None),
                Some(Part::Control(kind, length)) => {
                    return Ok(Some(Received::Control(kind, self.buffer.split_to(length).freeze())));
                }
                Some(Part::Data(data)) => {
                    if let Some(create) = self.data(data)? {
                        return Ok(Some(Received::Message(Box::new(create))));
                    }
                }
            }
        }
    }

    /// Handles a part of a message. Returns the message if it ends with this part.
    fn data(&mut self, data: Data) -> Result<Option<Create>, Unreadable> {
        let announced = usize::try_from(data.missing).unwrap_or(usize::MAX);
        if self.frames.len().saturating_add(data.length).saturating_add(announced) > self.longest {
            return Err(Unreadable {
                code: CloseCode::TooBig,
                reason: "the message is longer than upstream.websocket.max_message",
            });
        }
        let begin = self.plain.len();
        self.plain.extend_from_slice(&self.buffer[data.header..data.length]);
        if let Some((mask, phase)) = data.mask {
            unmask(&mut self.plain[begin..], mask, phase);
        }
        let part = self.buffer.split_to(data.length);
        if data.first && data.last {
            return Ok(Some(self.whole(part.freeze())));
        }
        let held = self.held.get_or_insert_with(|| Held::new(&self.budget));
        if !held.grow(data.length) {
            return Err(Unreadable {
                code: CloseCode::TryAgainLater,
                reason: "server.max_buffered_bytes leaves no memory for this message",
            });
        }
        self.frames.unsplit(part);
        if !data.last {
            return Ok(None);
        }
        let frames = std::mem::take(&mut self.frames).freeze();
        Ok(Some(self.whole(frames)))
    }

    fn whole(&mut self, frames: Bytes) -> Create {
        let event = client_event(&self.plain);
        let checked = self.rights.as_ref().map(|rights| rights.check_message(&self.plain));
        if self.plain.capacity() > KEPT_CAPACITY {
            self.plain = Vec::new();
        } else {
            self.plain.clear();
        }
        Create { frames, event, held: self.held.take(), checked }
    }

    /// The remaining bytes, when the client ends in the middle of a message; they are relayed
    /// unchanged.
    pub(super) fn rest(&mut self) -> [Bytes; 2] {
        [std::mem::take(&mut self.frames).freeze(), std::mem::take(&mut self.buffer).freeze()]
    }
}
