//! Stateful requests in a pool: which upstream owns the object that a request names, and what
//! answers tell of that.

use std::sync::Arc;

use http::header::CONTENT_ENCODING;
use http::{HeaderMap, Method};

use super::call::Call;
use super::upstreams::{Upstreams, Way};
use crate::metrics::{Bound, Metrics};
use crate::openai::Endpoint;
use crate::pool::UpstreamId;
use crate::stream::{self, Reader, Tap};

/// Bytes of a compressed body that are looked at.
const MOST_DECODED: usize = 8 << 20;
/// Bytes of an answer that an id may be cut over.
const CARRIED: usize = 160;

/// The only upstream that can serve a request: the owner of an object that it names. What makes or
/// lists objects, and what nobody knows the owner of, goes to the home.
pub(super) fn owner(call: &Call, upstreams: &Upstreams) -> Option<UpstreamId> {
    let home = upstreams.home().id;
    let path = call.head.uri.look(|uri| uri.path().to_owned());
    let stateless = call.head.is_itself() && call.head.method == Method::POST;
    match call.head.endpoint {
        // Nothing in their paths is an object; files that they take come with them.
        Endpoint::Embeddings
        | Endpoint::Moderations
        | Endpoint::Completions
        | Endpoint::Audio
        | Endpoint::Images
        | Endpoint::Realtime
        | Endpoint::Other => None,
        Endpoint::ChatCompletions | Endpoint::Responses if stateless => call.head.headers.look(|headers| {
            let body = call.body.bytes();
            if headers.contains_key(CONTENT_ENCODING) {
                let plain = stream::copy(headers, std::iter::once(body), MOST_DECODED);
                return upstreams.owners().of(&path, &plain, home);
            }
            upstreams.owners().of(&path, body, home)
        }),
        Endpoint::ChatCompletions
        | Endpoint::Responses
        | Endpoint::Videos
        | Endpoint::Files
        | Endpoint::Uploads
        | Endpoint::Batches
        | Endpoint::FineTuning
        | Endpoint::VectorStores
        | Endpoint::Assistants
        | Endpoint::Threads
        | Endpoint::Conversations
        | Endpoint::Containers
        | Endpoint::Evals
        | Endpoint::Models
        | Endpoint::Organization => upstreams.owners().of(&path, call.body.bytes(), home).or(Some(home)),
    }
}

/// Learns the ids in an answer while it passes.
pub(super) fn learn(
    reader: &mut Reader,
    headers: &HeaderMap,
    way: &Way,
    upstreams: &Upstreams,
    metrics: &Arc<Metrics>,
) {
    let (owners, owner, metrics) = (Arc::clone(upstreams.owners()), way.id, Arc::clone(metrics));
    // The end of what was looked at: an id may be cut between two parts.
    let mut carried: Vec<u8> = Vec::new();
    reader.tap(
        headers,
        Tap(Box::new(move |part: &[u8]| {
            let mut forgot = false;
            if !carried.is_empty() {
                carried.extend_from_slice(&part[..part.len().min(CARRIED)]);
                forgot |= owners.learn(&carried, owner);
            }
            forgot |= owners.learn(part, owner);
            carried.clear();
            carried.extend_from_slice(&part[part.len().saturating_sub(CARRIED)..]);
            if forgot {
                metrics.limits_reached.inc(Bound::ObjectOwners);
            }
        })),
    );
}
