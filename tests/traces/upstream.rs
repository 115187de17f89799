//! An upstream that sends the responses of a list in order, and records the requests.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use weir::internals::websocket::{Kind, write};

/// One answer.
#[derive(Clone, Copy)]
pub(crate) enum Answer {
    ServerError,
    Chat,
    /// A session that answers the first message.
    Session,
}

/// One request as it came.
pub(crate) struct Request {
    pub(crate) line: String,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    }
}

pub(crate) struct Upstream {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Upstream {
    pub(crate) fn start(answers: &'static [Answer]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it has an address");
        let requests = Arc::<Mutex<Vec<Request>>>::default();
        let kept = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.expect("connections arrive");
                let kept = Arc::clone(&kept);
                std::thread::spawn(move || serve(&stream, answers, &kept));
            }
        });
        Self { address, requests }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// A header of each request, in order.
    pub(crate) fn seen(&self, header: &str) -> Vec<Option<String>> {
        let requests = self.requests.lock().expect("nobody panicked");
        requests.iter().map(|request| request.header(header)).collect()
    }
}

fn serve(stream: &TcpStream, answers: &[Answer], kept: &Mutex<Vec<Request>>) {
    let mut reader = BufReader::new(stream);
    while let Some(request) = read_request(&mut reader) {
        let mut kept = kept.lock().expect("nobody panicked");
        let answer = answers[kept.len()];
        kept.push(request);
        drop(kept);
        if matches!(answer, Answer::Session) {
            return serve_session(reader.into_inner());
        }
        let (status, body) = match answer {
            Answer::Session => unreachable!("it was served"),
            Answer::ServerError => {
                ("500 Internal Server Error", r#"{"error":{"message":"Oh","type":"server_error"}}"#)
            }
            Answer::Chat => (
                "200 OK",
                r#"{"id":"x","choices":[],"usage":{"prompt_tokens":11,"completion_tokens":7,"total_tokens":18}}"#,
            ),
        };
        let answer = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nx-request-id: req_1\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        (&mut &*stream).write_all(answer.as_bytes()).expect("it is read");
    }
}

fn serve_session(mut stream: &TcpStream) {
    let switch = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    stream.write_all(switch.as_bytes()).expect("it is read");
    let said = stream.read(&mut [0; 4096]).expect("a frame comes");
    assert_ne!(said, 0, "a turn");
    let usage = r#""usage":{"input_tokens":11,"output_tokens":7,"total_tokens":18}"#;
    for kind in ["response.created", "response.completed"] {
        let event =
            format!(r#"{{"type":"{kind}","response":{{"id":"resp_1","status":"completed",{usage}}}}}"#);
        stream.write_all(&write(Kind::Text, event.as_bytes(), None)).expect("it is read");
    }
    // Until the other side closes.
    drop(std::io::copy(&mut stream, &mut std::io::sink()));
}

/// Reads one request with a length; `None` at the end of the connection.
pub(crate) fn read_request<R: Read>(reader: &mut BufReader<R>) -> Option<Request> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let header = |line: &String| {
        let (name, value) = line.split_once(':').expect("a header line");
        (name.to_ascii_lowercase(), value.trim().to_owned())
    };
    let headers: Vec<(String, String)> = lines[1..].iter().map(header).collect();
    let mut request = Request { line: lines.swap_remove(0), headers, body: Vec::new() };
    let length = request.header("content-length").map_or(0, |length| length.parse().expect("a length"));
    request.body.resize(length, 0);
    reader.read_exact(&mut request.body).ok()?;
    Some(request)
}
