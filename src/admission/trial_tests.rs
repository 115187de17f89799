//! A rate that plain failures lead is told and kept once a judgment has confirmed it, and not
//! before.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::tests::ask;
use super::*;
use crate::classify::ErrorClass;
use crate::clock;

/// What the limiter takes a second, and at once.
const LIMIT: f64 = 10.0;

/// A bucket of one second: when it was asked last, and what is left.
type Left = Arc<Mutex<(clock::Instant, f64)>>;

fn takes(left: &Left) -> bool {
    let (asked, cells) = &mut *left.lock().expect("no panic");
    let now = clock::now();
    *cells = (*cells + (now - *asked).as_secs_f64() * LIMIT).min(LIMIT);
    *asked = now;
    let takes = *cells >= 1.0;
    *cells -= f64::from(u8::from(takes));
    takes
}

/// Sends one request after the other. What is beyond the limit fails with a plain 500.
async fn call(scope: Arc<Scope>, left: Left) {
    loop {
        let Ok(mut permit) = scope.admit(ask(0)).await else { continue };
        permit.sent();
        let takes = takes(&left);
        clock::sleep(Duration::from_millis(if takes { 50 } else { 5 })).await;
        permit.head_at(&HeadReport::default(), None, None, takes, clock::now());
        if takes { permit.done() } else { permit.fail(ErrorClass::InternalServerError) }
    }
}

#[tokio::test(start_paused = true)]
async fn a_rate_that_is_only_tried_is_told_and_kept_nowhere() {
    let scope = Scopes::new(Settings::default(), 7).resolve(CredentialId(1), None);
    let left = Arc::new(Mutex::new((clock::now(), LIMIT)));
    let callers: Vec<_> =
        (0..30).map(|_| clock::spawn(call(Arc::clone(&scope), Arc::clone(&left)))).collect();
    let (began, mut tried) = (clock::now(), 0);
    loop {
        clock::sleep(Duration::from_millis(10)).await;
        let status = scope.status();
        let is_kept = scope.learned().0.iter().any(|learned| !learned.rates.is_empty());
        if status.dimensions.iter().any(|limit| limit.source == Source::Found) {
            assert!(is_kept, "what is told is kept");
            break;
        }
        assert_eq!((status.held_by, is_kept), (None, false), "no limit is known");
        tried += u32::from(!status.paused_for.is_zero());
        assert!(clock::now() - began < Duration::from_mins(2), "a limiter is found");
    }
    assert!(tried > 10, "a pause of the search was seen, and no limit told: {tried}");
    callers.iter().for_each(tokio::task::JoinHandle::abort);
}
