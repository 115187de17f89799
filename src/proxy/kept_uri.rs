//! A request's target, kept for further attempts, which are rare.

use http::Uri;
use http::uri::PathAndQuery;

/// The request target for a request's attempts, in origin form.
///
/// The first attempt gets it as it was read; for further attempts a copy is kept. The original is a
/// slice of the connection's read buffer and would keep that alive until the upstream responds.
pub(super) enum KeptUri {
    /// Not yet sent.
    Whole(Uri),
    /// Sent at least once.
    Packed(Box<str>),
}

impl KeptUri {
    /// The target for the next attempt.
    pub(super) fn take(&mut self) -> Uri {
        match self {
            Self::Whole(uri) => {
                let packed = Self::Packed(pack(uri));
                let uri = std::mem::take(uri);
                *self = packed;
                uri
            }
            Self::Packed(packed) => unpack(packed),
        }
    }

    /// Packs the target early, so that it no longer keeps the connection's read buffer alive.
    pub(super) fn pack(&mut self) {
        if let Self::Whole(uri) = self {
            *self = Self::Packed(pack(uri));
        }
    }

    /// Calls `at` with the target.
    pub(super) fn with<T>(&self, at: impl FnOnce(&Uri) -> T) -> T {
        match self {
            Self::Whole(uri) => at(uri),
            Self::Packed(packed) => at(&unpack(packed)),
        }
    }
}

fn pack(uri: &Uri) -> Box<str> {
    uri.path_and_query().map_or("/", PathAndQuery::as_str).into()
}

fn unpack(packed: &str) -> Uri {
    // It was parsed before, so it is valid.
    packed.parse().unwrap_or_else(|_| Uri::from_static("*"))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn every_attempt_gets_the_same_and_the_first_lets_go_of_the_buffer() {
        for target in ["/v1/chat/completions", "/v1/%2e%2e/a//b;c=%C3%A9?x=%&y", "/", "*"] {
            let buffer = Bytes::copy_from_slice(target.as_bytes());
            let mut kept = KeptUri::Whole(Uri::from_maybe_shared(buffer.clone()).unwrap());
            drop(kept.take());
            assert!(buffer.is_unique(), "{target}");
            assert_eq!(kept.take().to_string(), target);
            assert_eq!(kept.with(Uri::to_string), target);
        }
    }

    #[test]
    fn packed_it_lets_go_before_an_attempt() {
        let buffer = Bytes::from(b"/v1/models?limit=2".to_vec());
        let mut kept = KeptUri::Whole(Uri::from_maybe_shared(buffer.clone()).unwrap());
        assert!(!buffer.is_unique());
        kept.pack();
        assert!(buffer.is_unique());
        assert_eq!(kept.take(), "/v1/models?limit=2");
    }
}
