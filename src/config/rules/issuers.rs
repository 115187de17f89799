//! Issuers that can be told apart and whose keys come from one place, and callers that name one.

use super::Rules;
use crate::config::Config;

/// Issuers at most: each has series.
pub(crate) const MOST: usize = 16;

pub(super) fn check(config: &Config, rules: &mut Rules<'_, '_>) {
    let places = rules.kept("issuers");
    if places.len() > MOST {
        rules.refuse(&["issuers"], format!("are more than {MOST}; leave some out"));
    }
    for (index, (of, place)) in config.issuers.iter().zip(&places).enumerate() {
        let key = |name: &str| format!("{place}.{name}");
        let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if of.name.len() > 64 || !of.name.chars().all(valid) {
            rules.refuse(
                &[&key("name")],
                "is not fit for a metric; write at most 64 letters, digits and - _ .",
            );
        }
        let before = &config.issuers[..index];
        for (field, is_same) in [
            ("name", before.iter().position(|other| other.name == of.name)),
            (
                "audience",
                before.iter().position(|other| other.issuer == of.issuer && other.audience == of.audience),
            ),
        ] {
            if let Some(first) = is_same {
                let line = rules.line(&format!("{}.{field}", places[first]));
                rules.refuse(
                    &[&key(field)],
                    format!("is the {field} of an earlier issuer{line}; write another"),
                );
            }
        }
        if of.jwks_url.is_some() == of.jwks_file.is_some() {
            rules.refuse(
                &[&key("jwks_url"), &key("jwks_file"), place],
                "keys come from one place: write jwks_url or jwks_file",
            );
        }
        let loopback = |host: &str| ["localhost", "127.0.0.1", "::1"].contains(&host);
        if of.jwks_url.as_ref().is_some_and(|url| !url.is_tls() && !loopback(url.host())) {
            rules.refuse(
                &[&key("jwks_url")],
                "whoever is on the way could put in a key of its own; write https",
            );
        }
    }
    for (caller, place) in config.callers.iter().zip(&rules.kept("callers")) {
        let Some(token) = &caller.token else { continue };
        if config.issuers.iter().all(|of| of.name != token.issuer) {
            rules.refuse(
                &[&format!("{place}.token.issuer")],
                format!("there is no issuer \"{}\"; add [[issuers]] with that name", token.issuer),
            );
        }
        if caller.credential.is_none() && !config.has_credential() {
            rules.refuse(
                &[&format!("{place}.token"), "upstream.credential"],
                "this caller's token would be sent to the API, which does not know it; set upstream.credential or this caller's credential",
            );
        }
    }
}
