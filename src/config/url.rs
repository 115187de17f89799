//! URLs of other servers: the upstream, a proxy to it, a trace collector.

use std::ops::Deref;

use http::Uri;
use http::uri::Authority;

use super::key::Kind;
use super::value::textual;
use crate::openai::endpoint::has_dot_segments;

/// A URL with only scheme, host and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl {
    tls: bool,
    authority: Authority,
}

impl BaseUrl {
    /// Parses `https://host` or `http://host:port`.
    ///
    /// # Errors
    /// The problem and what to write, in one line that contains neither user nor password.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (base, path) = Self::with_path(text)?;
        if path.is_empty() { Ok(base) } else { Err(format!("has a path; write \"{base}\"")) }
    }

    /// Parses a URL that may have a path.
    fn with_path(text: &str) -> Result<(Self, Box<str>), String> {
        const EXAMPLE: &str = "write scheme, host and port, such as \"https://api.openai.com\"";
        let uri: Uri = text.trim().parse().map_err(|_| format!("is not a URL; {EXAMPLE}"))?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            Some(_) | None => return Err(format!("has no scheme http or https; {EXAMPLE}")),
        };
        let authority = uri.authority().ok_or_else(|| format!("has no host; {EXAMPLE}"))?.clone();
        if authority.as_str().contains('@') {
            return Err(
                "holds a user or password; secrets are only written as \"env:NAME\" or \"file:PATH\""
                    .to_owned(),
            );
        }
        if authority.host().is_empty()
            || (authority.port().is_some() && authority.port_u16().is_none_or(|port| port == 0))
        {
            return Err(format!("has no valid host and port; {EXAMPLE}"));
        }
        let (base, path) = (Self { tls, authority }, uri.path().trim_end_matches('/'));
        if uri.query().is_some() {
            return Err(format!("has a query; write \"{base}{path}\" (the query is the caller's)"));
        }
        Ok((base, path.into()))
    }

    /// Whether it is `https`.
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// Whether nobody on the network can read or change the traffic: it uses TLS, or stays on this
    /// machine.
    pub fn is_private(&self) -> bool {
        self.tls || ["localhost", "127.0.0.1", "::1"].contains(&self.host())
    }

    /// The host; an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        self.authority.host().trim_start_matches('[').trim_end_matches(']')
    }

    /// The port; by default 443 or 80.
    pub fn port(&self) -> u16 {
        self.authority.port_u16().unwrap_or(if self.tls { 443 } else { 80 })
    }
}

impl std::fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}", if self.tls { "https" } else { "http" }, self.authority)
    }
}

/// The URL of an API: scheme, host, port, and a prefix for the paths of requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamUrl {
    base: BaseUrl,
    /// The prefix, without a slash at its end.
    path: Box<str>,
}

impl UpstreamUrl {
    /// Parses `https://host` or `https://host/path`.
    ///
    /// # Errors
    /// As for [`BaseUrl::parse`].
    pub fn parse(text: &str) -> Result<Self, String> {
        let (base, path) = BaseUrl::with_path(text)?;
        if has_dot_segments(&path) || path.contains("//") {
            return Err(format!(
                "has a path with dots or empty parts; write it plainly, as \"{base}/openai/v1\""
            ));
        }
        Ok(Self { base, path })
    }
}

impl Deref for UpstreamUrl {
    type Target = BaseUrl;

    fn deref(&self) -> &BaseUrl {
        &self.base
    }
}

impl std::fmt::Display for UpstreamUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.base, self.path)
    }
}

textual!(
    UpstreamUrl,
    Kind::Text {
        write: "scheme, host and perhaps a path, such as \"https://api.openai.com\"",
        pattern: Some("^ *https?://[^/?#@]+(/[^?#]*)? *$"),
    },
    |text| Self::parse(text).map_err(Some),
    Self::to_string
);
textual!(
    BaseUrl,
    Kind::Text {
        write: "scheme, host and port, such as \"https://api.openai.com\"",
        pattern: Some("^ *https?://[^/?#@]+/? *$"),
    },
    |text| Self::parse(text).map_err(Some),
    Self::to_string
);
