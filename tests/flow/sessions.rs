//! WebSocket sessions: their turns are paced, ordered and answered like requests.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Message, Role};
use weir::internals::clock;
use weir::internals::simulate::{Latency, Limits};

use super::world::{Call, Setup, World};

/// A client like the SDKs', with tungstenite's codec.
struct Client(WebSocketStream<DuplexStream>);

impl Client {
    async fn open(world: &World) -> Self {
        let mut io = world.connect();
        let ask = "GET /v1/responses HTTP/1.1\r\nHost: weir\r\nAuthorization: Bearer sk-test\r\nConnection: Upgrade\r\n\
                   Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                   x-weir-deadline: 600s\r\n\r\n";
        io.write_all(ask.as_bytes()).await.expect("it is read");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(io.read_u8().await.expect("a head"));
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
        Self(WebSocketStream::from_raw_socket(io, Role::Client, None).await)
    }

    async fn say(&mut self, value: &Value) {
        self.0.send(Message::text(value.to_string())).await.expect("it is read");
    }

    /// The next event that ends a turn.
    async fn end_of_turn(&mut self) -> Value {
        loop {
            let message = self.0.next().await.expect("a message").expect("a good one");
            let event: Value = serde_json::from_str(message.to_text().expect("text")).expect("JSON");
            if matches!(event["type"].as_str(), Some("response.completed" | "response.incomplete" | "error"))
            {
                return event;
            }
        }
    }
}

fn create(lane: &str) -> Value {
    json!({ "type": "response.create", "stream_id": lane, "model": "gpt-4o", "store": false, "input": "Hi" })
}

const RPM: u64 = 1_200;

fn setup() -> Setup {
    let mut setup = Setup::default();
    setup.simulator.limits = Limits { rpm: Some(RPM), tpm: Some(1_000_000_000), ..Limits::NONE };
    setup.simulator.output_tokens = 2;
    setup
}

#[tokio::test(start_paused = true)]
async fn fifty_connections_of_sixteen_busy_lanes_use_the_limit_and_meet_none() {
    let world = World::new(setup());
    // Only HTTP responses report limits.
    assert!(world.call(&Call::chat()).await.is_success());
    let errors = Arc::new(std::sync::Mutex::new(Vec::new()));
    for connection in 0..50 {
        let (world, errors) = (Arc::clone(&world), Arc::clone(&errors));
        clock::spawn(async move {
            let mut client = Client::open(&world).await;
            for lane in 0..16 {
                client.say(&create(&format!("{connection}-{lane}"))).await;
            }
            loop {
                let event = client.end_of_turn().await;
                if event["type"] == "error" {
                    errors.lock().expect("it is not poisoned").push(event.to_string());
                }
                client.say(&create(event["stream_id"].as_str().expect("a lane"))).await;
            }
        });
    }
    // The bucket was full, and is learned during the run.
    let (from, to) = (Duration::from_mins(2), Duration::from_mins(4));
    world.until(from).await;
    let learned = world.simulator.stats().refused_total();
    world.until(to).await;
    let attempts = world.attempts(from, to);
    let stats = world.simulator.stats();
    let refused = stats.refused_total();
    println!(
        "{attempts} turns in two minutes, {learned} and then {refused} refused, the last {:?}",
        stats.last_refusal
    );
    assert!(learned <= 3, "{learned} while it learned");
    assert_eq!(refused, learned, "{:?}", stats.refused);
    assert!(
        errors.lock().expect("it is not poisoned").is_empty(),
        "{:?}",
        errors.lock().expect("it is not poisoned").first()
    );
    assert!(attempts * 100 >= 2 * RPM * 97, "{attempts} of {}", 2 * RPM);
}

/// R28 of tests/world: agents pause for a long time within one session.
#[tokio::test(start_paused = true)]
async fn r28_a_session_may_be_idle_for_almost_an_hour_between_its_turns() {
    let world = World::new(setup());
    let mut client = Client::open(&world).await;
    for pause in [0, 10, 59] {
        clock::sleep(Duration::from_mins(pause)).await;
        client.say(&create("a")).await;
        assert_eq!(client.end_of_turn().await["type"], "response.completed", "after {pause} minutes");
    }
    clock::sleep(Duration::from_mins(61)).await;
    let end = client.0.next().await.expect("a frame").expect("a good one");
    let Message::Close(Some(close)) = end else { panic!("{end:?}") };
    assert_eq!((u16::from(close.code), close.reason.contains("idle_timeout")), (1001, true), "{close:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Each turn has one end, in the order of its lane, despite retries and waits.
    #[test]
    fn each_turn_ends_once_and_in_the_order_of_its_lane(
        lanes in prop::collection::vec(0_usize..5, 1..60), faults in 0.0_f64..0.4, seed: u64,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime");
        runtime.block_on(async {
            let mut setup = setup();
            setup.seed = seed;
            setup.simulator.seed = seed;
            setup.simulator.limits.rpm = Some(60);
            setup.simulator.after = Latency::parse("10ms..900ms").expect("a latency");
            let overloaded = weir::internals::simulate::Fault::parse("503").expect("a fault");
            setup.simulator.faults = vec![(overloaded, faults)];
            let world = World::new(setup);
            let mut client = Client::open(&world).await;
            let mut asked: HashMap<String, Vec<u64>> = HashMap::new();
            for (turn, lane) in (100..).zip(&lanes) {
                let lane = format!("lane-{lane}");
                let mut create = create(&lane);
                // What the answer repeats.
                create["max_output_tokens"] = json!(turn);
                client.say(&create).await;
                asked.entry(lane).or_default().push(turn);
            }
            for _ in &lanes {
                let event = client.end_of_turn().await;
                let lane = asked.get_mut(event["stream_id"].as_str().expect("a lane")).expect("a lane that was asked for");
                let next = lane.remove(0);
                if event["type"] != "error" {
                    assert_eq!(event["response"]["max_output_tokens"], next, "{event}");
                }
            }
            let in_flight = world.metric("weir_requests_in_flight{caller=\"default\"}");
            assert_eq!(in_flight, 0);
            assert!(world.scopes.all().iter().all(|scope| scope.in_flight() == 0), "every permit is settled");
            assert_eq!(world.kept_bodies.used(), 0, "no turn's memory is kept");
        });
    }
}
