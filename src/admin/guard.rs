//! Access control of the admin address: a pure function from a request's head to a decision.
//!
//! It protects against three kinds of clients. Hosts on the network: off loopback everything except
//! metrics and health needs the token; without a configured token only loopback clients have
//! access. Web pages that rebind their own name to 127.0.0.1, and web pages that post across sites:
//! see [`origin`](crate::caller::origin), which protects the listener for callers too.

use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Method, StatusCode};

use super::routes::Route;
use crate::caller::Secret;
use crate::caller::origin::{Origins, check_same_origin};

/// The access rules of the admin address.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// Whether the address is on loopback.
    pub loopback: bool,
    /// The token for everything that is not public; without one, only public paths answer off
    /// loopback.
    pub token: Option<Secret>,
    /// The accepted `Host` names, on loopback.
    pub origins: Origins,
}

/// The [`Access`] in force; clones share it, and a reload replaces it.
#[derive(Clone, Debug, Default)]
pub struct CurrentAccess(Arc<RwLock<Arc<Access>>>);

impl CurrentAccess {
    /// Starts with `access`.
    pub fn new(access: Access) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(access))))
    }

    /// Puts another `access` in force.
    pub fn replace(&self, access: Access) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(access);
    }

    pub(super) fn current(&self) -> Arc<Access> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The reason why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    /// The token is missing.
    Token,
    /// The token is wrong.
    WrongToken,
    /// A token would be needed, but none is configured.
    NoTokenConfigured,
    /// The `Host` does not name this machine.
    Host,
    /// A web page of another site sent the request.
    CrossSite,
}

impl Denied {
    pub(super) const fn status(self) -> StatusCode {
        match self {
            Self::Token | Self::WrongToken => StatusCode::UNAUTHORIZED,
            Self::NoTokenConfigured | Self::CrossSite => StatusCode::FORBIDDEN,
            Self::Host => StatusCode::MISDIRECTED_REQUEST,
        }
    }

    pub(super) const fn says(self) -> &'static str {
        match self {
            Self::Token | Self::WrongToken => {
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
    /// Decides on one request.
    pub(super) fn check(
        &self,
        method: &Method,
        route: &Route<'_>,
        headers: &HeaderMap,
        peer: IpAddr,
    ) -> Result<(), Denied> {
        if !route.is_probe() && self.origins.check_host(headers, None).is_err() {
            return Err(Denied::Host);
        }
        if *method == Method::POST && check_same_origin(headers, None).is_err() {
            return Err(Denied::CrossSite);
        }
        if route.is_public() || self.loopback {
            return Ok(());
        }
        let Some(token) = &self.token else {
            // A client on this machine or in this pod, such as `kubectl port-forward` or `kubectl
            // exec`: the rules of loopback apply.
            let is_local = peer.is_loopback() && Origins::loopback_and(&[]).check_host(headers, None).is_ok();
            return if is_local { Ok(()) } else { Err(Denied::NoTokenConfigured) };
        };
        match presented(headers) {
            Some(presented) if token.is(&presented) => Ok(()),
            Some(_) => Err(Denied::WrongToken),
            None => Err(Denied::Token),
        }
    }
}

/// The token from a Bearer credential, or the password of a Basic one (which browsers can send).
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
        access.check(method, &Route::of(method, path), &headers(given), IpAddr::from([10, 0, 0, 9]))
    }

    #[test]
    fn without_a_token_an_address_off_loopback_serves_who_comes_over_loopback() {
        let access = Access { loopback: false, token: None, origins: Origins::any() };
        let ask = |access: &Access, peer: [u8; 4], host: &'static str| {
            let route = Route::of(&Method::GET, "/status");
            access.check(&Method::GET, &route, &headers(&[("host", host)]), IpAddr::from(peer))
        };
        assert_eq!(ask(&access, [127, 0, 0, 1], "127.0.0.1:8081"), Ok(()));
        assert_eq!(ask(&access, [127, 0, 0, 1], "rebound.example:8081"), Err(Denied::NoTokenConfigured));
        assert_eq!(ask(&access, [10, 0, 0, 9], "127.0.0.1:8081"), Err(Denied::NoTokenConfigured));
        let guarded = Access { token: Some(Secret::from("s3cret")), ..access };
        assert_eq!(
            ask(&guarded, [127, 0, 0, 1], "127.0.0.1:8081"),
            Err(Denied::Token),
            "a token counts for all"
        );
    }

    #[test]
    fn loopback_needs_a_loopback_host_and_no_token() {
        let access = Access {
            loopback: true,
            token: None,
            origins: Origins::loopback_and(&["weir.internal".to_owned()]),
        };
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
        let token = Some(Secret::from("s3cret"));
        let access = Access { loopback: false, token, origins: Origins::any() };
        let host = ("host", "weir.prod:8081");
        for path in ["/metrics", "/livez", "/readyz"] {
            assert_eq!(check(&access, &Method::GET, path, &[host]), Ok(()), "{path}");
        }
        for path in ["/", "/status", "/reports", "/reports/w-000001", "/config", "/nothing"] {
            assert_eq!(check(&access, &Method::GET, path, &[host]), Err(Denied::Token), "{path}");
            let good = [host, ("authorization", "Bearer s3cret")];
            assert_eq!(check(&access, &Method::GET, path, &good), Ok(()), "{path}");
        }
        for (wrong, denied) in [
            ("Bearer s3cre", Denied::WrongToken),
            ("Bearer s3cret2", Denied::WrongToken),
            ("Bearer ", Denied::WrongToken),
            ("Bearer", Denied::Token),
            ("Basic !!!", Denied::Token),
            ("Basic d2Vpcjp4", Denied::WrongToken),
            ("Digest s3cret", Denied::Token),
        ] {
            let given = [host, ("authorization", wrong)];
            assert_eq!(check(&access, &Method::POST, "/drain", &given), Err(denied), "{wrong}");
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
        let access = Access { token: Some(Secret::from("s3cret")), ..Access::default() };
        assert!(!format!("{access:?}").contains("s3cret"));
        assert!(!format!("{access:?}").contains("115"));
    }
}
