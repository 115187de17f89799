//! `[log]`, `[report]`, `[trace]` and `[metrics]`: what Weir reports.

use std::time::Duration;

use http::HeaderName;

use super::key::section;
use super::secret::SecretRef;
use super::url::BaseUrl;
use crate::label::names;
use crate::pattern::Pattern;

section! {
    /// The log on standard error. It never holds a body or a key.
    Log {
        /// The least severe line of the log that is written. Lines of the access log are written at
        /// any level; `log.access` turns them off. Directives of `RUST_LOG`, such as
        /// `weir::proxy=debug`, overrule it.
        level: Level = default("info"),
        /// JSON, text, or text on a terminal and JSON elsewhere.
        format: Format = default("auto"); restart,
        /// Whether each request gets a line.
        access: bool = default(true),
        /// The part of the requests that succeeded that get one. All that failed do.
        sample: f64 = default(1.0) in 0.0..=1.0; restart,
        /// Whether quoted parts of the upstream's error messages are masked in log, reports and
        /// page: they can echo prompts. Keys always are.
        mask_messages: bool = default(true),
    }
}

names! {
    /// How severe a line of the log is.
    Level {
        /// Something failed that somebody must repair.
        Error = "error",
        /// Something is about to.
        Warn = "warn",
        /// What happened.
        Info = "info",
        /// Why.
        Debug = "debug",
        /// How.
        Trace = "trace",
    }
}

names! {
    /// How the log is written.
    Format {
        /// Text on a terminal, JSON elsewhere.
        Auto = "auto",
        /// One JSON object a line.
        Json = "json",
        /// For people.
        Text = "text",
    }
}

section! {
    /// The failures kept for `weir report`.
    Report {
        /// How many; 0 keeps none.
        capacity: usize = default(256) in 0..=10000; restart,
        /// Whether the first 64 KiB of the request's body are kept with them. Off: it is the
        /// caller's business.
        request_data: bool = default(false),
        /// The request headers that are kept. Those that hold credentials can't be listed.
        headers: Vec<HeaderName> = default(["content-type", "openai-beta", "user-agent", "x-stainless-lang", "x-stainless-package-version"]),
    }
}

section! {
    /// Traces, by OTLP over HTTP.
    Trace {
        /// The collector. Left out, none are sent.
        endpoint: Option<BaseUrl> = unset("http://127.0.0.1:4318"),
        /// The token for the collector, sent as `Authorization: Bearer`; one that names its own
        /// scheme (`Basic ...`) is sent whole.
        token: Option<SecretRef> = unset("env:OTLP_TOKEN"),
        /// The name of this service in the traces.
        service_name: String = default("weir"),
        /// The part of the requests without a sampled parent that are traced.
        sample: f64 = default(1.0) in 0.0..=1.0,
        /// How long spans are collected before they are sent.
        interval: Duration = default("5s") in "100ms"..="10m",
        /// Spans waiting to be sent; more are dropped and counted.
        max_queued: usize = default(2048) in 1..=1000000,
    }
}

section! {
    /// What Prometheus gets.
    Metrics {
        /// The models that may have series of their own; all others are "other". Without an
        /// element, all may.
        models: Vec<Pattern> = default([]),
        /// How many models get them; the first that are answered do.
        max_models: usize = default(50) in 0..=10000,
        /// How many scopes get them.
        max_scopes: usize = default(100) in 0..=10000,
        /// Series in all: 128,000 take a quarter of a second to gather, 20,000 stay below 50 ms.
        max_series: usize = default(20000) in 1000..=1000000,
    }
}
