//! The options of `weir simulate`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::control::fault_rate;
use super::dialect::Dialect;
use super::fault::Fault;
use super::latency::Latency;
use super::limiter::Shape;
use super::notation::{Problem, count, duration};
use super::schedule::{ForeignUse, LimitChange, Outage};
use super::settings::{Account, Charge, LimitHeaders, Limits, Settings, shape};

const EXAMPLES: &str = "\
Examples:
  Would 20 services fit into 500 requests a minute? Point them at it, then ask how many were refused:
    weir simulate --rpm 500 --tpm 200k --latency 300ms~2s
    OPENAI_BASE_URL=http://127.0.0.1:9000/v1 OPENAI_API_KEY=sk-any your-service
    curl -s http://127.0.0.1:9000/simulate/stats

  A bad day: one answer in twenty is a 503, one in a hundred a reset, and after 10 s nothing listens for 5 s:
    weir simulate --fault 503=5% --fault reset=1% --outage 10s+5s:refused

  A model server with 8 slots and a queue of 100, in vLLM's words; `limits.in_flight = \"auto\"` finds the slots:
    weir simulate --dialect vllm --slots 8 --queue 100 --latency 200ms --chunk-delay 50ms --output-tokens 60

  A limit enforced by the second whose headers speak of a minute, and others who take 0 to 80 % of it:
    weir simulate --shape lying-bucket:1s --foreign 0,0.8,0.4/30s

  One request that fails twice, then succeeds (attempts are told apart by x-job-id):
    curl -H 'x-simulate: status=503; times=2' -H 'x-job-id: a' -H 'authorization: Bearer sk-any' \\
      -d '{\"model\":\"gpt-4o-mini\",\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]}' \\
      http://127.0.0.1:9000/v1/chat/completions

  While it runs:
    curl -X POST http://127.0.0.1:9000/simulate/set -d '{\"limits\":\"rpm=60\",\"outages\":[\"0s+5s:503\"]}'
    curl -X POST http://127.0.0.1:9000/simulate/reset

Faults, for --fault, --outage and the x-simulate header (fault=…, status=…, error=…):
  a status (401, 429, 500, 503, …), an error of the API (invalid_api_key, insufficient_quota, rate_limit_tokens,
  slow_down, server_is_overloaded, …), or reset-before-head, reset-mid-body, stall-head, stall-body, truncate, garbage,
  slow-body, hidden-error-stream (hidden:NAME), close-without-done, lie-content-length.
More in x-simulate: times=N, rate=0..1, before=TIME, after=TIME, chunks=N, chunk-delay=TIME, encoding=gzip|deflate|identity,
  retry-after=S, retry-after-ms=MS, should-retry=true|false, headers=none, echo.
Keys that are refused begin with sk-invalid, sk-revoked, sk-no-organization, sk-other-organization, sk-ip-denied,
  sk-missing-scope, sk-region or sk-quota; any other key is let in.";

/// A stand-in for the OpenAI API: its limits, its errors and its bad days, on this machine.
#[derive(Clone, Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Where to listen.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9000")]
    pub listen: SocketAddr,
    /// Whose words, headers, paths and keys it has: "openai" knows no path without /v1, and no key
    /// but a bearer's
    #[arg(long, value_enum, value_name = "NAME", default_value = "openai")]
    pub dialect: Dialect,
    /// Requests per minute, for each model; `none` lifts the limit.
    #[arg(long, value_name = "N", default_value = "500", value_parser = limit, help_heading = "Limits")]
    pub rpm: Limit,
    /// Tokens per minute, for each model.
    #[arg(long, value_name = "N", default_value = "200k", value_parser = limit, help_heading = "Limits")]
    pub tpm: Limit,
    /// Requests per day.
    #[arg(long, value_name = "N", default_value = "none", value_parser = limit, help_heading = "Limits")]
    pub rpd: Limit,
    /// Tokens per day.
    #[arg(long, value_name = "N", default_value = "none", value_parser = limit, help_heading = "Limits")]
    pub tpd: Limit,
    /// Limits of one model, such as gpt-4o:rpm=100,tpm=30k. Repeatable.
    #[arg(long = "model", value_name = "NAME:LIMITS", value_parser = model_limits, help_heading = "Limits")]
    pub models: Vec<(String, Limits)>,
    /// All models share one set of limits.
    #[arg(long, help_heading = "Limits")]
    pub share_models: bool,
    /// How limits are enforced: bucket (as the API does), bucket:1s (that deep), lying-bucket:1s,
    /// fixed-window, sliding-log.
    #[arg(long, value_name = "SHAPE", default_value = "bucket", value_parser = shape, help_heading = "Limits")]
    pub shape: Shape,
    /// What a request is charged.
    #[arg(long, value_enum, default_value = "input", help_heading = "Limits")]
    pub charge: Charge,
    /// Refused requests also count against the limits.
    #[arg(long, help_heading = "Limits")]
    pub count_refused: bool,
    /// Requests that meet an error by --fault or x-simulate are not charged.
    #[arg(long, help_heading = "Limits")]
    pub free_failures: bool,
    /// Which answers bear x-ratelimit headers.
    #[arg(long, value_enum, default_value = "as-measured", help_heading = "Limits")]
    pub headers: LimitHeaders,
    /// No Retry-After on refusals and overload.
    #[arg(long, help_heading = "Limits")]
    pub no_retry_after: bool,
    /// A change of a limit at a time, such as 30s:rpm=60. Repeatable.
    #[arg(long = "limit-change", value_name = "TIME:LIMIT", value_parser = LimitChange::parse, help_heading = "Limits")]
    pub limit_changes: Vec<LimitChange>,
    /// The share of the limits that others take: 0.4, or 0,0.8,0.3/30s for one after the other.
    #[arg(long, value_name = "SHARES", default_value = "0", value_parser = ForeignUse::parse, help_heading = "Limits")]
    pub foreign: ForeignUse,
    /// A key and its organization and project; keys with the same ones share limits. Repeatable.
    #[arg(long = "key", value_name = "KEY=ORG/PROJECT", value_parser = key, help_heading = "Keys")]
    pub keys: Vec<(String, Account)>,
    /// Every other key is an organization of its own; without this they are all one.
    #[arg(long, help_heading = "Keys")]
    pub separate_keys: bool,
    /// Requests without a key are let in.
    #[arg(long, help_heading = "Keys")]
    pub no_auth: bool,
    /// Time between admission and the head of the answer: 50ms, 50ms..2s (uniform) or 300ms~2s
    /// (median ~ 99th percentile).
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = Latency::parse, help_heading = "Answers")]
    pub latency: Latency,
    /// Time before admission: the way there.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = Latency::parse, help_heading = "Answers")]
    pub latency_before: Latency,
    /// Time between the chunks of a stream.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration, help_heading = "Answers")]
    pub chunk_delay: Duration,
    /// Words in an answer, which are the chunks of a stream.
    #[arg(long, value_name = "N", default_value_t = 16, help_heading = "Answers")]
    pub output_tokens: u32,
    /// Answers under way at once, as of a model server; what is beyond waits in a queue.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Answers")]
    pub slots: Option<u32>,
    /// Requests that wait for a slot; what is beyond is refused. Without, all wait.
    #[arg(long, value_name = "N", requires = "slots", help_heading = "Answers")]
    pub queue: Option<u32>,
    /// Never encode answers with gzip or deflate.
    #[arg(long, help_heading = "Answers")]
    pub no_compress: bool,
    /// Largest request body in bytes.
    #[arg(long, value_name = "BYTES", default_value = "67108864", value_parser = count, help_heading = "Answers")]
    pub max_body: u64,
    /// A fault and how likely it is, such as 503=0.05 or reset=1%. Repeatable.
    #[arg(long = "fault", value_name = "FAULT=RATE", value_parser = fault_rate, help_heading = "Bad days")]
    pub faults: Vec<(Fault, f64)>,
    /// An outage: start + length : fault or `refused`, such as 10s+5s:503. Repeatable.
    #[arg(long = "outage", value_name = "START+LENGTH:FAULT", value_parser = Outage::parse, help_heading = "Bad days")]
    pub outages: Vec<Outage>,
    /// Seed of all that is random.
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Bad days")]
    pub seed: u64,
    /// Speak TLS with this certificate chain (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_key", help_heading = "TLS")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's key (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_cert", help_heading = "TLS")]
    pub tls_key: Option<PathBuf>,
}

/// A limit, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit(pub Option<u64>);

impl Args {
    /// The settings that the options describe.
    ///
    /// # Errors
    /// What one option alone cannot tell: files that cannot be read, odds above 1.
    pub fn settings(&self) -> Result<Settings, Problem> {
        let settings = Settings {
            limits: if self.dialect.is_server() {
                Limits::NONE
            } else {
                Limits { rpm: self.rpm.0, tpm: self.tpm.0, rpd: self.rpd.0, tpd: self.tpd.0 }
            },
            models: self.models.clone(),
            share_models: self.share_models,
            shape: self.shape,
            charge: self.charge,
            count_refused: self.count_refused,
            count_failed: !self.free_failures,
            limit_headers: self.headers,
            retry_after: !self.no_retry_after,
            keys: self.keys.clone(),
            separate_keys: self.separate_keys,
            require_key: !self.no_auth,
            before: self.latency_before,
            after: self.latency,
            chunk_delay: self.chunk_delay,
            output_tokens: self.output_tokens,
            compress: !self.no_compress,
            faults: self.faults.clone(),
            outages: self.outages.clone(),
            limit_changes: self.limit_changes.clone(),
            foreign: self.foreign.clone(),
            seed: self.seed,
            max_body: usize::try_from(self.max_body).unwrap_or(usize::MAX),
            dialect: Some(self.dialect),
            slots: self.slots.map(|slots| slots as usize),
            queue: self.queue.map(|queue| queue as usize),
            tls: match (&self.tls_cert, &self.tls_key) {
                (Some(certificate), Some(key)) => Some(tls(certificate, key)?),
                _ => None,
            },
        };
        settings.check()?;
        Ok(settings)
    }
}

fn tls(certificate: &PathBuf, key: &PathBuf) -> Result<Arc<rustls::ServerConfig>, Problem> {
    let problem = |option: &str, words: &dyn std::fmt::Display| Problem::new(format!("{option}: {words}"));
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|error| problem("--tls-cert", &error))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| problem("--tls-key", &error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| problem("--tls-cert", &error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn limit(text: &str) -> Result<Limit, Problem> {
    if text == "none" { Ok(Limit(None)) } else { count(text).map(|limit| Limit(Some(limit))) }
}

fn model_limits(text: &str) -> Result<(String, Limits), Problem> {
    let (model, limits) = text
        .rsplit_once(':')
        .ok_or_else(|| Problem::new(format!("`{text}` has no limits: write gpt-4o:rpm=100,tpm=30k")))?;
    Ok((model.to_owned(), Limits::parse(limits)?))
}

fn key(text: &str) -> Result<(String, Account), Problem> {
    let (key, account) = text
        .split_once('=')
        .ok_or_else(|| Problem::new("a key has an organization: write sk-a=org-one/proj_one"))?;
    let (organization, project) = account.split_once('/').unwrap_or((account, "proj_simulated"));
    Ok((key.to_owned(), Account::new(organization, project)))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::limiter::Depth;
    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    fn settings(words: &str) -> Result<Settings, String> {
        let words = std::iter::once("simulate").chain(words.split_whitespace());
        let command = Command::try_parse_from(words).map_err(|error| error.to_string())?;
        command.args.settings().map_err(|problem| problem.to_string())
    }

    #[test]
    fn no_options_are_the_default_settings() {
        let (parsed, default) = (settings("").unwrap(), Settings::default());
        assert_eq!((parsed.limits, parsed.shape), (default.limits, default.shape));
        assert_eq!(parsed.max_body, default.max_body);
        assert_eq!(parsed.output_tokens, default.output_tokens);
        assert_eq!((parsed.count_failed, parsed.compress, parsed.require_key), (true, true, true));
    }

    #[test]
    fn every_option_of_the_examples_is_read() {
        let parsed = settings(
            "--rpm none --tpm 30k --model gpt-4o:rpm=3 --shape lying-bucket:1s --fault 503=5% --fault reset=1% \
             --outage 10s+5s:refused --foreign 0,0.8/30s --latency 300ms~2s --latency-before 50ms..2s \
             --limit-change 30s:rpm=60 --key sk-a=org-one/proj_one",
        )
        .unwrap();
        assert_eq!((parsed.limits.rpm, parsed.limits.tpm), (None, Some(30_000)));
        assert_eq!(parsed.shape, Shape::LyingBucket(Depth::Of(Duration::from_secs(1))));
        assert_eq!((parsed.faults.len(), parsed.outages.len(), parsed.keys.len()), (2, 1, 1));
    }

    #[test]
    fn what_is_wrong_is_said_with_the_option() {
        for (words, option, hint) in [
            ("--fault 503", "--fault", "503=0.05"),
            ("--fault nothing=1", "--fault", "reset-mid-body"),
            ("--outage 10s:503", "--outage", "10s+5s:503"),
            ("--rpm lots", "--rpm", "30k"),
            ("--latency soon", "--latency", "50ms"),
            ("--shape pail", "--shape", "fixed-window"),
            ("--fault 503=0.6 --fault 500=0.6", "fault", "1"),
            ("--tls-cert /nonexistent --tls-key /nonexistent", "--tls-cert", ""),
        ] {
            let problem = settings(words).unwrap_err();
            assert!(problem.contains(option) && problem.contains(hint), "{words}: {problem}");
        }
    }
}
