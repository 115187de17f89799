//! Limits of which only a limit and a window are told, in headers or in words.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::process::Weir;
use crate::scripted::{CHAT, GOOD, answering, at_once, chat, each_at_once, json};

/// A limiter that counts by fixed windows, and when it refused.
struct Limiter {
    limit: u32,
    window: Duration,
    began: Instant,
    used: u32,
    refused: Vec<Instant>,
}

impl Limiter {
    fn new(limit: u32, window: Duration) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self { limit, window, began: Instant::now(), used: 0, refused: Vec::new() }))
    }

    fn takes(&mut self) -> bool {
        let now = Instant::now();
        if now - self.began >= self.window {
            (self.began, self.used) = (now, 0);
        }
        self.used += 1;
        if self.used > self.limit {
            self.refused.push(now);
        }
        self.used <= self.limit
    }
}

/// express-rate-limit and others can be told to send the policy alone.
#[test]
fn a_policy_that_stands_alone_is_kept_to() {
    each_at_once([r#""burst";q=20;w=1"#, "20;w=1"], |policy| {
        let limiter = Limiter::new(20, Duration::from_secs(1));
        let kept = Arc::clone(&limiter);
        let fields = format!("RateLimit-Policy: {policy}\r\n");
        let (upstream, _seen) = answering(move |_| {
            let status = if kept.lock().unwrap().takes() { "200 OK" } else { "429 Too Many Requests" };
            json(status, &fields, if status.starts_with('2') { GOOD } else { r#"{"error":"slow"}"# })
        });
        let weir = Weir::before(upstream, "");
        assert_eq!(chat(&weir, 60, CHAT).status(), 200);
        let began = Instant::now();
        let got = at_once(80, |_| chat(&weir, 60, CHAT).status());
        assert!(got.iter().all(|status| *status == 200), "{policy}: {got:?}");
        let took = began.elapsed();
        assert_eq!(limiter.lock().unwrap().refused.len(), 0, "{policy}: in {took:?}");
        // Four windows' worth.
        assert!(took < Duration::from_secs(8), "{policy}: {took:?}");
    });
}

/// Once the limit is told in words, nothing goes beyond it.
#[test]
fn a_limit_of_any_window_that_words_tell_is_kept_to() {
    let cases = [
        ("Rate limit exceeded: limit of 5 requests per 1 second", 5, Duration::from_secs(1)),
        ("Rate limit exceeded: 8 per 2 second", 8, Duration::from_secs(2)),
        ("You are limited to 5 requests per second.", 5, Duration::from_secs(1)),
    ];
    each_at_once(cases, |(words, limit, window)| {
        let limiter = Limiter::new(limit, window);
        let kept = Arc::clone(&limiter);
        let body = serde_json::json!({ "error": { "message": words } }).to_string();
        let (upstream, _seen) = answering(move |_| {
            if kept.lock().unwrap().takes() {
                json("200 OK", "", GOOD)
            } else {
                json("429 Too Many Requests", "", &body)
            }
        });
        let weir = Weir::before(upstream, "");
        let began = Instant::now();
        let got = at_once(limit as usize * 5, |_| chat(&weir, 60, CHAT).status());
        let took = began.elapsed();
        assert!(got.iter().all(|status| *status == 200), "{words}: {got:?}");
        let refused = limiter.lock().unwrap().refused.clone();
        // What was on its way with the first that was refused.
        let later = refused.iter().filter(|at| **at - refused[0] > Duration::from_millis(300)).count();
        assert_eq!(later, 0, "{words}: {} refused, in {took:?}", refused.len());
        assert!(took < window * 10, "{words}: {took:?}");
    });
}
