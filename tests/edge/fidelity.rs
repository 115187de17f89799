//! The same random requests direct and through Weir. Both ends must see the same, except for what
//! HTTP requires a proxy to change.

use std::io::{BufReader, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use crate::process::Weir;
use crate::wire::{self, Message};

/// The default number of exchanges.
const EXCHANGES: u32 = 300;
const SEED: u64 = 20_261_122;

/// Fields that concern one connection, and those that a proxy adds by rule (RFC 9110: Via 7.6.3,
/// Date 6.6.1) or by contract.
fn is_ours(name: &str) -> bool {
    const OWN: [&str; 9] = [
        "connection",
        "keep-alive",
        "transfer-encoding",
        "content-length",
        "te",
        "host",
        "via",
        "date",
        "proxy-connection",
    ];
    OWN.contains(&name) || name.starts_with("x-weir-")
}

/// The parts of a message that must be equal.
fn essence(message: &Message) -> impl PartialEq + std::fmt::Debug {
    let mut headers: Vec<(String, Vec<String>)> = message
        .by_name()
        .into_iter()
        .filter(|(name, _)| !is_ours(name))
        .map(|(name, values)| (name.to_owned(), values.into_iter().map(str::to_owned).collect()))
        .collect();
    headers.sort();
    let body = (message.body.len(), fingerprint(&message.body), message.whole);
    (message.start.clone(), headers, body, message.trailers.clone())
}

fn fingerprint(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

struct Random(fastrand::Rng);

impl Random {
    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.0.usize(..from.len())]
    }

    fn text(&mut self, alphabet: &[u8], most: usize) -> String {
        let length = self.0.usize(1..=most);
        (0..length).map(|_| char::from(self.pick(alphabet))).collect()
    }

    fn body(&mut self) -> Vec<u8> {
        let length = match self.0.u8(..10) {
            0 | 1 => 0,
            2..=5 => self.0.usize(1..2_000),
            6 | 7 => self.0.usize(2_000..200_000),
            8 => self.0.usize(200_000..2_000_000),
            // Around the replay limit, and above it.
            _ => self.0.usize((8 << 20) - 2..(9 << 20)),
        };
        let mut bytes = vec![0; length];
        self.0.fill(&mut bytes);
        bytes
    }

    fn headers(&mut self) -> String {
        const NAME: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.~!#$%&'*+^`|";
        const VALUE: &[u8] = b"abcXYZ019 \t!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";
        let mut lines = String::new();
        for _ in 0..self.0.usize(..12) {
            let name = format!("x-{}", self.text(NAME, 20));
            for _ in 0..self.pick(&[1, 1, 1, 2, 3]) {
                let value = self.text(VALUE, 60);
                lines.extend([&name, ": ", value.trim(), "\r\n"]);
            }
        }
        for line in [
            "Content-Encoding: gzip",
            "Cookie: a=b; c=d",
            "Accept-Encoding: gzip, br;q=0.5",
            "Accept: */*",
            "Idempotency-Key: 7",
            "OpenAI-Organization: org-1",
            "Cache-Control: no-cache",
            "Range: bytes=0-",
            "User-Agent: OpenAI/Python 2.0",
            "Empty-Value:",
        ] {
            if self.0.bool() {
                lines.push_str(line);
                lines.push_str("\r\n");
            }
        }
        lines
    }

    /// A body in its framing: the header lines, then the bytes.
    fn framed(&mut self, body: &[u8]) -> (String, Vec<u8>) {
        if body.is_empty() && self.0.bool() {
            return ("Content-Length: 0\r\n".to_owned(), Vec::new());
        }
        if self.0.bool() {
            return (format!("Content-Length: {}\r\n", body.len()), body.to_vec());
        }
        let mut chunks = Vec::with_capacity(body.len() + 1000);
        let mut rest = body;
        while !rest.is_empty() {
            let most = self.pick(&[7, 300, 70_000]);
            let size = self.0.usize(1..=rest.len().min(most));
            let (chunk, after) = rest.split_at(size);
            chunks.extend_from_slice(format!("{size:x}\r\n").as_bytes());
            chunks.extend_from_slice(chunk);
            chunks.extend_from_slice(b"\r\n");
            rest = after;
        }
        let trailer = self.0.bool();
        chunks.extend_from_slice(if trailer { b"0\r\nX-Sum: 1\r\n\r\n" } else { b"0\r\n\r\n" });
        let announced = if trailer { "Trailer: X-Sum\r\n" } else { "" };
        (format!("Transfer-Encoding: chunked\r\n{announced}"), chunks)
    }

    fn request(&mut self, number: u32) -> (String, Vec<u8>) {
        const PATH: &[u8] = b"abcXYZ019-._~!$&'()*+,;=:@%2F%41/";
        let method =
            self.pick(&["GET", "POST", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "PURGE"]);
        let path: String = self.text(PATH, 60).replace('%', "%25");
        let query = if self.0.bool() {
            format!("?{}", self.text(PATH, 60).replace('%', "%41"))
        } else {
            String::new()
        };
        let mut head = format!(
            "{method} /v1/{path}{query} HTTP/1.1\r\nHost: weir\r\nTE: trailers\r\nConnection: te\r\n"
        );
        head.extend(["x-seed: ", &number.to_string(), "\r\n"]);
        head.push_str(&self.headers());
        let body =
            if method == "GET" || method == "HEAD" || method == "OPTIONS" { Vec::new() } else { self.body() };
        if body.is_empty() && method != "POST" {
            return (method.to_owned(), [head.as_bytes(), b"\r\n"].concat());
        }
        let (framing, bytes) = self.framed(&body);
        (method.to_owned(), [head.as_bytes(), framing.as_bytes(), b"\r\n", &bytes].concat())
    }
}

/// The answer that belongs to a request: the same wherever the request came from.
fn answer(request: &Message) -> Vec<u8> {
    let seed: u64 = request.header("x-seed").unwrap().parse().unwrap();
    let mut random = Random(fastrand::Rng::with_seed(seed ^ SEED));
    let method = request.start.split(' ').next().unwrap();
    // No response that Weir would retry.
    let status = random.pick(&[
        "200 OK",
        "201 Created",
        "202 Odd Phrase",
        "206 Partial",
        "301 Moved",
        "400 Bad Request",
        "404 Not Found",
        "204 No Content",
        "304 Not Modified",
    ]);
    let head = format!("HTTP/1.1 {status}\r\n{}", random.headers());
    if status.starts_with("204") || status.starts_with("304") {
        return format!("{head}\r\n").into_bytes();
    }
    let body = random.body();
    let (framing, bytes) = random.framed(&body);
    let bytes = if method == "HEAD" { Vec::new() } else { bytes };
    [head.as_bytes(), framing.as_bytes(), b"\r\n", &bytes].concat()
}

fn exchange(address: SocketAddr, method: &str, request: &[u8]) -> Message {
    let mut stream = wire::connect(address);
    let mut writer = stream.try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || writer.write_all(request).unwrap());
        let answer = wire::read_answer(&mut BufReader::new(&mut stream), method);
        answer.expect("an answer")
    })
}

#[test]
fn both_ends_see_equal_messages_with_and_without_weir() {
    let (upstream, seen) = wire::recording(answer);
    let weir = Weir::before(upstream, "");
    for number in 0..EXCHANGES {
        let mut random = Random(fastrand::Rng::with_seed(SEED + u64::from(number)));
        let (method, request) = random.request(number);
        let direct = exchange(upstream, &method, &request);
        let direct_seen = seen.recv_timeout(Duration::from_secs(20)).unwrap();
        let through = exchange(weir.address, &method, &request);
        let through_seen = seen.recv_timeout(Duration::from_secs(20)).unwrap();
        let (mut direct, mut through) = (direct, through);
        if method == "HEAD" {
            // hyper omits the announcement of trailers without a chunked body.
            for answer in [&mut direct, &mut through] {
                answer.headers.retain(|(name, _)| name != "trailer");
            }
        }
        assert_eq!(essence(&through_seen), essence(&direct_seen), "request {number}");
        assert_eq!(essence(&through), essence(&direct), "answer {number}");
        assert_eq!(through_seen.header("via"), Some("1.1 weir"));
        assert_eq!(through_seen.header("host"), Some(upstream.to_string().as_str()));
        // A length that was announced stays announced, for HEAD too.
        assert_eq!(through.header("content-length"), direct.header("content-length"), "answer {number}");
    }
}

/// The default amount in each direction in the memory test; `WEIR_TEST_MIB` overrides it.
fn mebibytes() -> u64 {
    std::env::var("WEIR_TEST_MIB").ok().and_then(|mib| mib.parse().ok()).unwrap_or(64)
}

#[test]
fn a_large_body_takes_no_more_memory_than_a_small_one() {
    let total = mebibytes() << 20;
    let upstream = wire::upstream(move |mut stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while let Some(head) = wire::read_head(&mut reader) {
            let length = head.header("content-length").map_or(0, |length| length.parse().unwrap());
            let read = std::io::copy(&mut (&mut reader).take(length), &mut std::io::sink()).unwrap();
            assert_eq!(read, length);
            let down = if head.start.starts_with("GET") { total } else { 0 };
            if write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {down}\r\n\r\n").is_err()
                || std::io::copy(&mut std::io::repeat(7).take(down), &mut stream).is_err()
            {
                return;
            }
        }
    });
    let weir = Weir::before(upstream, "");
    wire::get(weir.address, "/v1/files/f/content".replace("content", "x").as_str());
    let before = weir.memory("VmHWM");
    let mut stream = wire::connect(weir.address);
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    write!(stream, "POST /v1/files HTTP/1.1\r\nHost: weir\r\nContent-Length: {total}\r\n\r\n").unwrap();
    std::io::copy(&mut std::io::repeat(7).take(total), &mut stream).unwrap();
    assert_eq!(wire::read_answer(&mut reader, "POST").unwrap().status(), 200);
    let up = weir.memory("VmHWM");
    write!(stream, "GET /v1/files/f/content HTTP/1.1\r\nHost: weir\r\n\r\n").unwrap();
    let head = wire::read_head(&mut reader).unwrap();
    assert_eq!(head.header("content-length"), Some(total.to_string().as_str()));
    let read = std::io::copy(&mut reader.take(total), &mut std::io::sink()).unwrap();
    assert_eq!(read, total);
    let down = weir.memory("VmHWM");
    say!("peak memory: {before} KiB before, {up} KiB after {total} bytes up, {down} KiB after as many down");
    assert!(up - before < 16 << 10 && down - before < 16 << 10, "{before} {up} {down} KiB");
}
