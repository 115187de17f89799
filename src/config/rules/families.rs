//! Families of models: each one has a model that no earlier family takes.

use super::Rules;
use crate::config::Config;

pub(super) fn check(config: &Config, rules: &mut Rules<'_, '_>) {
    let families = &config.limits.families;
    for (index, (family, place)) in families.iter().zip(rules.kept("limits.families")).enumerate() {
        // A pattern takes another one where it takes its text: a star of the other is a character
        // like any.
        let takes_all = |earlier: &&crate::config::pacing::Family| {
            let takes = |text: &str| earlier.models.iter().any(|pattern| pattern.matches(text));
            !family.models.is_empty() && family.models.iter().all(|pattern| takes(pattern.as_str()))
        };
        if let Some(earlier) = families[..index].iter().find(takes_all) {
            rules.refuse(
                &[&format!("{place}.models"), &place],
                format!(
                    "never counts: the family \"{}\" above it takes all of its models; put the one with fewer models first",
                    earlier.name
                ),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::sources::Nothing;
    use crate::config::{Override, parse};

    #[test]
    fn a_family_that_an_earlier_one_takes_whole_is_a_mistake() {
        let family =
            |name: &str, models: &str| format!("[[limits.families]]\nname = {name:?}\nmodels = {models}\n");
        let problems = |text: &str| {
            let none: [Override; 0] = [];
            parse("weir.toml", text, &none, &Nothing)
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
