//! The sequence of frames in one direction (RFC 6455, section 5.4): where each message begins and
//! ends.

use super::frame::{Header, Kind, Sender, Violation};

/// Parses the frames of one direction from consecutive bytes. It stores none of them.
#[derive(Debug)]
pub struct Reader {
    sender: Sender,
    /// Whether a message has begun and its last frame has not arrived.
    in_message: bool,
    frame: Option<Frame>,
}

/// The data frame whose payload is being read.
#[derive(Clone, Copy, Debug)]
struct Frame {
    header: Header,
    read: u64,
}

/// The next item in the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A complete control frame, with its length including the header.
    Control(Kind, usize),
    /// A part of a message.
    Data(Data),
}

/// A part of a message: at most one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Data {
    /// Length of the part, in bytes of the input.
    pub length: usize,
    /// Bytes of it that are the frame's header.
    pub header: usize,
    /// The payload's mask, and the offset of this part in the frame's payload.
    pub mask: Option<([u8; 4], u64)>,
    /// Whether the message begins here.
    pub first: bool,
    /// Whether the message ends here.
    pub last: bool,
    /// Bytes of the frame's payload that follow later.
    pub missing: u64,
}

impl Reader {
    /// A reader for the frames of `sender`.
    pub fn new(sender: Sender) -> Self {
        Self { sender, in_message: false, frame: None }
    }

    /// Whether the next byte begins a frame and no message is incomplete, so that another frame may
    /// be inserted.
    pub fn is_between_messages(&self) -> bool {
        !self.in_message && self.frame.is_none()
    }

    /// Parses the next item of `input`; `None` if it is incomplete. A control frame is returned
    /// when complete, at most 139 bytes.
    ///
    /// # Errors
    /// A protocol violation; nothing after it can be parsed.
    pub fn next(&mut self, input: &[u8]) -> Result<Option<Part>, Violation> {
        if input.is_empty() {
            return Ok(None);
        }
        if let Some(frame) = self.frame {
            return Ok(Some(Part::Data(self.payload(frame, 0, false, input.len()))));
        }
        let Some(header) = Header::parse(input, self.sender)? else { return Ok(None) };
        let available = input.len() - header.length;
        if header.kind.is_control() {
            let payload = usize::try_from(header.payload).unwrap_or(usize::MAX);
            return Ok((available >= payload).then(|| Part::Control(header.kind, header.length + payload)));
        }
        let first = header.kind != Kind::Continuation;
        if first == self.in_message {
            return Err(Violation::Order);
        }
        self.in_message = true;
        let frame = Frame { header, read: 0 };
        Ok(Some(Part::Data(self.payload(frame, header.length, first, available))))
    }

    fn payload(&mut self, mut frame: Frame, header: usize, first: bool, available: usize) -> Data {
        let left = frame.header.payload - frame.read;
        let taken = usize::try_from(left).unwrap_or(usize::MAX).min(available);
        let phase = frame.read;
        frame.read += taken as u64;
        let missing = frame.header.payload - frame.read;
        self.frame = (missing > 0).then_some(frame);
        let last = missing == 0 && frame.header.last;
        self.in_message = !last;
        let mask = frame.header.mask.map(|key| (key, phase));
        Data { length: header + taken, header, mask, first, last, missing }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::websocket::frame::{self, unmask};

    /// Control frames, by kind, and messages in their order.
    type Told = Vec<(Option<Kind>, Vec<u8>)>;

    /// The result of reading in pieces of this size: messages, and control frames with their
    /// position among them.
    fn told(bytes: &[u8], piece: usize, sender: Sender) -> Result<Told, Violation> {
        let mut reader = Reader::new(sender);
        let (mut held, mut message, mut told) = (Vec::new(), Vec::new(), Vec::new());
        for bytes in bytes.chunks(piece) {
            held.extend_from_slice(bytes);
            while let Some(part) = reader.next(&held)? {
                let length = match part {
                    Part::Control(kind, length) => {
                        told.push((Some(kind), Vec::new()));
                        length
                    }
                    Part::Data(data) => {
                        assert_eq!(data.first, data.first && message.is_empty());
                        let mut payload = held[data.header..data.length].to_vec();
                        if let Some((key, phase)) = data.mask {
                            unmask(&mut payload, key, phase);
                        }
                        message.append(&mut payload);
                        if data.last {
                            told.push((None, std::mem::take(&mut message)));
                        }
                        assert_eq!(reader.is_between_messages(), data.last);
                        data.length
                    }
                };
                assert!(length > 0, "it goes on");
                held.drain(..length);
            }
            assert!(held.len() < 140, "what is held is a header or a control frame");
        }
        Ok(told)
    }

    #[test]
    fn control_frames_stand_within_fragments_and_messages_do_not() {
        let begin = [0x01, 2, b'a', b'b'];
        let more = [0x00, 0];
        let end = [0x80, 1, b'c'];
        let ping = [0x89, 1, b'!'];
        let whole = [&begin[..], &ping, &more, &ping, &end, &ping].concat();
        let ping = (Some(Kind::Ping), Vec::new());
        let expected = [ping.clone(), ping.clone(), (None, b"abc".to_vec()), ping];
        for piece in [1, 2, 3, 100] {
            assert_eq!(told(&whole, piece, Sender::Server).unwrap(), expected);
        }
        for wrong in [&end[..], &[&begin[..], &begin].concat(), &[&begin[..], &[0x81, 0]].concat()] {
            assert_eq!(told(wrong, 100, Sender::Server), Err(Violation::Order), "{wrong:x?}");
        }
    }

    fn message() -> impl Strategy<Value = Vec<Vec<u8>>> {
        prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..4)
    }

    proptest! {
        #[test]
        fn however_messages_are_cut_they_are_read_the_same(
            messages in prop::collection::vec(message(), 0..6), piece in 1_usize..700, key: Option<[u8; 4]>,
        ) {
            let sender = if key.is_some() { Sender::Client } else { Sender::Server };
            let mut bytes = Vec::new();
            for fragments in &messages {
                let (first, last) = (0, fragments.len() - 1);
                for (place, payload) in fragments.iter().enumerate() {
                    let kind = if place == first { Kind::Binary } else { Kind::Continuation };
                    let mut frame = frame::write(kind, payload, key);
                    frame[0] &= if place == last { 0xff } else { 0x7f };
                    bytes.extend(frame);
                    bytes.extend(frame::write(Kind::Pong, b"x", key));
                }
            }
            let read = told(&bytes, piece, sender).unwrap();
            let read: Vec<_> = read.into_iter().filter(|(kind, _)| kind.is_none()).map(|(_, data)| data).collect();
            prop_assert_eq!(read, messages.iter().map(|parts| parts.concat()).collect::<Vec<_>>());
        }
    }
}
