//! Whether a web page of another site may have sent a request.
//!
//! A browser sends a page's requests with the privileges of its machine: it reaches loopback, and
//! shows a client certificate. Two headers identify them. `Host` is the name under which the page
//! reached the server, which exposes DNS rebinding to 127.0.0.1. `Origin` and `Sec-Fetch-Site`
//! identify the page's own site. Programs send neither of the latter, so that a plain `curl` works,
//! as in Go's `CrossOriginProtection`.

use std::net::IpAddr;

use http::header::{HOST, ORIGIN};
use http::{HeaderMap, HeaderName};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The names of a listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins {
    /// Names without port, in addition to those of loopback. `None`: any name.
    hosts: Option<Vec<Box<str>>>,
}

/// The reason why a web page of another site may have sent a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Foreign {
    /// `Host` is neither a loopback name nor a configured one.
    #[error("the Host is not a name of this machine")]
    Host,
    /// `Origin` or `Sec-Fetch-Site` names another site.
    #[error("a page of another site may have sent it")]
    Site,
}

impl Origins {
    /// A listener with any name.
    pub fn any() -> Self {
        Self { hosts: None }
    }

    /// A listener with loopback names and these.
    pub fn loopback_and(hosts: &[String]) -> Self {
        Self { hosts: Some(hosts.iter().map(|host| host.as_str().into()).collect()) }
    }

    /// Checks that the request's host (`authority` for HTTP/2, else `Host`) is a name of this
    /// listener. Requests without one (HTTP/1.0) don't come from a browser.
    pub fn check_host(&self, headers: &HeaderMap, authority: Option<&str>) -> Result<(), Foreign> {
        if self.hosts.is_none() {
            return Ok(());
        }
        match asked(headers, authority) {
            None => Ok(()),
            Some(host) if self.knows(host) => Ok(()),
            Some(_) => Err(Foreign::Host),
        }
    }

    /// Checks that the request comes from a program, from a page of this listener, or, if the
    /// listener has names, from a page with one of its host names.
    pub fn check_site(&self, headers: &HeaderMap, authority: Option<&str>) -> Result<(), Foreign> {
        let known = |origin: &str| self.hosts.is_some() && self.knows(origin);
        check_site(headers, authority, known)
    }

    fn knows(&self, host: &str) -> bool {
        let name = host_name(host);
        name.eq_ignore_ascii_case("localhost")
            || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
            || self.hosts.iter().flatten().any(|known| known.eq_ignore_ascii_case(name))
    }
}

/// Checks that the request comes from a program, or from a page of the same host and port.
pub fn check_same_origin(headers: &HeaderMap, authority: Option<&str>) -> Result<(), Foreign> {
    check_site(headers, authority, |_| false)
}

fn check_site(
    headers: &HeaderMap,
    authority: Option<&str>,
    known: impl Fn(&str) -> bool,
) -> Result<(), Foreign> {
    let is_own = match headers.get(ORIGIN) {
        // `Origin` takes precedence: `Sec-Fetch-Site` does not name the site.
        Some(origin) => match origin.to_str().unwrap_or_default().split_once("://") {
            Some((_, origin)) => known(origin) || Some(origin) == asked(headers, authority),
            None => false,
        },
        None => headers.get(&SEC_FETCH_SITE).is_none_or(|site| site == "same-origin" || site == "none"),
    };
    if is_own { Ok(()) } else { Err(Foreign::Site) }
}

/// The authority that the client addressed; empty if it is unreadable.
fn asked<'a>(headers: &'a HeaderMap, authority: Option<&'a str>) -> Option<&'a str> {
    let host = || headers.get(HOST).map(|host| host.to_str().unwrap_or_default());
    host().or(authority)
}

/// The host in `name:port` or `[address]:port`.
fn host_name(host: &str) -> &str {
    if let Some(bracketed) = host.strip_prefix('[') {
        return bracketed.split(']').next().unwrap_or_default();
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn a_loopback_listener_is_called_by_loopback_names_and_listed_ones() {
        let own = Origins::loopback_and(&["weir.internal".to_owned()]);
        for host in
            ["localhost:8080", "LOCALHOST", "127.0.0.1:8080", "127.9.9.9", "[::1]:8080", "Weir.internal:1"]
        {
            assert_eq!(own.check_host(&headers(&[("host", host)]), None), Ok(()), "{host}");
            assert_eq!(own.check_host(&HeaderMap::new(), Some(host)), Ok(()), "{host}");
        }
        for host in ["evil.example", "evil.example:8080", "10.0.0.1:1", "localhost.evil.example", ""] {
            assert_eq!(own.check_host(&headers(&[("host", host)]), None), Err(Foreign::Host), "{host}");
            assert_eq!(own.check_host(&HeaderMap::new(), Some(host)), Err(Foreign::Host), "{host}");
            assert_eq!(Origins::any().check_host(&headers(&[("host", host)]), None), Ok(()), "{host}");
        }
        assert_eq!(own.check_host(&HeaderMap::new(), None), Ok(()), "HTTP/1.0 without Host");
    }

    #[test]
    fn pages_of_other_sites_are_told_from_programs() {
        let own = Origins::loopback_and(&["weir.internal".to_owned()]);
        let host = ("host", "localhost:8080");
        for (given, any, loopback) in [
            (&[][..], true, true),
            (&[("origin", "http://localhost:8080")], true, true),
            (&[("origin", "http://localhost:8080"), ("sec-fetch-site", "same-origin")], true, true),
            (&[("origin", "http://localhost:3000"), ("sec-fetch-site", "same-site")], false, true),
            (&[("origin", "http://127.0.0.1:3000"), ("sec-fetch-site", "cross-site")], false, true),
            (&[("origin", "https://weir.internal")], false, true),
            (&[("origin", "https://evil.example")], false, false),
            (&[("origin", "https://evil.example"), ("sec-fetch-site", "same-origin")], false, false),
            (&[("origin", "null")], false, false),
            (&[("sec-fetch-site", "cross-site")], false, false),
            (&[("sec-fetch-site", "same-site")], false, false),
            (&[("sec-fetch-site", "none")], true, true),
        ] {
            let mut all = vec![host];
            all.extend(given);
            let all = headers(&all);
            assert_eq!(Origins::any().check_site(&all, None).is_ok(), any, "{given:?}");
            assert_eq!(check_same_origin(&all, None).is_ok(), any, "{given:?}");
            assert_eq!(own.check_site(&all, None).is_ok(), loopback, "{given:?}");
        }
        let over_http2 = headers(&[("origin", "https://weir.prod")]);
        assert_eq!(Origins::any().check_site(&over_http2, Some("weir.prod")), Ok(()));
        assert_eq!(Origins::any().check_site(&over_http2, Some("weir.test")), Err(Foreign::Site));
    }
}
