//! Exchanges that can be told apart, that ask for what their endpoint needs, and credentials that
//! name one.

use super::{MARKS, Rules};
use crate::config::Config;
use crate::config::exchanges::{Exchange, Grant};
use crate::config::secret::{self, SecretSource};

/// Exchanges at most: each has a series.
pub(crate) const MOST: usize = 16;

pub(super) fn check(config: &Config, rules: &mut Rules<'_, '_>) {
    let places = rules.kept("exchanges");
    rules.at_most(MOST, "exchanges", &places);
    rules.names("exchange", &MARKS, &places, config.exchanges.iter().map(|of| &of.name));
    for (exchange, place) in config.exchanges.iter().zip(&places) {
        if !exchange.url.is_private() {
            rules.refuse_at(place, "url", "would send the subject token in the clear; write https");
        }
        if matches!(exchange.subject_token.source, SecretSource::Exchange(_)) {
            rules.refuse_at(place, "subject_token", "can't come from an exchange; write \"file:PATH\"");
        }
        identity(exchange, place, rules);
    }
    references(config, rules);
}

fn identity(of: &Exchange, place: &str, rules: &mut Rules<'_, '_>) {
    let client = of.client_id.is_none() && of.grant == Grant::ClientCredentials;
    let both = "identity_provider_id and service_account_id go together; write both, or leave both out";
    let provider = of.identity_provider_id.is_some();
    for (wrong, key, message) in [
        (client, "client_id", "is missing: the grant \"client-credentials\" needs it; write it"),
        (provider && of.service_account_id.is_none(), "identity_provider_id", both),
        (!provider && of.service_account_id.is_some(), "service_account_id", both),
    ] {
        if wrong {
            rules.refuse(&[&format!("{place}.{key}"), place], message);
        }
    }
}

/// Only what goes upstream as a credential may come from an exchange, and from one that there is.
fn references(config: &Config, rules: &mut Rules<'_, '_>) {
    for (key, secret) in secret::all(config) {
        let SecretSource::Exchange(name) = &secret.source else { continue };
        let message = if !key.ends_with(".credential") {
            "can't come from an exchange; write \"env:NAME\" or \"file:PATH\"".to_owned()
        } else if config.exchanges.iter().all(|exchange| exchange.name != *name) {
            format!("there is no exchange \"{name}\"; add [[exchanges]] with that name")
        } else {
            continue;
        };
        rules.refuse(&[&key], message);
    }
}
