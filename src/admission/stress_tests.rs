//! Several threads on one scope, as in production: each worker has a runtime of its own.

use std::sync::Arc;
use std::time::Duration;

use super::tests::{ask, limited};
use super::*;
use crate::classify::ErrorClass;
use crate::clock;

const THREADS: u64 = 4;
const REQUESTS: u32 = 1000;

/// One request, which ends in one of the ways in which requests end.
async fn live(scope: Arc<Scope>, caller: u16, fate: u8) {
    if fate == 0 {
        // Its caller leaves at once.
        return drop(scope.ask(&ask(caller), clock::now()));
    }
    let admitted = if fate == 1 {
        // Its caller leaves while it waits, or a moment after its grant.
        let waiting = scope.admit(ask(caller));
        tokio::select! {
            admitted = waiting => admitted,
            () = clock::sleep(Duration::from_micros(300)) => return,
        }
    } else {
        scope.admit(ask(caller)).await
    };
    let Ok(mut permit) = admitted else { return };
    match fate {
        2 => drop(permit),
        3 => {
            permit.sent();
            drop(permit);
        }
        4 => {
            permit.sent();
            // Of a limit of its own, so that the others' pace stays.
            let numbers = RefusalNumbers {
                slot: Slot::RequestsPerMinute,
                window: None,
                limit: 600_000,
                used: None,
                requested: None,
                wait: Some(Duration::from_millis(1)),
                apart: true,
            };
            let ticket = permit.rate_limited(ErrorClass::RateLimitRequests, Some(numbers), None, None, 0);
            if let Ok(permit) = scope.admit(Ask { turn: Turn::Requeued(ticket), ..ask(caller) }).await {
                permit.done();
            }
        }
        5 => permit.fail(ErrorClass::InternalServerError),
        _ => {
            permit.sent();
            permit.head_at(&HeadReport::default(), Some("org"), Some("proj"), true, clock::now());
            tokio::task::yield_now().await;
            permit.done();
        }
    }
}

#[test]
fn whatever_threads_do_to_a_scope_nothing_is_left_in_it() {
    let scope = limited(600_000).resolve(CredentialId(1), None);
    let workers: Vec<_> = (0..THREADS)
        .map(|seed| {
            let scope = Arc::clone(&scope);
            std::thread::spawn(move || {
                let runtime =
                    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
                let mut rng = fastrand::Rng::with_seed(seed);
                runtime.block_on(async {
                    let mut tasks = Vec::new();
                    for request in 0..REQUESTS {
                        let (caller, fate) = (rng.u16(0..5), rng.u8(0..30));
                        tasks.push(clock::spawn(live(Arc::clone(&scope), caller, fate)));
                        if request % 50 == 0 {
                            clock::sleep(Duration::from_millis(1)).await;
                        }
                    }
                    for task in tasks {
                        task.await.expect("no panic");
                    }
                });
            })
        })
        .collect();
    for worker in workers {
        worker.join().expect("no panic");
    }
    let status = scope.status();
    assert_eq!(status.in_flight, 0);
    assert!(status.queue.is_empty() && status.queue_bytes == 0, "{:?}", status.queue);
    assert!(status.counts.granted > 3000, "{:?}", status.counts);
    let sent = scope.demand();
    assert_eq!((sent.in_flight, sent.waiting_requests), (0, 0.0));
}
