//! The destination of one attempt, and the changes that it requires in the request.

use std::sync::Arc;

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, HOST};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Request, Uri};
use serde::de::IgnoredAny;

use super::call::plain;
use super::upstreams::{PoolMember, Upstreams};
use super::{Policies, Policy};
use crate::admission::Permit;
use crate::openai::endpoint::deployment;
use crate::openai::model_name;
use crate::pool::UpstreamId;
use crate::replay;

/// The upstream of one attempt.
pub(super) struct Destination {
    pub(super) member: Arc<PoolMember>,
    /// Whether requests carry its own credential in place of the caller's.
    pub(super) swaps: bool,
    /// Whether it may differ from the upstream that the request was prepared for.
    pub(super) is_another: bool,
}

impl Destination {
    /// The upstream of a permit. After a wait or an attempt it may be one that the request's policy
    /// does not contain.
    pub(super) fn of(permit: &Permit, policy: &Policy, policies: &Policies, first: bool) -> Self {
        if first && permit.queued().is_zero() {
            return Self::at(permit.upstream(), &policy.upstreams, false);
        }
        Self::at(permit.upstream(), &policies.current().upstreams, true)
    }

    /// The home upstream, for a request without a permit.
    pub(super) fn home(policy: &Policy) -> Self {
        Self::at(policy.upstreams.home().id, &policy.upstreams, false)
    }

    fn at(id: UpstreamId, upstreams: &Upstreams, later: bool) -> Self {
        let member = Arc::clone(upstreams.member(id).unwrap_or(upstreams.home()));
        Self { member, swaps: upstreams.swaps(), is_another: later || upstreams.is_pool() }
    }

    /// Sets the upstream's host and its name for the model.
    pub(super) fn fit(&self, request: &mut Request<replay::Body>, model: Option<&str>) {
        request.headers_mut().insert(HOST, self.member.target().host_header().clone());
        let path = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
        let deployed = deployment(request.uri().path());
        let deployed = deployed.and_then(|model| Some((model, self.member.name_of(model)?)));
        let renamed = deployed.and_then(|(model, name)| model_name::rename_deployment(path, model, name));
        if let Some(uri) = renamed.and_then(|path| path.parse::<Uri>().ok()) {
            *request.uri_mut() = uri;
        }
        let Some((model, name)) = model.and_then(|model| Some((model, self.member.name_of(model)?))) else {
            return;
        };
        let headers = std::mem::take(request.headers_mut());
        let is_whole = request.body().progress().is_none();
        // A compressed body is sent decoded: the upstream reads the same content.
        let plainly = headers.contains_key(CONTENT_ENCODING).then(|| {
            let mut plainly = headers.clone();
            plainly.remove(CONTENT_ENCODING);
            plainly
        });
        let more = request.body_mut().edit(|body| match &plainly {
            None => model_name::rename(&headers, body, model, name),
            Some(_) if !is_whole => None,
            Some(plainly) => {
                let decoded = plain(&headers, body);
                // A truncated body, or one beyond the decoding limit, is not valid JSON.
                serde_json::from_slice::<IgnoredAny>(&decoded).ok()?;
                model_name::rename(plainly, &decoded, model, name)
            }
        });
        *request.headers_mut() = plainly.filter(|_| more.is_some()).unwrap_or(headers);
        if let Some(more) = more {
            lengthen(request.headers_mut(), more);
        }
    }
}

/// Adds `more` bytes to the `Content-Length` of a changed body.
fn lengthen(headers: &mut HeaderMap, more: isize) {
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<isize>().ok());
    if let Some(length) = length {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length.saturating_add(more)));
    }
}
