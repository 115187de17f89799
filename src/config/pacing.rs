//! `[admission]` and `[limits]`: how long requests wait, and for what.

use std::time::Duration;

use super::key::section;
use super::pattern::Pattern;
use super::quantity::{Ratio, Size};
use super::seed::SeedFile;
use super::value::choice;

section! {
    /// The queue before the upstream.
    Admission {
        /// How long a request without a timeout of its own waits at most: two windows of a minute's limit would be
        /// too late for most, half of one too early for a burst.
        max_wait: Duration = default("60s") in "1ms"..="1d",
        /// Requests waiting in all.
        max_waiting: usize = default(100000) in 1..=10000000,
        /// Requests waiting of one caller: a tenth, so that one alone can't fill the queue.
        max_waiting_per_caller: usize = default(10000) in 1..=10000000,
        /// Bodies of waiting requests in all.
        max_waiting_bytes: Size = default("256MiB") in "1MiB"..="1TiB",
        /// How tokens are estimated: "input" counts the prompt as the API has since March 2025, `"input_plus_max"`
        /// adds `max_tokens`, "max" takes the larger as the guide says. Each is corrected by what the upstream reports.
        estimate: Estimate = default("input"),
        /// How a limit nobody has described is paced: "learned" begins gently and uses deep buckets once it has seen
        /// them, `"any_shape"` never bursts more than a second's worth.
        profile: Profile = default("learned"),
    }
}

choice! {
    /// How tokens are estimated.
    Estimate {
        /// The prompt alone.
        Input = "input",
        /// The prompt and `max_tokens`.
        InputPlusMax = "input_plus_max",
        /// The larger of the prompt and `max_tokens`.
        Max = "max",
    }
}

choice! {
    /// How deep a burst may be.
    Profile {
        /// As deep as the upstream turned out to take.
        Learned = "learned",
        /// A second's worth.
        AnyShape = "any_shape",
    }
}

section! {
    /// What the upstream allows. Left out, it is learned from its answers.
    Limits {
        /// The part of every limit that this Weir may use: below 1 where several share one key.
        share: Ratio = default(1.0) in 0.001..=1.0,
        /// Requests in a minute, for each model family without a limit of its own.
        requests_per_minute: Option<u64> = unset(5000) in 1..=1000000000000,
        /// Tokens in a minute.
        tokens_per_minute: Option<u64> = unset(1000000) in 1..=1000000000000,
        /// Requests in a day.
        requests_per_day: Option<u64> = unset(10000) in 1..=1000000000000,
        /// Tokens in a day.
        tokens_per_day: Option<u64> = unset(1500000) in 1..=1000000000000,
        /// Requests in flight.
        in_flight: Option<u64> = unset(500) in 1..=1000000,
        /// Limits by model from a file: the answer of the administration API's
        /// `GET /organization/projects/{id}/rate_limits`, as it is.
        seed: Option<SeedFile> = unset("/etc/weir/rate_limits.json"),
        /// Which credentials share one set of limits: those that the upstream's headers show to be of one
        /// organization and project, all, or none.
        merge: Merge = default("headers"),
        /// Sets of limits kept at once.
        max_scopes: usize = default(1000) in 1..=100000,
        /// How long one that nobody uses is kept: longer than any minute's limit remembers.
        scope_idle: Duration = default("1h") in "1m"..="30d",
        /// Models that share limits, and what those are. The first family that fits a model counts.
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
        in_flight: Option<u64> = unset(500) in 1..=1000000,
    }
}

choice! {
    /// Which credentials share one set of limits.
    Merge {
        /// Those of which the upstream says so.
        Headers = "headers",
        /// All.
        All = "all",
        /// None.
        Never = "never",
    }
}
