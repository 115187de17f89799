//! The changes that a proxy must make to a message's headers, and no others.

use std::borrow::Cow;
use std::net::IpAddr;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::Target;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Fields that identify the origin of a request.
static FORWARDED: [HeaderName; 5] = [
    header::FORWARDED,
    X_FORWARDED_FOR,
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-real-ip"),
];

const VIA_HTTP10: HeaderValue = HeaderValue::from_static("1.0 weir");
const VIA_HTTP1: HeaderValue = HeaderValue::from_static("1.1 weir");
const VIA_HTTP2: HeaderValue = HeaderValue::from_static("2.0 weir");
const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");

/// How `Forwarded` and `X-Forwarded-*`, which identify the origin of a request, are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Forwarded {
    /// They are removed: a company's internal addresses don't concern the upstream.
    #[default]
    Remove,
    /// They are kept, and the client's address is appended to `X-Forwarded-For`.
    Append,
}

/// Converts the headers of a caller's request for an attempt: removes hop-by-hop fields, adds
/// `Via`, and sets `Host` to the target's. All others keep their values and order.
pub fn prepare_request(
    (headers, present): (&mut HeaderMap, &Present),
    version: http::Version,
    client: IpAddr,
    forwarded: Forwarded,
    target: &Target,
) {
    present.strip_request(headers);
    if present.expects {
        // Weir answers `Expect` itself when it reads the body.
        headers.remove(header::EXPECT);
    }
    if present.is_for_weir {
        let own: Vec<HeaderName> =
            headers.keys().filter(|name| name.as_str().starts_with("x-weir-")).cloned().collect();
        for name in own {
            headers.remove(name);
        }
    }
    if version == http::Version::HTTP_2 {
        join_cookies(headers);
    }
    add_via(headers, version);
    forward(headers, client, forwarded, present.says_where_from);
    headers.insert(header::HOST, target.host_header().clone());
}

/// Removes the fields of the caller's connection (RFC 9110, section 7.6.1). `TE: trailers` is kept,
/// and named in `Connection` again.
#[cfg(test)]
pub fn strip_request(headers: &mut HeaderMap) {
    Present::of(headers).strip_request(headers);
}

/// Removes the fields of the upstream's connection.
pub fn strip_response(headers: &mut HeaderMap) {
    Present::of(headers).strip(headers);
}

/// Removes the fields of the upstream's connection, and makes a `Location` at `target` relative, so
/// that it leads through Weir.
pub fn prepare_response(headers: &mut HeaderMap, target: &Target) {
    let present = Present::of(headers);
    present.strip(headers);
    if present.leads_on {
        relative_location(headers, target);
    }
}

/// Checks that a message's headers define the end of its body unambiguously.
///
/// hyper accepts any list of codings that ends in `chunked`, and `chunked` together with a length.
pub(super) fn check_framing(headers: &HeaderMap) -> Result<(), Cow<'static, str>> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else { return Ok(()) };
    if codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return Err("a transfer coding other than chunked".into());
    }
    if headers.contains_key(header::CONTENT_LENGTH) {
        return Err("both a length and a transfer coding".into());
    }
    Ok(())
}

/// The field names in a message's `Connection` fields.
pub fn nominated(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|name| !name.is_empty())
}

/// Hop-by-hop fields, which must not be forwarded.
static HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
];

/// The presence of the fields that Weir removes or reads. One pass over the names is cheaper than a
/// lookup of each, because most are absent.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a field that may be there")]
pub struct Present {
    /// Each of [`HOP_BY_HOP`].
    hop_by_hop: [bool; HOP_BY_HOP.len()],
    /// Any of [`FORWARDED`].
    says_where_from: bool,
    /// `Expect`.
    expects: bool,
    /// `x-weir-...`.
    pub is_for_weir: bool,
    /// `traceparent`.
    pub is_traced: bool,
    /// `Location`.
    leads_on: bool,
}

impl Present {
    /// Finds the fields present in these headers.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut present = Self::default();
        for name in headers.keys() {
            let place = match name.as_str() {
                "connection" => 0,
                "keep-alive" => 1,
                "proxy-connection" => 2,
                "te" => 3,
                "transfer-encoding" => 4,
                "upgrade" => 5,
                "proxy-authenticate" => 6,
                "proxy-authorization" => 7,
                "expect" => {
                    present.expects = true;
                    continue;
                }
                "forwarded" | "x-forwarded-for" | "x-forwarded-host" | "x-forwarded-proto" | "x-real-ip" => {
                    present.says_where_from = true;
                    continue;
                }
                "traceparent" => {
                    present.is_traced = true;
                    continue;
                }
                "location" => {
                    present.leads_on = true;
                    continue;
                }
                other => {
                    present.is_for_weir |= other.starts_with("x-weir-");
                    continue;
                }
            };
            present.hop_by_hop[place] = true;
        }
        present
    }

    fn strip_request(&self, headers: &mut HeaderMap) {
        let trailers = self.hop_by_hop[3] && wants_trailers(headers);
        self.strip(headers);
        if trailers {
            headers.insert(header::TE, TRAILERS);
            headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
        }
    }

    fn strip(&self, headers: &mut HeaderMap) {
        if self.hop_by_hop[0] {
            remove_nominated(headers);
        }
        for (name, present) in HOP_BY_HOP.iter().zip(self.hop_by_hop) {
            if present {
                headers.remove(name);
            }
        }
    }
}

fn remove_nominated(headers: &mut HeaderMap) {
    let names: Vec<HeaderName> = nominated(headers)
        .filter(|name| !name.eq_ignore_ascii_case(b"keep-alive") && !name.eq_ignore_ascii_case(b"close"))
        .filter_map(|name| HeaderName::from_bytes(name).ok())
        .collect();
    for name in names {
        headers.remove(name);
    }
}

/// Merges several `Cookie` fields, which HTTP/2 allows and HTTP/1.1 does not (RFC 9113, section
/// 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut cookies = headers.get_all(header::COOKIE).iter();
    if let (Some(_), Some(_)) = (cookies.next(), cookies.next()) {
        let all: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
        // Joined valid values are valid.
        if let Ok(mut joined) = HeaderValue::from_bytes(&all.join(&b"; "[..])) {
            joined.set_sensitive(true);
            headers.insert(header::COOKIE, joined);
        }
    }
}

/// Makes a `Location` at the upstream itself relative: the request's `Host` was the upstream's, so
/// it points past Weir. Other locations are kept.
fn relative_location(headers: &mut HeaderMap, target: &Target) {
    let Some(location) = headers.get(header::LOCATION).and_then(|value| value.to_str().ok()) else { return };
    let Some((scheme, rest)) = location.split_once("://") else { return };
    let is_own_scheme = scheme.eq_ignore_ascii_case(if target.tls() { "https" } else { "http" });
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if !is_own_scheme || !target.is_authority(authority) {
        return;
    }
    let path = target.below_base(path);
    let relative = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    // `//x` would be a host name.
    if !relative.starts_with("//")
        && let Ok(relative) = HeaderValue::from_str(&relative)
    {
        headers.insert(header::LOCATION, relative);
    }
}

fn wants_trailers(headers: &HeaderMap) -> bool {
    headers.get_all(header::TE).iter().any(|line| {
        line.as_bytes()
            .split(|byte| *byte == b',')
            .any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
    })
}

fn add_via(headers: &mut HeaderMap, version: http::Version) {
    let own = match version {
        http::Version::HTTP_2 => VIA_HTTP2,
        http::Version::HTTP_10 => VIA_HTTP10,
        _ => VIA_HTTP1,
    };
    headers.append(header::VIA, own);
}

fn forward(headers: &mut HeaderMap, client: IpAddr, forwarded: Forwarded, present: bool) {
    match forwarded {
        Forwarded::Remove => {
            if present {
                for name in &FORWARDED {
                    headers.remove(name);
                }
            }
        }
        Forwarded::Append => {
            if let Ok(client) = HeaderValue::try_from(client.to_string()) {
                headers.append(X_FORWARDED_FOR, client);
            }
        }
    }
}

#[cfg(test)]
mod tests;
