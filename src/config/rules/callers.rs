//! Rules: callers can be distinguished, and the listener serves at least one.

use std::collections::BTreeSet;

use super::{Rules, refuse};
use crate::config::Config;
use crate::config::callers::Caller;
use crate::config::secret::SecretRef;
use crate::config::server::ClientAuth;

pub(super) fn check(config: &Config, rules: &mut Rules<'_, '_>) {
    let places = rules.kept("callers");
    rules.names("caller", &['-', '_', '.', '/', ':'], &places, config.callers.iter().map(|of| &of.name));
    for (index, (caller, place)) in config.callers.iter().zip(&places).enumerate() {
        let name = &caller.name;
        refuse! { rules;
            RESERVED.contains(&name.as_str()) => "{place}.name":
                "\"{name}\" stands for callers that nobody knows; write another name";
        }
        identity(config, caller, place, rules);
        credential(config, caller, place, rules);
        unique(caller, config.callers[..index].iter().zip(&places), place, rules);
        own_keys(caller, place, rules);
        refuse! { rules;
            caller.max_waiting.is_some_and(|waiting| waiting > config.admission.max_waiting_per_caller)
                => "{place}.max_waiting", "admission.max_waiting_per_caller":
                "is more than admission.max_waiting_per_caller; write at most that";
        }
    }
    reachable(config, rules);
    guarantees(config, rules);
}

/// The sum of guarantees can be kept.
fn guarantees(config: &Config, rules: &mut Rules<'_, '_>) {
    let names: BTreeSet<&str> = config
        .callers
        .iter()
        .flat_map(|caller| &caller.families)
        .map(|family| family.name.as_str())
        .collect();
    for family in names.into_iter().map(Some).chain([None]) {
        let part = |caller: &Caller| {
            let own = caller.families.iter().find(|own| Some(own.name.as_str()) == family);
            own.and_then(|own| own.guarantee).or(caller.guarantee).unwrap_or_default()
        };
        let sum: f64 = config.callers.iter().map(part).sum();
        if sum > 1.0 {
            let of = family.map_or_else(String::new, |family| format!(" for {family}"));
            let message = format!(
                "the guarantees of all callers{of} add up to {:.0} %; write at most 100 % in all",
                sum * 100.0
            );
            rules.refuse(&["callers"], message);
            return;
        }
    }
}

/// Names with another meaning in metrics.
const RESERVED: [&str; 2] = ["default", "other"];

fn identity(config: &Config, caller: &Caller, place: &str, rules: &mut Rules<'_, '_>) {
    let unknown = caller.all_keys().next().is_none()
        && caller.header.is_none()
        && caller.san.is_none()
        && caller.token.is_none();
    let own = ["authorization", "x-api-key", "api-key", "proxy-authorization", "cookie"];
    refuse! { rules;
        unknown => "{place}.key", "{place}.token", "{place}.header", "{place}.san", "{place}":
            "nothing tells who it is; write a key, a token, a header or a san";
        caller.san.is_some() && config.server.tls.client_auth == ClientAuth::None
            => "{place}.san", "server.tls.client_auth":
            "nobody is asked for a certificate; write server.tls.client_auth = \"required\" or \"optional\"";
        caller.header.as_ref().is_some_and(|header| own.contains(&header.name.as_str()))
            => "{place}.header.name":
            "holds a secret; write key = \"env:NAME\" instead, which is never sent upstream";
    }
    let resolves = rules.reader.sources.resolves();
    for (at, key) in caller.all_keys() {
        let reference = key.source.reference();
        refuse! { rules;
            resolves && key.secret.expose().len() < 16 => "{place}.{at}":
                "{reference} is shorter than 16 characters and can be guessed; use a longer key";
        }
    }
}

fn credential(config: &Config, caller: &Caller, place: &str, rules: &mut Rules<'_, '_>) {
    let members = || config.upstreams.iter().filter_map(|member| member.credential.as_ref());
    let credentials = config.callers.iter().filter_map(|caller| caller.credential.as_ref());
    let credentials = credentials.chain(config.upstream.credential.as_ref()).chain(members());
    let is_credential = |key: &SecretRef| credentials.clone().any(|other| other.secret == key.secret);
    let none = caller.credential.is_none();
    if let Some((at, _)) = caller.all_keys().next() {
        refuse! { rules;
            none && !config.has_credential() => "{place}.{at}", "upstream.credential":
                "this Weir key would be sent to the API, which does not know it; set upstream.credential or this \
                 caller's credential";
        }
    }
    if let Some((at, _)) = caller.all_keys().find(|(_, key)| is_credential(key)) {
        let known = "is also a credential for the upstream, which no caller should know; give the caller a key of its own";
        rules.refuse(&[&format!("{place}.{at}")], known);
    }
    refuse! { rules;
        !none && members().next().is_some() => "{place}.credential":
            "is never sent: each of [[upstreams]] has a credential of its own; leave this out";
    }
    for (key, name) in [("organization", &caller.organization), ("project", &caller.project)] {
        refuse! { rules;
            none && name.is_some() => "{place}.{key}":
                "goes with the caller's own credential only; write that too, or leave this out";
        }
    }
}

/// The keys of one caller differ: with two equal keys, a rotation would have a gap.
fn own_keys(caller: &Caller, place: &str, rules: &mut Rules<'_, '_>) {
    let keys: Vec<_> = caller.all_keys().collect();
    for (index, (at, key)) in keys.iter().enumerate() {
        if let Some((first, _)) = keys[..index].iter().find(|(_, other)| other.secret == key.secret) {
            let line = rules.line(&format!("{place}.{first}"));
            let same = format!("is the same key as {first}{line}; leave one out");
            rules.refuse(&[&format!("{place}.{at}")], same);
        }
    }
}

fn unique<'a>(
    caller: &Caller,
    before: impl Iterator<Item = (&'a Caller, &'a String)>,
    place: &str,
    rules: &mut Rules<'_, '_>,
) {
    for (other, other_place) in before {
        let name = &other.name;
        for (at, key) in caller.all_keys() {
            if let Some((other_at, _)) = other.all_keys().find(|(_, known)| known.secret == key.secret) {
                let line = rules.line(&format!("{other_place}.{other_at}"));
                let same = format!("is the key of caller \"{name}\"{line} too; give each its own");
                rules.refuse(&[&format!("{place}.{at}")], same);
            }
        }
        refuse! { rules;
            caller.header.is_some() && caller.header == other.header => "{place}.header":
                "is the header of caller \"{name}\" too; give each its own value";
            caller.token.is_some() && caller.token == other.token => "{place}.token":
                "are the claims of caller \"{name}\" too; give each its own";
            caller.san.is_some() && caller.san == other.san => "{place}.san":
                "is the name of caller \"{name}\" too; give each its own";
        }
    }
}

fn reachable(config: &Config, rules: &mut Rules<'_, '_>) {
    if !config.callers.is_empty() || config.serves_unknown_callers() || !rules.kept("callers").is_empty() {
        return;
    }
    let says = rules.written("server.allow_unknown_callers");
    refuse! { rules;
        says => "server.allow_unknown_callers": "nobody could use Weir; add [[callers]], or write true";
        !says && !rules.written("callers") => "server.listen":
            "everybody who reaches this address could spend upstream.credential, so nobody may; add [[callers]], or \
             write server.allow_unknown_callers = true";
    }
}
