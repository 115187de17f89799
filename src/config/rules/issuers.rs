//! Issuers that can be told apart and whose keys come from one place, and callers that name one.

use super::{MARKS, Rules};
use crate::config::Config;
use crate::config::issuers::Issuer;

/// Issuers at most: each has series.
pub(crate) const MOST: usize = 16;

pub(super) fn check(config: &Config, rules: &mut Rules<'_, '_>) {
    let places = rules.kept("issuers");
    rules.at_most(MOST, "issuers", &places);
    rules.names("issuer", &MARKS, &places, config.issuers.iter().map(|of| &of.name));
    for (index, (of, place)) in config.issuers.iter().zip(&places).enumerate() {
        let key = |name: &str| format!("{place}.{name}");
        let same = |other: &Issuer| other.issuer == of.issuer && other.audience == of.audience;
        if let Some(first) = config.issuers[..index].iter().position(same) {
            let line = rules.line(&format!("{}.audience", places[first]));
            let message = format!("is the audience of an earlier issuer{line}; write another");
            rules.refuse_at(place, "audience", message);
        }
        if of.jwks_url.is_some() == of.jwks_file.is_some() {
            rules.refuse(
                &[&key("jwks_url"), &key("jwks_file"), place],
                "keys come from one place: write jwks_url or jwks_file",
            );
        }
        if of.jwks_url.as_ref().is_some_and(|url| !url.is_private()) {
            let message = "whoever is on the way could put in a key of its own; write https";
            rules.refuse_at(place, "jwks_url", message);
        }
    }
    for (caller, place) in config.callers.iter().zip(&rules.kept("callers")) {
        let Some(token) = &caller.token else { continue };
        if config.issuers.iter().all(|of| of.name != token.issuer) {
            let message = format!("there is no issuer \"{}\"; add [[issuers]] with that name", token.issuer);
            rules.refuse_at(place, "token.issuer", message);
        }
        if caller.credential.is_none() && !config.has_credential() {
            rules.refuse(
                &[&format!("{place}.token"), "upstream.credential"],
                "this caller's token would be sent to the API, which does not know it; set upstream.credential or this caller's credential",
            );
        }
    }
}
