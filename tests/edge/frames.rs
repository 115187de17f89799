//! Writes and parses WebSocket frames of either side of a connection.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;
use weir::internals::websocket::{Header, Kind, Sender, unmask, write};

use crate::wire;

/// The masking key of all client frames in the tests.
pub(crate) const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A frame as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: Kind,
    pub(crate) last: bool,
    pub(crate) payload: Vec<u8>,
    pub(crate) raw: Vec<u8>,
}

impl Frame {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&String::from_utf8_lossy(&self.payload)).unwrap()
    }

    /// The code and the reason of a close frame.
    pub(crate) fn close(&self) -> (u16, String) {
        assert_eq!(self.kind, Kind::Close, "{self:?}");
        let (code, reason) = self.payload.split_first_chunk::<2>().unwrap();
        (u16::from_be_bytes(*code), String::from_utf8(reason.to_vec()).unwrap())
    }
}

/// One side of an upgraded connection.
pub(crate) struct Socket {
    pub(crate) stream: TcpStream,
    held: Vec<u8>,
    /// The sender of the frames that are read.
    from: Sender,
}

impl Socket {
    pub(crate) fn new(stream: TcpStream, from: Sender) -> Self {
        Self { stream, held: Vec::new(), from }
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub(crate) fn send(&mut self, kind: Kind, payload: &[u8]) {
        let mask = (self.from == Sender::Server).then_some(KEY);
        self.raw(&write(kind, payload, mask));
    }

    pub(crate) fn say(&mut self, value: &Value) {
        self.send(Kind::Text, value.to_string().as_bytes());
    }

    /// The next frame; `None` at the end.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(header) = Header::parse(&self.held, self.from).unwrap() {
                let length = header.length + usize::try_from(header.payload).unwrap();
                if self.held.len() >= length {
                    let raw: Vec<u8> = self.held.drain(..length).collect();
                    let mut payload = raw[header.length..].to_vec();
                    if let Some(mask) = header.mask {
                        unmask(&mut payload, mask, 0);
                    }
                    return Some(Frame { kind: header.kind, last: header.last, payload, raw });
                }
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(read) => self.held.extend_from_slice(&buffer[..read]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("nothing came: {error}"),
            }
        }
    }

    /// The next event of this type, others left out.
    pub(crate) fn event(&mut self, kind: &str) -> Value {
        loop {
            let event = self.next().unwrap_or_else(|| panic!("ended before {kind}")).json();
            if event["type"] == kind {
                return event;
            }
            assert_ne!(event["type"], "error", "{event}");
        }
    }
}

/// Opens a WebSocket connection; `more` are further lines of the handshake.
pub(crate) fn open(address: SocketAddr, path: &str, more: &str) -> Socket {
    let mut stream = wire::connect(address);
    let ask = format!(
        "GET {path} HTTP/1.1\r\nHost: weir\r\nAuthorization: Bearer own-key-0123456789\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
    );
    stream.write_all(ask.as_bytes()).unwrap();
    let head = head(&mut stream);
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    Socket::new(stream, Sender::Server)
}

/// Reads a head, and no byte after it.
fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// An upstream that accepts every handshake and then runs `script` with the handshake's head.
pub(crate) fn upstream(session: impl Fn(Socket, String) + Send + Sync + 'static) -> SocketAddr {
    wire::upstream(move |mut stream| {
        let head = head(&mut stream);
        let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                      Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        if stream.write_all(switch.as_bytes()).is_ok() {
            session(Socket::new(stream, Sender::Client), head);
        }
    })
}
