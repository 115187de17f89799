//! One frame: its header (RFC 6455, section 5.2), its mask (5.3), and encoding for the few frames
//! that Weir sends.

/// The sender of frames: a client masks every frame, a server none (section 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// The side that requested the upgrade.
    Client,
    /// The side that accepted it.
    Server,
}

/// The type of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A further part of a message.
    Continuation,
    /// Text, or its first part.
    Text,
    /// Bytes, or their first part.
    Binary,
    /// The sender sends no more data.
    Close,
    /// A request for a pong.
    Ping,
    /// The response to a ping.
    Pong,
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The type of the frame.
    pub kind: Kind,
    /// Whether it is its message's last frame.
    pub last: bool,
    /// The masking key.
    pub mask: Option<[u8; 4]>,
    /// Payload length, in bytes.
    pub payload: u64,
    /// Header length, 2 to 14 bytes.
    pub length: usize,
}

/// A protocol violation, after which the connection can't be parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.what())]
pub enum Violation {
    /// A reserved bit is set, and no extension was negotiated.
    ReservedBit,
    /// An opcode without meaning.
    Opcode,
    /// A client's frame is not masked, or a server's is.
    Mask,
    /// The payload length is not minimally encoded, or is 2^63 or more.
    Length,
    /// A control frame is longer than 125 bytes, or is a fragment.
    Control,
    /// A continuation without a message, or a new message within another.
    Order,
}

impl Violation {
    /// A description, for a close frame.
    pub const fn what(self) -> &'static str {
        match self {
            Self::ReservedBit => "a reserved bit is set, but no extension was negotiated",
            Self::Opcode => "a frame with an unknown opcode",
            Self::Mask => "a frame with a wrong mask bit",
            Self::Length => "a frame with an invalid length encoding",
            Self::Control => "a control frame that is too long or fragmented",
            Self::Order => "message fragments out of order",
        }
    }
}

/// The longest payload of a control frame (section 5.5).
const MAX_CONTROL: u64 = 125;

impl Kind {
    /// Whether this is a control frame, which may appear between the fragments of a message.
    pub const fn is_control(self) -> bool {
        match self {
            Self::Close | Self::Ping | Self::Pong => true,
            Self::Continuation | Self::Text | Self::Binary => false,
        }
    }

    const fn opcode(self) -> u8 {
        match self {
            Self::Continuation => 0,
            Self::Text => 1,
            Self::Binary => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
        }
    }

    const fn of(opcode: u8) -> Option<Self> {
        Some(match opcode {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }
}

impl Header {
    /// Parses the header at the start of `bytes`; `None` if it is incomplete.
    ///
    /// # Errors
    /// The bytes can't start a frame of `sender`; detected as early as possible.
    pub fn parse(bytes: &[u8], sender: Sender) -> Result<Option<Self>, Violation> {
        let [first, second, rest @ ..] = bytes else { return Ok(None) };
        if first & 0x70 != 0 {
            return Err(Violation::ReservedBit);
        }
        let kind = Kind::of(first & 0x0f).ok_or(Violation::Opcode)?;
        let (last, masked) = (first & 0x80 != 0, second & 0x80 != 0);
        if masked != (sender == Sender::Client) {
            return Err(Violation::Mask);
        }
        let short = second & 0x7f;
        if kind.is_control() && (u64::from(short) > MAX_CONTROL || !last) {
            return Err(Violation::Control);
        }
        let (payload, extended) = match short {
            126 => {
                let Some((length, _)) = rest.split_first_chunk::<2>() else { return Ok(None) };
                (u64::from(u16::from_be_bytes(*length)), 2)
            }
            127 => {
                let Some((length, _)) = rest.split_first_chunk::<8>() else { return Ok(None) };
                (u64::from_be_bytes(*length), 8)
            }
            short => (u64::from(short), 0),
        };
        let fewest = match payload {
            0..=125 => 0,
            126..=0xffff => 2,
            _ => 8,
        };
        if extended != fewest || payload >> 63 != 0 {
            return Err(Violation::Length);
        }
        if !masked {
            return Ok(Some(Self { kind, last, mask: None, payload, length: 2 + extended }));
        }
        let Some(mask) = rest.get(extended..).and_then(<[u8]>::first_chunk::<4>) else { return Ok(None) };
        Ok(Some(Self { kind, last, mask: Some(*mask), payload, length: 6 + extended }))
    }
}

/// Applies or removes a mask; `payload` begins `phase` bytes into its frame's payload.
pub fn unmask(payload: &mut [u8], mask: [u8; 4], phase: u64) {
    let mut key = mask;
    key.rotate_left((phase % 4) as usize);
    let wide = u64::from_ne_bytes([key[0], key[1], key[2], key[3], key[0], key[1], key[2], key[3]]);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

/// A complete frame, masked if `mask` is given.
pub fn write(kind: Kind, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let mut frame = Vec::with_capacity(14 + payload.len());
    let masked: u8 = if mask.is_some() { 0x80 } else { 0 };
    frame.push(0x80 | kind.opcode());
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length @ 0..=125), _) => frame.push(masked | length),
        (_, Ok(length)) => {
            frame.push(masked | 0x7e);
            frame.extend(length.to_be_bytes());
        }
        (_, Err(_)) => {
            frame.push(masked | 0x7f);
            frame.extend((payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend(mask.into_iter().flatten());
    let begin = frame.len();
    frame.extend_from_slice(payload);
    if let Some(mask) = mask {
        unmask(&mut frame[begin..], mask, 0);
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 4] = [1, 2, 3, 4];

    #[test]
    fn what_no_frame_may_be_is_told_as_soon_as_it_shows() {
        use Sender::{Client, Server};
        for (bytes, sender, violation) in [
            (&[0xc1, 0][..], Server, Violation::ReservedBit),
            (&[0xa1, 0], Server, Violation::ReservedBit),
            (&[0x91, 0], Server, Violation::ReservedBit),
            (&[0x83, 0], Server, Violation::Opcode),
            (&[0x8b, 0], Server, Violation::Opcode),
            (&[0x81, 0], Client, Violation::Mask),
            (&[0x81, 0x80], Server, Violation::Mask),
            (&[0x89, 126], Server, Violation::Control),
            (&[0x88, 127], Server, Violation::Control),
            (&[0x09, 0], Server, Violation::Control),
            (&[0x81, 126, 0, 125], Server, Violation::Length),
            (&[0x81, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff], Server, Violation::Length),
            (&[0x81, 127, 0x80, 0, 0, 0, 0, 0, 0, 0], Server, Violation::Length),
            (&[0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], Client, Violation::Length),
        ] {
            assert_eq!(Header::parse(bytes, sender), Err(violation), "{bytes:x?}");
        }
        let huge = [0x81, 127, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        let header = Header::parse(&huge, Server).unwrap().unwrap();
        assert_eq!((header.payload, header.length), ((1 << 63) - 1, 10), "the longest that may be");
    }

    #[test]
    fn what_is_written_is_read_and_each_part_of_a_header_is_waited_for() {
        for length in [0, 1, 125, 126, 0xffff, 0x1_0000] {
            for mask in [None, Some(KEY)] {
                let sender = if mask.is_some() { Sender::Client } else { Sender::Server };
                let payload: Vec<u8> = (0..length).map(|at: usize| at.to_le_bytes()[0]).collect();
                let frame = write(Kind::Binary, &payload, mask);
                let header = Header::parse(&frame, sender).unwrap().unwrap();
                assert_eq!((header.kind, header.last, header.mask), (Kind::Binary, true, mask));
                assert_eq!((header.payload, header.length + length), (length as u64, frame.len()));
                for missing in 0..header.length {
                    assert_eq!(Header::parse(&frame[..missing], sender), Ok(None), "{length} {missing}");
                }
                let mut read = frame[header.length..].to_vec();
                if let Some(mask) = mask {
                    let (front, back) = read.split_at_mut(length / 3);
                    unmask(front, mask, 0);
                    unmask(back, mask, (length / 3) as u64);
                }
                assert_eq!(read, payload);
            }
        }
    }
}
