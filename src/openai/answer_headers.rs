//! Parses a response's headers in one pass: the request's id and processing time, its limits and
//! their scope.

use std::hash::BuildHasher;
use std::time::{Duration, SystemTime};

use foldhash::fast::FixedState;
use http::{HeaderMap, HeaderValue};

use super::decimal;
use super::limit_headers::{Parsed, Values};

/// The headers that identify the owner of the limits: Azure's region, deployment and rate limit
/// key, and similar ones of GitHub and `LiteLLM`, which passes on the headers of the chosen
/// deployment.
const OWNERS: [&str; 5] =
    ["x-ms-region", "x-ms-deployment-name", "x-ratelimit-key", "x-ratelimit-resource", "x-litellm-model-id"];
/// The upstream chooses the owners' names, and they are compared only within one scope, so no seed
/// is needed.
const OWNER_HASH: FixedState = FixedState::with_seed(0);

/// The information in a response's headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnswerHeaders<'a> {
    /// The limits, in any vendor's notation.
    pub limits: Parsed,
    /// `openai-processing-ms`: the upstream's processing time.
    pub processing: Option<Duration>,
    /// `openai-organization`: the organization that the limits belong to.
    pub organization: Option<&'a str>,
    /// `openai-project`: the project that the limits belong to.
    pub project: Option<&'a str>,
    /// A more specific owner of the limits: a hash of the headers that name a region, a deployment
    /// or a key.
    pub owner: Option<u64>,
    /// `x-request-id`: the id that the upstream's support needs.
    pub request_id: Option<&'a HeaderValue>,
}

impl<'a> AnswerHeaders<'a> {
    /// Parses the headers. Of repeated headers the first is used; invalid values are ignored.
    /// `wall` is called only if a limit contains a date.
    pub fn of(headers: &'a HeaderMap, wall: fn() -> SystemTime) -> Self {
        let mut found = Found::default();
        let mut owner: Option<u64> = None;
        for (name, value) in headers {
            let name = name.as_str();
            // Half of a response's headers are skipped here.
            if !matches!(name.as_bytes().first(), Some(b'x' | b'o' | b'r' | b'a')) {
                continue;
            }
            if found.limits.place(name, value) {
                continue;
            }
            if let Some(place) = found.place(name) {
                place.get_or_insert(value);
            } else if OWNERS.contains(&name) {
                // The sum does not depend on the order.
                let hash = OWNER_HASH.hash_one((name, value.as_bytes()));
                owner = Some(owner.unwrap_or_default().wrapping_add(hash));
            }
        }
        Self {
            limits: found.limits.read(&wall),
            processing: found.processing.and_then(milliseconds),
            organization: found.organization.and_then(|value| value.to_str().ok()),
            project: found.project.and_then(|value| value.to_str().ok()),
            owner,
            request_id: found.request_id,
        }
    }
}

/// The unparsed header values.
#[derive(Default)]
struct Found<'a> {
    limits: Values<'a>,
    processing: Option<&'a HeaderValue>,
    organization: Option<&'a HeaderValue>,
    project: Option<&'a HeaderValue>,
    request_id: Option<&'a HeaderValue>,
}

impl<'a> Found<'a> {
    /// The field for a header with this name that is not about a limit.
    fn place(&mut self, name: &str) -> Option<&mut Option<&'a HeaderValue>> {
        Some(match name {
            "x-request-id" => &mut self.request_id,
            "openai-processing-ms" => &mut self.processing,
            "openai-organization" => &mut self.organization,
            "openai-project" => &mut self.project,
            _ => return None,
        })
    }
}

fn milliseconds(value: &HeaderValue) -> Option<Duration> {
    decimal::whole(value.as_bytes()).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;
    use crate::openai::limit_headers;

    const WALL: fn() -> SystemTime = || SystemTime::UNIX_EPOCH;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn reads_all_of_them() {
        let headers = headers(&[
            ("content-type", "application/json"),
            ("openai-version", "2020-10-01"),
            ("x-request-id", "req_1"),
            ("openai-processing-ms", "412"),
            ("openai-organization", "acme"),
            ("openai-project", "proj_1"),
            ("x-ratelimit-limit-requests", "500"),
            ("x-ratelimit-remaining-requests", "499"),
            ("x-ratelimit-reset-requests", "120ms"),
        ]);
        let found = AnswerHeaders::of(&headers, WALL);
        assert_eq!(found.request_id, headers.get("x-request-id"));
        assert_eq!(found.processing, Some(Duration::from_millis(412)));
        assert_eq!((found.organization, found.project), (Some("acme"), Some("proj_1")));
        assert_eq!(found.limits.headers[0].remaining, Some(499));
        assert_eq!(found.limits, limit_headers::parse(&headers, WALL));
    }

    #[test]
    fn an_owner_is_what_all_headers_that_name_one_say() {
        let owner = |pairs: &[(&'static str, &'static str)]| AnswerHeaders::of(&headers(pairs), WALL).owner;
        let (east, key) = (("x-ms-region", "East US 2"), ("x-ratelimit-key", "gpt-5.2_2025-12-11"));
        let both = owner(&[east, key]);
        assert!(both.is_some() && both == owner(&[key, ("content-type", "text/plain"), east]));
        let others: [&[(&'static str, &'static str)]; 4] =
            [&[east], &[key], &[("x-ms-region", "West US"), key], &[("x-ms-client", "a")]];
        for other in others {
            assert_ne!(owner(other), both, "{other:?}");
        }
        assert_eq!(owner(&[("x-ratelimit-limit-requests", "5"), ("x-request-id", "a")]), None);
    }

    #[test]
    fn nonsense_is_nothing_and_of_two_the_first_counts() {
        let mut headers = headers(&[("openai-processing-ms", "-3"), ("openai-organization", "first")]);
        headers.append("openai-organization", HeaderValue::from_static("second"));
        headers.insert("openai-project", HeaderValue::from_bytes(b"\xff").unwrap());
        let found = AnswerHeaders::of(&headers, WALL);
        assert_eq!(found, AnswerHeaders { organization: Some("first"), ..AnswerHeaders::default() });
        assert_eq!(AnswerHeaders::of(&HeaderMap::new(), WALL), AnswerHeaders::default());
    }
}
