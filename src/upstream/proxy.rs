//! The HTTP proxy between Weir and the upstream, by the rules of `HTTPS_PROXY` and `NO_PROXY`.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use http::{HeaderValue, Uri};

/// An HTTP proxy that supports tunnels (CONNECT).
#[derive(Clone)]
pub struct Proxy {
    host: Box<str>,
    port: u16,
    /// `Basic ...` from the URL's user and password; marked sensitive.
    authorization: Option<HeaderValue>,
}

/// The reason why a URL is not a proxy. It omits the URL, which may contain a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// It is not a URL.
    #[error("is not a URL; expected for instance http://proxy.example:3128")]
    NotAUrl,
    /// Only unencrypted connections to the proxy are supported.
    #[error("must begin with http://")]
    Scheme,
}

impl Proxy {
    /// Parses a proxy's URL, such as `http://user:password@proxy.example:3128`. The scheme is
    /// optional.
    pub fn parse(url: &str) -> Result<Self, ProxyError> {
        let rest = match url.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some(_) => return Err(ProxyError::Scheme),
            None => url,
        };
        let rest = rest.split_once(['/', '?', '#']).map_or(rest, |(authority, _)| authority);
        let (user_info, authority) = match rest.rsplit_once('@') {
            Some((user_info, authority)) => (Some(user_info), authority),
            None => (None, rest),
        };
        let uri: Uri = format!("http://{authority}/").parse().map_err(|_| ProxyError::NotAUrl)?;
        let host = uri.host().ok_or(ProxyError::NotAUrl)?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        Ok(Self {
            host: host.into(),
            port: uri.port_u16().unwrap_or(80),
            authorization: user_info.map(basic),
        })
    }

    /// The same proxy with these credentials, which are not percent-decoded.
    #[must_use]
    pub fn with_credential(self, user_and_password: &str) -> Self {
        Self { authorization: Some(authorization(user_and_password.as_bytes())), ..self }
    }

    /// The proxy's name or address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The proxy's port.
    pub fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref()
    }
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Proxy({}:{})", self.host, self.port)
    }
}

/// Whether a `NO_PROXY` list matches a host: `*`, a domain with its subdomains, an address or a
/// network.
///
/// There is no standard. These rules are common to curl, Go and Python's requests: comma-separated
/// entries, an optional leading dot, an optional port, case-insensitive. (hyper-util's matcher
/// supports neither ports nor `*.`.)
pub fn excludes(list: &str, host: &str, port: u16) -> bool {
    list.split([',', ' ']).map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| {
        if entry == "*" {
            return true;
        }
        if let Some((network, bits)) = entry.split_once('/') {
            return in_network(host, network, bits);
        }
        let (name, entry_port) = match entry.rsplit_once(':') {
            Some((name, digits)) if !name.contains(':') => (name, digits.parse::<u16>().ok()),
            _ => (entry, None),
        };
        if entry_port.is_some_and(|entry_port| entry_port != port) {
            return false;
        }
        let name = name.trim_start_matches('[').trim_end_matches(']');
        let name = name.strip_prefix("*.").unwrap_or(name).trim_start_matches('.');
        let (name, host) = (name.as_bytes(), host.as_bytes());
        let Some(above) = host.len().checked_sub(name.len()) else { return false };
        host.get(above..).is_some_and(|end| end.eq_ignore_ascii_case(name))
            && (above == 0 || host.get(above - 1) == Some(&b'.'))
    })
}

fn in_network(host: &str, network: &str, bits: &str) -> bool {
    use std::net::IpAddr::{V4, V6};
    let (Ok(host), Ok(network), Ok(bits)) = (host.parse(), network.parse(), bits.parse::<u32>()) else {
        return false;
    };
    match (host, network) {
        (V4(host), V4(network)) if bits <= 32 => {
            (host.to_bits() ^ network.to_bits()).checked_shr(32 - bits).unwrap_or(0) == 0
        }
        (V6(host), V6(network)) if bits <= 128 => {
            (host.to_bits() ^ network.to_bits()).checked_shr(128 - bits).unwrap_or(0) == 0
        }
        (V4(_) | V6(_), V4(_) | V6(_)) => false,
    }
}

/// The value of `Proxy-Authorization` (RFC 7617) for percent-encoded `user:password`.
fn basic(user_info: &str) -> HeaderValue {
    let mut bytes = zeroize::Zeroizing::new(Vec::with_capacity(user_info.len() + 1));
    bytes.extend(percent_encoding::percent_decode_str(user_info));
    authorization(&bytes)
}

fn authorization(user_and_password: &[u8]) -> HeaderValue {
    let mut bytes = zeroize::Zeroizing::new(user_and_password.to_vec());
    if !bytes.contains(&b':') {
        bytes.push(b':');
    }
    // Full capacity at once: reallocation would leave a copy of the secret behind.
    let mut value = zeroize::Zeroizing::new(String::with_capacity(6 + bytes.len().div_ceil(3) * 4));
    value.push_str("Basic ");
    BASE64.encode_string(&bytes, &mut value);
    let mut value = HeaderValue::from_str(&value).expect("base64 is visible ASCII");
    value.set_sensitive(true);
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_urls_and_keeps_their_password_to_itself() {
        let proxy = Proxy::parse("http://us%40er:p%3Ass@proxy.example:3128/").unwrap();
        assert_eq!((proxy.host(), proxy.port()), ("proxy.example", 3128));
        let authorization = proxy.authorization().unwrap();
        assert_eq!(authorization, "Basic dXNAZXI6cDpzcw==");
        assert!(authorization.is_sensitive());
        assert_eq!(format!("{proxy:?}"), "Proxy(proxy.example:3128)");
        let proxy = Proxy::parse("proxy.example").unwrap();
        assert_eq!((proxy.host(), proxy.port(), proxy.authorization()), ("proxy.example", 80, None));
        assert_eq!(Proxy::parse("http://[::1]:3128").unwrap().host(), "::1");
        assert_eq!(Proxy::parse("socks5://proxy").unwrap_err(), ProxyError::Scheme);
        assert_eq!(Proxy::parse("https://proxy").unwrap_err(), ProxyError::Scheme);
        assert_eq!(Proxy::parse("http://").unwrap_err(), ProxyError::NotAUrl);
    }

    #[test]
    fn no_proxy_names_hosts() {
        for (list, host, port, excluded) in [
            ("", "api.openai.com", 443, false),
            ("*", "api.openai.com", 443, true),
            ("openai.com", "api.openai.com", 443, true),
            (".openai.com", "api.openai.com", 443, true),
            ("*.openai.com", "api.openai.com", 443, true),
            ("API.OpenAI.com", "api.openai.com", 443, true),
            ("enai.com", "api.openai.com", 443, false),
            ("other, openai.com", "api.openai.com", 443, true),
            ("openai.com:443", "api.openai.com", 443, true),
            ("openai.com:8443", "api.openai.com", 443, false),
            ("10.0.0.0/8", "10.1.2.3", 80, true),
            ("10.0.0.0/8", "11.1.2.3", 80, false),
            ("0.0.0.0/0", "11.1.2.3", 80, true),
            ("fd00::/8", "fd12::1", 80, true),
            ("::1", "::1", 80, true),
            ("[::1]", "::1", 80, true),
            ("10.0.0.0/8", "api.openai.com", 443, false),
            ("10.0.0.0/99", "10.1.2.3", 443, false),
        ] {
            assert_eq!(excludes(list, host, port), excluded, "{list} {host}");
        }
    }
}
