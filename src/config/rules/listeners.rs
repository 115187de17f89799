//! The two listeners and the upstream: three different places, and TLS that is complete.

use std::net::{IpAddr, SocketAddr};

use super::Rules;
use crate::config::Config;
use crate::config::server::ClientAuth;

pub(super) fn check(config: &Config, rules: &mut Rules<'_, '_>) {
    addresses(config, rules);
    server_tls(config, rules);
    upstream(config, rules);
    let (per_peer, all) = (config.server.max_connections_per_peer, config.server.max_connections);
    rules.within("server.max_connections_per_peer", "server.max_connections", per_peer > all);
    if let Some(token) = &config.admin.token
        && rules.reader.sources.resolves()
        && token.secret.expose().len() < 16
    {
        rules.refuse(&["admin.token"], "is shorter than 16 characters and can be guessed; use a longer one");
    }
    let secret = ["authorization", "proxy-authorization", "cookie", "set-cookie", "api-key", "x-api-key"];
    for (name, place) in config.report.headers.iter().zip(rules.kept("report.headers")) {
        if secret.contains(&name.as_str()) {
            rules.refuse(
                &[&place],
                format!("\"{name}\" holds a credential, which is never kept; leave it out"),
            );
        }
    }
}

fn addresses(config: &Config, rules: &mut Rules<'_, '_>) {
    let (listen, admin) = (config.server.listen, config.admin.listen);
    if overlap(listen, admin) {
        rules.refuse(
            &["admin.listen", "server.listen"],
            format!("{admin} and server.listen {listen} are the same place; write another port"),
        );
    }
    let places = rules.kept("upstreams").into_iter().map(|place| format!("{place}.url"));
    let several = config.upstreams.iter().map(|member| &member.url).zip(places);
    let one = config.upstreams.is_empty().then(|| (&config.upstream.url, "upstream.url".to_owned()));
    for (url, place) in several.chain(one) {
        let host = match url.host() {
            "localhost" => Some(IpAddr::from([127, 0, 0, 1])),
            host => host.parse().ok(),
        };
        for (key, own) in [("server.listen", listen), ("admin.listen", admin)] {
            if host.is_some_and(|host| overlap(SocketAddr::new(host, url.port()), own)) {
                rules.refuse(
                    &[&place, key],
                    format!(
                        "{url} is Weir's own {key}: requests would go round in a circle; write where the API is"
                    ),
                );
            }
        }
    }
}

/// Whether a connection to one can reach the other. Port 0 is chosen when it is bound, and never
/// the same.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let same_host = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && one.port() != 0 && same_host
}

fn server_tls(config: &Config, rules: &mut Rules<'_, '_>) {
    let tls = &config.server.tls;
    identity("server.tls", ("cert", tls.cert.is_some()), ("key", tls.key.is_some()), rules);
    let asks = tls.client_auth != ClientAuth::None;
    if !asks && tls.client_ca.is_some() {
        rules.refuse(
            &["server.tls.client_ca"],
            "has no effect with client_auth = \"none\"; write client_auth = \"required\" or \"optional\"",
        );
    }
    if asks && tls.client_ca.is_none() {
        rules.refuse(
            &["server.tls.client_auth"],
            "needs the authorities that client certificates come from; write server.tls.client_ca",
        );
    } else if asks && tls.cert.is_none() && tls.key.is_none() {
        rules.refuse(
            &["server.tls.client_auth"],
            "needs TLS on the listener; write server.tls.cert and server.tls.key",
        );
    }
}

/// A certificate and its private key go together.
fn identity(place: &str, cert: (&str, bool), key: (&str, bool), rules: &mut Rules<'_, '_>) {
    if cert.1 && !key.1 {
        rules.refuse_at(place, cert.0, format!("has no private key; write {place}.{} too", key.0));
    } else if key.1 && !cert.1 {
        rules.refuse_at(place, key.0, format!("has no certificate; write {place}.{} too", cert.0));
    }
}

fn upstream(config: &Config, rules: &mut Rules<'_, '_>) {
    let upstream = &config.upstream;
    let tls = &upstream.tls;
    let (cert, key) = (tls.client_cert.is_some(), tls.client_key.is_some());
    identity("upstream.tls", ("client_cert", cert), ("client_key", key), rules);
    let encrypts = config.members().iter().any(|member| member.url.is_tls());
    if !encrypts {
        for key in ["upstream.tls.client_cert", "upstream.tls.client_key", "upstream.tls.server_name"] {
            if rules.written(key) {
                rules.refuse(&[key], "has no effect: upstream.url is http; write https or leave this out");
            }
        }
    }
    if upstream.credential.is_none() {
        rules.refuse_set(
            "upstream",
            &[("organization", upstream.organization.is_some()), ("project", upstream.project.is_some())],
            "goes with upstream.credential only; write that too, or let callers send the header",
        );
    }
    if rules.written("upstream.proxy_credential") && upstream.proxy.is_none() {
        rules.refuse(
            &["upstream.proxy_credential"],
            "there is no proxy; write upstream.proxy, or leave this out",
        );
    }
}
