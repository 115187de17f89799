//! Raw HTTP/1.1, without a library that would correct messages.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// A message as received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Message {
    /// The request line or the status line.
    pub(crate) start: String,
    /// The headers in order, with lower-case names and repetitions.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
    /// Whether the body was complete.
    pub(crate) whole: bool,
}

impl Message {
    /// The values of each name, in their order.
    pub(crate) fn by_name(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut map = BTreeMap::<_, Vec<_>>::new();
        for (name, value) in &self.headers {
            map.entry(name.as_str()).or_default().push(value.as_str());
        }
        map
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn status(&self) -> u16 {
        self.start.split(' ').nth(1).unwrap().parse().unwrap()
    }
}

fn line(stream: &mut impl BufRead) -> Option<String> {
    let mut line = Vec::new();
    stream.read_until(b'\n', &mut line).ok().filter(|read| *read > 0)?;
    let text = String::from_utf8_lossy(line.strip_suffix(b"\r\n")?).into_owned();
    Some(text)
}

fn fields(stream: &mut impl BufRead) -> Option<Vec<(String, String)>> {
    let mut fields = Vec::new();
    loop {
        let line = line(stream)?;
        if line.is_empty() {
            return Some(fields);
        }
        let (name, value) = line.split_once(':')?;
        fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

/// Reads a head.
pub(crate) fn read_head(stream: &mut impl BufRead) -> Option<Message> {
    let start = line(stream)?;
    Some(Message { start, headers: fields(stream)?, ..Message::default() })
}

/// Reads the body of a head; `until_end` if it ends with the connection.
pub(crate) fn read_body(stream: &mut impl BufRead, message: &mut Message, until_end: bool) {
    let chunked = message.header("transfer-encoding").is_some_and(|coding| coding == "chunked");
    if chunked {
        message.whole = read_chunks(stream, message).is_some();
    } else if let Some(length) = message.header("content-length").map(|length| length.parse().unwrap()) {
        message.whole =
            stream.take(length).read_to_end(&mut message.body).is_ok() && message.body.len() as u64 == length;
    } else {
        message.whole = !until_end || stream.read_to_end(&mut message.body).is_ok();
    }
}

fn read_chunks(stream: &mut impl BufRead, message: &mut Message) -> Option<()> {
    loop {
        let size = u64::from_str_radix(line(stream)?.split(';').next()?.trim(), 16).ok()?;
        if size == 0 {
            message.trailers = fields(stream)?;
            return Some(());
        }
        let before = message.body.len() as u64;
        stream.take(size).read_to_end(&mut message.body).ok()?;
        if message.body.len() as u64 - before < size || !line(stream)?.is_empty() {
            return None;
        }
    }
}

/// Reads the answer to a request of this method, interim ones left out.
pub(crate) fn read_answer(stream: &mut impl BufRead, method: &str) -> Option<Message> {
    loop {
        let mut answer = read_head(stream)?;
        let status = answer.status();
        if (100..200).contains(&status) && status != 101 {
            continue;
        }
        if method == "HEAD" || status == 101 || status == 204 || status == 304 {
            answer.whole = true;
        } else {
            let delimited =
                answer.header("content-length").is_some() || answer.header("transfer-encoding").is_some();
            read_body(stream, &mut answer, !delimited);
        }
        return Some(answer);
    }
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// Sends bytes on a connection of their own and reads one answer.
pub(crate) fn ask(address: SocketAddr, request: &[u8]) -> Message {
    let mut stream = connect(address);
    stream.write_all(request).unwrap();
    let method = String::from_utf8_lossy(request.split(|byte| *byte == b' ').next().unwrap()).into_owned();
    read_answer(&mut BufReader::new(stream), &method).expect("an answer")
}

/// A plain GET.
pub(crate) fn get(address: SocketAddr, path: &str) -> Message {
    let request = format!("GET {path} HTTP/1.1\r\nHost: weir\r\nAuthorization: Bearer sk-wire\r\n\r\n");
    ask(address, request.as_bytes())
}

/// An upstream that runs `serve` for each connection, on a thread of its own.
pub(crate) fn upstream(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = std::sync::Arc::new(serve);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let serve = std::sync::Arc::clone(&serve);
            stream.set_nodelay(true).unwrap();
            std::thread::spawn(move || serve(stream));
        }
    });
    address
}

/// An upstream that records every request, and answers each with the bytes that `answer` makes of
/// it.
pub(crate) fn recording(
    answer: impl Fn(&Message) -> Vec<u8> + Send + Sync + 'static,
) -> (SocketAddr, Receiver<Message>) {
    let (sender, seen): (Sender<Message>, _) = channel();
    let sender = std::sync::Mutex::new(sender);
    let address = upstream(move |mut stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while let Some(mut request) = read_head(&mut reader) {
            if request.header("expect").is_some() {
                drop(stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n"));
            }
            read_body(&mut reader, &mut request, false);
            let answer = answer(&request);
            // The test may have ended.
            drop(sender.lock().unwrap().send(request));
            if stream.write_all(&answer).is_err() {
                return;
            }
        }
    });
    (address, seen)
}

/// An upstream that only notifies the test of requests.
pub(crate) fn plain() -> (SocketAddr, Receiver<Message>) {
    recording(|_| b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec())
}
