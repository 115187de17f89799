//! Rules: exchanges have different names and the fields that their endpoint needs, and each one
//! that a credential names exists.

use super::{MARKS, Rules, refuse};
use crate::config::Config;
use crate::config::exchanges::Grant;
use crate::config::secret::{self, SecretSource};

/// The most exchanges: each has its own metric series.
pub(crate) const MOST: usize = 16;

pub(super) fn check(config: &Config, rules: &mut Rules<'_, '_>) {
    let places = rules.kept("exchanges");
    rules.at_most(MOST, "exchanges", &places);
    rules.names("exchange", &MARKS, &places, config.exchanges.iter().map(|of| &of.name));
    for (of, place) in config.exchanges.iter().zip(&places) {
        let (provider, account) = (of.identity_provider_id.is_some(), of.service_account_id.is_some());
        let lone = if provider { "identity_provider_id" } else { "service_account_id" };
        refuse! { rules;
            !of.url.is_private() => "{place}.url": "would send the subject token in the clear; write https";
            matches!(of.subject_token.source, SecretSource::Exchange(_)) => "{place}.subject_token":
                "can't come from an exchange; write \"file:PATH\"";
            of.client_id.is_none() && of.grant == Grant::ClientCredentials => "{place}.client_id", "{place}":
                "is missing: the grant \"client-credentials\" needs it; write it";
            provider != account => "{place}.{lone}", "{place}":
                "identity_provider_id and service_account_id go together; write both, or leave both out";
        }
    }
    // Only upstream credentials may come from an exchange, and that exchange must exist.
    for (key, secret) in secret::all(config) {
        let SecretSource::Exchange(name) = &secret.source else { continue };
        let is_credential = key.ends_with(".credential");
        refuse! { rules;
            !is_credential => "{key}": "can't come from an exchange; write \"env:NAME\" or \"file:PATH\"";
            is_credential && config.exchanges.iter().all(|exchange| exchange.name != *name) => "{key}":
                "there is no exchange \"{name}\"; add [[exchanges]] with that name";
        }
    }
}
