//! Callers that can be told apart, and a listener that somebody may use.

use std::collections::BTreeSet;

use super::Rules;
use crate::config::Config;
use crate::config::callers::Caller;
use crate::config::server::ClientAuth;

pub(super) fn check(config: &Config, rules: &mut Rules<'_, '_>) {
    let places = rules.kept("callers");
    rules.names("caller", &['-', '_', '.', '/', ':'], &places, config.callers.iter().map(|of| &of.name));
    for (index, (caller, place)) in config.callers.iter().zip(&places).enumerate() {
        if RESERVED.contains(&caller.name.as_str()) {
            let means = "stands for callers that nobody knows; write another name";
            rules.refuse_at(place, "name", format!("\"{}\" {means}", caller.name));
        }
        identity(config, caller, place, rules);
        credential(config, caller, place, rules);
        unique(caller, config.callers[..index].iter().zip(&places), place, rules);
        own_keys(caller, place, rules);
        if caller.max_waiting.is_some_and(|waiting| waiting > config.admission.max_waiting_per_caller) {
            rules.refuse(
                &[&format!("{place}.max_waiting"), "admission.max_waiting_per_caller"],
                "is more than admission.max_waiting_per_caller; write at most that",
            );
        }
    }
    reachable(config, rules);
    guarantees(config, rules);
}

/// Guarantees that can all be kept.
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
            own.and_then(|own| own.guarantee).or(caller.guarantee).map_or(0.0, |part| part.0)
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

/// Names that mean something else in metrics.
const RESERVED: [&str; 2] = ["default", "other"];

fn identity(config: &Config, caller: &Caller, place: &str, rules: &mut Rules<'_, '_>) {
    if caller.all_keys().next().is_none()
        && caller.header.is_none()
        && caller.san.is_none()
        && caller.token.is_none()
    {
        let keys = ["key", "token", "header", "san"].map(|key| format!("{place}.{key}"));
        let keys = [&keys[..], &[place.to_owned()]].concat();
        rules.refuse(
            &keys.iter().map(String::as_str).collect::<Vec<_>>(),
            "nothing tells who it is; write a key, a token, a header or a san",
        );
    }
    if caller.san.is_some() && config.server.tls.client_auth == ClientAuth::None {
        rules.refuse(
            &[&format!("{place}.san"), "server.tls.client_auth"],
            "nobody is asked for a certificate; write server.tls.client_auth = \"required\" or \"optional\"",
        );
    }
    if let Some(header) = &caller.header {
        let own = ["authorization", "x-api-key", "api-key", "proxy-authorization", "cookie"];
        if own.contains(&header.name.as_str()) {
            let message = "holds a secret; write key = \"env:NAME\" instead, which is never sent upstream";
            rules.refuse_at(place, "header.name", message);
        }
    }
    for (at, key) in caller.all_keys() {
        if rules.reader.sources.resolves() && key.secret.expose().len() < 16 {
            let reference = key.source.reference();
            let message =
                format!("{reference} is shorter than 16 characters and can be guessed; use a longer key");
            rules.refuse_at(place, &at, message);
        }
    }
}

fn credential(config: &Config, caller: &Caller, place: &str, rules: &mut Rules<'_, '_>) {
    let first = caller.all_keys().next();
    if let Some((at, _)) = first.filter(|_| caller.credential.is_none() && !config.has_credential()) {
        rules.refuse(
            &[&format!("{place}.{at}"), "upstream.credential"],
            "this Weir key would be sent to the API, which does not know it; set upstream.credential or this caller's credential",
        );
    }
    let credentials = config.callers.iter().filter_map(|caller| caller.credential.as_ref());
    let members = config.upstreams.iter().filter_map(|member| member.credential.as_ref());
    let credentials = credentials.chain(config.upstream.credential.as_ref()).chain(members);
    let shown = caller
        .all_keys()
        .find(|(_, key)| credentials.clone().any(|credential| credential.secret == key.secret));
    if let Some((at, _)) = shown {
        rules.refuse_at(
            place,
            &at,
            "is also a credential for the upstream, which no caller should know; give the caller a key of its own",
        );
    }
    if caller.credential.is_some() && config.upstreams.iter().any(|member| member.credential.is_some()) {
        let message = "is never sent: each of [[upstreams]] has a credential of its own; leave this out";
        rules.refuse_at(place, "credential", message);
    }
    if caller.credential.is_none() {
        rules.refuse_set(
            place,
            &[("organization", caller.organization.is_some()), ("project", caller.project.is_some())],
            "goes with the caller's own credential only; write that too, or leave this out",
        );
    }
}

/// Keys that differ from each other: of two that are one, the rotation would have a gap.
fn own_keys(caller: &Caller, place: &str, rules: &mut Rules<'_, '_>) {
    let keys: Vec<_> = caller.all_keys().collect();
    for (index, (at, key)) in keys.iter().enumerate() {
        if let Some((first, _)) = keys[..index].iter().find(|(_, other)| other.secret == key.secret) {
            let where_else = rules.line(&format!("{place}.{first}"));
            rules.refuse_at(place, at, format!("is the same key as {first}{where_else}; leave one out"));
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
                let where_else = rules.line(&format!("{other_place}.{other_at}"));
                let message = format!("is the key of caller \"{name}\"{where_else} too; give each its own");
                rules.refuse_at(place, &at, message);
            }
        }
        let same = (
            caller.header.is_some() && caller.header == other.header,
            caller.token.is_some() && caller.token == other.token,
            caller.san.is_some() && caller.san == other.san,
        );
        for (same, key, what, own) in [
            (same.0, "header", "is the header", "its own value"),
            (same.1, "token", "are the claims", "its own"),
            (same.2, "san", "is the name", "its own"),
        ] {
            if same {
                rules.refuse_at(place, key, format!("{what} of caller \"{name}\" too; give each {own}"));
            }
        }
    }
}

fn reachable(config: &Config, rules: &mut Rules<'_, '_>) {
    if !config.callers.is_empty() || config.serves_unknown_callers() || !rules.kept("callers").is_empty() {
        return;
    }
    if rules.written("server.allow_unknown_callers") {
        rules.refuse(
            &["server.allow_unknown_callers"],
            "nobody could use Weir; add [[callers]], or write true",
        );
    } else if !rules.written("callers") {
        rules.refuse(
            &["server.listen"],
            "everybody who reaches this address could spend upstream.credential, so nobody may; \
             add [[callers]], or write server.allow_unknown_callers = true",
        );
    }
}
