//! `[admission]`, `[estimate]` and `[limits]`: how long requests wait, and which limits they wait
//! for.

use std::time::Duration;

use super::key::section;
use super::quantity::Size;
use super::seed::SeedFile;
use super::value::or_word;
use crate::estimate::Pricing;
use crate::label::names;
use crate::pattern::Pattern;

section! {
    /// The queue before the upstream.
    Admission {
        /// How long a request without a timeout of its own waits at most: one window of a minute's
        /// limit, after which all of that limit has come back once.
        max_wait: Duration = default("60s") in "1ms"..="1d",
        /// How long a request waits at most for an upstream of a better priority where others serve
        /// it too. Left out: until its deadline.
        spill_after: Option<Duration> = unset("5s") in "0s"..="1d",
        /// Requests waiting in all, for each scope.
        max_waiting: usize = default(200000) in 1..=10000000,
        /// Waiting requests of one caller: half of all, so that one alone can't fill the queue. A
        /// batch may submit 100,000 at once.
        max_waiting_per_caller: usize = default(100000) in 1..=10000000,
        /// Bodies of waiting requests in all.
        max_waiting_bytes: Size = default("256MiB") in "1MiB"..="1TiB",
        /// Bodies of one caller's waiting requests: half again.
        max_waiting_bytes_per_caller: Size = default("128MiB") in "1MiB"..="1TiB",
        /// The background lane's part of the service while others wait too. 5 %: it yields, and
        /// never starves.
        background_share: f64 = default(0.05) in 0.001..=1.0,
    }
}

section! {
    /// How many tokens a request is taken to cost before its answer tells. Each estimate is
    /// corrected by what the upstream reports.
    Estimate {
        /// How output is priced: "auto" as recordings of each endpoint show, "input" not at all,
        /// "input+max" with all that is allowed (Azure, and the API until February 2025), "max" by
        /// the larger of the two, as the guide says.
        pricing: Pricing = default("auto"),
        /// Characters that a token stands for: 4 is the limiter's own figure in every recording.
        chars_per_token: u64 = default(4) in 1..=100,
        /// Tokens of one image in the input: one of 1024 by 1024 in the API's price list.
        tokens_per_image: u64 = default(765) in 0..=1000000,
        /// Tokens of output where a request names no maximum and output is priced: the limiter's
        /// own default was 16.
        default_max_tokens: u64 = default(16) in 0..=10000000,
    }
}

section! {
    /// What the upstream allows. Left out, it is learned from its answers.
    Limits {
        /// The part of every limit that this Weir may use: below 1 where several share one key.
        share: f64 = default(1.0) in 0.001..=1.0,
        /// Requests in a minute, for each model family without a limit of its own.
        requests_per_minute: Option<u64> = unset(5000) in 1..=1000000000000,
        /// Tokens in a minute.
        tokens_per_minute: Option<u64> = unset(1000000) in 1..=1000000000000,
        /// Requests in a day.
        requests_per_day: Option<u64> = unset(10000) in 1..=1000000000000,
        /// Tokens in a day.
        tokens_per_day: Option<u64> = unset(1500000) in 1..=1000000000000,
        /// Requests in flight. "auto": found by the times to first events, for servers that queue
        /// what is beyond their slots (vLLM, TGI, Ollama and kin), and by their "queue is full".
        in_flight: Option<InFlight> = unset(500) in 1..=1000000,
        /// Limits by model from a file: the answer of the administration API's
        /// `GET /organization/projects/{id}/rate_limits`, as it is.
        seed: Option<SeedFile> = unset("/etc/weir/rate_limits.json"),
        /// Which credentials share one set of limits: those that the upstream's headers show to be
        /// of one organization and project, or all.
        merge: Merge = default("headers"),
        /// Sets of limits kept at once; past it the one idle for longest is forgotten.
        max_scopes: usize = default(1000) in 1..=100000,
        /// Families of one credential that no pattern names; past it they share one.
        max_unnamed_families: usize = default(64) in 1..=10000,
        /// Models that share limits, and what those are. The first family that fits a model counts;
        /// a limit that it does not state is that of the section.
        families: Vec<Family> = default([]),
    }
}

section! {
    /// Models that share limits.
    Family {
        /// Its name in metrics and on the status page.
        name: String = required("gpt-5"),
        /// The models that belong to it.
        models: Vec<Pattern> = required(["gpt-5", "gpt-5-*"]),
        /// Requests in a minute.
        requests_per_minute: Option<u64> = unset(5000) in 1..=1000000000000,
        /// Tokens in a minute.
        tokens_per_minute: Option<u64> = unset(1000000) in 1..=1000000000000,
        /// Requests in a day.
        requests_per_day: Option<u64> = unset(10000) in 1..=1000000000000,
        /// Tokens in a day.
        tokens_per_day: Option<u64> = unset(1500000) in 1..=1000000000000,
        /// Requests in flight.
        in_flight: Option<InFlight> = unset(500) in 1..=1000000,
    }
}

names! {
    /// Which credentials share one set of limits.
    Merge {
        /// Those of which the upstream says so.
        Headers = "headers",
        /// All.
        All = "all",
    }
}

/// The configured limit of requests in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InFlight {
    /// At most this number.
    AtMost(u32),
    /// Found from the times to first events.
    Auto,
}

impl InFlight {
    /// The number, if it is a fixed one.
    pub fn at_most(self) -> Option<u32> {
        match self {
            Self::AtMost(most) => Some(most),
            Self::Auto => None,
        }
    }
}

or_word!(InFlight, "auto" = Auto, AtMost(u32));
