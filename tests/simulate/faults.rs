//! Faults of the simulator: by rate, by schedule, and by attempt of a job.

use std::time::Duration;

use http::StatusCode;
use serde_json::json;
use tokio::net::TcpStream;
use weir::internals::clock;
use weir::internals::simulate::{Change, Fault, LimitChange, Outage, Settings, Simulator};

use super::{chat, directed, header, post, rpm, send, send_within, start, streamed, text, unlimited};

#[tokio::test(start_paused = true)]
async fn scheduled_outages_occur() {
    let simulator = Simulator::new(Settings {
        outages: vec![Outage::parse("10s+5s:503").unwrap()],
        limit_changes: vec![LimitChange::parse("20s:rpm=1").unwrap()],
        ..rpm(100)
    });
    let mut statuses = Vec::new();
    for pause in [9, 1, 4, 1, 5, 1] {
        clock::sleep(Duration::from_secs(pause)).await;
        statuses.push(send_within(&simulator, chat("gpt-4o")).await.unwrap().status().as_u16());
    }
    assert_eq!(statuses, [200, 503, 503, 200, 200, 429], "9 s, 10 s, 14 s, 15 s, 20 s, 21 s");
    assert_eq!(simulator.stats().admitted, 3, "an outage charges nothing");
}

#[tokio::test(start_paused = true)]
async fn fault_rates_are_accurate_and_seeded() {
    let faults = vec![(Fault::parse("503").unwrap(), 0.2), (Fault::parse("500").unwrap(), 0.1)];
    let run = async |seed: u64| {
        let simulator = Simulator::new(Settings { faults: faults.clone(), seed, ..unlimited() });
        let mut statuses = Vec::new();
        for _ in 0..1_000 {
            statuses.push(send_within(&simulator, chat("gpt-4o")).await.unwrap().status().as_u16());
        }
        let stats = simulator.stats();
        assert!((160..=240).contains(&stats.status(503)), "{}", stats.status(503));
        assert!((70..=130).contains(&stats.status(500)), "{}", stats.status(500));
        statuses
    };
    let first = run(1).await;
    assert_eq!(first, run(1).await);
    assert_ne!(first, run(2).await);
}

#[tokio::test(start_paused = true)]
async fn the_first_attempts_of_a_job_can_fail() {
    let simulator = Simulator::new(unlimited());
    let mut statuses = Vec::new();
    for job in ["a", "a", "b", "a"] {
        let mut request = directed(chat("gpt-4o"), "status=503; times=2; retry-after=7");
        request.headers_mut().insert("x-job-id", job.parse().unwrap());
        let answer = send_within(&simulator, request).await.unwrap();
        assert_eq!(header(&answer, "retry-after"), Some("7"));
        statuses.push(answer.status().as_u16());
    }
    assert_eq!(statuses, [503, 503, 503, 200]);
    assert_eq!(simulator.stats().jobs(), (2, 4));
}

#[tokio::test(start_paused = true)]
async fn a_hidden_error_comes_with_status_200() {
    let simulator = Simulator::new(unlimited());
    let responses = post("/v1/responses", &json!({ "model": "gpt-4o", "input": "Hi", "stream": true }));
    let answer =
        send_within(&simulator, directed(responses, "fault=hidden:insufficient_quota")).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let body = text(answer).await.unwrap();
    let names: Vec<_> = body.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!(names, ["response.created", "response.in_progress", "error", "response.failed"]);
    assert!(body.contains(r#""code":"insufficient_quota""#));
    let body =
        text(send_within(&simulator, directed(streamed(), "fault=hidden:429")).await.unwrap()).await.unwrap();
    assert!(body.starts_with(r#"data: {"error":{"#) && !body.contains("[DONE]"), "{body}");
}

#[tokio::test]
async fn every_fault_breaks_what_it_says() {
    let running = start(unlimited()).await;
    let ask = async |request, fault: &str| send(running.address(), directed(request, fault)).await;
    let whole = text(ask(chat("gpt-4o"), "").await.unwrap()).await.unwrap();

    for fault in ["fault=reset", "fault=garbage"] {
        assert!(ask(chat("gpt-4o"), fault).await.is_err(), "{fault}: no head");
    }
    for fault in ["fault=reset-mid-body", "fault=lie-content-length"] {
        let answer = ask(chat("gpt-4o"), fault).await.unwrap();
        assert!(text(answer).await.is_err(), "{fault}: the body breaks");
    }
    let answer = ask(streamed(), "fault=reset-mid-body").await.unwrap();
    assert!(text(answer).await.is_err(), "a stream breaks");
    let cut = text(ask(chat("gpt-4o"), "fault=truncate").await.unwrap()).await.unwrap();
    assert!(cut.len() == whole.len() / 2 && whole.starts_with(&cut[..20]), "the body ends early and cleanly");
    let open = text(ask(streamed(), "fault=close-without-done").await.unwrap()).await.unwrap();
    assert!(open.contains(r#""finish_reason":"stop""#) && !open.contains("[DONE]"), "{open}");
    let slow = text(ask(chat("gpt-4o"), "fault=slow-body chunk-delay=1ms").await.unwrap()).await.unwrap();
    assert_eq!(slow.len(), whole.len());

    let soon = || clock::now() + Duration::from_millis(200);
    assert!(clock::timeout_at(soon(), ask(chat("gpt-4o"), "fault=stall-head")).await.is_err());
    let answer = ask(chat("gpt-4o"), "fault=stall-body").await.unwrap();
    assert!(clock::timeout_at(soon(), text(answer)).await.is_err());
    let stats = running.simulator().stats();
    assert_eq!(stats.faults.values().sum::<u64>(), 10);
}

#[tokio::test]
async fn a_refused_outage_closes_the_listener_and_opens_it_again() {
    let running = start(unlimited()).await;
    let idle = TcpStream::connect(running.address()).await.unwrap();
    assert_eq!(send(running.address(), chat("gpt-4o")).await.unwrap().status(), StatusCode::OK);
    let change = Change { outages: Some(vec!["0s+300ms:refused".into()]), ..Change::default() };
    running.simulator().set(&change).unwrap();
    let begun = clock::now();
    while TcpStream::connect(running.address()).await.is_ok() {
        assert!(clock::now() - begun < Duration::from_millis(250), "it went on listening");
        clock::sleep(Duration::from_millis(5)).await;
    }
    idle.readable().await.unwrap();
    assert!(idle.try_read(&mut [0]).is_err(), "an open connection is reset");
    while TcpStream::connect(running.address()).await.is_err() {
        assert!(clock::now() - begun < Duration::from_secs(5), "it never listened again");
        clock::sleep(Duration::from_millis(5)).await;
    }
    assert!(clock::now() - begun >= Duration::from_millis(280));
    assert_eq!(send(running.address(), chat("gpt-4o")).await.unwrap().status(), StatusCode::OK);
}
