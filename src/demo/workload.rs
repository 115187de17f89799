//! The workload of the demo: the jobs of four services, drawn from a seed, and the settings of the
//! simulated API.

use std::time::Duration;

use serde_json::json;

use crate::simulate::limiter::{Depth, Shape};
use crate::simulate::{Fault, Latency, LimitHeaders, Limits, Outage, OutageKind, Settings};

/// The model of all jobs, so that all share one limit.
const MODEL: &str = "gpt-4o-mini";
/// The API's limit of requests per minute.
const REQUESTS_PER_MINUTE: u64 = 1_200;
/// The API's limit of tokens per minute.
const TOKENS_PER_MINUTE: u64 = 480_000;
/// The depth of both limits' buckets: a minute's limit can't be used in a burst.
const DEPTH: Duration = Duration::from_secs(1);
/// The minimum and maximum time until a response begins.
const LATENCY: [Duration; 2] = [Duration::from_millis(80), Duration::from_millis(600)];
/// The interval between the chunks of a stream.
const CHUNK_DELAY: Duration = Duration::from_millis(10);
/// Chunks of a stream, and output tokens of any response.
const OUTPUT_TOKENS: u32 = 16;
/// The fractions of responses with status 500 and 503.
const FAULTS: [(&str, f64); 2] = [("500", 0.02), ("503", 0.03)];
/// Tokens that the API charges for a chat of one message in addition to its text.
const TOKENS_OF_FORM: u64 = 3;
/// The largest cost of a prompt in tokens: half of the bucket.
const LARGEST_PROMPT: u64 = 4_000;

/// A service with jobs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Caller {
    /// Its name in the table, in metrics and on the status page.
    pub name: &'static str,
    /// Its weight for a contended limit.
    pub weight: u32,
    /// Whether its jobs are in the background lane.
    pub background: bool,
    /// Its fraction of all jobs.
    share: f64,
    /// The median size of its prompts, in tokens.
    median: f64,
    /// The fraction of its jobs that stream.
    streams: f64,
}

/// The four services.
pub const CALLERS: [Caller; 4] = [
    Caller { name: "chat", weight: 4, background: false, share: 0.35, median: 180.0, streams: 0.8 },
    Caller { name: "search", weight: 2, background: false, share: 0.30, median: 90.0, streams: 0.0 },
    Caller { name: "agents", weight: 2, background: false, share: 0.15, median: 500.0, streams: 0.5 },
    Caller { name: "nightly", weight: 1, background: true, share: 0.20, median: 250.0, streams: 0.0 },
];

/// The amount of work, and the time of the outage.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    /// Jobs within the limit.
    pub jobs: usize,
    /// Jobs larger than the limit.
    pub too_large: usize,
    /// Half of the jobs arrive at once; the others over this time.
    pub arrivals: Duration,
    /// The start of the outage, in which every request gets a 503.
    pub outage_start: Duration,
    /// The duration of the outage.
    pub outage_length: Duration,
}

impl Scale {
    /// The scale of the README, with an ideal duration of about 17 s.
    pub const FULL: Self = Self {
        jobs: 260,
        too_large: 3,
        arrivals: Duration::from_secs(8),
        outage_start: Duration::from_secs(5),
        outage_length: Duration::from_secs(5),
    };
    /// A scale of a few seconds.
    pub const QUICK: Self = Self {
        jobs: 100,
        too_large: 1,
        arrivals: Duration::from_secs(3),
        outage_start: Duration::from_secs(3),
        outage_length: Duration::from_secs(1),
    };
}

/// One job: a chat completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// Its service: an index of [`CALLERS`].
    pub caller: usize,
    /// Its arrival, from the start.
    pub arrival: Duration,
    /// Its cost at the API, in tokens.
    pub tokens: u64,
    /// Whether its response streams.
    pub streams: bool,
}

impl Job {
    /// Whether it is larger than the limit, so that it can never succeed.
    pub fn is_too_large(&self) -> bool {
        self.tokens > TOKENS_PER_MINUTE
    }

    /// The request's body.
    pub fn body(&self) -> Vec<u8> {
        let letters = self.tokens.saturating_sub(TOKENS_OF_FORM) * 4;
        let text = "weir".repeat(usize::try_from(letters / 4).unwrap_or_default());
        let content =
            json!({"model": MODEL, "stream": self.streams, "messages": [{"role": "user", "content": text}]});
        content.to_string().into_bytes()
    }
}

/// The jobs in the order of their arrival. Equal seeds give equal jobs.
pub fn jobs(scale: &Scale, seed: u64) -> Vec<Job> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut jobs: Vec<Job> = (0..scale.jobs)
        .map(|index| {
            let caller = pick_caller(rng.f64());
            let at_once = index < scale.jobs / 2;
            Job {
                caller,
                arrival: if at_once { Duration::ZERO } else { scale.arrivals.mul_f64(rng.f64()) },
                tokens: prompt_tokens(CALLERS[caller].median, &mut rng),
                streams: rng.f64() < CALLERS[caller].streams,
            }
        })
        .collect();
    // After the first second, so that the counts by second separate them from the burst.
    let agents = CALLERS.iter().position(|caller| caller.name == "agents").unwrap_or_default();
    jobs.extend((0..scale.too_large).map(|index| Job {
        caller: agents,
        arrival: Duration::from_millis(1_200 + 200 * index as u64),
        tokens: TOKENS_PER_MINUTE + TOKENS_PER_MINUTE / 4,
        streams: false,
    }));
    jobs.sort_by_key(|job| job.arrival);
    jobs
}

/// The settings of the simulated API in both runs.
pub(super) fn simulator_settings(scale: &Scale, seed: u64) -> Settings {
    let fault = |name: &str| Fault::parse(name).expect("the table of errors has every usual status");
    Settings {
        limits: Limits { rpm: Some(REQUESTS_PER_MINUTE), tpm: Some(TOKENS_PER_MINUTE), ..Limits::NONE },
        shape: Shape::Bucket(Depth::Of(DEPTH)),
        limit_headers: LimitHeaders::AsMeasured,
        after: Latency::Uniform(LATENCY[0], LATENCY[1]),
        chunk_delay: CHUNK_DELAY,
        output_tokens: OUTPUT_TOKENS,
        faults: FAULTS.iter().map(|(name, rate)| (fault(name), *rate)).collect(),
        outages: vec![Outage {
            start: scale.outage_start,
            length: scale.outage_length,
            kind: OutageKind::Fault(fault("503")),
        }],
        seed,
        ..Settings::default()
    }
}

/// The minimum duration of all jobs, given full knowledge of the limits and the outage. Each job is
/// sent once, in order of arrival, as early as the limits allow and not during the outage, and
/// takes the median latency.
pub fn ideal(jobs: &[Job], scale: &Scale) -> Duration {
    let request = Duration::from_mins(1).as_secs_f64() / REQUESTS_PER_MINUTE as f64;
    let token = Duration::from_mins(1).as_secs_f64() / TOKENS_PER_MINUTE as f64;
    let outage_end = scale.outage_start + scale.outage_length;
    let latency = (LATENCY[0] + LATENCY[1]) / 2;
    // The times at which each bucket is full again.
    let (mut requests_full, mut tokens_full) = (Duration::ZERO, Duration::ZERO);
    let mut end = Duration::ZERO;
    for job in jobs.iter().filter(|job| !job.is_too_large()) {
        let cost = Duration::from_secs_f64(token * job.tokens as f64);
        let requests = (requests_full + Duration::from_secs_f64(request)).saturating_sub(DEPTH);
        let tokens = (tokens_full + cost).saturating_sub(DEPTH);
        let mut sent = job.arrival.max(requests).max(tokens);
        if (scale.outage_start..outage_end).contains(&sent) {
            sent = outage_end;
        }
        requests_full = requests_full.max(sent) + Duration::from_secs_f64(request);
        tokens_full = tokens_full.max(sent) + cost;
        let streaming = if job.streams { CHUNK_DELAY * OUTPUT_TOKENS } else { Duration::ZERO };
        end = end.max(sent + latency + streaming);
    }
    end
}

/// A description of the API's limits, faults and outage, in three lines.
pub fn describe(scale: &Scale, seed: u64) -> String {
    format!(
        "{} jobs of {} services, half of them at once, against an API that allows\n\
         {} requests/s and {} tokens/s (bursts of 1 s), answers in {}-{} ms,\n\
         fails 5 % of the time, and is down for {:.0} s. Seed {seed}.",
        scale.jobs,
        CALLERS.len(),
        REQUESTS_PER_MINUTE / 60,
        TOKENS_PER_MINUTE / 60,
        LATENCY[0].as_millis(),
        LATENCY[1].as_millis(),
        scale.outage_length.as_secs_f64(),
    )
}

fn pick_caller(random: f64) -> usize {
    let mut rest = random;
    for (index, caller) in CALLERS.iter().enumerate() {
        if rest < caller.share {
            return index;
        }
        rest -= caller.share;
    }
    CALLERS.len() - 1
}

/// A log-normal size around the median: many short prompts, a few long ones.
fn prompt_tokens(median: f64, rng: &mut fastrand::Rng) -> u64 {
    const SPREAD: f64 = 0.8;
    // Box-Muller: a standard normal deviate from two uniform ones.
    let (radius, angle) = (1.0 - rng.f64(), rng.f64());
    let normal = (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos();
    let tokens = (median * (SPREAD * normal).exp()).round();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to a small positive range"
    )]
    let tokens = tokens.clamp(20.0, LARGEST_PROMPT as f64) as u64;
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_give_equal_jobs() {
        assert_eq!(jobs(&Scale::FULL, 7), jobs(&Scale::FULL, 7));
        assert_ne!(jobs(&Scale::FULL, 7), jobs(&Scale::FULL, 8));
    }

    #[test]
    fn the_work_is_mixed_and_over_the_limit_for_a_while() {
        for seed in 0..20 {
            let jobs = jobs(&Scale::FULL, seed);
            assert_eq!(jobs.iter().filter(|job| job.is_too_large()).count(), Scale::FULL.too_large);
            assert_eq!(jobs.len(), Scale::FULL.jobs + Scale::FULL.too_large);
            for (caller, _) in CALLERS.iter().enumerate() {
                assert!(jobs.iter().filter(|job| job.caller == caller).count() >= 10, "seed {seed}");
            }
            assert!(jobs.iter().any(|job| job.streams) && jobs.is_sorted_by_key(|job| job.arrival));
            let ideal = ideal(&jobs, &Scale::FULL).as_secs_f64();
            assert!((15.5..=18.0).contains(&ideal), "seed {seed}: {ideal}");
        }
    }

    #[test]
    fn the_ideal_of_work_within_the_limits_is_its_latency() {
        let job = Job { caller: 0, arrival: Duration::from_secs(1), tokens: 100, streams: false };
        assert_eq!(ideal(&[job], &Scale::FULL), Duration::from_millis(1_340));
        let in_outage = Job { arrival: Duration::from_secs(6), ..job };
        assert_eq!(ideal(&[in_outage], &Scale::FULL), Duration::from_millis(10_340));
        // The amount of a second at once, then 20 per second.
        let at_once = vec![Job { arrival: Duration::ZERO, tokens: 20, ..job }; 40];
        let wide = Scale { outage_start: Duration::from_secs(99), ..Scale::FULL };
        assert_eq!(ideal(&at_once, &wide), Duration::from_millis(1_340));
    }

    #[test]
    fn a_body_is_charged_what_the_job_says() {
        let job = Job { caller: 0, arrival: Duration::ZERO, tokens: 103, streams: true };
        let body: serde_json::Value = serde_json::from_slice(&job.body()).unwrap();
        assert_eq!(body["messages"][0]["content"].as_str().unwrap().len(), 400);
        assert_eq!(body["stream"], true);
    }
}
