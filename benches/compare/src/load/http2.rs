//! The memory of waiting requests over HTTP/2, many on a connection.
//!
//! It implements the necessary part of HTTP/2 (RFC 9113): it sends requests, and accepts only the
//! frames that keep a connection alive.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use clap::Args;

use super::{Common, Resident, Window};
use crate::failure::{Failure, Result, While as _};
use crate::payload::{self, Ask};
use crate::probe;
use crate::report::Report;

/// Requests that are held.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    common: Common,
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Requests of each connection, which the upstream never answers.
    #[arg(long, default_value_t = 250)]
    requests: usize,
    /// Seconds to hold before the memory is read.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
}

pub(super) fn run(options: &Options) -> Result<Report> {
    let common = &options.common;
    // One-time setup at the first requests does not count.
    probe::ask(common.target, 200, common.patience())?;
    thread::sleep(Duration::from_millis(300));
    let before = Resident::now(common)?;

    let requests: Vec<Request> =
        common.requests(Ask::Hold).iter().map(|request| Request::of(request)).collect();
    let mut connections = Vec::with_capacity(options.connections);
    for _ in 0..options.connections {
        let mut connection = Connection::open(common.target, common.patience())?;
        for place in 0..options.requests {
            connection.send(&requests[place % requests.len()])?;
        }
        connections.push(connection);
    }
    let window = Window::open(common)?;
    thread::sleep(Duration::from_secs_f64(options.seconds));
    let mut report = Report::default();
    window.close(&mut report)?;
    for connection in &mut connections {
        connection.require_held()?;
    }
    report.put("waiting", options.connections * options.requests);
    report.put("body_bytes", payload::REQUEST_BODY);
    before.put_before(&mut report);
    Ok(report)
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Types of frames, and their flags.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

const FRAME_HEAD: usize = 9;
/// Bytes of bodies that may be sent before the server allows more.
const FIRST_WINDOW: usize = 65_535;

/// A request in the form of HTTP/2.
struct Request {
    head: Vec<u8>,
    body: Vec<u8>,
}

impl Request {
    /// From the form of HTTP/1.1.
    fn of(request: &[u8]) -> Self {
        let end = memchr::memmem::find(request, b"\r\n\r\n").unwrap_or(request.len());
        let text = String::from_utf8_lossy(&request[..end]);
        let mut head = Vec::new();
        push_header(&mut head, ":method", "POST");
        push_header(&mut head, ":scheme", "http");
        push_header(&mut head, ":path", payload::PATH);
        for (name, value) in text.lines().filter_map(|line| line.split_once(": ")) {
            let name = name.to_ascii_lowercase();
            push_header(&mut head, if name == "host" { ":authority" } else { &name }, value);
        }
        Self { head, body: request.get(end + 4..).unwrap_or_default().to_vec() }
    }
}

/// A literal header without indexing, its name spelled out (RFC 7541, section 6.2.2).
fn push_header(out: &mut Vec<u8>, name: &str, value: &str) {
    out.push(0);
    for text in [name, value] {
        push_length(out, text.len());
        out.extend_from_slice(text.as_bytes());
    }
}

/// An integer with a prefix of seven bits (RFC 7541, section 5.1).
fn push_length(out: &mut Vec<u8>, length: usize) {
    const MOST: u8 = 127;
    let Some(mut rest) = length.checked_sub(MOST.into()) else {
        return out.extend(u8::try_from(length));
    };
    out.push(MOST);
    while rest >= 128 {
        out.push(rest.to_le_bytes()[0] | 128);
        rest /= 128;
    }
    out.push(rest.to_le_bytes()[0]);
}

struct Connection {
    socket: TcpStream,
    /// Bytes that were read and are not yet a whole frame.
    read: Vec<u8>,
    /// Bytes of bodies that may be sent now.
    window: usize,
    next_stream: u32,
}

impl Connection {
    fn open(target: SocketAddr, patience: Duration) -> Result<Self> {
        let mut socket =
            TcpStream::connect_timeout(&target, patience).doing("load generator cannot connect")?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(patience))?;
        socket.write_all(PREFACE)?;
        let mut connection = Self { socket, read: Vec::new(), window: FIRST_WINDOW, next_stream: 1 };
        connection.write(SETTINGS, 0, 0, &[])?;
        // The server's settings: it speaks HTTP/2.
        connection.read_more()?;
        Ok(connection)
    }

    fn send(&mut self, request: &Request) -> Result<()> {
        while self.window < request.body.len() {
            self.read_more()?;
        }
        let stream = self.next_stream;
        self.next_stream += 2;
        self.window -= request.body.len();
        self.write(HEADERS, END_HEADERS, stream, &request.head)?;
        self.write(DATA, END_STREAM, stream, &request.body)
    }

    fn write(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Result<()> {
        let length = u32::try_from(payload.len()).map_err(|_| Failure::new("a frame is too long"))?;
        let mut frame = Vec::with_capacity(FRAME_HEAD + payload.len());
        frame.extend_from_slice(&length.to_be_bytes()[1..]);
        frame.extend_from_slice(&[kind, flags]);
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(payload);
        self.socket.write_all(&frame).doing("load generator cannot write")
    }

    /// Fails if a request was answered or the connection has ended.
    fn require_held(&mut self) -> Result<()> {
        self.socket.set_nonblocking(true)?;
        loop {
            match self.read_more() {
                Ok(true) => (),
                other => return other.map(drop),
            }
        }
    }

    /// Reads the available data; false if there is none.
    fn read_more(&mut self) -> Result<bool> {
        let mut scratch = [0; 16 * 1024];
        let bytes = match self.socket.read(&mut scratch) {
            Ok(0) => return Err(Failure::new("load generator's connection was closed")),
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error).doing("load generator cannot read"),
        };
        self.read.extend_from_slice(&scratch[..bytes]);
        while let Some(frame) = take_frame(&mut self.read) {
            self.hear(&frame)?;
        }
        Ok(true)
    }

    fn hear(&mut self, frame: &Frame) -> Result<()> {
        match (frame.kind, frame.flags & ACK) {
            (SETTINGS | PING, ACK) => Ok(()),
            (SETTINGS, _) => self.write(SETTINGS, ACK, 0, &[]),
            (PING, _) => self.write(PING, ACK, 0, &frame.payload),
            (WINDOW_UPDATE, _) => {
                if let (0, Ok(more)) = (frame.stream, <[u8; 4]>::try_from(&frame.payload[..])) {
                    self.window += u32::from_be_bytes(more) as usize;
                }
                Ok(())
            }
            (kind, _) => Err(Failure::new(format!(
                "a held request was answered: a frame of type {kind} on stream {}",
                frame.stream
            ))),
        }
    }
}

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

/// Takes a whole frame off the start of `read`.
fn take_frame(read: &mut Vec<u8>) -> Option<Frame> {
    let &[high, middle, low, kind, flags, a, b, c, d, ..] = &read[..] else { return None };
    let end = FRAME_HEAD + u32::from_be_bytes([0, high, middle, low]) as usize;
    let payload = read.get(FRAME_HEAD..end)?.to_vec();
    read.drain(..end);
    Some(Frame { kind, flags, stream: u32::from_be_bytes([a, b, c, d]), payload })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn lengths_are_as_in_the_standard() {
        let written = |length| {
            let mut out = Vec::new();
            push_length(&mut out, length);
            out
        };
        assert_eq!(written(126), [126]);
        assert_eq!(written(127), [127, 0]);
        assert_eq!(written(1337), [127, 0b1011_1010, 9]); // 1337 - 127 = 9 × 128 + 58
    }

    #[test]
    fn a_request_keeps_its_headers_and_its_body() {
        let request = Request::of(b"POST / HTTP/1.1\r\nHost: h\r\nX-A: b\r\nContent-Length: 2\r\n\r\n{}");
        assert_eq!(request.body, b"{}");
        assert!(memchr::memmem::find(&request.head, b"\x0a:authority\x01h").is_some());
        assert!(memchr::memmem::find(&request.head, b"\x03x-a\x01b").is_some());
    }

    /// A server that sends `answer` after the preface. Returns the result of a held request.
    fn hold_before(answer: &'static [u8]) -> Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let server = thread::spawn(move || {
            let (mut socket, _) = listener.accept().expect("a client");
            let mut preface = [0; PREFACE.len()];
            socket.read_exact(&mut preface).expect("a preface");
            socket.write_all(answer).expect("an answer");
            // Until the client leaves.
            drop(socket.read_to_end(&mut Vec::new()));
        });
        let mut connection = Connection::open(address, Duration::from_secs(5))?;
        let request = Request { head: Vec::new(), body: vec![0; FIRST_WINDOW] };
        connection.send(&request)?;
        // More than the initial window: it waits for a window update, and handles other frames
        // before.
        let sent = connection.send(&Request { head: Vec::new(), body: vec![0; 10] });
        let held = sent.and_then(|()| connection.require_held());
        drop(connection);
        server.join().expect("a server");
        held
    }

    #[test]
    fn a_request_that_is_answered_is_not_held() {
        const SETTINGS_AND_WINDOW: &[u8] = b"\0\0\0\x04\0\0\0\0\0\0\0\x04\x08\0\0\0\0\0\0\0\0\xff";
        const AND_AN_ANSWER: &[u8] = b"\0\0\0\x04\0\0\0\0\0\0\0\x01\x01\x04\0\0\0\x01\x88";
        assert!(hold_before(SETTINGS_AND_WINDOW).is_ok());
        let failure = hold_before(AND_AN_ANSWER).expect_err("an answer");
        assert!(failure.to_string().contains("type 1 on stream 1"), "{failure}");
    }
}
