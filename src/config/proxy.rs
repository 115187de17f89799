//! The HTTP proxy to the upstream: the configured one or that of the environment, unless the
//! upstream is exempt.

use std::net::IpAddr;

use percent_encoding::percent_decode_str;

use super::Config;
use super::read::Reader;
use super::secret::{SecretRef, SecretSource};
use super::tree::Node;
use super::url::BaseUrl;
use crate::caller::Secret;
use crate::pattern::Pattern;
use crate::upstream::proxy;

/// Sets `upstream.proxy` from `HTTPS_PROXY` if the configuration does not set it, and removes it
/// for an exempt upstream.
pub(crate) fn from_environment(mut config: Config, root: &Node<'_>, reader: &mut Reader<'_>) -> Config {
    let upstream = &mut config.upstream;
    if upstream.no_proxy.is_empty() && root.find("upstream.no_proxy").is_none() {
        let (_, exempt) = variable(&["NO_PROXY", "no_proxy"], reader).unwrap_or_default();
        // Other programs share `NO_PROXY`: ignore entries that Weir can't parse.
        upstream.no_proxy =
            exempt.split(',').take(1_000).filter_map(|entry| Pattern::parse(entry.trim())).collect();
    }
    let of_pool = config.upstreams.iter().any(|member| member.url.is_tls());
    let one = config.upstreams.is_empty();
    let ambient = root.find("upstream.proxy").is_none() && if one { upstream.url.is_tls() } else { of_pool };
    if ambient && let Some((name, value)) = variable(&["HTTPS_PROXY", "https_proxy"], reader) {
        match parse(&name, &value) {
            Ok((url, credential)) => {
                upstream.proxy = Some(url);
                upstream.proxy_credential = upstream.proxy_credential.take().or(credential);
            }
            Err(message) => {
                reader.problem_in_environment(name, format!("{message}, or upstream.proxy = \"off\""));
            }
        }
    }
    let loopback = ambient && is_loopback(upstream.url.host());
    if one && (loopback || exempts(&upstream.no_proxy, upstream.url.host(), upstream.url.port())) {
        upstream.proxy = None;
    }
    if upstream.proxy.is_none() {
        upstream.proxy_credential = None;
    }
    config
}

/// Whether requests to this URL of an upstream go through the proxy.
pub(crate) fn is_for(url: &BaseUrl, exempt: &[Pattern]) -> bool {
    url.is_tls() && !is_loopback(url.host()) && !exempts(exempt, url.host(), url.port())
}

fn variable(names: &[&str], reader: &Reader<'_>) -> Option<(String, String)> {
    names.iter().find_map(|name| {
        let value = reader.sources.variable(name)?;
        (!value.trim().is_empty()).then(|| ((*name).to_owned(), value.trim().to_owned()))
    })
}

/// Parses a proxy's URL from an environment variable: it may contain a user, and often has no
/// scheme.
fn parse(name: &str, value: &str) -> Result<(BaseUrl, Option<SecretRef>), String> {
    let (scheme, rest) = value.split_once("://").unwrap_or(("http", value));
    let (user, host) = rest.rsplit_once('@').map_or((None, rest), |(user, host)| (Some(user), host));
    let url = BaseUrl::parse(&format!("{scheme}://{host}"))?;
    let secret = user.map(|user| SecretRef {
        source: SecretSource::Environment(name.to_owned()),
        secret: Secret::new(percent_decode_str(user).decode_utf8_lossy().into_owned()),
    });
    Ok((url, secret))
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether an entry exempts a host: by the rules of `NO_PROXY`, or as a pattern with `*`.
fn exempts(exempt: &[Pattern], host: &str, port: u16) -> bool {
    let host = host.to_ascii_lowercase();
    exempt.iter().any(|pattern| proxy::excludes(pattern.as_str(), &host, port) || pattern.matches(&host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_exempt_a_host_and_all_below_it() {
        for (entry, host, exempt) in [
            ("openai.com", "api.openai.com", true),
            (".openai.com", "api.openai.com", true),
            ("api.openai.com", "api.openai.com", true),
            ("penai.com", "api.openai.com", false),
            ("*", "api.openai.com", true),
            ("*.internal", "gw.internal", true),
            (".", "api.openai.com", false),
            ("gw-*.internal", "gw-1.internal", true),
            ("GW.Internal", "gw.internal", true),
            ("gw.internal:8443", "gw.internal", true),
            ("gw.internal:443", "gw.internal", false),
            ("10.0.0.0/8", "10.1.2.3", true),
            ("fd00::/8", "fd12::1", true),
        ] {
            let pattern = Pattern::parse(entry).unwrap();
            assert_eq!(exempts(&[pattern], host, 8443), exempt, "{entry} {host}");
        }
    }

    #[test]
    fn a_user_becomes_a_secret() {
        let (url, secret) = parse("HTTPS_PROXY", "http://me:p%40ss@proxy:3128").unwrap();
        assert_eq!(url.to_string(), "http://proxy:3128");
        assert_eq!(secret.unwrap().secret.expose(), "me:p@ss");
        assert_eq!(parse("HTTPS_PROXY", "proxy:3128").unwrap().0.to_string(), "http://proxy:3128");
        assert!(parse("HTTPS_PROXY", "socks5://proxy").is_err());
    }
}
