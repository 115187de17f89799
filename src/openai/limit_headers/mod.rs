//! Parses the limits in a response's headers, in every vendor's notation.

mod name;
mod structured;
mod value;

use std::ops::Deref;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue};

use super::limit_message::Unit;
use name::{Field, Key};

/// Most limits of one response; further ones are ignored and counted. The most that a vendor sends
/// is six.
pub const MAX_LIMITS: usize = 8;

/// The limits in a response's headers, in their order; at most [`MAX_LIMITS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitHeaders {
    limits: [HeaderLimit; MAX_LIMITS],
    count: usize,
}

/// One limit in the headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderLimit {
    /// Its unit: requests or tokens.
    pub unit: Unit,
    /// The part of them that it counts.
    pub part: Part,
    /// The limit, at least 1; `None` if only the remaining amount is reported (Azure).
    pub limit: Option<u64>,
    /// The remaining amount, at most `limit`.
    pub remaining: Option<u64>,
    /// Time until the limit is fully restored, which the API truncates to milliseconds.
    pub reset: Option<Duration>,
    /// The window, if the header's name or the policy contains it.
    pub window: Option<Duration>,
}

/// The part of the requests or tokens that a limit counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Part {
    /// All of them.
    #[default]
    Whole,
    /// Those of the project, which has its own share of the organization's limit.
    Project,
    /// Input tokens only (Anthropic, Fireworks).
    Input,
    /// Output tokens only.
    Output,
}

/// The result of parsing a response's headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// The limits.
    pub headers: LimitHeaders,
    /// Values that were ignored because they are invalid, or belong to limits beyond the bound.
    pub malformed: u32,
}

impl Default for HeaderLimit {
    /// A limit of requests without any values.
    fn default() -> Self {
        Self {
            unit: Unit::Requests,
            part: Part::Whole,
            limit: None,
            remaining: None,
            reset: None,
            window: None,
        }
    }
}

impl HeaderLimit {
    pub(super) fn makes_sense(&self) -> bool {
        let counts = [self.limit, self.remaining].into_iter().flatten();
        let times = [self.reset, self.window].into_iter().flatten();
        self.limit.zip(self.remaining).is_none_or(|(limit, remaining)| remaining <= limit)
            && self.limit != Some(0)
            && self.window != Some(Duration::ZERO)
            && counts.into_iter().all(|count| count <= value::MAX_COUNT)
            && times.into_iter().all(|time| time <= value::MAX_WINDOW)
    }
}

impl LimitHeaders {
    /// The limits with this unit and part.
    #[cfg(test)]
    pub fn of(&self, unit: Unit, part: Part) -> impl Iterator<Item = &HeaderLimit> {
        self.iter().filter(move |limit| limit.unit == unit && limit.part == part)
    }

    /// Adds a limit if it has a value. Returns whether there was space for it.
    pub(super) fn keep(&mut self, limit: HeaderLimit) -> bool {
        let told = limit.limit.is_some() || limit.remaining.is_some();
        match self.limits.get_mut(self.count) {
            Some(place) if told => {
                *place = limit;
                self.count += 1;
                true
            }
            Some(_) => true,
            None => !told,
        }
    }
}

impl Deref for LimitHeaders {
    type Target = [HeaderLimit];

    fn deref(&self) -> &[HeaderLimit] {
        &self.limits[..self.count]
    }
}

/// Parses the limits in a response's headers. `wall` is called only if a header contains a date.
///
/// -1, and a limit of 0, mean "unknown" and are not errors. Impossible values are ignored and
/// counted.
#[cfg(any(test, feature = "internals"))]
pub fn parse(headers: &HeaderMap, wall: fn() -> SystemTime) -> Parsed {
    let mut values = Values::default();
    for (name, value) in headers {
        values.place(name.as_str(), value);
    }
    values.read(&wall)
}

/// Time until a spent window restarts, from headers of fixed windows: those without a unit in their
/// names (OpenRouter, GitHub, APISIX), Anthropic's of a subscription, and the IETF's. Other headers
/// report when a token bucket is full, which is not the time to wait.
pub fn spent_window(headers: &HeaderMap, wall: SystemTime) -> Option<Duration> {
    let reset = |name: &str| value::reset(headers.get(name), None, &|| wall).or_count(&mut 0);
    let named = headers.iter().filter_map(|(name, value)| match (name.as_str(), value.as_bytes()) {
        ("x-ratelimit-remaining" | "x-rate-limit-remaining" | "ratelimit-remaining", b"0") => {
            reset(&name.as_str().replace("remaining", "reset"))
        }
        (name, b"0") if name.starts_with("x-ai-ratelimit-remaining") => {
            reset(&name.replacen("remaining", "reset", 1))
        }
        // If several windows refuse, all must have passed.
        (name, b"rejected") if name.starts_with("anthropic-ratelimit-unified") => {
            reset(&format!("{}-reset", name.strip_suffix("-status")?))
        }
        _ => None,
    });
    let mut listed: Option<Duration> = None;
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    structured::read(text("ratelimit"), text("ratelimit-policy"), |limit| {
        if limit.remaining == Some(0) && limit.makes_sense() {
            listed = listed.max(limit.reset);
        }
    });
    named.max().or(listed).filter(|wait| !wait.is_zero())
}

/// The unparsed values of the limit headers.
#[derive(Default)]
pub(super) struct Values<'a> {
    levels: [Option<Level<'a>>; MAX_LIMITS],
    rate_limit: Option<&'a HeaderValue>,
    policy: Option<&'a HeaderValue>,
    beyond: u32,
}

/// The unparsed values of one limit.
struct Level<'a> {
    key: Key,
    limit: Option<&'a HeaderValue>,
    remaining: Option<&'a HeaderValue>,
    reset: Option<&'a HeaderValue>,
    renewal: Option<&'a HeaderValue>,
}

impl<'a> Values<'a> {
    /// Stores the value of a limit header, by its lower-case name. Returns whether it was one. Of
    /// repeated headers the first counts.
    pub(super) fn place(&mut self, name: &str, value: &'a HeaderValue) -> bool {
        let Some((key, field)) = name::read(name) else { return self.place_list(name, value) };
        let is_ours = |level: &Option<Level<'_>>| level.as_ref().is_none_or(|level| level.key == key);
        let Some(place) = self.levels.iter_mut().find(|level| is_ours(level)) else {
            self.beyond += 1;
            return true;
        };
        let level =
            place.get_or_insert(Level { key, limit: None, remaining: None, reset: None, renewal: None });
        let place = match field {
            Field::Limit => &mut level.limit,
            Field::Remaining => &mut level.remaining,
            Field::Reset => &mut level.reset,
            Field::Renewal => &mut level.renewal,
        };
        place.get_or_insert(value);
        true
    }

    /// Stores the value of a header that lists several limits.
    fn place_list(&mut self, name: &str, value: &'a HeaderValue) -> bool {
        let place = match name {
            "ratelimit" | "x-ratelimit" => &mut self.rate_limit,
            "ratelimit-policy" | "x-ratelimit-policy" => &mut self.policy,
            _ => return false,
        };
        place.get_or_insert(value);
        true
    }

    /// Parses the values.
    pub(super) fn read(&self, wall: &dyn Fn() -> SystemTime) -> Parsed {
        let mut parsed = Parsed { headers: LimitHeaders::default(), malformed: self.beyond };
        for level in self.levels.iter().flatten() {
            if let Some(limit) = level.read(self.policy, wall, &mut parsed.malformed) {
                parsed.headers.keep(limit);
            }
        }
        let text =
            |value: Option<&'a HeaderValue>| value.and_then(|value| value.to_str().ok()).unwrap_or_default();
        // A policy beside other headers defines their window.
        if self.rate_limit.is_some() || self.policy.is_some() && parsed.headers.is_empty() {
            structured::read(text(self.rate_limit), text(self.policy), |limit| {
                if !limit.makes_sense() || !parsed.headers.keep(limit) {
                    parsed.malformed += 1;
                }
            });
        }
        parsed
    }
}

impl Level<'_> {
    fn read(
        &self,
        policy: Option<&HeaderValue>,
        wall: &dyn Fn() -> SystemTime,
        malformed: &mut u32,
    ) -> Option<HeaderLimit> {
        if self.limit.is_none() && self.remaining.is_none() {
            return None;
        }
        let Key { unit, part, window, owner: _ } = self.key;
        // Both are parsed, so that invalid values of both are counted.
        let before = *malformed;
        let limit = value::count(self.limit).or_count(malformed);
        let remaining = value::count(self.remaining).or_count(malformed);
        // A limit of 0 means "unknown" (Azure), and so do the values beside it.
        if *malformed > before || limit == Some(0) {
            return None;
        }
        if limit.zip(remaining).is_some_and(|(limit, remaining)| remaining > limit) {
            *malformed += 1;
            return None;
        }
        let renewal = value::renewal(self.renewal).or_count(malformed);
        let reset = value::reset(self.reset, renewal, wall).or_count(malformed);
        // Azure sends a reset of 0 for "unknown"; it means something only if nothing was used.
        let is_full = limit.is_some() && limit == remaining;
        let reset = reset.filter(|reset| renewal.is_none() || !reset.is_zero() || is_full);
        let window = window.or(renewal).or_else(|| self.window_of_policy(policy));
        Some(HeaderLimit { unit, part, limit, remaining, reset, window })
    }

    /// The window beside the limit (`RateLimit-Limit: 100, 100;w=60`) or in a separate policy.
    fn window_of_policy(&self, policy: Option<&HeaderValue>) -> Option<Duration> {
        let with_window = |value: &HeaderValue| {
            // Most values are just a number, and searching for one byte is cheaper than for text.
            memchr::memchr(b';', value.as_bytes())?;
            let text = value.to_str().ok()?;
            let (_, after) = text.split_once(";w=").or_else(|| text.split_once("; w="))?;
            let (seconds, _) = super::decimal::leading(after.as_bytes())?;
            Some(Duration::from_secs(seconds))
                .filter(|window| !window.is_zero() && *window <= value::MAX_WINDOW)
        };
        let policy = policy.filter(|_| self.key.unit == Unit::Requests);
        self.limit.and_then(with_window).or_else(|| policy.and_then(with_window))
    }
}

#[cfg(test)]
mod tests;
