//! Rules: families of models have different names, and none is hidden by an earlier one.

use super::{Rules, refuse};
use crate::config::Config;
use crate::config::pacing::Family;

pub(super) fn check(config: &Config, rules: &mut Rules<'_, '_>) {
    let families = &config.limits.families;
    for (index, (family, place)) in families.iter().zip(rules.kept("limits.families")).enumerate() {
        let (Family { name, models, .. }, before) = (family, &families[..index]);
        refuse! { rules;
            name == "other" => "{place}.name": "\"other\" means all other models; write another name";
            before.iter().any(|before| before.name == *name) => "{place}.name":
                "\"{name}\" is the name of an earlier family; write another";
            models.is_empty() => "{place}.models": "no model belongs to it; name at least one";
        }
        for pattern in models {
            let text = pattern.as_str();
            refuse! { rules;
                before.iter().any(|before| before.models.contains(pattern)) => "{place}.models":
                    "\"{text}\" belongs to an earlier family; leave it out here";
            }
        }
        // A pattern covers another one if it matches its text, with `*` as a plain character.
        let takes_all = |earlier: &&Family| {
            let takes = |text: &str| earlier.models.iter().any(|pattern| pattern.matches(text));
            !models.is_empty() && models.iter().all(|pattern| takes(pattern.as_str()))
        };
        let earlier = before.iter().find(takes_all).map(|earlier| &*earlier.name);
        let wide = earlier.unwrap_or_default();
        refuse! { rules;
            earlier.is_some() => "{place}.models", "{place}":
                "never counts: the family \"{wide}\" above it takes all of its models; put the one with fewer \
                 models first";
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::parse;
    use crate::config::sources::Nothing;

    #[test]
    fn a_family_that_an_earlier_one_takes_whole_is_a_mistake() {
        let family =
            |name: &str, models: &str| format!("[[limits.families]]\nname = {name:?}\nmodels = {models}\n");
        let problems = |text: &str| {
            parse("weir.toml", text, &[], &Nothing)
                .map_or_else(|problems| problems.to_string(), |_| String::new())
        };
        let wide = family("all", "[\"gpt-*\"]");
        let told = problems(&format!("{wide}{}", family("mini", "[\"gpt-5-mini\", \"gpt-4*\"]")));
        assert!(told.contains("the family \"all\" above it takes all of its models"), "{told}");
        for text in [
            format!("{}{wide}", family("mini", "[\"gpt-5-mini\"]")),
            format!("{wide}{}", family("mixed", "[\"gpt-5\", \"o3\"]")),
            format!("{}{}", family("one", "[\"gpt-5\"]"), family("wide", "[\"gpt-*\"]")),
        ] {
            assert_eq!(problems(&text), "", "{text}");
        }
    }
}
