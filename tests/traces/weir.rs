//! A Weir process with its own configuration.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use weir::internals::websocket::{Kind, write};

use super::collector::Collector;
use super::upstream::Upstream;

pub(crate) struct Weir {
    process: Child,
    listening: SocketAddr,
    admin: SocketAddr,
    _configuration: tempfile::NamedTempFile,
}

impl Weir {
    pub(crate) fn start(upstream: &Upstream, collector: Option<&Collector>, interval: &str) -> Self {
        let mut file = tempfile::NamedTempFile::with_suffix(".toml").expect("a file can be made");
        let trace = collector.map_or_else(String::new, |collector| {
            format!(
                "[trace]\nendpoint = \"http://{}\"\ntoken = \"env:COLLECTOR_TOKEN\"\nservice_name = \"weir-under-test\"\n\
                 interval = \"{interval}\"\n",
                collector.address()
            )
        });
        let text = format!(
            "[upstream]\nurl = \"http://{}\"\n[shutdown]\ndrain_delay = \"0s\"\ndrain_timeout = \"5s\"\n{trace}",
            upstream.address()
        );
        file.write_all(text.as_bytes()).expect("it can be written");
        let mut process = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(["run", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--config"])
            .arg(file.path())
            .env("COLLECTOR_TOKEN", "collector-token")
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("weir can be started");
        let mut log = BufReader::new(process.stderr.take().expect("it is piped"));
        let (listening, admin) = addresses(&mut log);
        // An unread pipe would block it.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Self { process, listening, admin, _configuration: file }
    }

    /// Posts a chat completion; the answer's status.
    pub(crate) fn ask(&self, headers: &[(&str, &str)], body: &str) -> u16 {
        let mut head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: weir\r\nconnection: close\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n",
            body.len()
        );
        for (name, value) in headers {
            head.extend([*name, ": ", *value, "\r\n"]);
        }
        let answer = exchange(self.listening, &format!("{head}\r\n{body}"));
        answer.get(9..12).and_then(|status| status.parse().ok()).expect("a status line")
    }

    /// Opens a WebSocket session, sends one text and waits for the end of the response.
    pub(crate) fn say(&self, headers: &[(&str, &str)], text: &str) {
        let mut stream = TcpStream::connect(self.listening).expect("weir listens");
        let mut head =
            "GET /v1/responses HTTP/1.1\r\nhost: weir\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                        sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                .to_owned();
        for (name, value) in headers {
            head.extend([*name, ": ", *value, "\r\n"]);
        }
        stream.write_all(format!("{head}\r\n").as_bytes()).expect("weir reads");
        stream.write_all(&write(Kind::Text, text.as_bytes(), Some([1, 2, 3, 4]))).expect("weir reads");
        let mut told = Vec::new();
        while !String::from_utf8_lossy(&told).contains("response.completed") {
            let mut piece = [0; 1024];
            let read = stream.read(&mut piece).expect("weir answers");
            assert_ne!(read, 0, "{}", String::from_utf8_lossy(&told));
            told.extend_from_slice(&piece[..read]);
        }
    }

    /// Waits until the metrics have this line.
    pub(crate) fn await_metric(&self, line: &str) {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let metrics =
                exchange(self.admin, "GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
            if metrics.lines().any(|known| known == line) {
                return;
            }
            assert!(Instant::now() < until, "{line} does not come:\n{metrics}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Stops it with a drain.
impl Drop for Weir {
    fn drop(&mut self) {
        let id = rustix::process::Pid::from_child(&self.process);
        let told = rustix::process::kill_process(id, rustix::process::Signal::TERM);
        if told.is_err() {
            // It does not end by itself.
            self.process.kill().ok();
        }
        let ended = self.process.wait();
        if !std::thread::panicking() {
            assert!(told.is_ok());
            assert!(ended.is_ok_and(|ended| ended.success()), "a drain ends with 0");
        }
    }
}

/// Reads its addresses from its log.
fn addresses(log: &mut impl BufRead) -> (SocketAddr, SocketAddr) {
    let mut all = String::new();
    loop {
        let mut line = String::new();
        assert!(log.read_line(&mut line).expect("the log is text") > 0, "weir ended:\n{all}");
        all += &line;
        let event: serde_json::Value = serde_json::from_str(&line).expect("the log is JSON");
        let address = |name: &str| event[name].as_str().map(|address| address.parse().expect("an address"));
        if let (Some(listening), Some(admin)) = (address("listening"), address("admin")) {
            return (listening, admin);
        }
    }
}

fn exchange(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("weir listens");
    stream.write_all(request.as_bytes()).expect("weir reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("weir answers");
    answer
}
