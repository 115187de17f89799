//! Stateful requests in a pool: finds the upstream that owns an object, and learns owners from
//! responses.

use std::sync::Arc;

use http::header::CONTENT_ENCODING;
use http::{HeaderMap, Method};

use super::call::Call;
use super::upstreams::{PoolMember, Upstreams};
use crate::metrics::{Bound, Metrics};
use crate::openai::Endpoint;
use crate::pool::UpstreamId;
use crate::stream::{self, Reader, Tap};

/// Most decoded bytes of a compressed body that are searched.
const MAX_DECODED: usize = 8 << 20;
/// Most bytes of a response that are kept to find an id across two chunks.
const MAX_CARRY: usize = 160;

/// The only upstream that can serve a request: the owner of an object in it. Requests that create
/// or list objects, and those with an unknown owner, go to the home upstream.
pub(super) fn owner(call: &Call, upstreams: &Upstreams) -> Option<UpstreamId> {
    let home = upstreams.home().id;
    let path = call.head.uri.with(|uri| uri.path().to_owned());
    let stateless = call.head.is_itself() && call.head.method == Method::POST;
    match call.head.endpoint {
        // Paths of these endpoints contain no object id; files are uploaded with the request.
        Endpoint::Embeddings
        | Endpoint::Moderations
        | Endpoint::Completions
        | Endpoint::Audio
        | Endpoint::Images
        | Endpoint::Realtime
        | Endpoint::Other => None,
        Endpoint::ChatCompletions | Endpoint::Responses if stateless => call.head.headers.with(|headers| {
            let body = call.body.bytes();
            if headers.contains_key(CONTENT_ENCODING) {
                let plain = stream::copy(headers, std::iter::once(body), MAX_DECODED);
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

/// Learns the object ids in a response while it is relayed.
pub(super) fn learn(
    reader: &mut Reader,
    headers: &HeaderMap,
    member: &PoolMember,
    upstreams: &Upstreams,
    metrics: &Arc<Metrics>,
) {
    let (owners, owner, metrics) = (Arc::clone(upstreams.owners()), member.id, Arc::clone(metrics));
    // The end of the last chunk: an id may be split between two.
    let mut carried: Vec<u8> = Vec::new();
    reader.tap(
        headers,
        Tap(Box::new(move |part: &[u8]| {
            let mut forgot = false;
            if !carried.is_empty() {
                carried.extend_from_slice(&part[..part.len().min(MAX_CARRY)]);
                forgot |= owners.learn(&carried, owner);
            }
            forgot |= owners.learn(part, owner);
            carried.clear();
            carried.extend_from_slice(&part[part.len().saturating_sub(MAX_CARRY)..]);
            if forgot {
                metrics.limits_reached.inc(Bound::ObjectOwners);
            }
        })),
    );
}
