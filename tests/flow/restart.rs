//! A restart with an upstream that does not report its limits keeps what was learned.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncWriteExt, DuplexStream};
use weir::internals::clock::{self, Instant};
use weir::internals::simulate::Simulator;

use super::scripted::{GOOD, json, read_request};
use super::world::{Call, Setup, World};

/// The upstream's limit of requests per minute.
const LIMIT: u32 = 600;
/// The time of load at twice the limit before the restart, and after it.
const SECONDS: (u32, u32) = (240, 120);

/// How the limit is enforced.
#[derive(Clone, Copy, Debug)]
enum Shape {
    /// A bucket of this depth, in requests.
    Bucket(f64),
    FixedWindow,
    SlidingLog,
}

/// An upstream that refuses without a number, a header or a time.
#[derive(Debug)]
struct Mute {
    shape: Shape,
    began: Instant,
    level: f64,
    drained: Instant,
    log: VecDeque<Instant>,
    refused: u32,
}

impl Mute {
    fn new(shape: Shape) -> Arc<Mutex<Self>> {
        let now = clock::now();
        let log = VecDeque::new();
        Arc::new(Mutex::new(Self { shape, began: now, level: 0.0, drained: now, log, refused: 0 }))
    }

    fn takes(&mut self, now: Instant) -> bool {
        const MINUTE: Duration = Duration::from_mins(1);
        let takes = match self.shape {
            Shape::Bucket(depth) => {
                let drained = (now - self.drained).as_secs_f64() * f64::from(LIMIT) / 60.0;
                (self.level, self.drained) = ((self.level - drained).max(0.0), now);
                let takes = self.level + 1.0 <= depth;
                self.level += f64::from(u8::from(takes));
                takes
            }
            Shape::FixedWindow | Shape::SlidingLog => {
                let since = match self.shape {
                    Shape::FixedWindow => {
                        now - Duration::from_secs((now - self.began).as_secs() % 60)
                            - Duration::from_nanos((now - self.began).subsec_nanos().into())
                    }
                    Shape::Bucket(_) | Shape::SlidingLog => now.checked_sub(MINUTE).unwrap_or(self.began),
                };
                while self.log.front().is_some_and(|first| *first < since) {
                    self.log.pop_front();
                }
                let takes = self.log.len() < LIMIT as usize;
                self.log.extend(takes.then_some(now));
                takes
            }
        };
        self.refused += u32::from(!takes);
        takes
    }
}

/// A process before the upstream, which is the same after a restart.
fn process(upstream: &Arc<Mutex<Mute>>, seed: u64) -> Arc<World> {
    let upstream = Arc::clone(upstream);
    let behind = move |mut io: DuplexStream| {
        let upstream = Arc::clone(&upstream);
        clock::spawn(async move {
            read_request(&mut io).await;
            let takes = upstream.lock().expect("no panic").takes(clock::now());
            clock::sleep(Duration::from_millis(100)).await;
            let close = "connection: close\r\n";
            let answer = if takes {
                json("200 OK", close, GOOD)
            } else {
                json("429 Too Many Requests", close, r#"{"error":{"message":"Too many requests"}}"#)
            };
            drop(io.write_all(answer.as_bytes()).await);
        });
    };
    let setup = Setup { seed, ..Setup::default() };
    let simulator = Simulator::new(setup.simulator.clone());
    World::before(setup, simulator, behind)
}

/// The refusals after a restart, with or without the learned state, and the used fraction of the
/// limit in the first two minutes.
async fn restarted(shape: Shape, remembers: bool) -> (u32, f64) {
    let upstream = Mute::new(shape);
    let before = process(&upstream, 11);
    before.scopes.remember(None, clock::wall()).expect("nothing to read");
    before.offer(20.0, 20 * SECONDS.0, |_| Call::chat().timeout(60)).await;
    let text = before.scopes.memory(clock::wall()).expect("it is kept");
    drop(before);
    let learned = upstream.lock().expect("no panic").refused;
    let now = process(&upstream, 12);
    now.scopes.remember(remembers.then_some(&*text), clock::wall()).expect("its own text");
    let answers = now.offer(20.0, 20 * SECONDS.1, |_| Call::chat().timeout(60)).await;
    let in_time =
        answers.iter().filter(|answer| answer.is_success() && answer.ended < Duration::from_mins(2));
    let used = in_time.count() as f64 / f64::from(2 * LIMIT);
    let refused = upstream.lock().expect("no panic").refused - learned;
    (refused, used)
}

#[tokio::test(start_paused = true)]
async fn limits_learned_from_refusals_survive_a_restart() {
    for shape in [Shape::Bucket(10.0), Shape::Bucket(600.0), Shape::FixedWindow, Shape::SlidingLog] {
        let (refused, used) = restarted(shape, true).await;
        println!("{shape:?}: {refused} refused after a restart, {used:.3} of the limit used");
        assert!(refused <= 1, "{shape:?}: {refused}");
        assert!(used > 0.85, "{shape:?}: {used}");
        // Without it the limit is found anew, by refusals.
        let (refused, used) = restarted(shape, false).await;
        println!("{shape:?}: {refused} refused without what was learned, {used:.3} of the limit used");
        assert!(refused > 1, "{shape:?}: {refused}");
    }
}
