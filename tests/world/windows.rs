//! Limits reported only as an amount and a window, in headers or in messages.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::process::Weir;
use crate::scripted::{CHAT, GOOD, answering, at_once, chat, each_at_once, json};

/// A limiter with fixed windows, and the times of its refusals.
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

/// express-rate-limit and others can be configured to send only the policy.
#[test]
fn a_policy_without_counters_is_obeyed() {
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
        // The amount of four windows.
        assert!(took < Duration::from_secs(8), "{policy}: {took:?}");
    });
}

/// A limit in a message is never exceeded afterwards.
#[test]
fn a_limit_of_any_window_in_a_message_is_obeyed() {
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
        // The requests in flight at the first refusal.
        let later = refused.iter().filter(|at| **at - refused[0] > Duration::from_millis(300)).count();
        assert_eq!(later, 0, "{words}: {} refused, in {took:?}", refused.len());
        assert!(took < window * 10, "{words}: {took:?}");
    });
}
