//! Converts the configured limits to those of admission.

use crate::admission::{Family, LimitSettings};
use crate::config::pacing::{Family as FamilyLimits, InFlight, Limits};
use crate::config::upstreams::MemberLimits;

/// Requests and tokens a minute, then a day.
type Numbers = [Option<u64>; 4];

/// The numbers of a section with limits.
macro_rules! numbers {
    ($of:expr) => {
        [$of.requests_per_minute, $of.tokens_per_minute, $of.requests_per_day, $of.tokens_per_day]
    };
}

fn settings(numbers: Numbers, share: f64, in_flight: Option<InFlight>) -> LimitSettings {
    let [requests_per_minute, tokens_per_minute, requests_per_day, tokens_per_day] = numbers;
    LimitSettings {
        requests_per_minute,
        tokens_per_minute,
        requests_per_day,
        tokens_per_day,
        share,
        in_flight: in_flight.and_then(InFlight::at_most),
        finds_in_flight: in_flight == Some(InFlight::Auto),
    }
}

pub(super) fn limits(of: &Limits) -> LimitSettings {
    settings(numbers!(of), of.share, of.in_flight)
}

/// The limits of one upstream of a pool, if it sets any.
pub(super) fn of_member(member: &MemberLimits, of: &Limits) -> Option<LimitSettings> {
    let share = member.share.unwrap_or(of.share);
    member.says_anything().then(|| settings(numbers!(member), share, member.in_flight))
}

/// The configured families, then those of the seed file: configured ones take precedence.
pub(super) fn families(of: &Limits) -> Vec<Family> {
    let configured = of.families.iter().map(|family| Family {
        name: family.name.as_str().into(),
        patterns: family.models.iter().map(|pattern| pattern.as_str().into()).collect(),
        limits: family_limits(family, of),
    });
    let seeded = of.seed.iter().flat_map(|seed| &seed.models).map(|model| {
        let numbers = [model.requests_per_minute, model.tokens_per_minute, model.requests_per_day, None];
        Family {
            name: model.model.as_str().into(),
            patterns: vec![model.model.as_str().into()],
            limits: Some(settings(numbers, of.share, of.in_flight)),
        }
    });
    configured.chain(seeded).collect()
}

fn family_limits(family: &FamilyLimits, of: &Limits) -> Option<LimitSettings> {
    let (own, all): (Numbers, Numbers) = (numbers!(family), numbers!(of));
    let says_anything = own.iter().any(Option::is_some) || family.in_flight.is_some();
    let numbers = std::array::from_fn(|at| own[at].or(all[at]));
    says_anything.then(|| settings(numbers, of.share, family.in_flight.or(of.in_flight)))
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
