//! The head of a response that is held back.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue};

/// Copies the header values into a new buffer, so that the connection's read buffer is freed. The
/// connection has already allocated another one.
pub(super) fn release_buffer(headers: &mut HeaderMap) {
    let mut own = BytesMut::with_capacity(headers.values().map(HeaderValue::len).sum());
    headers.values().for_each(|value| own.extend_from_slice(value.as_bytes()));
    let mut own = own.freeze();
    for value in headers.values_mut() {
        *value = part(own.split_to(value.len()), value);
    }
}

fn part(bytes: Bytes, original: &HeaderValue) -> HeaderValue {
    // The bytes of a valid value are valid.
    let mut value = HeaderValue::from_maybe_shared(bytes).unwrap_or_else(|_| original.clone());
    value.set_sensitive(original.is_sensitive());
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_the_same_and_lets_go_of_the_buffer_that_it_came_in() {
        let buffer = Bytes::from(b"text/event-stream req_1 \xe9 secret".to_vec());
        let part = |from, to| HeaderValue::from_maybe_shared(buffer.slice(from..to)).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("content-type", part(0, 17));
        headers.append("x-twice", part(18, 23));
        headers.append("x-twice", part(24, 25));
        headers.insert("x-empty", part(3, 3));
        let mut secret = part(26, 32);
        secret.set_sensitive(true);
        headers.insert("x-secret", secret);
        let before: HeaderMap = headers
            .iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_bytes(value.as_bytes()).unwrap()))
            .collect();
        assert!(!buffer.is_unique());
        release_buffer(&mut headers);
        assert_eq!(headers, before);
        assert!(headers["x-secret"].is_sensitive() && !headers["x-empty"].is_sensitive());
        drop(before);
        assert!(buffer.is_unique());
    }
}
