//! Which models share a set of limits.

use std::borrow::Cow;

use super::settings::{Family, Settings};

/// The family of requests without a model.
pub(super) const NONE: &str = "-";
/// The family of models past the bound.
pub(super) const OTHER: &str = "other";
/// A longer model name is cut: nobody's model has one.
const LONGEST: usize = 64;

/// The configured families.
#[derive(Debug, Default)]
pub(super) struct Families {
    named: Vec<Family>,
    /// The different lists of models that upstreams serve, where not all serve the same.
    served: Vec<Vec<Box<str>>>,
}

impl Families {
    pub(super) fn new(settings: &Settings) -> Self {
        let mut served: Vec<Vec<Box<str>>> = settings.members.iter().map(|one| one.models.clone()).collect();
        served.sort();
        served.dedup();
        if served.len() < 2 {
            served.clear();
        }
        Self { named: settings.families.clone(), served }
    }

    /// Which of the lists of models have a model, as bits; nothing where all upstreams serve the
    /// same. Lists beyond the 64th share a bit.
    pub(super) fn served_by(&self, model: Option<&str>) -> Option<u64> {
        if self.served.is_empty() {
            return None;
        }
        let fits = |list: &Vec<Box<str>>| {
            let of = |model: &str| list.iter().any(|pattern| matches(pattern.as_bytes(), model.as_bytes()));
            list.is_empty() || model.is_none_or(of)
        };
        let bits = self.served.iter().enumerate().filter(|(_, list)| fits(list));
        Some(bits.fold(0, |bits, (place, _)| bits | 1 << place.min(63)))
    }

    /// The family of a model: the first whose pattern matches, else the model's own name without a
    /// date at its end.
    pub(super) fn of<'a>(&'a self, model: Option<&'a str>) -> Cow<'a, str> {
        let Some(model) = model.filter(|model| !model.is_empty()) else { return Cow::Borrowed(NONE) };
        let named = self.named.iter().find(|family| {
            family.patterns.iter().any(|pattern| matches(pattern.as_bytes(), model.as_bytes()))
        });
        if let Some(family) = named {
            return Cow::Borrowed(&family.name);
        }
        if model.len() <= LONGEST {
            return Cow::Borrowed(undated(model));
        }
        let end = model.char_indices().map(|(at, _)| at).nth(LONGEST).unwrap_or(model.len());
        Cow::Borrowed(undated(&model[..end]))
    }

    pub(super) fn is_named(&self, name: &str) -> bool {
        self.named.iter().any(|family| &*family.name == name)
    }
}

/// A model's name without `-YYYY-MM-DD` at its end: dated snapshots share their model's limits.
fn undated(model: &str) -> &str {
    const DATE: &str = "-0000-00-00";
    let Some(cut) = model.len().checked_sub(DATE.len()).filter(|&cut| cut > 0) else { return model };
    let dated = model.is_char_boundary(cut)
        && model[cut..].bytes().zip(DATE.bytes()).all(|(byte, form)| match form {
            b'0' => byte.is_ascii_digit(),
            _ => byte == form,
        });
    if dated { &model[..cut] } else { model }
}

/// Whether a pattern with `*` for any characters matches the whole name. Linear but for the last
/// `*`, which it retries from.
pub(super) fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut of) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while of < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                retry = Some((at + 1, of));
                at += 1;
            }
            Some(byte) if byte.eq_ignore_ascii_case(&name[of]) => {
                at += 1;
                of += 1;
            }
            Some(_) | None => {
                let Some((after, from)) = retry else { return false };
                at = after;
                of = from + 1;
                retry = Some((after, from + 1));
            }
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, name, expected) in [
            ("gpt-4o*", "gpt-4o-mini", true),
            ("gpt-4o", "gpt-4o-mini", false),
            ("*", "", true),
            ("*-mini", "gpt-4o-mini", true),
            ("ft:*:acme:*", "ft:gpt-4o:acme::x", true),
            ("a*b*c", "aXbYbZ", false),
            ("GPT-4o", "gpt-4o", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn dated_snapshots_share_and_long_names_are_cut() {
        let families = Families::default();
        assert_eq!(families.of(Some("gpt-4o-2024-08-06")), "gpt-4o");
        assert_eq!(families.of(Some("-2024-08-06")), "-2024-08-06");
        assert_eq!(families.of(None), NONE);
        let megabyte = "é".repeat(1 << 19);
        assert_eq!(families.of(Some(&megabyte)).chars().count(), LONGEST);
    }
}
