//! The replicas' meeting place.

use super::Rules;
use crate::config::Config;
use crate::replicas::Address;
use crate::upstream::tls::Roots;

pub(super) fn check(config: &Config, rules: &mut Rules<'_, '_>) {
    let of = &config.replicas;
    let name = &of.namespace;
    if name.is_empty() || name.len() > 64 || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
        rules.refuse(&["replicas.namespace"], "is no short name; write up to 64 visible ASCII characters");
    }
    if of.client_cert.is_some() != of.client_key.is_some() {
        rules.refuse(
            &["replicas.client_cert", "replicas.client_key"],
            "need each other; write both, or leave both out",
        );
    }
    match &of.redis {
        Some(redis) if rules.reader.sources.resolves() => match Address::parse(redis.secret.expose()) {
            Ok(address) if !address.is_tls() && of.roots != Roots::System => {
                rules.refuse(
                    &["replicas.roots"],
                    "has no effect: replicas.redis is without TLS; use rediss:// or leave this out",
                );
            }
            Ok(_) => {}
            Err(error) => {
                rules.refuse(&["replicas.redis"], format!("{} {error}", redis.source.reference()));
            }
        },
        Some(_) | None => {}
    }
}
