//! The replicas' meeting place.

use super::{Rules, refuse};
use crate::config::Config;
use crate::replicas::Address;
use crate::upstream::tls::Roots;

pub(super) fn check(config: &Config, rules: &mut Rules<'_, '_>) {
    let of = &config.replicas;
    let name = &of.namespace;
    refuse! { rules;
        name.is_empty() || name.len() > 64 || !name.bytes().all(|byte| byte.is_ascii_graphic())
            => "replicas.namespace": "is no short name; write up to 64 visible ASCII characters";
        of.client_cert.is_some() != of.client_key.is_some() => "replicas.client_cert", "replicas.client_key":
            "need each other; write both, or leave both out";
    }
    let Some(redis) = of.redis.as_ref().filter(|_| rules.reader.sources.resolves()) else { return };
    match Address::parse(redis.secret.expose()) {
        Ok(address) => refuse! { rules;
            !address.is_tls() && of.roots != Roots::System => "replicas.roots":
                "has no effect: replicas.redis is without TLS; use rediss:// or leave this out";
        },
        Err(error) => rules.refuse(&["replicas.redis"], format!("{} {error}", redis.source.reference())),
    }
}
