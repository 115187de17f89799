//! A minimal HTTP/1.1 parser for the load generator and the upstream: message ends and bodies.

use crate::failure::{Failure, Result};

/// A head longer than this is not of ours.
const LONGEST_HEAD: usize = 16 * 1024;

/// One whole message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// 0 in a request.
    pub(crate) status: u16,
    pub(crate) body_bytes: u64,
}

/// What became of the bytes given to [`MessageReader::feed`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fed {
    pub(crate) consumed: usize,
    /// The message that these bytes ended, if they ended one.
    pub(crate) message: Option<Message>,
}

/// Reads messages from pieces of any size.
pub(crate) struct MessageReader {
    kind: Kind,
    head: Vec<u8>,
    status: u16,
    body_bytes: u64,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Request,
    Response,
}

#[derive(Clone, Copy)]
enum State {
    Head,
    Length(u64),
    ChunkSize { size: u64, extension: bool },
    ChunkData(u64),
    ChunkEnd,
    Trailer { line: u32 },
}

impl MessageReader {
    pub(crate) fn new(kind: Kind) -> Self {
        Self { kind, head: Vec::new(), status: 0, body_bytes: 0, state: State::Head }
    }

    /// The status of the response under way, 0 before its head was read.
    pub(crate) fn status(&self) -> u16 {
        self.status
    }

    /// The head of the message under way or just ended.
    pub(crate) fn head(&self) -> &[u8] {
        &self.head
    }

    /// Takes bytes up to the end of one message and gives its body's bytes to `body`.
    pub(crate) fn feed(&mut self, input: &[u8], body: &mut impl FnMut(&[u8])) -> Result<Fed> {
        let mut at = 0;
        loop {
            let rest = &input[at..];
            match self.state {
                State::Head => {
                    let Some(taken) = self.take_head(rest)? else {
                        return Ok(Fed { consumed: input.len(), message: None });
                    };
                    at += taken;
                    if let State::Length(0) = self.state {
                        return Ok(self.end(at));
                    }
                    continue;
                }
                State::Length(left) => {
                    let taken = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    self.pass(&rest[..taken], body);
                    at += taken;
                    if taken as u64 == left {
                        return Ok(self.end(at));
                    }
                    self.state = State::Length(left - taken as u64);
                }
                State::ChunkData(left) => {
                    let taken = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    self.pass(&rest[..taken], body);
                    at += taken;
                    self.state = if taken as u64 == left {
                        State::ChunkEnd
                    } else {
                        State::ChunkData(left - taken as u64)
                    };
                }
                State::ChunkSize { .. } | State::ChunkEnd | State::Trailer { .. } => {
                    let Some(&byte) = rest.first() else {
                        return Ok(Fed { consumed: at, message: None });
                    };
                    at += 1;
                    if self.framing_byte(byte)? {
                        return Ok(self.end(at));
                    }
                }
            }
            if at == input.len() {
                return Ok(Fed { consumed: at, message: None });
            }
        }
    }

    fn pass(&mut self, bytes: &[u8], body: &mut impl FnMut(&[u8])) {
        if !bytes.is_empty() {
            self.body_bytes += bytes.len() as u64;
            body(bytes);
        }
    }

    fn end(&mut self, consumed: usize) -> Fed {
        self.state = State::Head;
        Fed { consumed, message: Some(Message { status: self.status, body_bytes: self.body_bytes }) }
    }

    /// Takes the rest of the head and sets how the body ends; `None` when the head goes on beyond
    /// these bytes.
    fn take_head(&mut self, input: &[u8]) -> Result<Option<usize>> {
        if self.head.ends_with(b"\r\n\r\n") {
            self.head.clear(); // of the message before
            self.status = 0;
        }
        let known = self.head.len();
        self.head.extend_from_slice(input);
        let Some(end) = memchr::memmem::find(&self.head[known.saturating_sub(3)..], b"\r\n\r\n") else {
            return if self.head.len() > LONGEST_HEAD {
                Err(Failure::new("an endless head"))
            } else {
                Ok(None)
            };
        };
        let head_bytes = known.saturating_sub(3) + end + 4;
        self.head.truncate(head_bytes);
        self.body_bytes = 0;
        if self.kind == Kind::Response {
            let digits = self.head.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok());
            self.status =
                digits.and_then(|digits| digits.parse().ok()).ok_or_else(|| Failure::new("no status"))?;
        }
        self.state = match (framing(&self.head)?, self.kind) {
            (Some(state), _) => state,
            (None, Kind::Request) => State::Length(0),
            (None, Kind::Response) => {
                return Err(Failure::new("an answer without length that no connection survives"));
            }
        };
        Ok(Some(head_bytes - known))
    }

    /// A byte between a chunked body's data; whether it ended the message.
    fn framing_byte(&mut self, byte: u8) -> Result<bool> {
        self.state = match (self.state, byte) {
            (State::ChunkSize { size: 0, .. }, b'\n') => State::Trailer { line: 0 },
            (State::ChunkSize { size, .. }, b'\n') => State::ChunkData(size),
            (State::ChunkSize { size, .. }, b'\r' | b';') => State::ChunkSize { size, extension: true },
            (state @ State::ChunkSize { extension: true, .. }, _) => state,
            (State::ChunkSize { size, .. }, byte) => {
                let digit = char::from(byte).to_digit(16).ok_or_else(|| Failure::new("a bad chunk size"))?;
                State::ChunkSize { size: size * 16 + u64::from(digit), extension: false }
            }
            (State::ChunkEnd, b'\n') => State::ChunkSize { size: 0, extension: false },
            (State::Trailer { line: 0 }, b'\n') => return Ok(true),
            (State::Trailer { .. }, b'\n') => State::Trailer { line: 0 },
            (State::Trailer { line }, byte) if byte != b'\r' => State::Trailer { line: line + 1 },
            (state, b'\r') => state,
            _ => return Err(Failure::new("bad chunk framing")),
        };
        Ok(false)
    }
}

/// How the body of a message with this head ends, if the head says.
fn framing(head: &[u8]) -> Result<Option<State>> {
    let mut found = None;
    let mut start = 0;
    for end in memchr::memchr_iter(b'\n', head) {
        let line = &head[start..end];
        start = end + 1;
        if let Some(value) = value_of(line, b"content-length") {
            let length = std::str::from_utf8(value).ok().and_then(|value| value.trim().parse().ok());
            found = Some(State::Length(length.ok_or_else(|| Failure::new("a bad content-length"))?));
        } else if value_of(line, b"transfer-encoding").is_some() {
            return Ok(Some(State::ChunkSize { size: 0, extension: false }));
        }
    }
    Ok(found)
}

fn value_of<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (before, value) = line.split_at_checked(name.len())?;
    let value = value.strip_prefix(b":")?;
    before.eq_ignore_ascii_case(name).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(kind: Kind, input: &[u8], piece: usize) -> Result<(Vec<Message>, Vec<u8>)> {
        let mut reader = MessageReader::new(kind);
        let (mut messages, mut body) = (Vec::new(), Vec::new());
        for piece in input.chunks(piece) {
            let mut at = 0;
            while at < piece.len() {
                let fed = reader.feed(&piece[at..], &mut |bytes| body.extend_from_slice(bytes))?;
                at += fed.consumed;
                messages.extend(fed.message);
            }
        }
        Ok((messages, body))
    }

    const ANSWERS: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nserver: x\r\n\r\nhello\
        HTTP/1.1 503 Service Unavailable\r\ntransfer-encoding: chunked\r\n\r\n\
        3\r\nabc\r\nA;ext=1\r\n0123456789\r\n0\r\ntrailer: 1\r\n\r\n\
        HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n";

    #[test]
    fn any_chunking_reads_the_same_messages() {
        for piece in 1..=ANSWERS.len() {
            let (messages, body) = read_all(Kind::Response, ANSWERS, piece).expect("valid answers");
            let expected =
                [(200, 5), (503, 13), (204, 0)].map(|(status, body_bytes)| Message { status, body_bytes });
            assert_eq!(messages, expected, "in pieces of {piece}");
            assert_eq!(body, b"helloabc0123456789");
        }
    }

    #[test]
    fn a_request_without_length_has_no_body() {
        let (messages, body) =
            read_all(Kind::Request, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", 7).expect("valid");
        assert_eq!((messages.len(), body.len()), (1, 0));
    }

    #[test]
    fn what_cannot_be_counted_is_an_error() {
        for bad in [
            &b"HTTP/1.1 200 OK\r\n\r\n"[..],
            b"HTTP/1.1 xxx OK\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nab\r\n",
        ] {
            assert!(read_all(Kind::Response, bad, 1000).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }
}
