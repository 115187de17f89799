//! Rules: the upstreams of a pool have different names, and each named model has an upstream.

use super::{MARKS, Rules, refuse};
use crate::config::Config;
use crate::config::upstreams::{Member, ModelName};
use crate::pool::Names;

/// Keys of `[upstream]` that each of `[[upstreams]]` sets for itself.
const OWN_KEYS: [&str; 6] = ["url", "credential", "auth", "organization", "project", "tls.server_name"];
/// The most upstreams.
const MOST: usize = 256;

pub(super) fn check(config: &Config, rules: &mut Rules<'_, '_>) {
    let places = rules.kept("upstreams");
    if places.is_empty() {
        return;
    }
    for key in OWN_KEYS.map(|key| format!("upstream.{key}")) {
        refuse! { rules;
            rules.written(&key) => "{key}":
                "is not read beside [[upstreams]]; write it there for each, or leave those out";
        }
    }
    rules.at_most(MOST, "upstreams", &places);
    rules.names("upstream", &MARKS, &places, config.upstreams.iter().map(|of| &of.name));
    for (index, (member, place)) in config.upstreams.iter().zip(&places).enumerate() {
        let name = &member.name;
        refuse! { rules;
            name == "other" || name == Names::THE_ONE => "{place}.name":
                "\"{name}\" has another meaning in metrics; write another";
        }
        unique(member, &config.upstreams[..index], place, rules);
        names(member, place, rules);
        for (key, name) in [("organization", &member.organization), ("project", &member.project)] {
            refuse! { rules;
                name.is_some() && member.credential.is_none() => "{place}.{key}":
                    "goes with a credential only; write that too, or let callers send the header";
            }
        }
    }
    models(config, rules);
}

fn unique(member: &Member, before: &[Member], place: &str, rules: &mut Rules<'_, '_>) {
    let secret = |member: &Member| member.credential.as_ref().map(|key| key.secret.clone());
    for other in before {
        let name = &other.name;
        refuse! { rules;
            other.url == member.url && secret(other) == secret(member) && other.project == member.project
                => "{place}.url":
                "is \"{name}\" with the same key again: its limits would count twice; leave one out";
            other.home && member.home => "{place}.home":
                "\"{name}\" is the home already; write home = true once";
        }
    }
}

/// A member's model names are used, appear once, and none is renamed twice.
fn names(member: &Member, place: &str, rules: &mut Rules<'_, '_>) {
    let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '/');
    for (index, ModelName { model, name }) in member.names.iter().enumerate() {
        refuse! { rules;
            member.names[..index].iter().any(|other| other.model == *model) => "{place}.names[{index}].model":
                "\"{model}\" has a name already; leave one out";
            member.names.iter().any(|other| other.model == *name) => "{place}.names[{index}].name":
                "\"{name}\" is given another name itself, and names are changed once; write the last name";
            name.is_empty() || name.len() > 256 || !name.chars().all(valid) => "{place}.names[{index}].name":
                "is no model's name; write letters, digits and - _ . : /";
            !serves(member, model) => "{place}.names[{index}].model":
                "\"{model}\" fits none of this upstream's models, and never comes here; add it to models";
        }
    }
}

fn serves(member: &Member, model: &str) -> bool {
    member.models.is_empty() || member.models.iter().any(|pattern| pattern.matches(model))
}

/// Each model that the limits name is served by an upstream.
fn models(config: &Config, rules: &mut Rules<'_, '_>) {
    let families = rules.kept("limits.families");
    for (family, place) in config.limits.families.iter().zip(&families) {
        for pattern in &family.models {
            let model = pattern.as_str();
            let served = config.upstreams.iter().any(|member| {
                serves(member, model) || member.models.iter().any(|served| pattern.matches(served.as_str()))
            });
            refuse! { rules;
                !served => "{place}.models":
                    "no upstream serves \"{model}\"; add it to the models of one, or leave it out";
            }
        }
    }
}
