//! Fields that are forbidden in trailers.

use http::header::{self, HeaderMap, HeaderName};

/// Fields that frame, route or authorize a message; they have no valid meaning in trailers (RFC
/// 9110, section 6.5.1).
static NEVER: [HeaderName; 13] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::CONTENT_LENGTH,
    header::CONTENT_ENCODING,
    header::HOST,
    header::TRAILER,
    header::AUTHORIZATION,
];

/// Removes forbidden fields from trailers, in case a receiver merges them into the headers.
pub fn strip_trailers(trailers: &mut HeaderMap) {
    for name in &NEVER {
        trailers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_describes_the_body_stays() {
        let mut trailers = HeaderMap::new();
        for name in NEVER.iter().chain([&HeaderName::from_static("x-checksum")]) {
            trailers.append(name, header::HeaderValue::from_static("1"));
            trailers.append(name, header::HeaderValue::from_static("2"));
        }
        strip_trailers(&mut trailers);
        assert_eq!(trailers.len(), 2);
        assert_eq!(trailers.get_all("x-checksum").iter().count(), 2);
    }
}
