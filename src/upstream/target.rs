//! The upstream's address: the only source of the authority that requests go to.

use http::header::HOST;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Uri};

/// The upstream's configured address: scheme, host, port, and a base path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    tls: bool,
    host: Box<str>,
    port: u16,
    authority: Authority,
    host_header: HeaderValue,
    base_path: Box<str>,
}

/// The reason why a URL is not an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// It is not a URL.
    #[error("is not a URL; expected for instance https://api.openai.com")]
    NotAUrl,
    /// Its scheme is not http or https.
    #[error("must begin with https:// or http://")]
    Scheme,
    /// It has no host.
    #[error("names no host")]
    Host,
    /// It has a user or password.
    #[error("must not hold a user or password; give the credential as one")]
    UserInfo,
    /// It has a query.
    #[error("must not hold a query")]
    Query,
}

impl Target {
    /// Parses a URL such as `https://api.openai.com`.
    pub fn parse(url: &str) -> Result<Self, TargetError> {
        let uri: Uri = url.parse().map_err(|_| TargetError::NotAUrl)?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            Some(_) | None => return Err(TargetError::Scheme),
        };
        let authority = uri.authority().ok_or(TargetError::Host)?.clone();
        if authority.as_str().contains('@') {
            return Err(TargetError::UserInfo);
        }
        if uri.query().is_some() {
            return Err(TargetError::Query);
        }
        let host = authority.host();
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() {
            return Err(TargetError::Host);
        }
        Ok(Self {
            tls,
            host: host.into(),
            port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            host_header: HeaderValue::from_str(authority.as_str()).map_err(|_| TargetError::Host)?,
            base_path: uri.path().trim_end_matches('/').into(),
            authority,
        })
    }

    /// Whether the connection is encrypted.
    pub fn tls(&self) -> bool {
        self.tls
    }

    /// The host's name or address, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether an authority is this server's.
    pub(super) fn is_authority(&self, text: &str) -> bool {
        let Ok(authority) = text.parse::<Authority>() else { return false };
        let port = authority.port_u16().unwrap_or(if self.tls { 443 } else { 80 });
        let host = authority.host().trim_matches(['[', ']']);
        !text.contains('@') && port == self.port && host.eq_ignore_ascii_case(&self.host)
    }

    /// The value of the `Host` header: the configured authority.
    pub fn host_header(&self) -> &HeaderValue {
        &self.host_header
    }

    /// The URI of a request in origin form: the base path, then its path and query, byte for byte.
    ///
    /// If the base path ends in `/v1` and the request's path begins with it, it appears once. The
    /// authority of `uri` is ignored.
    pub fn uri(&self, uri: &Uri) -> Uri {
        let path = uri.path_and_query();
        if self.base_path.is_empty() {
            return path.cloned().map_or_else(Uri::default, Uri::from);
        }
        self.join(path.map_or("/", PathAndQuery::as_str))
    }

    /// The URI of a request in absolute form, for HTTP/2.
    pub(super) fn absolute(&self, origin_form: Uri) -> Uri {
        let mut parts = origin_form.into_parts();
        parts.scheme = Some(if self.tls { Scheme::HTTPS } else { Scheme::HTTP });
        parts.authority = Some(self.authority.clone());
        Uri::from_parts(parts).unwrap_or_default()
    }

    /// Converts a request from HTTP/2's form to HTTP/1.1's, for another connection.
    pub(super) fn restore_origin_form<B>(&self, request: &mut Request<B>) {
        if request.uri().scheme().is_some() {
            let uri = std::mem::take(request.uri_mut());
            *request.uri_mut() = uri.into_parts().path_and_query.map_or_else(Uri::default, Uri::from);
            request.headers_mut().insert(HOST, self.host_header.clone());
        }
    }

    /// A path at this server without the base path, as callers know it.
    pub(super) fn below_base<'a>(&self, path: &'a str) -> &'a str {
        let base = self.base_path.strip_suffix("/v1").unwrap_or(&self.base_path);
        path.strip_prefix(base)
            .filter(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#']))
            .unwrap_or(path)
    }

    fn join(&self, path: &str) -> Uri {
        let doubled = path == "/v1" || path.starts_with("/v1/") || path.starts_with("/v1?");
        let base = match self.base_path.strip_suffix("/v1") {
            Some(base) if doubled => base,
            _ => &self.base_path,
        };
        // Joined valid parts are valid, except `*`, which stays alone.
        format!("{base}{path}").parse().unwrap_or_else(|_| Uri::from_static("*"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_configured_url() {
        let target = Target::parse("https://api.openai.com").unwrap();
        assert!(target.tls());
        assert_eq!((target.host(), target.port()), ("api.openai.com", 443));
        assert_eq!(target.host_header(), "api.openai.com");
        let target = Target::parse("http://[::1]:8090/").unwrap();
        assert_eq!((target.host(), target.port(), target.tls()), ("::1", 8090, false));
        assert_eq!(target.host_header(), "[::1]:8090");
        for (url, error) in [
            ("api.openai.com", TargetError::Scheme),
            ("ftp://api.openai.com", TargetError::Scheme),
            ("https://user:pass@api.openai.com", TargetError::UserInfo),
            ("https://api.openai.com/?a=b", TargetError::Query),
            ("https://", TargetError::NotAUrl),
            ("", TargetError::NotAUrl),
            ("/v1", TargetError::Scheme),
        ] {
            assert_eq!(Target::parse(url), Err(error), "{url}");
        }
    }

    #[test]
    fn only_path_and_query_of_a_request_count() {
        for (base, request, sent) in [
            ("https://api.openai.com", "/v1/models?limit=2", "/v1/models?limit=2"),
            ("https://api.openai.com", "http://evil.example/v1/models", "/v1/models"),
            ("https://api.openai.com", "/v1/%2e%2e/a//b;c=%C3%A9?x=%", "/v1/%2e%2e/a//b;c=%C3%A9?x=%"),
            ("https://api.openai.com", "*", "*"),
            ("https://api.openai.com/v1", "/v1/models", "/v1/models"),
            ("https://api.openai.com/v1/", "/v1?x", "/v1?x"),
            ("https://api.openai.com/v1", "/models", "/v1/models"),
            ("https://gateway.example/openai/v1", "/v1/models", "/openai/v1/models"),
            ("https://gateway.example/openai", "/v1/models", "/openai/v1/models"),
            ("https://gateway.example/openai", "//evil.example/", "/openai//evil.example/"),
        ] {
            let target = Target::parse(base).unwrap();
            let uri = target.uri(&request.parse().unwrap());
            assert_eq!(uri.to_string(), sent, "{base} {request}");
        }
        let target = Target::parse("https://api.openai.com").unwrap();
        let uri = target.absolute(target.uri(&"/v1/models".parse().unwrap()));
        assert_eq!(uri.to_string(), "https://api.openai.com/v1/models");
    }
}
