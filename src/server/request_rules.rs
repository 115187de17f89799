//! Refuses ambiguous requests, and requests that Weir does not support, before any other code reads
//! them.
//!
//! hyper refuses unparsable requests; these rules cover what hyper accepts. hyper itself removes a
//! `Content-Length` beside `Transfer-Encoding: chunked` and closes the connection after that
//! request (allowed by RFC 9112, section 6.1), merges equal lengths, and drops fragments.

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, StatusCode, Version};

use crate::label::names;
use crate::upstream::headers::nominated;

names! {
    /// A rule that a request broke.
    Rule {
        /// hyper could not parse the request, and answers it itself, mostly with 400.
        Unparsable = "unparsable",
        /// HTTP/1.1 without `Host`, or HTTP/2 without an authority (RFC 9112, section 3.2).
        HostMissing = "host_missing",
        /// More than one `Host` field.
        HostRepeated = "host_repeated",
        /// A `Host` or authority that is not a host and port, or contains user information (RFC
        /// 9110, section 4.2.4).
        HostInvalid = "host_invalid",
        /// HTTP/2: `Host` differs from the authority (RFC 9113, section 8.3.1).
        HostDiffers = "host_differs",
        /// A transfer coding other than exactly one `chunked` (RFC 9112, section 6.1).
        TransferEncoding = "transfer_encoding",
        /// CONNECT: Weir opens no tunnels.
        Connect = "connect",
        /// TRACE: the response would reveal the credential.
        Trace = "trace",
        /// A request target that is neither a path nor, for OPTIONS, `*`.
        Target = "target",
        /// An absolute request target with a scheme other than http or https.
        Scheme = "scheme",
        /// `Connection` nominates a field that must reach the upstream (RFC 9110, section 7.6.1).
        Nominated = "nominated",
    }
}

impl Rule {
    /// The status of the response.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::TransferEncoding => StatusCode::NOT_IMPLEMENTED,
            Self::Connect | Self::Trace => StatusCode::METHOD_NOT_ALLOWED,
            Self::Unparsable
            | Self::HostMissing
            | Self::HostRepeated
            | Self::HostInvalid
            | Self::HostDiffers
            | Self::Target
            | Self::Scheme
            | Self::Nominated => StatusCode::BAD_REQUEST,
        }
    }

    /// The message to the client.
    pub const fn message(self) -> &'static str {
        match self {
            Self::Unparsable => "The request is not valid HTTP.",
            Self::HostMissing => "The request has no Host header.",
            Self::HostRepeated => "The request has more than one Host header.",
            Self::HostInvalid => "The Host header is not a host and port.",
            Self::HostDiffers => "The Host header differs from the request's authority.",
            Self::TransferEncoding => "The only supported Transfer-Encoding is a single `chunked`.",
            Self::Connect => "CONNECT is not supported.",
            Self::Trace => "TRACE is not supported.",
            Self::Target => "The request's target must be a path.",
            Self::Scheme => "The request's target must be http or https.",
            Self::Nominated => "The Connection header names a field that must not be removed.",
        }
    }
}

/// Checks a request's head. Equal `Content-Length` fields over HTTP/2 become one (RFC 9110, section
/// 8.6); hyper refuses different ones, and merges those of HTTP/1.
///
/// An absolute target that differs from `Host` passes, as RFC 9112 (section 3.2.2) requires: Weir
/// routes by neither. Paths are not normalized, dots included: Weir does not resolve them.
pub fn check<B>(request: &mut Request<B>) -> Result<(), Rule> {
    if request.method() == Method::CONNECT {
        return Err(Rule::Connect);
    }
    if request.method() == Method::TRACE {
        return Err(Rule::Trace);
    }
    check_target(request)?;
    let fields = CheckedFields::in_headers(request.headers())?;
    check_host(request, fields.host)?;
    if fields.connection && nominated(request.headers()).any(is_end_to_end) {
        return Err(Rule::Nominated);
    }
    if fields.lengths > 1
        && let Some(length) = request.headers().get(header::CONTENT_LENGTH).cloned()
    {
        request.headers_mut().insert(header::CONTENT_LENGTH, length);
    }
    Ok(())
}

/// The fields that the rules check. One pass over the headers is cheaper than three lookups.
#[derive(Default)]
struct CheckedFields<'a> {
    host: Option<&'a HeaderValue>,
    transfer_encoding: bool,
    connection: bool,
    lengths: usize,
}

impl<'a> CheckedFields<'a> {
    fn in_headers(headers: &'a HeaderMap) -> Result<Self, Rule> {
        let mut fields = Self::default();
        for (name, value) in headers {
            if name == header::HOST {
                if fields.host.replace(value).is_some() {
                    return Err(Rule::HostRepeated);
                }
            } else if name == header::TRANSFER_ENCODING {
                if fields.transfer_encoding || !value.as_bytes().eq_ignore_ascii_case(b"chunked") {
                    return Err(Rule::TransferEncoding);
                }
                fields.transfer_encoding = true;
            } else if name == header::CONNECTION {
                fields.connection |= !is_plain_connection(value);
            } else if name == header::CONTENT_LENGTH {
                fields.lengths += 1;
            }
        }
        Ok(fields)
    }
}

/// Whether a `Connection` field is only `keep-alive` or `close`.
fn is_plain_connection(value: &HeaderValue) -> bool {
    let value = value.as_bytes();
    value.eq_ignore_ascii_case(b"keep-alive") || value.eq_ignore_ascii_case(b"close")
}

fn check_target<B>(request: &Request<B>) -> Result<(), Rule> {
    let path = request.uri().path();
    if !path.starts_with('/') && (path != "*" || request.method() != Method::OPTIONS) {
        return Err(Rule::Target);
    }
    match request.uri().scheme_str() {
        None | Some("http" | "https") => Ok(()),
        Some(_) => Err(Rule::Scheme),
    }
}

fn check_host<B>(request: &Request<B>, host: Option<&HeaderValue>) -> Result<(), Rule> {
    if let Some(authority) = request.uri().authority() {
        if authority.as_str().contains('@') {
            return Err(Rule::HostInvalid);
        }
        if request.version() == Version::HTTP_2
            && host.is_some_and(|host| !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes()))
        {
            return Err(Rule::HostDiffers);
        }
    }
    match host {
        Some(host) if is_authority(host) => Ok(()),
        Some(_) => Err(Rule::HostInvalid),
        None if request.version() == Version::HTTP_2 && request.uri().authority().is_some() => Ok(()),
        // HTTP/1.0 does not require Host.
        None if request.version() < Version::HTTP_11 => Ok(()),
        None => Err(Rule::HostMissing),
    }
}

/// Whether a value is a host with an optional port: no user information, path or space. An empty
/// value is allowed (RFC 9110, section 7.2): the target had no authority.
fn is_authority(value: &HeaderValue) -> bool {
    let value = value.as_bytes();
    let (host, port) = match value.iter().rposition(|byte| *byte == b':') {
        Some(colon) if !value.ends_with(b"]") => (&value[..colon], &value[colon + 1..]),
        _ => (value, &b""[..]),
    };
    let name = match host {
        [b'[', address @ .., b']'] => {
            return address.iter().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.'))
                && port.iter().all(u8::is_ascii_digit);
        }
        name => name,
    };
    port.iter().all(u8::is_ascii_digit)
        && name.iter().all(|byte| {
            // unreserved, pct-encoded and sub-delims of RFC 3986, without the comma, which
            // separates hosts.
            byte.is_ascii_alphanumeric()
                || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'%' | b'!' | b'$' | b'&' | b'\'')
                || matches!(byte, b'(' | b')' | b'*' | b'+' | b';' | b'=')
        })
}

/// Whether a field is end-to-end, so that `Connection` must not remove it.
fn is_end_to_end(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 9] = [
        b"host",
        b"authorization",
        b"accept",
        b"cookie",
        b"expect",
        b"idempotency-key",
        b"user-agent",
        b"x-api-key",
        b"api-key",
    ];
    const PREFIXES: [&[u8]; 4] = [b"content-", b"openai-", b"x-stainless-", b"x-weir-"];
    NAMES.iter().any(|known| name.eq_ignore_ascii_case(known))
        || PREFIXES
            .iter()
            .any(|prefix| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(version: Version, method: &str, uri: &str, headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder().version(version).method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    #[test]
    fn names_are_unique_and_every_rule_refuses() {
        for (index, rule) in Rule::ALL.into_iter().enumerate() {
            assert_eq!(rule as usize, index);
            assert!(rule.status().is_client_error() || rule.status() == 501);
            assert_eq!(Rule::ALL.iter().filter(|other| other.as_str() == rule.as_str()).count(), 1);
        }
    }

    #[test]
    fn http2_takes_its_authority_for_host() {
        for (uri, headers, outcome) in [
            ("http://weir/", &[][..], Ok(())),
            ("http://weir:8080/", &[("host", "WEIR:8080")], Ok(())),
            ("http://weir/", &[("host", "evil")], Err(Rule::HostDiffers)),
            ("http://weir/", &[("host", "weir"), ("host", "weir")], Err(Rule::HostRepeated)),
            ("http://user@weir/", &[], Err(Rule::HostInvalid)),
            ("/", &[("host", "weir")], Ok(())),
            ("/", &[], Err(Rule::HostMissing)),
        ] {
            let mut request = request(Version::HTTP_2, "GET", uri, headers);
            assert_eq!(check(&mut request), outcome, "{uri} {headers:?}");
        }
    }

    #[test]
    fn equal_lengths_become_one() {
        let lengths = [("content-length", "5"), ("content-length", "5")];
        let mut request = request(Version::HTTP_2, "POST", "http://weir/", &lengths);
        assert_eq!(check(&mut request), Ok(()));
        assert_eq!(request.headers().get_all("content-length").iter().collect::<Vec<_>>(), ["5"]);
    }

    #[test]
    fn a_host_is_a_name_or_an_address_and_perhaps_a_port() {
        for (host, outcome) in [
            ("weir", Ok(())),
            ("weir.example:8080", Ok(())),
            ("127.0.0.1", Ok(())),
            ("[::1]", Ok(())),
            ("[::1]:8080", Ok(())),
            ("weir:", Ok(())),
            ("", Ok(())),
            ("my_service", Ok(())),
            ("::1", Err(Rule::HostInvalid)),
            ("[::1", Err(Rule::HostInvalid)),
            ("[evil]:80", Err(Rule::HostInvalid)),
            ("weir:80:80", Err(Rule::HostInvalid)),
            ("weir:-1", Err(Rule::HostInvalid)),
            ("user@weir", Err(Rule::HostInvalid)),
            ("weir/evil", Err(Rule::HostInvalid)),
            ("weir evil", Err(Rule::HostInvalid)),
            ("weir,evil", Err(Rule::HostInvalid)),
            ("weir?evil", Err(Rule::HostInvalid)),
            ("weir#evil", Err(Rule::HostInvalid)),
            ("w\\eir", Err(Rule::HostInvalid)),
        ] {
            let mut request = request(Version::HTTP_11, "GET", "/", &[("host", host)]);
            assert_eq!(check(&mut request), outcome, "{host}");
        }
    }

    #[test]
    fn connection_may_nominate_only_what_concerns_it() {
        for (nominated, outcome) in [
            ("keep-alive", Ok(())),
            ("close, te, upgrade, x-own", Ok(())),
            ("Authorization", Err(Rule::Nominated)),
            ("close,HOST", Err(Rule::Nominated)),
            ("content-encoding", Err(Rule::Nominated)),
            ("openai-organization", Err(Rule::Nominated)),
            ("idempotency-key", Err(Rule::Nominated)),
            ("contentious", Ok(())),
        ] {
            let mut request =
                request(Version::HTTP_11, "POST", "/", &[("host", "weir"), ("connection", nominated)]);
            assert_eq!(check(&mut request), outcome, "{nominated}");
        }
    }
}
