//! Families of models that can be told apart, each with a model that no earlier family takes.

use super::Rules;
use crate::config::Config;
use crate::config::pacing::Family;

pub(super) fn check(config: &Config, rules: &mut Rules<'_, '_>) {
    let families = &config.limits.families;
    for (index, (family, place)) in families.iter().zip(rules.kept("limits.families")).enumerate() {
        let before = &families[..index];
        if family.name == "other" {
            rules.refuse_at(&place, "name", "\"other\" means all other models; write another name");
        }
        if before.iter().any(|before| before.name == family.name) {
            let message = format!("\"{}\" is the name of an earlier family; write another", family.name);
            rules.refuse_at(&place, "name", message);
        }
        if family.models.is_empty() {
            rules.refuse_at(&place, "models", "no model belongs to it; name at least one");
            continue;
        }
        for pattern in &family.models {
            if before.iter().any(|before| before.models.contains(pattern)) {
                let pattern = pattern.as_str();
                let message = format!("\"{pattern}\" belongs to an earlier family; leave it out here");
                rules.refuse_at(&place, "models", message);
            }
        }
        // A pattern takes another one where it takes its text: a star of the other is a character
        // like any.
        let takes_all = |earlier: &&Family| {
            let takes = |text: &str| earlier.models.iter().any(|pattern| pattern.matches(text));
            family.models.iter().all(|pattern| takes(pattern.as_str()))
        };
        if let Some(earlier) = before.iter().find(takes_all) {
            let advice = "takes all of its models; put the one with fewer models first";
            let message = format!("never counts: the family \"{}\" above it {advice}", earlier.name);
            rules.refuse(&[&format!("{place}.models"), &place], message);
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
