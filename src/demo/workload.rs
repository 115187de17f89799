//! What the demo asks for: the jobs of four services, drawn from a seed, and the API that they
//! meet.

use std::time::Duration;

use serde_json::json;

use crate::simulate::limiter::{Depth, Shape};
use crate::simulate::{Fault, Latency, LimitHeaders, Limits, Outage, OutageKind, Settings};

/// The model that every job asks for: all share one limit.
const MODEL: &str = "gpt-4o-mini";
/// Requests in a minute that the API allows.
const REQUESTS_PER_MINUTE: u64 = 1_200;
/// Tokens in a minute that it allows.
const TOKENS_PER_MINUTE: u64 = 480_000;
/// Both are enforced by a bucket as deep as this: a minute's limit can't be spent in a burst.
const DEPTH: Duration = Duration::from_secs(1);
/// How long an answer takes to begin.
const LATENCY: [Duration; 2] = [Duration::from_millis(80), Duration::from_millis(600)];
/// Between the chunks of a stream.
const CHUNK_DELAY: Duration = Duration::from_millis(10);
/// Chunks of a stream, and output tokens of any answer.
const OUTPUT_TOKENS: u32 = 16;
/// The share of answers that are a 500, and of those that are a 503.
const FAULTS: [(&str, f64); 2] = [("500", 0.02), ("503", 0.03)];
/// Tokens that the API charges for a chat of one message on top of its text.
const TOKENS_OF_FORM: u64 = 3;
/// A prompt's largest cost: half of what the bucket holds.
const LARGEST_PROMPT: u64 = 4_000;

/// A service that has work to do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Caller {
    /// Its name in the table, in metrics and on the status page.
    pub name: &'static str,
    /// Its share of a contended limit.
    pub weight: u32,
    /// Whether its work yields to all other.
    pub background: bool,
    /// The share of the jobs that are its own.
    share: f64,
    /// The median of its prompts, in tokens.
    median: f64,
    /// The share of its jobs that stream.
    streams: f64,
}

/// The four services.
pub const CALLERS: [Caller; 4] = [
    Caller { name: "chat", weight: 4, background: false, share: 0.35, median: 180.0, streams: 0.8 },
    Caller { name: "search", weight: 2, background: false, share: 0.30, median: 90.0, streams: 0.0 },
    Caller { name: "agents", weight: 2, background: false, share: 0.15, median: 500.0, streams: 0.5 },
    Caller { name: "nightly", weight: 1, background: true, share: 0.20, median: 250.0, streams: 0.0 },
];

/// How much there is to do, and when the API fails.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    /// Jobs that can pass.
    pub jobs: usize,
    /// Jobs larger than the limit, which never can.
    pub too_large: usize,
    /// Half of the jobs come at once; the others over this long.
    pub arrivals: Duration,
    /// When every request is answered by 503, from the start.
    pub outage_start: Duration,
    /// For how long.
    pub outage_length: Duration,
}

impl Scale {
    /// What the README shows: about 17 s of work at best.
    pub const FULL: Self = Self {
        jobs: 260,
        too_large: 3,
        arrivals: Duration::from_secs(8),
        outage_start: Duration::from_secs(5),
        outage_length: Duration::from_secs(5),
    };
    /// A few seconds' worth.
    pub const QUICK: Self = Self {
        jobs: 100,
        too_large: 1,
        arrivals: Duration::from_secs(3),
        outage_start: Duration::from_secs(3),
        outage_length: Duration::from_secs(1),
    };
}

/// One piece of work: a chat completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// Whose it is: an index of [`CALLERS`].
    pub caller: usize,
    /// When it comes up, from the start.
    pub arrival: Duration,
    /// What the API charges for it.
    pub tokens: u64,
    /// Whether its answer streams.
    pub streams: bool,
}

impl Job {
    /// Whether it is larger than the limit, so that it can never pass.
    pub fn is_too_large(&self) -> bool {
        self.tokens > TOKENS_PER_MINUTE
    }

    /// The body of its request.
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
    // After the first second, so that what is counted by the second tells them from the burst.
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

/// The API that both runs meet, each from its beginning.
pub(super) fn stand_in(scale: &Scale, seed: u64) -> Settings {
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

/// The time in which all jobs could be done, by someone who knows limits, outage and future: each
/// is sent once, in the order of arrival, as early as the limits let it in, never during the
/// outage, and takes the usual time.
pub fn ideal(jobs: &[Job], scale: &Scale) -> Duration {
    let request = Duration::from_mins(1).as_secs_f64() / REQUESTS_PER_MINUTE as f64;
    let token = Duration::from_mins(1).as_secs_f64() / TOKENS_PER_MINUTE as f64;
    let outage_end = scale.outage_start + scale.outage_length;
    let latency = (LATENCY[0] + LATENCY[1]) / 2;
    // When each bucket is full again.
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

/// What the run is against, in three lines.
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

/// Log-normal about the median: many short prompts, a few long ones.
fn prompt_tokens(median: f64, rng: &mut fastrand::Rng) -> u64 {
    const SPREAD: f64 = 0.8;
    // Box and Muller: a standard normal deviate of two uniform ones.
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
        // A second's worth at once, then 20 a second.
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
