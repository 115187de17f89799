//! A caller's own budget and ceiling, over real sockets and a restart.

use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use weir::internals::websocket::{Kind, write};

use crate::frames::{KEY, open};
use crate::process::Weir;
use crate::wire::{self, Message};

const BODY: &str = r#"{"model":"gpt-5","messages":[]}"#;
const SPENT: &str = "weir_caller_budget_used_ratio{caller=\"chat\",period=\"day\"}";

/// An upstream whose answers take 50 tokens.
fn upstream() -> (std::net::SocketAddr, Receiver<Message>) {
    wire::recording(|_| {
        let body = r#"{"object":"chat.completion","choices":[],"usage":{"prompt_tokens":30,"completion_tokens":20}}"#;
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        (head + body).into_bytes()
    })
}

fn ask(weir: &Weir, caller: &str) -> Message {
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nX-Team: {caller}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{BODY}",
        BODY.len()
    );
    wire::ask(weir.address, request.as_bytes())
}

fn told(answer: &Message) -> String {
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(body["error"]["code"], "caller_limit", "{body}");
    body["error"]["message"].as_str().unwrap().to_owned()
}

#[test]
fn a_spent_budget_is_refused_until_the_next_day_also_after_a_restart() {
    let (upstream, seen) = upstream();
    let state = tempfile::tempdir().unwrap();
    let configuration = format!(
        "upstream.url = \"http://{upstream}\"\nstate = \"{}\"\n\
         [[callers]]\nname = \"chat\"\nheader = {{ name = \"x-team\", value = \"chat\" }}\ntokens_per_day = 100\n\
         [[callers]]\nname = \"search\"\nheader = {{ name = \"x-team\", value = \"search\" }}\n",
        state.path().display()
    );
    let weir = Weir::start(&configuration, &[]);
    for spent in [0.5, 1.0] {
        assert_eq!(ask(&weir, "chat").status(), 200);
        weir.wait_for(SPENT, spent);
        seen.recv().unwrap();
    }
    assert_eq!(ask(&weir, "search").status(), 200, "others are served");
    seen.recv().unwrap();
    let answer = ask(&weir, "chat");
    assert_eq!(answer.status(), 429);
    // Killed, not drained: the spent tokens are in the file within a second.
    let file = state.path().join("spending");
    let until = Instant::now() + Duration::from_secs(10);
    while !std::fs::read_to_string(&file).unwrap().contains(" 100 chat ") {
        assert!(Instant::now() < until, "{}", std::fs::read_to_string(&file).unwrap());
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(weir);
    let mut weir = Weir::start(&configuration, &[]);
    assert_eq!(ask(&weir, "chat").status(), 429);
    let seconds: u64 = ask(&weir, "chat").header("retry-after").unwrap().parse().unwrap();
    let left = 86_400 - std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() % 86_400;
    assert!(seconds.abs_diff(left) <= 2, "{seconds} of {left}");
    let answer = ask(&weir, "chat");
    assert_eq!(answer.header("x-should-retry"), Some("false"));
    let message = told(&answer);
    assert!(message.contains("100 tokens a day") && message.contains("callers.tokens_per_day"), "{message}");
    assert!(seen.try_recv().is_err(), "none of them reaches the upstream");
    assert_eq!(weir.drain(), Some(0));
    let learned = state.path().join("learned");
    assert!(std::fs::read_to_string(&learned).unwrap().starts_with("weir learned 1\n"));
    // Limits can be learned again: an invalid file is only logged.
    std::fs::write(&learned, "weir learned 99\n").unwrap();
    let mut weir = Weir::start(&configuration, &[]);
    weir.wait_for_printed("state: limits are learned anew", 1);
    assert_eq!(weir.drain(), Some(0));
    // A file that is not Weir's is not overwritten.
    std::fs::write(&file, "weir spending 9\n").unwrap();
    let output = Weir::fails(&configuration, &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("is no record of spent tokens"));
}

#[test]
fn a_turn_of_a_spent_budget_is_refused_in_its_session() {
    let (sender, seen) = std::sync::mpsc::channel();
    let sender = std::sync::Mutex::new(sender);
    let upstream = crate::frames::upstream(move |mut socket, _| {
        while let Some(frame) = socket.next() {
            drop(sender.lock().unwrap().send(frame));
        }
    });
    let weir = Weir::before(
        upstream,
        "[[callers]]\nname = \"chat\"\nheader = { name = \"x-team\", value = \"chat\" }\n\
         families = [{ name = \"gpt-5\", tokens_per_month = 1 }]\n",
    );
    let mut client = open(weir.address, "/v1/responses", "X-Team: chat\r\n");
    // Each in a separate lane, because turns of one lane are sequential.
    for (lane, expected) in [("a", None), ("b", Some("caller_limit"))] {
        let turn = format!(
            r#"{{"type":"response.create","stream_id":"{lane}","model":"gpt-5","input":"some text that costs something"}}"#
        );
        client.raw(&write(Kind::Text, turn.as_bytes(), Some(KEY)));
        if let Some(code) = expected {
            let error = client.next().unwrap().json();
            assert_eq!(error["error"]["code"], code, "{error}");
            assert!(error["error"]["message"].as_str().unwrap().contains("a month for gpt-5"), "{error}");
        } else {
            // Its estimate is reserved while it is under way.
            assert_eq!(seen.recv().unwrap().json()["model"], "gpt-5");
        }
    }
}

#[test]
fn requests_above_the_ceiling_wait_and_are_served() {
    // 120 a minute.
    const INTERVAL: Duration = Duration::from_millis(500);
    let (upstream, _seen) = upstream();
    let weir = Weir::before(
        upstream,
        "[[callers]]\nname = \"chat\"\nheader = { name = \"x-team\", value = \"chat\" }\nceiling = { requests_per_minute = 120 }\n",
    );
    let mut waits = Vec::new();
    let began = Instant::now();
    // A busy machine delays calls, so only three must be undelayed.
    while waits.iter().filter(|wait| (400..=600).contains(*wait)).count() < 3 {
        let turn = began + INTERVAL * u32::try_from(waits.len()).unwrap();
        let asked = Instant::now();
        let answer = ask(&weir, "chat");
        assert_eq!(answer.status(), 200);
        waits.push(answer.header("x-weir-queue-ms").unwrap().parse::<u64>().unwrap());
        assert!(Instant::now() >= turn, "{waits:?}");
        assert!(
            waits.last().is_none_or(|wait| u128::from(*wait) <= asked.elapsed().as_millis() + 1),
            "{waits:?}"
        );
        assert!(waits[0] == 0 && waits.len() < 20, "{waits:?}");
    }
    assert_eq!(ask(&weir, "search").header("x-weir-queue-ms"), Some("0"), "nobody else waits");
    let waiting = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..3).map(|_| scope.spawn(|| ask(&weir, "chat").status())).collect();
        weir.wait_for("weir_caller_ceiling_waiting{caller=\"chat\"}", 1.0);
        let page = weir.admin("GET", "/status");
        for asked in asking {
            assert_eq!(asked.join().unwrap(), 200);
        }
        page
    });
    assert!(waiting.contains("for its own ceiling: 120 requests per minute"), "{waiting}");
}
