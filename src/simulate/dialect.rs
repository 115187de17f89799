//! The headers and errors with which other providers and model servers report limits, one table
//! each in `dialects.toml`, taken from recorded responses.

use std::sync::LazyLock;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::Deserialize;

use super::answer::Reply;
use super::limiter::{JointRefusal, Level, Unit};
use crate::account::Rfc3339;
use crate::clock;
use crate::openai::duration;

/// The provider whose limit headers and errors are simulated. Successful responses are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Dialect {
    /// OpenAI's API: paths begin with /v1, and keys are bearer tokens.
    Openai,
    /// Azure OpenAI: headers with the remaining amounts but no limits, and one with the region.
    Azure,
    /// OpenRouter.
    Openrouter,
    /// Gemini's OpenAI-compatible API.
    Gemini,
    /// Anthropic's OpenAI-compatible API.
    Anthropic,
    /// Groq.
    Groq,
    /// Mistral.
    Mistral,
    /// vLLM: like the servers below, it has slots and a queue but no limits per minute.
    Vllm,
    /// `SGLang`.
    Sglang,
    /// Text Generation Inference.
    Tgi,
    /// Ollama.
    Ollama,
}

/// The limits that the headers of one response report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Levels {
    /// The daily limit of requests if there is one, as recorded; else the limit per minute.
    pub(super) requests: Option<Level>,
    /// The limit of tokens per minute if there is one; else the daily limit.
    pub(super) tokens: Option<Level>,
}

/// The headers and error bodies of a dialect, a table of `dialects.toml`.
#[derive(Debug, Deserialize)]
struct Format {
    /// The name on the command line.
    #[cfg(test)]
    name: String,
    /// The names of the headers for limit, remaining and reset, of requests and then of tokens. ""
    /// for a header that is not sent.
    #[serde(default)]
    headers: [[String; 3]; 2],
    /// Whether reset headers have an RFC 3339 time instead of a duration such as `6m0s`.
    #[serde(default)]
    dates: bool,
    /// Headers of every response.
    #[serde(default)]
    fixed: Vec<(String, String)>,
    /// The error bodies for limits of requests and of tokens. Default: those of OpenAI.
    refused: Option<[String; 2]>,
    /// The error bodies for a request larger than the limit, if they differ.
    too_large: Option<[String; 2]>,
    /// The status and body of the error when all slots and the queue are full.
    full: (u16, String),
}

#[derive(Debug, Deserialize)]
struct File {
    dialects: Vec<Format>,
}

/// The tables of all dialects, in the order of [`Dialect`].
static FORMATS: LazyLock<File> = LazyLock::new(|| {
    toml::from_str(include_str!("dialects.toml")).expect("the table is valid, as a test shows")
});

impl Dialect {
    fn format(self) -> &'static Format {
        &FORMATS.dialects[self as usize]
    }

    /// Whether this is a model server, without limits per minute.
    pub(super) fn is_server(self) -> bool {
        matches!(self, Self::Vllm | Self::Sglang | Self::Tgi | Self::Ollama)
    }

    /// Whether the dialect has this path.
    pub(super) fn has_path(self, path: &str) -> bool {
        self != Self::Openai || path.starts_with("/v1/")
    }

    /// Writes the limit headers and the headers of every response.
    pub(super) fn write(self, levels: Option<Levels>, headers: &mut HeaderMap) {
        let format = self.format();
        for (name, value) in &format.fixed {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let Some(levels) = levels else { return };
        for (names, level) in format.headers.iter().zip([levels.requests, levels.tokens]) {
            let Some(level) = level else { continue };
            let reset = if format.dates {
                Rfc3339(clock::wall() + level.reset).to_string()
            } else {
                duration::format(level.reset)
            };
            let values = [level.limit.to_string(), level.remaining.to_string(), reset];
            for (name, value) in names.iter().zip(values).filter(|(name, _)| !name.is_empty()) {
                if let Ok(value) = HeaderValue::try_from(value) {
                    headers.insert(HeaderName::from_static(name), value);
                }
            }
        }
    }

    /// The body of a rate limit error.
    pub(super) fn refusal(self, refused: &JointRefusal, model: &str, organization: &str) -> Bytes {
        let JointRefusal { dimension, refusal } = refused;
        let (place, unit) = match dimension.unit() {
            Unit::Requests => (0, "requests"),
            Unit::Tokens => (1, "input tokens"),
        };
        let epoch = clock::wall().duration_since(UNIX_EPOCH).unwrap_or_default() + refusal.wait;
        let seconds = refusal.wait.max(Duration::from_secs(1)).as_millis().div_ceil(1000);
        let values = [
            ("{limit}", refusal.limit.to_string()),
            ("{used}", refusal.used.to_string()),
            ("{requested}", refusal.requested.to_string()),
            ("{wait}", duration::format(refusal.wait)),
            ("{seconds}", seconds.to_string()),
            ("{epoch}", epoch.as_millis().to_string()),
            ("{unit}", unit.to_owned()),
            ("{phrase}", dimension.phrase().to_owned()),
            ("{model}", quoted(model)),
            ("{organization}", quoted(organization)),
        ];
        let format = self.format();
        let refused = format.too_large.as_ref().filter(|_| refusal.too_large).or(format.refused.as_ref());
        let refused = refused.or(Self::Openai.format().refused.as_ref());
        let template = refused.map_or_else(String::new, |refused| refused[place].clone());
        let body = values.iter().fold(template, |body, (name, value)| body.replace(name, value));
        Bytes::from(body)
    }

    /// The error response when all slots and the queue are full.
    pub(super) fn full(self) -> Reply {
        let (status, body) = &self.format().full;
        let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
        Reply::new(status, HeaderValue::from_static("application/json"), Bytes::from_static(body.as_bytes()))
    }
}

/// Escapes text for a JSON string, without the quotation marks.
fn quoted(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::super::limiter::{Dimension, Refusal};
    use super::*;

    #[test]
    fn each_dialect_has_its_words() {
        let names: Vec<&str> = FORMATS.dialects.iter().map(|format| &*format.name).collect();
        let dialects: Vec<_> =
            Dialect::value_variants().iter().filter_map(Dialect::to_possible_value).collect();
        assert_eq!(names, dialects.iter().map(clap::builder::PossibleValue::get_name).collect::<Vec<_>>());
        assert!(Dialect::Openai.format().refused.is_some());
    }

    #[test]
    fn a_refusal_speaks_the_recorded_grammar() {
        let refusal = Refusal {
            limit: 10_000,
            used: 8_554,
            requested: 3_082,
            wait: Duration::from_millis(9_816),
            too_large: false,
        };
        let refused = JointRefusal { dimension: Dimension::TokensPerMinute, refusal };
        let body = Dialect::Openai.refusal(&refused, "gpt-4", "org-exampleorgid000000000001");
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            body["error"]["message"],
            "Rate limit reached for gpt-4 in organization org-exampleorgid000000000001 on tokens per min (TPM): \
             Limit 10000, Used 8554, Requested 3082. Please try again in 9.816s. Visit \
             https://platform.openai.com/account/rate-limits to learn more."
        );
        assert_eq!(
            (&body["error"]["type"], &body["error"]["code"]),
            (&"tokens".into(), &"rate_limit_exceeded".into())
        );
        let too_large = JointRefusal {
            dimension: Dimension::TokensPerMinute,
            refusal: Refusal { limit: 30_000, requested: 31_538, too_large: true, ..refusal },
        };
        let body = Dialect::Openai.refusal(&too_large, "gpt-4o", "org-exampleorgid000000000001");
        assert!(String::from_utf8_lossy(&body).contains(
            "Request too large for gpt-4o in organization org-exampleorgid000000000001 on tokens per min (TPM): Limit \
             30000, Requested 31538. The input or output tokens must be reduced in order to run successfully."
        ));
    }
}
