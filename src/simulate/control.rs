//! The control API under `/simulate/`: reads and changes a running simulator.

use std::time::Duration;

use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::json;

use super::Simulator;
use super::body::Body;
use super::fault::Fault;
use super::latency::Latency;
use super::notation::{Problem, duration, fraction};
use super::schedule::{ForeignUse, Outage};
use super::settings::{Limits, Settings, shape};

/// Changes of settings, the body of `/simulate/set`. Omitted settings stay unchanged. Values are
/// written as on the command line.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Change {
    /// All limits, such as `rpm=500,tpm=30k`. Removes the limits that are not named.
    pub limits: Option<String>,
    /// The shape of limits. Resets the used amounts.
    pub shape: Option<String>,
    /// Faults with their rates, such as `503=0.05`. An empty list removes all faults.
    pub faults: Option<Vec<String>>,
    /// Outages, such as `0s+5s:503`, relative to now.
    pub outages: Option<Vec<String>>,
    /// The fraction of the limits used by other consumers, such as `0.4`.
    pub foreign: Option<String>,
    /// Latency before admission.
    pub latency_before: Option<String>,
    /// Latency between admission and the response head.
    pub latency: Option<String>,
    /// Delay between the chunks of a stream.
    pub chunk_delay: Option<String>,
    /// Words in a response.
    pub output_tokens: Option<u32>,
    /// `as-measured`, `all` or `none`.
    pub headers: Option<String>,
}

impl Change {
    /// Returns the changed settings.
    pub(super) fn apply(&self, settings: &Settings, since_start: Duration) -> Result<Settings, Problem> {
        /// Parses a value if it is present. An error names the setting.
        fn set<F: ?Sized, T>(
            name: &str,
            to: &mut T,
            from: Option<&F>,
            read: impl Fn(&F) -> Result<T, Problem>,
        ) -> Result<(), Problem> {
            if let Some(from) = from {
                *to = read(from).map_err(|problem| problem.within(name))?;
            }
            Ok(())
        }
        let mut changed = settings.clone();
        set("limits", &mut changed.limits, self.limits.as_deref(), Limits::parse)?;
        set("shape", &mut changed.shape, self.shape.as_deref(), shape)?;
        set("faults", &mut changed.faults, self.faults.as_ref(), |texts| {
            texts.iter().map(|text| fault_rate(text)).collect()
        })?;
        set("outages", &mut changed.outages, self.outages.as_ref(), |texts| {
            let since = |outage: Outage| Outage { start: outage.start + since_start, ..outage };
            texts.iter().map(|text| Outage::parse(text).map(since)).collect()
        })?;
        set("foreign", &mut changed.foreign, self.foreign.as_deref(), ForeignUse::parse)?;
        set("latency_before", &mut changed.before, self.latency_before.as_deref(), Latency::parse)?;
        set("latency", &mut changed.after, self.latency.as_deref(), Latency::parse)?;
        set("chunk_delay", &mut changed.chunk_delay, self.chunk_delay.as_deref(), duration)?;
        set("headers", &mut changed.limit_headers, self.headers.as_deref(), |text| {
            let wrong = |_| Problem::new("write as-measured, all or none");
            clap::ValueEnum::from_str(text, false).map_err(wrong)
        })?;
        changed.output_tokens = self.output_tokens.unwrap_or(changed.output_tokens);
        changed.check()?;
        Ok(changed)
    }
}

/// Parses a fault with its rate, such as `503=0.05`.
pub(super) fn fault_rate(text: &str) -> Result<(Fault, f64), Problem> {
    let (name, rate) = text
        .split_once('=')
        .ok_or_else(|| Problem::new(format!("`{text}` has no rate: write 503=0.05 or reset=1%")))?;
    Ok((Fault::parse(name)?, fraction(rate)?))
}

/// The maximum size of a request body, in bytes.
const MAX_CHANGE: usize = 64 << 10;

impl Simulator {
    /// Handles a request to `/simulate/`.
    pub(super) async fn control(&self, parts: &Parts, body: Incoming) -> Response<Body> {
        let changes = parts.method == Method::POST;
        match parts.uri.path().trim_end_matches('/') {
            "/simulate/stats" => match serde_json::to_vec(&self.stats()) {
                Ok(stats) => answer(StatusCode::OK, stats),
                Err(error) => answer(StatusCode::INTERNAL_SERVER_ERROR, problem(&error.to_string())),
            },
            "/simulate/reset" if changes => {
                self.reset();
                answer(StatusCode::OK, "{}")
            }
            "/simulate/set" if changes => {
                let read = Limited::new(body, MAX_CHANGE).collect().await;
                let change = read.map_err(|error| error.to_string()).and_then(|body| {
                    serde_json::from_slice::<Change>(&body.to_bytes()).map_err(|error| error.to_string())
                });
                match change.and_then(|change| self.set(&change).map_err(|problem| problem.to_string())) {
                    Ok(()) => answer(StatusCode::OK, "{}"),
                    Err(words) => answer(StatusCode::BAD_REQUEST, problem(&words)),
                }
            }
            _ => answer(
                StatusCode::NOT_FOUND,
                problem("there is GET /simulate/stats, POST /simulate/reset and POST /simulate/set"),
            ),
        }
    }
}

fn problem(words: &str) -> String {
    json!({ "error": { "message": words, "type": "simulate_error", "param": null, "code": null } })
        .to_string()
}

fn answer(status: StatusCode, body: impl Into<bytes::Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::whole(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_leaves_the_rest_alone() {
        let change: Change = serde_json::from_value(json!({
            "limits": "rpm=60", "faults": ["503=5%"], "outages": ["1s+2s:refused"], "latency": "1s..2s",
        }))
        .unwrap();
        let changed = change.apply(&Settings::default(), Duration::from_secs(10)).unwrap();
        assert_eq!(changed.limits, Limits { rpm: Some(60), ..Limits::NONE });
        assert_eq!(changed.outages[0].start, Duration::from_secs(11));
        assert_eq!(changed.output_tokens, Settings::default().output_tokens);
        assert!(serde_json::from_value::<Change>(json!({ "limit": "rpm=60" })).is_err());
        let wrong = Change { faults: Some(vec!["503=0.6".into(), "500=0.6".into()]), ..Change::default() };
        assert!(wrong.apply(&Settings::default(), Duration::ZERO).is_err(), "more than all");
    }
}
