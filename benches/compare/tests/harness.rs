//! Tests that the harness detects faults. Each starts the real program for a fraction of a second.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// A part of the harness that ends with the test.
struct Part(Child);

impl Drop for Part {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn compare(arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_compare"));
    command.args(arguments.split(' ')).stdin(Stdio::null()).stderr(Stdio::piped()).stdout(Stdio::piped());
    command
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("its address")
}

fn start(arguments: &str, address: SocketAddr) -> Part {
    let part = Part(compare(arguments).spawn().expect("the program starts"));
    for _ in 0..500 {
        if TcpStream::connect(address).is_ok() {
            return part;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("`{arguments}` never listened");
}

fn upstream() -> (Part, SocketAddr) {
    let address = free_address();
    (start(&format!("upstream --listen {address} --lifetime 60"), address), address)
}

fn load(shape: &str, target: SocketAddr) -> Output {
    compare(&format!("load {shape} --target {target}")).output().expect("the load generator runs")
}

fn number(output: &Output, name: &str) -> f64 {
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {text}{}", why(output)))
}

fn why(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim().to_owned()
}

#[test]
fn every_shape_of_load_counts_what_the_upstream_serves() {
    let (upstream, address) = upstream();
    let watch = format!("--watch upstream={}", upstream.0.id());
    let closed = load(&format!("closed --warm-up 0.1 --seconds 0.3 {watch}"), address);
    assert!(number(&closed, "requests") > 0.0 && number(&closed, "upstream_rss_kib") > 0.0);
    let fixed = load("fixed --rate 100 --warm-up 0.1 --seconds 0.5", address);
    assert!(number(&fixed, "requests") > 0.0 && number(&fixed, "p50_us") > 0.0);
    let streams = load(&format!("streams --streams 20 --warm-up 0.1 --seconds 0.5 {watch}"), address);
    assert!(number(&streams, "chunks") > 0.0 && number(&streams, "upstream_rss_before_kib") > 0.0);
    let idle = load("idle --connections 20 --seconds 0.1", address);
    assert!((number(&idle, "connections") - 20.0).abs() < 0.1);
    let waiting = load("idle --connections 20 --seconds 0.1 --waiting", address);
    assert!((number(&waiting, "connections") - 20.0).abs() < 0.1);
}

#[test]
fn the_relay_changes_nothing() {
    let (_upstream, upstream_address) = upstream();
    let address = free_address();
    let _relay =
        start(&format!("relay --listen {address} --upstream {upstream_address} --lifetime 60"), address);
    assert!(number(&load("closed --warm-up 0.1 --seconds 0.3", address), "requests") > 0.0);
    assert!(number(&load("streams --streams 20 --warm-up 0.1 --seconds 0.3", address), "chunks") > 0.0);
}

#[test]
fn an_answer_of_another_length_fails() {
    let (_upstream, address) = upstream();
    let output = load("closed --warm-up 0.1 --seconds 0.3 --expect-bytes 936", address);
    assert_eq!(
        (output.status.code(), why(&output).as_str()),
        (Some(1), "load generator got 937 bytes instead of 936")
    );
    assert!(output.stdout.is_empty(), "no figures after a failure");
}

#[test]
fn a_stream_that_ends_early_fails() {
    let address = free_address();
    let _upstream = start(&format!("upstream --listen {address} --lifetime 60 --events 3"), address);
    let output = load("streams --streams 5 --seconds 5", address);
    assert_eq!(
        (output.status.code(), why(&output).as_str()),
        (Some(1), "a stream ended early with status 200")
    );
}

#[test]
fn nobody_there_fails() {
    let output = load("closed --seconds 0.3", free_address());
    assert!(why(&output).starts_with("load generator cannot connect"), "{}", why(&output));
}

/// Answers the first request on each connection with `answer`, then does nothing more.
fn misbehaving(answer: &'static str, then_close: bool) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("its address");
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for mut socket in listener.incoming().flatten() {
            let read = socket.read(&mut [0; 4096]);
            if read.is_ok() && socket.write_all(answer.as_bytes()).is_ok() && !then_close {
                kept.push(socket);
            }
        }
    });
    address
}

#[test]
fn errors_closed_connections_silence_and_nonsense_fail() {
    for (answer, then_close, said) in [
        (
            "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n",
            false,
            "load generator got status 503",
        ),
        ("HTTP/1.1 200 OK\r\ncontent-length: 937\r\n\r\n{", true, "load generator's connection was closed"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 937\r\n\r\n{", false, "no answer for 1 s"),
        ("SSH-2.0-OpenSSH_9.2 and more\r\n\r\n", false, "no status"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nmore", false, "bytes after an answer"),
    ] {
        let target = misbehaving(answer, then_close);
        let output = load("closed --connections 1 --seconds 3 --patience 1 --expect-bytes 0", target);
        assert_eq!((output.status.code(), why(&output).as_str()), (Some(1), said), "{answer:?}");
    }
}
