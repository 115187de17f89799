//! Request headers, kept for further attempts, which are rare.

use http::{HeaderMap, HeaderName, HeaderValue};

/// The headers for a request's attempts.
///
/// The first attempt gets the map as it was read. The copy for further attempts is packed into one
/// buffer: a cloned map would cost an allocation and a reference for each header, and keep the
/// connection's read buffer alive.
pub(super) enum KeptHeaders {
    /// Not yet sent.
    Whole(HeaderMap),
    /// Sent at least once.
    Packed(Vec<u8>),
}

/// Bytes before each header: the lengths of name and value, and whether the value is sensitive.
const PREFIX: usize = 9;
/// Estimated packed size of a header: summing the exact sizes costs a third of packing.
const USUAL_LENGTH: usize = 64;

impl KeptHeaders {
    /// The headers for the next attempt.
    pub(super) fn take(&mut self) -> HeaderMap {
        match self {
            Self::Whole(headers) => {
                let headers = std::mem::take(headers);
                *self = Self::Packed(pack(&headers));
                headers
            }
            Self::Packed(packed) => unpack(packed),
        }
    }

    /// Packs the headers early, so that they no longer keep the connection's read buffer alive.
    pub(super) fn pack(&mut self) {
        if let Self::Whole(headers) = self {
            let mut packed = pack(headers);
            packed.shrink_to_fit();
            *self = Self::Packed(packed);
        }
    }

    /// Calls `at` with the headers.
    pub(super) fn with<T>(&self, at: impl FnOnce(&HeaderMap) -> T) -> T {
        match self {
            Self::Whole(headers) => at(headers),
            Self::Packed(packed) => at(&unpack(packed)),
        }
    }
}

fn pack(headers: &HeaderMap) -> Vec<u8> {
    let mut packed = Vec::with_capacity(headers.len() * USUAL_LENGTH);
    for (name, value) in headers {
        let (name, bytes) = (name.as_str().as_bytes(), value.as_bytes());
        let ([n0, n1, n2, n3], [v0, v1, v2, v3]) = (length(name), length(bytes));
        packed.extend_from_slice(&[n0, n1, n2, n3, v0, v1, v2, v3, u8::from(value.is_sensitive())]);
        packed.extend_from_slice(name);
        packed.extend_from_slice(bytes);
    }
    packed
}

/// The length in four bytes: a header is far smaller than 4 GiB.
fn length(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).unwrap_or_default().to_le_bytes()
}

fn unpack(mut packed: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    while let Some((name, value, rest)) = first(packed) {
        headers.append(name, value);
        packed = rest;
    }
    headers
}

fn first(packed: &[u8]) -> Option<(HeaderName, HeaderValue, &[u8])> {
    let (prefix, rest) = packed.split_first_chunk::<PREFIX>()?;
    let [n0, n1, n2, n3, v0, v1, v2, v3, sensitive] = *prefix;
    let (name, rest) = rest.split_at_checked(u32::from_le_bytes([n0, n1, n2, n3]) as usize)?;
    let (value, rest) = rest.split_at_checked(u32::from_le_bytes([v0, v1, v2, v3]) as usize)?;
    let mut value = HeaderValue::from_bytes(value).ok()?;
    value.set_sensitive(sensitive == 1);
    Some((HeaderName::from_bytes(name).ok()?, value, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn listed(headers: &HeaderMap) -> Vec<(String, Vec<u8>, bool)> {
        let one = |(name, value): (&HeaderName, &HeaderValue)| {
            (name.to_string(), value.as_bytes().to_vec(), value.is_sensitive())
        };
        headers.iter().map(one).collect()
    }

    proptest! {
        #[test]
        fn every_attempt_has_the_same_headers_in_the_same_order(
            fields in prop::collection::vec(("[a-z][a-z0-9-]{0,30}", "[ -~\u{e9}]{0,80}", any::<bool>()), 0..40)
        ) {
            let mut headers = HeaderMap::new();
            for (name, value, sensitive) in fields {
                let mut value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
                value.set_sensitive(sensitive);
                headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value);
            }
            let expected = listed(&headers);
            let mut kept = KeptHeaders::Whole(headers);
            prop_assert_eq!(&kept.with(listed), &expected);
            for round in 0..3 {
                if round == 1 {
                    kept.pack();
                }
                prop_assert_eq!(&listed(&kept.take()), &expected);
                prop_assert_eq!(&kept.with(listed), &expected);
            }
        }
    }

    #[test]
    fn packed_they_release_the_buffer_that_they_came_in() {
        let buffer = bytes::Bytes::from(vec![b'v'; 8192]);
        let mut headers = HeaderMap::new();
        headers.insert("x-own", HeaderValue::from_maybe_shared(buffer.slice(10..20)).unwrap());
        let mut kept = KeptHeaders::Whole(headers);
        assert!(!buffer.is_unique());
        kept.pack();
        assert!(buffer.is_unique());
        assert_eq!(kept.take()["x-own"], "vvvvvvvvvv");
    }

    #[test]
    fn long_values_are_kept() {
        let mut headers = HeaderMap::new();
        headers.insert("cookie", HeaderValue::from_str(&"c".repeat(60_000)).unwrap());
        let mut kept = KeptHeaders::Whole(headers.clone());
        assert_eq!((kept.take(), kept.take()), (headers.clone(), headers));
    }
}
