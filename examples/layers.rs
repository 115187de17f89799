//! A service that calls the API itself, paced and retried by Weir's tower layers: no proxy between.
//!
//!     weir simulate --rpm 60 &
//!     OPENAI_BASE_URL=http://127.0.0.1:9000/v1 cargo run --example layers

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "the house rules are the library's; this is a program of its own"
)]

use std::error::Error;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tower::{ServiceBuilder, ServiceExt as _};
use weir::layers::{AdmissionLayer, RetryLayer, Settings};

const CALLS: usize = 80;
const QUESTION: &str =
    r#"{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "What is a weir?"}]}"#;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let base = std::env::var("OPENAI_BASE_URL").unwrap_or_else(|_| "http://127.0.0.1:9000/v1".into());
    let key = std::env::var("OPENAI_API_KEY").unwrap_or_else(|_| "sk-any".into());
    // What is left out is learned from the answers.
    let settings = Settings::new().max_wait(Duration::from_mins(2));
    let client: Client<HttpConnector, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let client = ServiceBuilder::new()
        .layer(RetryLayer::new(&settings))
        .layer(AdmissionLayer::new(&settings))
        .service(client);

    let began = Instant::now();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..CALLS {
        let request = Request::post(format!("{base}/chat/completions"))
            .header(AUTHORIZATION, format!("Bearer {key}"))
            .header(CONTENT_TYPE, "application/json")
            .body(Full::from(QUESTION))?;
        let client = client.clone();
        calls.spawn(async move {
            let answer = client.oneshot(request).await?;
            let status = answer.status();
            answer.into_body().collect().await?;
            Ok::<_, Box<dyn Error + Send + Sync>>(status)
        });
    }
    let mut good = 0;
    while let Some(call) = calls.join_next().await {
        match call? {
            Ok(status) if status.is_success() => good += 1,
            Ok(status) => println!("an answer of status {status}"),
            Err(error) => println!("no answer: {error}"),
        }
    }
    println!("{good} of {CALLS} calls answered in {:.1} s", began.elapsed().as_secs_f64());
    if good == CALLS { Ok(()) } else { Err("calls were lost".into()) }
}
