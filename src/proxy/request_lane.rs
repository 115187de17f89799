//! The lane of one request: its caller's, or `background` on request.

use http::{HeaderMap, HeaderName};

use crate::caller::Lane;

/// The header with which a request asks for the `background` lane. It can only lower the caller's
/// lane.
const LANE: HeaderName = HeaderName::from_static("x-weir-lane");

/// The lane of a request from a caller in `lane`.
pub(super) fn of(headers: &HeaderMap, lane: Lane) -> Lane {
    let yields = headers
        .get(LANE)
        .is_some_and(|asked| asked.as_bytes().trim_ascii().eq_ignore_ascii_case(b"background"));
    if yields { Lane::Background } else { lane }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_request_lowers_its_lane_and_never_raises_it() {
        for (stated, callers, expected) in [
            (None, Lane::Interactive, Lane::Interactive),
            (None, Lane::Background, Lane::Background),
            (Some("background"), Lane::Interactive, Lane::Background),
            (Some(" Background"), Lane::Interactive, Lane::Background),
            (Some("interactive"), Lane::Background, Lane::Background),
            (Some("first class"), Lane::Interactive, Lane::Interactive),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(stated) = stated {
                headers.insert(LANE, HeaderValue::from_static(stated));
            }
            assert_eq!(of(&headers, callers), expected, "{stated:?}");
        }
    }
}
