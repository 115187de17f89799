//! Rules: issuers have different names and one source of keys each, and each one that a caller
//! names exists.

use super::{MARKS, Rules, refuse};
use crate::config::Config;
use crate::config::issuers::Issuer;

/// The most issuers: each has its own metric series.
pub(crate) const MOST: usize = 16;

pub(super) fn check(config: &Config, rules: &mut Rules<'_, '_>) {
    let places = rules.kept("issuers");
    rules.at_most(MOST, "issuers", &places);
    rules.names("issuer", &MARKS, &places, config.issuers.iter().map(|of| &of.name));
    for (index, (of, place)) in config.issuers.iter().zip(&places).enumerate() {
        let same = |other: &Issuer| other.issuer == of.issuer && other.audience == of.audience;
        let first = config.issuers[..index].iter().position(same);
        let line = first.map(|first| rules.line(&format!("{}.audience", places[first])));
        let line = line.unwrap_or_default();
        refuse! { rules;
            first.is_some() => "{place}.audience":
                "is the audience of an earlier issuer{line}; write another";
            of.jwks_url.is_some() == of.jwks_file.is_some() => "{place}.jwks_url", "{place}.jwks_file", "{place}":
                "keys come from one place: write jwks_url or jwks_file";
            of.jwks_url.as_ref().is_some_and(|url| !url.is_private()) => "{place}.jwks_url":
                "whoever is on the way could put in a key of its own; write https";
        }
    }
    for (caller, place) in config.callers.iter().zip(&rules.kept("callers")) {
        let Some(token) = &caller.token else { continue };
        let issuer = &token.issuer;
        refuse! { rules;
            config.issuers.iter().all(|of| of.name != *issuer) => "{place}.token.issuer":
                "there is no issuer \"{issuer}\"; add [[issuers]] with that name";
            caller.credential.is_none() && !config.has_credential() => "{place}.token", "upstream.credential":
                "this caller's token would be sent to the API, which does not know it; set upstream.credential or \
                 this caller's credential";
        }
    }
}
