//! From the configured limits to admission's.

use crate::admission::{Family, LimitSettings};
use crate::config::pacing::{Family as FamilyLimits, InFlight, Limits};

pub(super) fn limits(of: &Limits) -> LimitSettings {
    LimitSettings {
        requests_per_minute: of.requests_per_minute,
        tokens_per_minute: of.tokens_per_minute,
        requests_per_day: of.requests_per_day,
        tokens_per_day: of.tokens_per_day,
        share: of.share.0,
        in_flight: of.in_flight.and_then(InFlight::at_most),
        finds_in_flight: of.in_flight == Some(InFlight::Auto),
    }
}

/// The configured families, then those of the seed file: what a person wrote counts first.
pub(super) fn families(of: &Limits) -> Vec<Family> {
    let configured = of.families.iter().map(|family| Family {
        name: family.name.as_str().into(),
        patterns: family.models.iter().map(|pattern| pattern.as_str().into()).collect(),
        limits: family_limits(family, of),
    });
    let seeded = of.seed.iter().flat_map(|seed| &seed.models).map(|model| Family {
        name: model.model.as_str().into(),
        patterns: vec![model.model.as_str().into()],
        limits: Some(LimitSettings {
            requests_per_minute: model.requests_per_minute,
            tokens_per_minute: model.tokens_per_minute,
            requests_per_day: model.requests_per_day,
            tokens_per_day: None,
            ..limits(of)
        }),
    });
    configured.chain(seeded).collect()
}

fn family_limits(family: &FamilyLimits, of: &Limits) -> Option<LimitSettings> {
    let own = LimitSettings {
        requests_per_minute: family.requests_per_minute.or(of.requests_per_minute),
        tokens_per_minute: family.tokens_per_minute.or(of.tokens_per_minute),
        requests_per_day: family.requests_per_day.or(of.requests_per_day),
        tokens_per_day: family.tokens_per_day.or(of.tokens_per_day),
        ..limits(&Limits { in_flight: family.in_flight.or(of.in_flight), ..of.clone() })
    };
    let says_anything = family.requests_per_minute.is_some()
        || family.tokens_per_minute.is_some()
        || family.requests_per_day.is_some()
        || family.tokens_per_day.is_some()
        || family.in_flight.is_some();
    says_anything.then_some(own)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::sources::Nothing;

    #[test]
    fn a_family_inherits_the_limits_that_it_does_not_state() {
        let text = "[limits]\ntokens_per_minute = 9000\nrequests_per_minute = 70\n\
                    [[limits.families]]\nname = \"a\"\nmodels = [\"a\"]\nrequests_per_minute = 5\n";
        let config = crate::config::parse("weir.toml", text, &[], &Nothing).unwrap();
        let limits = families(&config.limits)[0].limits.expect("it states one");
        assert_eq!((limits.requests_per_minute, limits.tokens_per_minute), (Some(5), Some(9000)));
    }
}
