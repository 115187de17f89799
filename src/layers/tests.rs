//! Tests of the layers with a simulator API that counts by the minute, on a paused clock.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use tower::util::BoxCloneService;
use tower::{BoxError, ServiceBuilder, ServiceExt as _, service_fn};

use super::*;
use crate::clock;

type Client = BoxCloneService<Request<Full<Bytes>>, Response<AnswerBody<Full<Bytes>>>, Error>;

/// A script of statuses, then 200; and the number of calls.
#[derive(Clone, Default)]
struct Api {
    script: Arc<Mutex<VecDeque<u16>>>,
    calls: Arc<Mutex<Vec<Instant>>>,
    /// Most requests in any minute.
    limit: Option<usize>,
}

impl Api {
    fn answering(script: &[u16]) -> Self {
        Self { script: Arc::new(Mutex::new(script.iter().copied().collect())), ..Self::default() }
    }

    async fn answer(self) -> Result<Response<Full<Bytes>>, BoxError> {
        let now = Instant::now();
        let status = {
            let mut calls = self.calls.lock().unwrap();
            let in_the_last_minute = calls.iter().filter(|at| now - **at < Duration::from_mins(1)).count();
            calls.push(now);
            let full = self.limit.is_some_and(|limit| in_the_last_minute >= limit);
            if full { 429 } else { self.script.lock().unwrap().pop_front().unwrap_or(200) }
        };
        tokio::time::sleep(Duration::from_millis(50)).await;
        let body = match status {
            // The connection fails.
            0 => return Err("broken".into()),
            200 => {
                r#"{"object":"chat.completion","choices":[{"message":{"content":"x"}}],"usage":{"prompt_tokens":5,"completion_tokens":1}}"#
            }
            401 => r#"{"error":{"message":"Incorrect API key provided","code":"invalid_api_key"}}"#,
            429 => {
                r#"{"error":{"message":"Rate limit reached","type":"requests","code":"rate_limit_exceeded"}}"#
            }
            _ => r#"{"error":{"message":"The server had an error","type":"server_error"}}"#,
        };
        Ok(Response::builder().status(status).body(Full::from(body)).unwrap())
    }

    fn behind(&self, settings: &Settings) -> Client {
        let api = self.clone();
        ServiceBuilder::new()
            .layer(RetryLayer::new(settings))
            .layer(AdmissionLayer::new(settings))
            .service(service_fn(move |_request: Request<Full<Bytes>>| api.clone().answer()))
            .boxed_clone()
    }

    fn calls(&self) -> usize {
        self.calls.lock().unwrap().len()
    }
}

fn request(path: &str) -> Request<Full<Bytes>> {
    let body = r#"{"model":"gpt-4o-mini","messages":[{"role":"user","content":"What is a weir?"}]}"#;
    Request::builder().method(Method::POST).uri(path).body(Full::from(body)).unwrap()
}

/// The status of a response that is read to its end.
async fn status(client: Client, path: &str) -> Result<u16, Error> {
    let answer = client.oneshot(request(path)).await?;
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(!body.is_empty());
    Ok(status)
}

const CHAT: &str = "/v1/chat/completions";

#[tokio::test(start_paused = true)]
async fn a_burst_beyond_the_limit_meets_no_429() {
    let api = Api { limit: Some(60), ..Api::default() };
    let client = api.behind(&Settings::new().requests_per_minute(60).max_wait(Duration::from_mins(10)));
    let all: Vec<_> = (0..150)
        .map(|_| {
            let client = client.clone();
            clock::spawn(async move { status(client, CHAT).await.unwrap() })
        })
        .collect();
    for one in all {
        assert_eq!(one.await.unwrap(), 200);
    }
    assert_eq!(api.calls(), 150, "each was sent once");
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_repeated_where_that_is_safe() {
    let settings = Settings::new();
    for (path, script, expected, calls) in [
        (CHAT, &[500, 503][..], Ok(200), 3),
        (CHAT, &[0][..], Ok(200), 2),
        (CHAT, &[429][..], Ok(200), 2),
        (CHAT, &[401][..], Ok(401), 1),
        (CHAT, &[500; 9][..], Ok(500), 6),
        ("/v1/files", &[500][..], Ok(500), 1),
        ("/v1/files", &[0][..], Err(()), 1),
    ] {
        let api = Api::answering(script);
        let came = status(api.behind(&settings), path).await;
        assert_eq!(came.map_err(drop), expected, "{path} {script:?}");
        assert_eq!(api.calls(), calls, "{path} {script:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_would_wait_too_long_is_refused_at_once() {
    let api = Api::default();
    let client = api.behind(&Settings::new().requests_per_minute(1).max_wait(Duration::from_secs(5)));
    let began = Instant::now();
    let mut refused = 0;
    for _ in 0..20 {
        if let Err(error) = status(client.clone(), CHAT).await {
            assert!(error.is_refused() && error.is_deadline() && !error.is_quota_spent(), "{error:?}");
            assert!(error.retry_after().is_some_and(|after| after > Duration::from_secs(5)), "{error:?}");
            refused += 1;
        }
    }
    assert!(refused >= 15, "{refused}");
    assert!(
        clock::now() - began < Duration::from_secs(20),
        "nobody waits for nothing: {:?}",
        clock::now() - began
    );
    assert_eq!(api.calls(), 20 - refused);
}

#[tokio::test(start_paused = true)]
async fn what_is_dropped_leaves_the_queue_and_gives_back_its_permit() {
    let api = Api::default();
    let client = api.behind(&Settings::new().in_flight(1));
    let first = client.clone().oneshot(request(CHAT)).await.unwrap();
    let waiting = clock::spawn(client.clone().oneshot(request(CHAT)));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(api.calls(), 1, "one in flight: the answer's body was not read yet");
    waiting.abort();
    drop(first);
    assert_eq!(status(client.clone(), CHAT).await.unwrap(), 200);
    assert_eq!(api.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn without_admission_a_retry_passes_everything_on() {
    let api = Api::answering(&[500]);
    let service = service_fn(move |_: Request<Full<Bytes>>| {
        let api = api.clone();
        async move { Ok::<_, Infallible>(api.answer().await.unwrap()) }
    });
    let client = ServiceBuilder::new().layer(RetryLayer::new(&Settings::new())).service(service);
    assert_eq!(client.oneshot(request(CHAT)).await.unwrap().status(), 500);
}
