//! Exports spans by OTLP over HTTP: a bounded queue, and a thread that sends from it.
//!
//! A request never waits for a collector: its spans enter the queue together, or are dropped and
//! counted if it is full. `opentelemetry-otlp` encodes them. The SDK's tracer and processors are
//! not used, because a span's data is known only when its request has ended.

#[cfg(not(feature = "otlp"))]
mod absent;
#[cfg(feature = "otlp")]
mod client;
#[cfg(feature = "otlp")]
mod convert;
#[cfg(feature = "otlp")]
mod exporter;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

#[cfg(not(feature = "otlp"))]
use absent::Exporter;
#[cfg(feature = "otlp")]
use exporter::Exporter;
use http::HeaderMap;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use super::redact::Hidden;
use super::span::Span;
use super::trace::{RequestTrace, SpanId, TraceContext};
use crate::clock;

/// The maximum number of spans in one message.
const BATCH: usize = 512;
/// The time limit for sending the last spans when the process ends.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// The export settings.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The collector's base URL, such as `http://127.0.0.1:4318`; `/v1/traces` is appended.
    pub endpoint: String,
    /// The value of `Authorization`.
    pub authorization: Option<Hidden>,
    /// The TLS configuration for `https`; without it only `http` is possible.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// This service's name in traces.
    pub service_name: String,
    /// Fraction of requests without a sampled parent that are traced, 0 to 1.
    pub sample: f64,
    /// Interval between two messages.
    pub interval: Duration,
    /// The capacity of the queue, in spans. Further spans are dropped.
    pub max_queued: usize,
}

/// The reason why spans can't be exported.
#[derive(Debug, Error)]
pub enum ExportError {
    /// The endpoint or a header is invalid.
    #[cfg(feature = "otlp")]
    #[error("the exporter can't be set up: {0}")]
    Exporter(String),
    /// This Weir was built without export.
    #[cfg(not(feature = "otlp"))]
    #[error(
        "this Weir was built without the feature `otlp`; leave trace.endpoint out, or build it with the feature"
    )]
    NotBuilt,
    /// The exporting thread could not be started.
    #[error("the thread that exports spans could not be started: {0}")]
    Thread(#[from] io::Error),
}

/// The queue for the spans of ended requests.
#[derive(Clone, Debug)]
pub struct Spans {
    sender: mpsc::Sender<Span>,
    counts: Arc<Counts>,
    sample: f64,
}

#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
}

/// Counts of spans since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpanCounts {
    /// Accepted by the collector.
    pub sent: u64,
    /// Dropped because the queue was full.
    pub dropped: u64,
    /// Not delivered: the collector was unreachable or refused them.
    pub failed: u64,
}

/// Keeps the export running; dropping it sends the remaining spans, for at most two seconds.
#[derive(Debug)]
pub struct ExportGuard {
    stop: Option<oneshot::Sender<()>>,
    ended: std::sync::mpsc::Receiver<()>,
    /// Detached after the timeout, because the process ends.
    _thread: JoinHandle<()>,
}

/// Starts the thread that sends spans.
///
/// # Errors
/// See [`ExportError`].
pub fn start(settings: &Settings) -> Result<(Spans, ExportGuard), ExportError> {
    let exporter = Exporter::new(settings)?;
    let Settings { sample, interval, max_queued, .. } = *settings;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (sender, receiver) = mpsc::channel(max_queued.max(1));
    let (stop, stopped) = oneshot::channel();
    let (end, ended) = std::sync::mpsc::channel();
    let counts = Arc::<Counts>::default();
    let counted = Arc::clone(&counts);
    let thread = std::thread::Builder::new().name("weir-trace".to_owned()).spawn(move || {
        let mut export = Export { receiver, exporter, counts: counted, failing: false };
        runtime.block_on(export.run(interval, stopped));
        // The receiver may have timed out.
        end.send(()).ok();
    })?;
    Ok((Spans { sender, counts, sample }, ExportGuard { stop: Some(stop), ended, _thread: thread }))
}

impl Spans {
    /// A request's place in a trace: the caller's, or a new one. A caller's sampling decision is
    /// kept; without one it is random.
    pub fn trace(&self, headers: &HeaderMap, rng: &mut fastrand::Rng) -> Option<RequestTrace> {
        let from = TraceContext::of(headers);
        let sampled = from.map_or_else(|| rng.f64() < self.sample, |from| from.sampled);
        if !sampled {
            return from.map(RequestTrace::passing);
        }
        let span = Some(SpanId::new(rng));
        Some(match from {
            Some(from) => RequestTrace { trace: from.trace, parent: Some(from.parent), span },
            None => RequestTrace { trace: TraceContext::begin(rng, true).trace, parent: None, span },
        })
    }

    /// Queues the spans of one request, all or none.
    pub fn send(&self, spans: Vec<Span>) {
        match self.sender.try_reserve_many(spans.len()) {
            Ok(places) => places.zip(spans).for_each(|(place, span)| place.send(span)),
            Err(_) => add(&self.counts.dropped, spans.len()),
        }
    }

    /// The counts of spans so far.
    pub fn counts(&self) -> SpanCounts {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SpanCounts {
            sent: count(&self.counts.sent),
            dropped: count(&self.counts.dropped),
            failed: count(&self.counts.failed),
        }
    }
}

impl Drop for ExportGuard {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // The send fails if the thread has ended; a thread that does not end in time is left
            // behind.
            stop.send(()).ok();
            self.ended.recv_timeout(LAST_SPANS).ok();
        }
    }
}

struct Export {
    receiver: mpsc::Receiver<Span>,
    exporter: Exporter,
    counts: Arc<Counts>,
    failing: bool,
}

impl Export {
    /// Sends the collected spans until `stop`; then the remaining ones.
    async fn run(&mut self, interval: Duration, mut stop: oneshot::Receiver<()>) {
        let mut batch = Vec::with_capacity(BATCH);
        while self.collect(&mut batch, interval, &mut stop).await {
            self.export(&mut batch).await;
        }
        self.receiver.close();
        while !batch.is_empty() || self.receiver.recv_many(&mut batch, BATCH).await > 0 {
            self.export(&mut batch).await;
        }
    }

    /// Waits for a span, then for the interval's end or a full batch. Returns whether to continue.
    async fn collect(
        &mut self,
        batch: &mut Vec<Span>,
        interval: Duration,
        stop: &mut oneshot::Receiver<()>,
    ) -> bool {
        let received = tokio::select! {
            _ = &mut *stop => return false,
            received = self.receiver.recv_many(batch, BATCH) => received,
        };
        let until = clock::now() + interval;
        while batch.len() < BATCH {
            let more = self.receiver.recv_many(batch, BATCH - batch.len());
            tokio::select! {
                _ = &mut *stop => return false,
                more = clock::timeout_at(until, more) => if !matches!(more, Ok(1..)) { break },
            }
        }
        received > 0
    }

    async fn export(&mut self, batch: &mut Vec<Span>) {
        let count = batch.len();
        match self.exporter.export(batch).await {
            Ok(()) => {
                add(&self.counts.sent, count);
                if std::mem::take(&mut self.failing) {
                    tracing::info!("the trace collector accepts spans again");
                }
            }
            Err(error) => {
                add(&self.counts.failed, count);
                // Once per outage, not once per batch.
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(%error, "the trace collector accepts no spans; until it does, they are dropped and counted");
                }
            }
        }
    }
}

fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(sample: f64, max_queued: usize) -> (Spans, mpsc::Receiver<Span>) {
        let (sender, receiver) = mpsc::channel(max_queued);
        (Spans { sender, counts: Arc::default(), sample }, receiver)
    }

    fn headers(traceparent: Option<&'static str>) -> HeaderMap {
        let value = traceparent.map(http::HeaderValue::from_static);
        value.map(|value| ("traceparent".parse().unwrap(), value)).into_iter().collect()
    }

    #[test]
    fn a_caller_s_choice_is_kept() {
        let mut rng = fastrand::Rng::with_seed(1);
        let (never, _) = spans(0.0, 1);
        let recorded = headers(Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"));
        let trace = never.trace(&recorded, &mut rng).unwrap();
        assert!(trace.span.is_some());
        assert_eq!(trace.trace.to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(trace.parent.unwrap().to_string(), "b7ad6b7169203331");
        assert_eq!(never.trace(&headers(None), &mut rng), None);
        let (always, _) = spans(1.0, 1);
        let ignored = headers(Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"));
        assert_eq!(always.trace(&ignored, &mut rng).unwrap().span, None);
        let begun = always.trace(&headers(Some("nonsense")), &mut rng).unwrap();
        assert!(begun.span.is_some() && begun.parent.is_none());
    }

    #[test]
    fn a_share_is_sampled() {
        let mut rng = fastrand::Rng::with_seed(7);
        let (quarter, _) = spans(0.25, 1);
        let sampled = (0..10_000).filter(|_| quarter.trace(&headers(None), &mut rng).is_some()).count();
        assert!((2_300..2_700).contains(&sampled), "{sampled}");
    }

    #[test]
    fn a_full_queue_drops_whole_requests_and_counts() {
        let (spans, mut receiver) = spans(1.0, 3);
        let mut rng = fastrand::Rng::with_seed(1);
        let trace = TraceContext::begin(&mut rng, true);
        let span = Span {
            trace: trace.trace,
            id: trace.parent,
            parent: None,
            side: super::super::span::Side::Server,
            name: "chat".into(),
            start: std::time::UNIX_EPOCH,
            end: std::time::UNIX_EPOCH,
            attributes: Vec::new(),
            failed: false,
        };
        spans.send(vec![span.clone(); 2]);
        spans.send(vec![span.clone(); 2]);
        spans.send(vec![span]);
        assert_eq!(spans.counts(), SpanCounts { sent: 0, dropped: 2, failed: 0 });
        assert_eq!(std::iter::from_fn(|| receiver.try_recv().ok()).count(), 3);
    }
}
