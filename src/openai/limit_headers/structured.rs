//! `RateLimit` and `RateLimit-Policy` of the IETF's drafts (draft-ietf-httpapi-ratelimit-headers).
//!
//! Draft 7 and later: `RateLimit: "default";r=50;t=30` beside `RateLimit-Policy:
//! "default";q=100;w=60`, several separated by commas. Drafts 3 to 6: `RateLimit: limit=100,
//! remaining=50, reset=5` and `RateLimit-Policy: 100;w=60`. A policy alone contains a limit and its
//! window, but no remaining amount.

use std::time::Duration;

use super::{HeaderLimit, Part, Unit};
use crate::openai::decimal;

/// Most policies of one header; further ones are ignored.
const MOST: usize = 8;

/// One element of the list: its name, and its unparsed parameters.
#[derive(Clone, Copy, Default)]
struct Item<'a> {
    name: &'a str,
    parameters: &'a str,
}

impl<'a> Item<'a> {
    fn of(text: &'a str) -> Self {
        let (name, parameters) = text.split_once(';').unwrap_or((text, ""));
        Self { name: name.trim(), parameters }
    }

    /// Whether it is the policy of this name. Hugging Face puts the kind of window first: `"fixed
    /// window";"api";q=500;w=300`.
    fn is_named(&self, name: &str) -> bool {
        self.name == name || self.parameters.split(';').any(|bare| bare.trim() == name)
    }

    /// The limit and the window of a policy.
    fn policy(&self) -> Option<HeaderLimit> {
        let limit = self.number("q").or_else(|| decimal::whole(self.name.as_bytes()));
        let window = self.number("w").map(Duration::from_secs);
        Some(HeaderLimit { unit: self.unit()?, limit, window, ..HeaderLimit::default() })
    }

    fn parameter(&self, key: &str) -> Option<&'a str> {
        let pairs = self.parameters.split(';').filter_map(|pair| pair.split_once('='));
        pairs
            .map(|(name, value)| (name.trim(), value.trim()))
            .find(|(name, _)| *name == key)
            .map(|(_, value)| value)
    }

    fn number(&self, key: &str) -> Option<u64> {
        decimal::whole(self.parameter(key)?.as_bytes())
    }

    /// The unit of the policy; `None` for bytes and for concurrent requests.
    fn unit(&self) -> Option<Unit> {
        match self.parameter("qu").map(|unit| unit.trim_matches('"')) {
            Some("content-bytes" | "concurrent-requests") => None,
            Some(unit) if unit.contains("token") => Some(Unit::Tokens),
            Some(_) | None if self.name.to_ascii_lowercase().contains("token") => Some(Unit::Tokens),
            Some(_) | None => Some(Unit::Requests),
        }
    }
}

/// Calls `tell` with each limit in the two headers.
pub(super) fn read(rate_limit: &str, policy: &str, mut tell: impl FnMut(HeaderLimit)) {
    let seconds = |number: Option<u64>| number.map(Duration::from_secs);
    let mut policies = [Item::default(); MOST];
    let count = elements(policy).zip(&mut policies).map(|(text, place)| *place = Item::of(text)).count();
    let policies = &policies[..count];
    if rate_limit.is_empty() {
        let told = policies.iter().filter_map(Item::policy).filter(|told| told.window.is_some());
        return told.for_each(tell);
    }
    if rate_limit.contains("remaining") || rate_limit.contains("limit=") {
        // Drafts 3 to 6: one limit, whose fields are the elements of the list.
        let field = |name: &str| {
            let value = elements(rate_limit)
                .find_map(|text| text.trim().strip_prefix(name)?.trim().strip_prefix('='));
            decimal::whole(value?.trim().as_bytes())
        };
        let limit = field("limit");
        let of_limit = |item: &&Item<'_>| decimal::whole(item.name.as_bytes()) == limit;
        return tell(HeaderLimit {
            unit: Unit::Requests,
            part: Part::Whole,
            limit,
            remaining: field("remaining"),
            reset: seconds(field("reset")),
            window: policies.iter().find(of_limit).and_then(|item| seconds(item.number("w"))),
        });
    }
    for item in elements(rate_limit).map(Item::of).take(MOST) {
        let policy = policies.iter().find(|policy| policy.is_named(item.name)).unwrap_or(&item);
        let Some(told) = policy.policy() else { continue };
        tell(HeaderLimit { remaining: item.number("r"), reset: seconds(item.number("t")), ..told });
    }
}

/// The elements of a list, separated by commas outside quotes.
fn elements(list: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    list.split(move |letter| {
        quoted ^= letter == '"';
        letter == ',' && !quoted
    })
    .map(str::trim)
    .filter(|text| !text.is_empty())
}
