//! Which upstream owns each object, learned from responses. Bounded: the oldest entries are
//! evicted.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::{Mutex, PoisonError};

use foldhash::quality::RandomState;

use super::UpstreamId;
use super::object_ids::{ObjectIds, reference};

/// The capacity of one half, in ids. Both halves hold 262,144 ids, in at most 8 MiB.
const HALF: usize = 1 << 17;

/// The owners of objects, by the hash of the object's id.
///
/// There are two halves: when the newer one is full, the older is evicted. A lookup moves an id to
/// the newer one.
#[derive(Debug, Default)]
pub struct Owners {
    hasher: RandomState,
    halves: Mutex<Halves>,
}

#[derive(Debug, Default)]
struct Halves {
    newer: HashMap<u64, UpstreamId, RandomState>,
    older: HashMap<u64, UpstreamId, RandomState>,
}

impl Halves {
    /// Returns whether older ids were evicted.
    fn put(&mut self, id: u64, owner: UpstreamId) -> bool {
        let full = self.newer.len() >= HALF && !self.newer.contains_key(&id);
        let mut forgot = false;
        if full {
            forgot = !self.older.is_empty();
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(id, owner);
        forgot
    }
}

impl Owners {
    /// Learns the ids in a part of a response from `owner`. Returns whether older ids were evicted.
    pub fn learn(&self, answer: &[u8], owner: UpstreamId) -> bool {
        let mut forgot = false;
        let mut last = 0;
        for found in ObjectIds::of(answer) {
            let id = self.hasher.hash_one(found.id);
            // The events of a stream repeat the id of their item.
            if std::mem::replace(&mut last, id) != id {
                let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
                forgot |= halves.put(id, owner);
            }
        }
        forgot
    }

    /// The owner of the object that a request names in its path or its body: that of the first
    /// known id; `home` if only unknown objects are named; `None` if none is named.
    pub fn of(&self, path: &str, body: &[u8], home: UpstreamId) -> Option<UpstreamId> {
        let in_path = path.split(['/', '?', '&', '=']).filter_map(|segment| reference(segment.as_bytes()));
        let mut unknown = None;
        for found in in_path.chain(ObjectIds::of(body)) {
            let id = self.hasher.hash_one(found.id);
            let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(owner) = halves.newer.get(&id) {
                return Some(*owner);
            }
            if let Some(owner) = halves.older.remove(&id) {
                halves.put(id, owner);
                return Some(owner);
            }
            if found.is_object {
                unknown = Some(home);
            }
        }
        unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: UpstreamId = UpstreamId(0);

    #[test]
    fn an_object_belongs_to_whom_answered_with_it() {
        let owners = Owners::default();
        owners.learn(br#"{"id":"resp_aaaaaaaaaa","output":[{"id":"msg_bbbbbbbbbb"}]}"#, UpstreamId(2));
        owners.learn(b"data: {\"response\":{\"id\":\"resp_cccccccccc\"}}\n\n", UpstreamId(3));
        for (path, body, expected) in [
            ("/v1/responses", r#"{"previous_response_id":"resp_aaaaaaaaaa"}"#, Some(UpstreamId(2))),
            (
                "/v1/responses",
                r#"{"input":[{"type":"item_reference","id":"msg_bbbbbbbbbb"}]}"#,
                Some(UpstreamId(2)),
            ),
            ("/v1/responses/resp_cccccccccc/cancel", "", Some(UpstreamId(3))),
            ("/v1/responses/resp_dddddddddd", "", Some(HOME)),
            ("/v1/responses", r#"{"input":[{"id":"rs_eeeeeeeeee"}]}"#, None),
            ("/v1/responses", r#"{"input":"resp_aaaaaaaaaa is \"resp_aaaaaaaaaa\""}"#, None),
            ("/v1/chat/completions", r#"{"messages":[]}"#, None),
        ] {
            assert_eq!(owners.of(path, body.as_bytes(), HOME), expected, "{path} {body}");
        }
    }

    #[test]
    fn the_memory_is_bounded_and_keeps_what_is_asked_for() {
        let owners = Owners::default();
        let answer = |number: usize| format!(r#"{{"id":"resp_{number:010}"}}"#);
        let asks = |number: usize| {
            owners.of("/v1/responses", answer(number).as_bytes(), HOME).expect("an object is named")
        };
        let mut forgot = 0;
        for number in 0..3 * HALF {
            forgot += usize::from(owners.learn(answer(number).as_bytes(), UpstreamId(1)));
            if number % 1000 == 0 {
                assert_eq!(asks(7.min(number)), UpstreamId(1));
            }
        }
        assert!(forgot > 0, "it says that it forgot");
        assert_eq!((asks(7), asks(8)), (UpstreamId(1), HOME));
        let halves = owners.halves.lock().unwrap();
        assert!(halves.newer.len() + halves.older.len() <= 2 * HALF);
    }
}
