//! `[[callers]]`: the services that use Weir, and how they are identified.

use std::borrow::Cow;
use std::time::Duration;

use http::HeaderName;

use super::key::section;
use super::rights::Placed;
use super::secret::SecretRef;
use crate::caller::{Lane, Mode};
use crate::pattern::Pattern;
use crate::rights::Grant;

section! {
    /// A service that uses Weir. It is known by a Weir key, a token, a header or a name in its
    /// certificate.
    Caller {
        /// Its name in metrics and logs.
        name: String = required("search"),
        /// Its share of a contended limit relative to the others'.
        weight: u32 = default(1) in 1..=1000000,
        /// The Weir key that it sends as its API key; it is replaced by the credential and never
        /// sent upstream.
        key: Option<SecretRef> = unset("env:SEARCH_WEIR_KEY"),
        /// More Weir keys that it may send, so that a key is replaced without a gap: add the new
        /// one, move the senders over, and take the old one out.
        keys: Vec<SecretRef> = default([]),
        /// A header that it sends. Only as good as the network: whoever reaches the listener can
        /// send it too.
        header: Option<CallerHeader> = unset({}),
        /// What the tokens (JWT) say that it sends as its API key, signed by one of `issuers`; they
        /// are replaced by the credential and never sent upstream.
        token: Option<CallerToken> = unset({}),
        /// A subject alternative name (DNS name, URI, e-mail or IP address) of its client
        /// certificate.
        san: Option<String> = unset("search.internal"),
        /// The endpoints that it may use: a name alone ("responses") computes answers, "NAME:read"
        /// reads what the account keeps there, "NAME:write" changes it; "*" is everything. Without
        /// it `rights.allow`.
        allow: Option<Placed<Vec<Grant>>> = unset(["responses", "files:read", "files:write"]),
        /// The models that it may use. A request whose models can't all be read is refused then.
        /// Without it `rights.models`.
        models: Option<Placed<Vec<Pattern>>> = unset(["gpt-5*", "text-embedding-3-*"]),
        /// How fast it may go, whatever the upstream allows: what is faster waits for its turn.
        ceiling: Option<Ceiling> = unset({}),
        /// The part of every limit that it has for certain while it needs it; others use what it
        /// does not need.
        guarantee: Option<f64> = unset("20%") in 0.001..=0.99,
        /// Tokens, of input and output, that it may use in a day of UTC; after that it is refused
        /// until the next.
        tokens_per_day: Option<u64> = unset(5000000) in 1..=1000000000000000,
        /// Tokens that it may use in a month of UTC.
        tokens_per_month: Option<u64> = unset(100000000) in 1..=1000000000000000,
        /// The same for single families of models, beside what holds for all.
        families: Vec<CallerFamily> = default([]),
        /// "background" work yields to all other, and never starves.
        lane: Lane = default("interactive"),
        /// Its own mode, where it differs from everybody's.
        mode: Option<Mode> = unset("observe"),
        /// Requests that it may have waiting, where fewer than `admission.max_waiting_per_caller`.
        max_waiting: Option<usize> = unset(1000) in 1..=10000000,
        /// The latest deadline that its requests may ask for.
        max_deadline: Option<Duration> = unset("2m") in "100ms"..="1d",
        /// Its own key upstream, instead of upstream.credential.
        credential: Option<SecretRef> = unset("env:SEARCH_OPENAI_API_KEY"),
        /// `OpenAI-Organization` with its own key.
        organization: Option<String> = unset("org-1234"),
        /// `OpenAI-Project` with its own key.
        project: Option<String> = unset("proj_1234"),
    }
}

section! {
    /// How fast a caller may go.
    Ceiling {
        /// Requests a minute.
        requests_per_minute: Option<u64> = unset(600) in 1..=100000000,
        /// Tokens a minute, as requests are priced.
        tokens_per_minute: Option<u64> = unset(200000) in 1..=100000000000,
    }
}

section! {
    /// What a caller may use of one family of models.
    CallerFamily {
        /// The family: a name of `limits.families`, or a model without the date at its end.
        name: String = required("gpt-5"),
        /// How fast it may go.
        ceiling: Option<Ceiling> = unset({}),
        /// The part of the family's limits that it has for certain.
        guarantee: Option<f64> = unset("20%") in 0.001..=0.99,
        /// Tokens that it may use in a day of UTC.
        tokens_per_day: Option<u64> = unset(1000000) in 1..=1000000000000000,
        /// Tokens that it may use in a month of UTC.
        tokens_per_month: Option<u64> = unset(20000000) in 1..=1000000000000000,
    }
}

section! {
    /// A header that a caller is known by.
    CallerHeader {
        /// The header's name.
        name: HeaderName = required("x-team"),
        /// Its whole value.
        value: String = required("search"),
    }
}

section! {
    /// What the tokens of a caller say.
    CallerToken {
        /// The issuer: a name of `issuers`.
        issuer: String = required("cluster"),
        /// The claim that names the caller.
        claim: String = default("sub"),
        /// Its whole value, or one of its values where it is a list.
        value: String = required("system:serviceaccount:search:api"),
    }
}

impl Caller {
    /// Its Weir keys, each with its path in the caller: `key`, `keys[0]`, …
    pub fn all_keys(&self) -> impl Iterator<Item = (Cow<'static, str>, &SecretRef)> {
        let more = self.keys.iter().enumerate().map(|(index, key)| (format!("keys[{index}]").into(), key));
        self.key.iter().map(|key| ("key".into(), key)).chain(more)
    }
}
