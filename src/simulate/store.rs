//! The in-memory store of files, responses and batches, of bounded size.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use serde_json::Value;

use super::route::Kind;

/// A stored object.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    /// The JSON representation.
    pub(super) object: Value,
    /// The content of a file.
    pub(super) data: Bytes,
}

/// All stored objects.
#[derive(Debug)]
pub(super) struct Store {
    files: BoundedMap<Stored>,
    responses: BoundedMap<Stored>,
    batches: BoundedMap<Stored>,
}

impl Store {
    pub(super) fn new() -> Self {
        Self {
            files: BoundedMap::new(1_000, 256 << 20),
            responses: BoundedMap::new(1_000, 64 << 20),
            batches: BoundedMap::new(1_000, 16 << 20),
        }
    }

    pub(super) fn of(&mut self, kind: Kind) -> &mut BoundedMap<Stored> {
        match kind {
            Kind::Response => &mut self.responses,
            Kind::File => &mut self.files,
            Kind::Batch => &mut self.batches,
        }
    }
}

/// A map by id with bounded count and bytes. An insertion evicts the oldest values.
#[derive(Debug)]
pub(super) struct BoundedMap<V> {
    places: HashMap<String, u64>,
    values: BTreeMap<u64, (String, usize, V)>,
    next: u64,
    bytes: usize,
    max_count: usize,
    max_bytes: usize,
}

impl<V> BoundedMap<V> {
    fn new(max_count: usize, max_bytes: usize) -> Self {
        Self { places: HashMap::new(), values: BTreeMap::new(), next: 0, bytes: 0, max_count, max_bytes }
    }

    /// Inserts a value of `bytes` bytes. Discards a value larger than the bound.
    pub(super) fn put(&mut self, id: String, bytes: usize, value: V) {
        self.remove(&id);
        if bytes > self.max_bytes {
            return;
        }
        while self.values.len() >= self.max_count || self.bytes + bytes > self.max_bytes {
            let Some((_, (oldest, size, _))) = self.values.pop_first() else { break };
            self.places.remove(&oldest);
            self.bytes -= size;
        }
        self.places.insert(id.clone(), self.next);
        self.values.insert(self.next, (id, bytes, value));
        self.next += 1;
        self.bytes += bytes;
    }

    pub(super) fn find(&mut self, id: &str) -> Option<&mut V> {
        self.values.get_mut(self.places.get(id)?).map(|(_, _, value)| value)
    }

    pub(super) fn remove(&mut self, id: &str) -> Option<V> {
        let (_, bytes, value) = self.values.remove(&self.places.remove(id)?)?;
        self.bytes -= bytes;
        Some(value)
    }

    /// All values, newest first, as in the API's lists.
    pub(super) fn newest_first(&self) -> impl Iterator<Item = &V> {
        self.values.values().rev().map(|(_, _, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_leave_first() {
        let mut map = BoundedMap::new(3, 10);
        for (id, bytes) in [("a", 4), ("b", 4), ("c", 4), ("huge", 11)] {
            map.put(id.to_owned(), bytes, id);
        }
        assert_eq!(map.newest_first().copied().collect::<Vec<_>>(), ["c", "b"]);
        assert_eq!(map.remove("b"), Some("b"));
        assert_eq!(map.find("b"), None);
        map.put("c".to_owned(), 10, "again");
        assert_eq!((map.bytes, map.values.len(), map.places.len()), (10, 1, 1));
    }
}
