//! Rules: the two listeners and the upstream have different addresses, and TLS is complete.

use std::net::{IpAddr, SocketAddr};

use super::{Rules, refuse};
use crate::config::Config;
use crate::config::server::ClientAuth;

pub(super) fn check(config: &Config, rules: &mut Rules<'_, '_>) {
    addresses(config, rules);
    server_tls(config, rules);
    upstream(config, rules);
    let (server, token) = (&config.server, config.admin.token.as_ref());
    let resolves = rules.reader.sources.resolves();
    refuse! { rules;
        server.max_connections_per_peer > server.max_connections
            => "server.max_connections_per_peer", "server.max_connections":
            "is more than server.max_connections allows in all; write at most that";
        resolves && token.is_some_and(|token| token.secret.expose().len() < 16) => "admin.token":
            "is shorter than 16 characters and can be guessed; use a longer one";
    }
    let secret = ["authorization", "proxy-authorization", "cookie", "set-cookie", "api-key", "x-api-key"];
    for (name, place) in config.report.headers.iter().zip(rules.kept("report.headers")) {
        refuse! { rules;
            secret.contains(&name.as_str()) => "{place}":
                "\"{name}\" holds a credential, which is never kept; leave it out";
        }
    }
}

fn addresses(config: &Config, rules: &mut Rules<'_, '_>) {
    let (listen, admin) = (config.server.listen, config.admin.listen);
    refuse! { rules;
        overlap(listen, admin) => "admin.listen", "server.listen":
            "{admin} and server.listen {listen} are the same place; write another port";
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
            refuse! { rules;
                host.is_some_and(|host| overlap(SocketAddr::new(host, url.port()), own)) => "{place}", "{key}":
                    "{url} is Weir's own {key}: requests would go round in a circle; write where the API is";
            }
        }
    }
}

/// Whether two listeners can receive the same connections. Port 0 is chosen at bind time, and
/// always differs.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let same_host = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && one.port() != 0 && same_host
}

fn server_tls(config: &Config, rules: &mut Rules<'_, '_>) {
    let tls = &config.server.tls;
    let (cert, key, authorities) = (tls.cert.is_some(), tls.key.is_some(), tls.client_ca.is_some());
    let asks = tls.client_auth != ClientAuth::None;
    identity("server.tls", ("cert", cert), ("key", key), rules);
    refuse! { rules;
        !asks && authorities => "server.tls.client_ca":
            "has no effect with client_auth = \"none\"; write client_auth = \"required\" or \"optional\"";
        asks && !authorities => "server.tls.client_auth":
            "needs the authorities that client certificates come from; write server.tls.client_ca";
        asks && authorities && !cert && !key => "server.tls.client_auth":
            "needs TLS on the listener; write server.tls.cert and server.tls.key";
    }
}

/// A certificate needs its private key, and the reverse.
fn identity(
    place: &str,
    (cert, has_cert): (&str, bool),
    (key, has_key): (&str, bool),
    rules: &mut Rules<'_, '_>,
) {
    refuse! { rules;
        has_cert && !has_key => "{place}.{cert}": "has no private key; write {place}.{key} too";
        has_key && !has_cert => "{place}.{key}": "has no certificate; write {place}.{cert} too";
    }
}

fn upstream(config: &Config, rules: &mut Rules<'_, '_>) {
    let upstream = &config.upstream;
    let tls = &upstream.tls;
    let (cert, key) = (tls.client_cert.is_some(), tls.client_key.is_some());
    identity("upstream.tls", ("client_cert", cert), ("client_key", key), rules);
    let encrypts = config.members().iter().any(|member| member.url.is_tls());
    for key in ["client_cert", "client_key", "server_name"].map(|key| format!("upstream.tls.{key}")) {
        refuse! { rules;
            !encrypts && rules.written(&key) => "{key}":
                "has no effect: upstream.url is http; write https or leave this out";
        }
    }
    let names = [("organization", &upstream.organization), ("project", &upstream.project)];
    for (key, name) in names {
        refuse! { rules;
            name.is_some() && upstream.credential.is_none() => "upstream.{key}":
                "goes with upstream.credential only; write that too, or let callers send the header";
        }
    }
    refuse! { rules;
        rules.written("upstream.proxy_credential") && upstream.proxy.is_none() => "upstream.proxy_credential":
            "there is no proxy; write upstream.proxy, or leave this out";
    }
}
