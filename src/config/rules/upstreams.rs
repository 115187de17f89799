//! A pool whose members can be told apart, and in which each named model has a member.

use super::{MARKS, Rules};
use crate::config::Config;
use crate::config::upstreams::{Member, ModelName};
use crate::pool::Names;

/// Keys of `[upstream]` that each of `[[upstreams]]` has for itself.
const OWN_KEYS: [&str; 6] = ["url", "credential", "auth", "organization", "project", "tls.server_name"];
/// Upstreams at most.
const MOST: usize = 256;

pub(super) fn check(config: &Config, rules: &mut Rules<'_, '_>) {
    let places = rules.kept("upstreams");
    if places.is_empty() {
        return;
    }
    for key in OWN_KEYS.map(|key| format!("upstream.{key}")) {
        if rules.written(&key) {
            rules.refuse(
                &[&key],
                "is not read beside [[upstreams]]; write it there for each, or leave those out",
            );
        }
    }
    rules.at_most(MOST, "upstreams", &places);
    rules.names("upstream", &MARKS, &places, config.upstreams.iter().map(|of| &of.name));
    for (index, (member, place)) in config.upstreams.iter().zip(&places).enumerate() {
        if ["other", Names::THE_ONE].contains(&member.name.as_str()) {
            let message = format!("\"{}\" has another meaning in metrics; write another", member.name);
            rules.refuse_at(place, "name", message);
        }
        unique(member, &config.upstreams[..index], place, rules);
        names(member, place, rules);
        if member.credential.is_none() {
            rules.refuse_set(
                place,
                &[("organization", member.organization.is_some()), ("project", member.project.is_some())],
                "goes with a credential only; write that too, or let callers send the header",
            );
        }
    }
    models(config, rules);
}

fn unique(member: &Member, before: &[Member], place: &str, rules: &mut Rules<'_, '_>) {
    for other in before {
        let secret = |member: &Member| member.credential.as_ref().map(|key| key.secret.clone());
        if other.url == member.url && secret(other) == secret(member) && other.project == member.project {
            let same = "with the same key again: its limits would count twice; leave one out";
            rules.refuse_at(place, "url", format!("is \"{}\" {same}", other.name));
        }
        if other.home && member.home {
            let message = format!("\"{}\" is the home already; write home = true once", other.name);
            rules.refuse_at(place, "home", message);
        }
    }
}

/// Names that are used, that are given once, and of which none is renamed again.
fn names(member: &Member, place: &str, rules: &mut Rules<'_, '_>) {
    for (index, ModelName { model, name }) in member.names.iter().enumerate() {
        let place = format!("{place}.names[{index}]");
        if member.names[..index].iter().any(|other| other.model == *model) {
            rules.refuse_at(&place, "model", format!("\"{model}\" has a name already; leave one out"));
        }
        if member.names.iter().any(|other| other.model == *name) {
            let again = "is given another name itself, and names are changed once; write the last name";
            rules.refuse_at(&place, "name", format!("\"{name}\" {again}"));
        }
        let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '/');
        if name.is_empty() || name.len() > 256 || !name.chars().all(valid) {
            rules.refuse_at(&place, "name", "is no model's name; write letters, digits and - _ . : /");
        }
        if !serves(member, model) {
            let never = "fits none of this upstream's models, and never comes here; add it to models";
            rules.refuse_at(&place, "model", format!("\"{model}\" {never}"));
        }
    }
}

fn serves(member: &Member, model: &str) -> bool {
    member.models.is_empty() || member.models.iter().any(|pattern| pattern.matches(model))
}

/// Each model that the limits name has an upstream.
fn models(config: &Config, rules: &mut Rules<'_, '_>) {
    let families = rules.kept("limits.families");
    for (family, place) in config.limits.families.iter().zip(&families) {
        for pattern in &family.models {
            let model = pattern.as_str();
            let served = config.upstreams.iter().any(|member| {
                serves(member, model) || member.models.iter().any(|served| pattern.matches(served.as_str()))
            });
            if !served {
                let advice = "add it to the models of one, or leave it out";
                rules.refuse_at(place, "models", format!("no upstream serves \"{model}\"; {advice}"));
            }
        }
    }
}
