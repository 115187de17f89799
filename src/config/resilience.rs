//! `[retry]`, `[breaker]`, `[outage]`, `[quota_breaker]`, `[replay]` and `[stream]`: behavior when
//! the upstream fails.

use std::time::Duration;

use super::key::{Kind, section};
use super::quantity::Size;
use super::value::textual;
use crate::openai::Endpoint;
use crate::retry::Operation;

section! {
    /// Attempts after the first, where the table of outcomes allows one.
    Retry {
        /// Attempts for one request, the first included. Six lose 2.4 of 10,000 calls to an
        /// upstream that fails a quarter.
        max_attempts: u32 = default(6) in 1..=20,
        /// The backoff before the second attempt; it doubles with each. The SDKs' own values, with
        /// full jitter.
        base: Duration = default("500ms") in "1ms"..="1m",
        /// What the backoff grows to.
        cap: Duration = default("8s") in "1ms"..="10m",
        /// The least that jitter leaves of it, so that no retry follows at once.
        floor: Duration = default("50ms") in 0..="1m",
        /// Whether an attempt without any answer in time (Weir's own timeout, or 504 and 524 of the
        /// edge before the API) is repeated, once. Off: the upstream may still be at work on it,
        /// and each repeat is paid for.
        timeouts: bool = default(false),
        /// Operations that may be repeated after they were sent, on top of those that are safe by
        /// themselves: a method and a path in which `*` stands for one segment.
        repeatable: Vec<Repeatable> = default([]),
        /// Endpoints that are never attempted twice.
        never: Vec<Endpoint> = default([]),
        /// What bounds the retries of a scope.
        budget: Budget = default({}),
    }
}

section! {
    /// What bounds the retries of a scope: a rate earned by successes, and a number at once.
    Budget {
        /// What a success earns. Half a retry carries through a quarter of failures, which needs a
        /// third.
        earn: f64 = default(0.5) in 0.0..=10.0,
        /// The most that is saved up. About 20 keeps attempts within 1.1 of requests when
        /// everything fails.
        capacity: f64 = default(20.0) in 0.0..=10000.0,
        /// What each received request earns even if nothing succeeds, so that a trickle may always
        /// be retried.
        reserve: f64 = default(0.02) in 0.0..=1.0,
        /// Retries at once, their backoff and their wait included, as a part of the attempts in
        /// flight.
        concurrent: f64 = default(1.0) in 0.0..=1.0,
        /// Retries at once that are always allowed. 1,000: at 1,000 requests a second, a quarter
        /// failing, some 500 are in their backoff.
        concurrent_least: u32 = default(1000) in 0..=100000,
    }
}

section! {
    /// Attempts are held back from a scope that is failing.
    Breaker {
        /// Whether there is one.
        enabled: bool = default(true),
        /// Consecutive failures that open it. Five would open by chance ten times in 10,000 calls
        /// at a quarter of failures.
        failures: u32 = default(10) in 2..=1000,
        /// Open the breaker when no answer has begun for this long, where they normally come
        /// faster.
        stall: Duration = default("30s") in "1s"..="1h",
        /// The wait before the first probe; it doubles with each that fails, to a quarter of how
        /// long the outage has lasted.
        probe_base: Duration = default("500ms") in "10ms"..="1m",
        /// The longest such wait: traffic is back within 10 s of the upstream's return, however
        /// long it was away.
        probe_cap: Duration = default("4s") in "10ms"..="10m",
    }
}

section! {
    /// What requests do while the breaker holds attempts back.
    Outage {
        /// How long interactive requests wait for a failing upstream, from the beginning of its
        /// outage and within their deadlines; 0 answers at once. Requests in the background lane
        /// wait until their deadlines.
        max_wait: Duration = default("30s") in 0..="1h",
    }
}

section! {
    /// What happens when the upstream's quota is spent: requests fail at once, with its answer.
    QuotaBreaker {
        /// The longest time between two requests that ask whether the quota is back. The first asks
        /// after 2 s; each further one after twice the time of the one before.
        probe_interval: Duration = default("60s") in "1s"..="1d",
    }
}

section! {
    /// Request bodies kept to be sent again.
    Replay {
        /// The largest that is kept. A larger one streams through, and is not retried.
        max_body: Size = default("8MiB") in 0..="1GiB",
        /// All that are kept together.
        max_total: Size = default("256MiB") in 0..="1TiB"; restart,
        /// What is still read ahead of a larger one, so that it can be priced.
        prefix: Size = default("64KiB") in 0..="16MiB",
    }
}

section! {
    /// Streamed answers.
    Stream {
        /// How long the head is held for the first event that says something, so that an error
        /// hidden in a 200 can still be retried; 0 passes it on at once.
        hold: Duration = default("1s") in 0..="10s",
        /// Whether a stream that breaks ends with an error event before it is aborted.
        error_event: bool = default(false),
        /// How long a streaming request is silent before it gets its 200 and, as often from then
        /// on, a comment (`: weir`), until the first event of its answer. Less than what the load
        /// balancers before Weir allow. The request may still wait and be retried; what it fails
        /// with is an error event.
        keepalive: Option<Duration> = default("off") in "1s"..="10m",
    }
}

/// An operation that may be repeated, with its text in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repeatable {
    text: String,
    operation: Operation,
}

impl Repeatable {
    fn parse(text: &str) -> Result<Self, Option<String>> {
        let operation = Operation::parse(text).map_err(|_| None)?;
        Ok(Self { text: text.trim().to_owned(), operation })
    }

    /// The method and path.
    pub fn operation(&self) -> &Operation {
        &self.operation
    }

    /// The endpoint of the operation.
    pub fn endpoint(&self) -> Endpoint {
        let path = self.text.split_whitespace().nth(1).unwrap_or_default();
        Endpoint::of(&http::Method::POST, path)
    }
}

textual!(
    Repeatable,
    Kind::text("a method and a path, such as \"POST /vector_stores/*/search\""),
    Repeatable::parse,
    |of: &Repeatable| of.text.clone()
);
