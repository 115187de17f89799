//! Scripted upstreams, and calls through Weir to them.

use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::process::Weir;
use crate::wire::{self, Message};

/// A successful chat completion of 12 + 3 tokens.
pub(crate) const GOOD: &str = r#"{"id":"c","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":12,"completion_tokens":3,"total_tokens":15}}"#;

/// A chat that may be repeated.
pub(crate) const CHAT: &str = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"Hello"}]}"#;

/// The same as a stream.
pub(crate) const STREAM: &str =
    r#"{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"Hello"}]}"#;

/// An answer of a type and with further fields, each ended by a line's end.
pub(crate) fn answer(status: &str, kind: &str, fields: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{fields}Content-Length: {length}\r\n\r\n{body}")
        .into_bytes()
}

pub(crate) fn json(status: &str, fields: &str, body: &str) -> Vec<u8> {
    answer(status, "application/json", fields, body)
}

pub(crate) fn good() -> Vec<u8> {
    json("200 OK", "", GOOD)
}

/// A stream of these events; truncated if `end` is "".
pub(crate) fn events(events: &[&str], end: &str) -> Vec<u8> {
    let chunk = |event: &&str| format!("{:x}\r\ndata: {event}\n\n\r\n", event.len() + 8);
    let chunks = events.iter().map(chunk).collect::<Vec<_>>().concat();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    format!("{head}{chunks}{end}").into_bytes()
}

/// The end of a chunked body.
pub(crate) const END: &str = "0\r\n\r\n";

/// The received requests, each with the time since the first.
#[derive(Clone, Default)]
pub(crate) struct Seen(Arc<Mutex<Vec<(Instant, Message)>>>);

impl Seen {
    pub(crate) fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    pub(crate) fn request(&self, index: usize) -> Message {
        self.0.lock().unwrap()[index].1.clone()
    }

    /// The time between two requests.
    pub(crate) fn between(&self, one: usize, other: usize) -> Duration {
        let seen = self.0.lock().unwrap();
        seen[other].0 - seen[one].0
    }
}

/// An upstream that sends the nth of these responses to the nth request, repeating the last.
pub(crate) fn scripted(answers: Vec<Vec<u8>>) -> (SocketAddr, Seen) {
    let number = AtomicU32::new(0);
    answering(move |_| {
        let number = number.fetch_add(1, Ordering::Relaxed) as usize;
        answers[number.min(answers.len() - 1)].clone()
    })
}

/// An upstream that answers by the request.
pub(crate) fn answering(answer: impl Fn(&Message) -> Vec<u8> + Send + Sync + 'static) -> (SocketAddr, Seen) {
    let seen = Seen::default();
    let kept = seen.clone();
    let (address, _received) = wire::recording(move |request| {
        kept.0.lock().unwrap().push((Instant::now(), request.clone()));
        answer(request)
    });
    (address, seen)
}

/// Sends [`good`] to each request of a connection until it ends.
pub(crate) fn serve(mut stream: TcpStream) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while let Some(mut head) = wire::read_head(&mut reader) {
        wire::read_body(&mut reader, &mut head, false);
        if stream.write_all(&good()).is_err() {
            return;
        }
    }
}

/// A request's bytes; `fields` are further ones, each ended by a line's end.
pub(crate) fn request(path: &str, fields: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: weir\r\nAuthorization: Bearer sk-world\r\nContent-Type: application/json\r\n{fields}Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// What a caller got, and how long that took.
pub(crate) struct Got {
    pub(crate) message: Message,
    pub(crate) took: Duration,
}

impl Got {
    pub(crate) fn status(&self) -> u16 {
        self.message.status()
    }

    pub(crate) fn attempts(&self) -> u32 {
        self.message.header("x-weir-attempts").unwrap().parse().unwrap()
    }

    pub(crate) fn class(&self) -> Option<&str> {
        self.message.header("x-weir-error-class")
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.message.body).into_owned()
    }
}

/// Sends a request to a path on a connection of its own.
pub(crate) fn post(weir: &Weir, path: &str, fields: &str, body: impl AsRef<[u8]>) -> Got {
    let began = Instant::now();
    let message = wire::ask(weir.address, &request(path, fields, body));
    Got { message, took: began.elapsed() }
}

/// A chat completion of a caller whose SDK waits for a number of seconds.
pub(crate) fn chat(weir: &Weir, timeout: u32, body: &str) -> Got {
    post(weir, "/v1/chat/completions", &format!("x-stainless-read-timeout: {timeout}\r\n"), body)
}

/// Makes calls at once, each on a thread of its own.
pub(crate) fn at_once<T: Send>(count: usize, call: impl Fn(usize) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let call = &call;
        let running: Vec<_> = (0..count).map(|number| scope.spawn(move || call(number))).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Checks all cases concurrently, so that their waits overlap.
pub(crate) fn each_at_once<T: Send>(cases: impl IntoIterator<Item = T>, check: impl Fn(T) + Sync) {
    std::thread::scope(|scope| {
        let check = &check;
        for case in cases {
            scope.spawn(move || check(case));
        }
    });
}

/// The scopes in `/status`.
pub(crate) fn scopes(weir: &Weir) -> Vec<serde_json::Value> {
    let answer = weir.admin("GET", "/status");
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    let start = body.find('{').unwrap();
    let status = serde_json::Deserializer::from_str(&body[start..]).into_iter().next().unwrap();
    let status: serde_json::Value = status.unwrap();
    status["scopes"].as_array().unwrap().clone()
}

/// The classes of the attempts that failed.
pub(crate) fn failed(weir: &Weir) -> Vec<String> {
    let metrics = weir.admin("GET", "/metrics");
    let counts = metrics.lines().filter_map(|line| {
        let (class, count) = line.strip_prefix("weir_attempt_errors_total{class=\"")?.split_once("\"} ")?;
        (count.parse::<f64>().unwrap() >= 1.0).then(|| class.to_owned())
    });
    counts.collect()
}

/// The names of the scopes.
pub(crate) fn scope_names(weir: &Weir) -> Vec<String> {
    scopes(weir).iter().map(|scope| scope["name"].as_str().unwrap().to_owned()).collect()
}

/// A field of a scope's limit.
pub(crate) fn limit(weir: &Weir, scope: &str, limit: &str, field: &str) -> Option<f64> {
    let scopes = scopes(weir);
    let scope = scopes.iter().find(|found| found["name"] == scope)?;
    let limits = scope["limits"].as_array()?;
    limits.iter().find(|found| found["name"] == limit)?[field].as_f64()
}
