//! Who may ask the admin address for what. Pure: a request's head in, a decision out.
//!
//! Three things can reach an admin address that should not. Anybody on the network: off loopback everything but metrics and
//! health needs the token. A web page in an operator's browser that rebinds its own name to 127.0.0.1: on loopback the
//! `Host` must be a loopback name. A web page that posts across sites: a POST whose `Origin` or `Sec-Fetch-Site` says so
//! is refused. Programs send neither, so that plain `curl -X POST` works, as in Go's `CrossOriginProtection`.

use std::hint::black_box;
use std::net::IpAddr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::{HeaderMap, Method, StatusCode};

use super::routes::Route;

/// What the admin address demands.
#[derive(Clone, Default)]
pub struct Access {
    /// Whether the address is on loopback.
    pub loopback: bool,
    /// The token for everything that is not public; without one nothing else answers off loopback.
    pub token: Option<Box<[u8]>>,
    /// Further names that a `Host` may be on loopback, without port.
    pub hosts: Vec<String>,
}

/// Never shows the token.
impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { loopback, token, hosts } = self;
        let token = token.as_ref().map(|_| "set");
        f.debug_struct("Access")
            .field("loopback", loopback)
            .field("token", &token)
            .field("hosts", hosts)
            .finish()
    }
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    /// The token is missing or wrong.
    Token,
    /// There is no token that could be given.
    NoTokenConfigured,
    /// The `Host` is not this machine's.
    Host,
    /// A page of another site asks.
    CrossSite,
}

impl Denied {
    pub(super) const fn status(self) -> StatusCode {
        match self {
            Self::Token => StatusCode::UNAUTHORIZED,
            Self::NoTokenConfigured | Self::CrossSite => StatusCode::FORBIDDEN,
            Self::Host => StatusCode::MISDIRECTED_REQUEST,
        }
    }

    pub(super) const fn says(self) -> &'static str {
        match self {
            Self::Token => {
                "This needs the admin token: Authorization: Bearer TOKEN (or any user name and the token as password)."
            }
            Self::NoTokenConfigured => {
                "Off loopback this needs an admin token, and none is configured (admin.token). \
                 /metrics, /livez and /readyz answer without."
            }
            Self::Host => {
                "The Host is not a name of this machine. Use localhost, a loopback address, or add it to admin.hosts."
            }
            Self::CrossSite => "A page of another site may not do this.",
        }
    }
}

impl Access {
    /// Decides over one request.
    pub(super) fn check(
        &self,
        method: &Method,
        route: &Route<'_>,
        headers: &HeaderMap,
    ) -> Result<(), Denied> {
        if !route.is_probe() && self.loopback && !self.knows_host(headers) {
            return Err(Denied::Host);
        }
        if *method == Method::POST && is_cross_site(headers) {
            return Err(Denied::CrossSite);
        }
        if route.is_public() || self.loopback {
            return Ok(());
        }
        let Some(token) = &self.token else { return Err(Denied::NoTokenConfigured) };
        match presented(headers) {
            Some(presented) if same(&presented, token) => Ok(()),
            Some(_) | None => Err(Denied::Token),
        }
    }

    /// A request without `Host` (HTTP/1.0) comes from no browser.
    fn knows_host(&self, headers: &HeaderMap) -> bool {
        let Some(host) = headers.get(HOST) else { return true };
        let Ok(host) = host.to_str() else { return false };
        let name = host_name(host);
        name.eq_ignore_ascii_case("localhost")
            || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
            || self.hosts.iter().any(|known| known.eq_ignore_ascii_case(name))
    }
}

/// The name in `name:port` or `[address]:port`.
fn host_name(host: &str) -> &str {
    if let Some(bracketed) = host.strip_prefix('[') {
        return bracketed.split(']').next().unwrap_or_default();
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

fn is_cross_site(headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return site != "same-origin" && site != "none";
    }
    let Some(origin) = headers.get(ORIGIN) else { return false };
    let origin = origin.to_str().unwrap_or_default();
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    origin.split_once("://").map(|(_, name)| name) != host
}

/// The token in a Bearer credential, or the password of a Basic one (what a browser can send).
fn presented(headers: &HeaderMap) -> Option<Vec<u8>> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, credential) = value.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(credential.trim().as_bytes().to_vec());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = BASE64.decode(credential.trim()).ok()?;
    let colon = pair.iter().position(|byte| *byte == b':')?;
    Some(pair[colon + 1..].to_vec())
}

/// Compares in a time that depends on the length alone.
fn same(one: &[u8], two: &[u8]) -> bool {
    let differing = one.iter().zip(two).fold(0, |bits, (a, b)| black_box(bits | (a ^ b)));
    one.len() == two.len() && differing == 0
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    fn check(
        access: &Access,
        method: &Method,
        path: &str,
        given: &[(&'static str, &'static str)],
    ) -> Result<(), Denied> {
        access.check(method, &Route::of(method, path), &headers(given))
    }

    #[test]
    fn loopback_needs_a_loopback_host_and_no_token() {
        let access = Access { loopback: true, token: None, hosts: vec!["weir.internal".to_owned()] };
        for host in
            ["localhost:8081", "LOCALHOST", "127.0.0.1:8081", "127.9.9.9", "[::1]:8081", "weir.internal:8081"]
        {
            assert_eq!(check(&access, &Method::GET, "/status", &[("host", host)]), Ok(()), "{host}");
        }
        for host in ["evil.example", "evil.example:8081", "10.0.0.1:8081", "localhost.evil.example", ""] {
            assert_eq!(check(&access, &Method::GET, "/", &[("host", host)]), Err(Denied::Host), "{host}");
            assert_eq!(
                check(&access, &Method::GET, "/metrics", &[("host", host)]),
                Err(Denied::Host),
                "{host}"
            );
            assert_eq!(check(&access, &Method::GET, "/livez", &[("host", host)]), Ok(()), "{host}");
        }
    }

    #[test]
    fn off_loopback_only_three_answer_without_the_token() {
        let token = Some(b"s3cret".as_slice().into());
        let access = Access { loopback: false, token, hosts: Vec::new() };
        let host = ("host", "weir.prod:8081");
        for path in ["/metrics", "/livez", "/readyz"] {
            assert_eq!(check(&access, &Method::GET, path, &[host]), Ok(()), "{path}");
        }
        for path in ["/", "/status", "/reports", "/reports/w-000001", "/config", "/nothing"] {
            assert_eq!(check(&access, &Method::GET, path, &[host]), Err(Denied::Token), "{path}");
            let good = [host, ("authorization", "Bearer s3cret")];
            assert_eq!(check(&access, &Method::GET, path, &good), Ok(()), "{path}");
        }
        for wrong in [
            "Bearer s3cre",
            "Bearer s3cret2",
            "Bearer ",
            "Bearer",
            "Basic !!!",
            "Basic d2Vpcjp4",
            "Digest s3cret",
        ] {
            let given = [host, ("authorization", wrong)];
            assert_eq!(check(&access, &Method::POST, "/drain", &given), Err(Denied::Token), "{wrong}");
        }
        let basic = [host, ("authorization", "Basic d2VpcjpzM2NyZXQ=")];
        assert_eq!(check(&access, &Method::GET, "/", &basic), Ok(()), "weir:s3cret");
        let none = Access { token: None, ..access };
        let bearer = [host, ("authorization", "Bearer ")];
        assert_eq!(check(&none, &Method::GET, "/", &bearer), Err(Denied::NoTokenConfigured));
    }

    #[test]
    fn pages_of_other_sites_cannot_post() {
        let access = Access { loopback: true, ..Access::default() };
        let host = ("host", "localhost:8081");
        for (given, expected) in [
            (vec![], Ok(())),
            (vec![("origin", "http://localhost:8081")], Ok(())),
            (vec![("origin", "http://localhost:9999")], Err(Denied::CrossSite)),
            (vec![("origin", "https://evil.example")], Err(Denied::CrossSite)),
            (vec![("origin", "null")], Err(Denied::CrossSite)),
            (vec![("sec-fetch-site", "same-origin")], Ok(())),
            (vec![("sec-fetch-site", "cross-site")], Err(Denied::CrossSite)),
            (vec![("sec-fetch-site", "same-site")], Err(Denied::CrossSite)),
        ] {
            let mut all = vec![host];
            all.extend(&given);
            assert_eq!(check(&access, &Method::POST, "/drain", &all), expected, "{given:?}");
        }
    }

    #[test]
    fn tokens_are_not_shown() {
        let access = Access { token: Some(b"s3cret".as_slice().into()), ..Access::default() };
        assert!(!format!("{access:?}").contains("s3cret"));
        assert!(!format!("{access:?}").contains("115"));
    }
}
