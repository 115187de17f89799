//! `[[upstreams]]`: several APIs that serve the same requests.

use super::Config;
use super::key::section;
use super::pacing::InFlight;
use super::secret::SecretRef;
use super::url::UpstreamUrl;
use crate::caller::AuthHeader;
use crate::pattern::Pattern;
use crate::pool::Names;

section! {
    /// One of several APIs that serve the same requests. How they are reached stands in
    /// `[upstream]`.
    Member {
        /// Its name in metrics, logs and on the page. What was learned of it stays with the name
        /// through a reload.
        name: String = required("azure-eu"),
        /// Where it is. A path in it stands before that of each request; `/v1` is there once.
        url: UpstreamUrl = required("https://my-resource.openai.azure.com/openai/v1"),
        /// The key that requests bear there. Where no upstream has one, the caller's own passes
        /// through; where only others have one, requests bear none here.
        credential: Option<SecretRef> = unset("env:AZURE_OPENAI_API_KEY"),
        /// The header that the credential is sent in: `Authorization: Bearer`, or `api-key` as
        /// Azure wants it.
        auth: AuthHeader = default("bearer"),
        /// `OpenAI-Organization` for requests with the credential.
        organization: Option<String> = unset("org-1234"),
        /// `OpenAI-Project` for requests with the credential.
        project: Option<String> = unset("proj_1234"),
        /// Those of the lowest number go first. Others take over when these can't serve a request
        /// within its deadline, or within `admission.spill_after`.
        priority: u32 = default(0) in 0..=1000,
        /// Where objects are made and looked for of which nobody knows the owner: files, batches,
        /// vector stores. Left out everywhere, the first upstream.
        home: bool = default(false),
        /// The models that it serves; `*` stands for anything. Without, all.
        models: Vec<Pattern> = default([]),
        /// What it calls a model otherwise, such as an Azure deployment.
        names: Vec<ModelName> = default([]),
        /// What it allows, for each model family. Left out, `[limits]` counts, and what it tells.
        limits: MemberLimits = default({}),
    }
}

section! {
    /// What an upstream calls a model.
    ModelName {
        /// The model as callers name it.
        model: String = required("gpt-5"),
        /// The upstream's name for it.
        name: String = required("prod-gpt-5"),
    }
}

section! {
    /// What an upstream allows.
    MemberLimits {
        /// The part of each of its limits that this Weir may use. Left out: `limits.share`.
        share: Option<f64> = unset(0.5) in 0.001..=1.0,
        /// Requests in a minute.
        requests_per_minute: Option<u64> = unset(5000) in 1..=1000000000000,
        /// Tokens in a minute.
        tokens_per_minute: Option<u64> = unset(1000000) in 1..=1000000000000,
        /// Requests in a day.
        requests_per_day: Option<u64> = unset(10000) in 1..=1000000000000,
        /// Tokens in a day.
        tokens_per_day: Option<u64> = unset(1500000) in 1..=1000000000000,
        /// Requests in flight.
        in_flight: Option<InFlight> = unset(500) in 1..=1000000,
    }
}

impl MemberLimits {
    /// No limit is set.
    const NONE: Self = Self {
        share: None,
        requests_per_minute: None,
        tokens_per_minute: None,
        requests_per_day: None,
        tokens_per_day: None,
        in_flight: None,
    };

    /// Whether any limit is set.
    pub fn says_anything(&self) -> bool {
        *self != Self::NONE
    }
}

impl Config {
    /// The upstreams, the home first; `[upstream]` if there is no list.
    pub fn members(&self) -> Vec<Member> {
        let of = &self.upstream;
        if self.upstreams.is_empty() {
            return vec![Member {
                name: Names::THE_ONE.to_owned(),
                url: of.url.clone(),
                credential: of.credential.clone(),
                auth: of.auth,
                organization: of.organization.clone(),
                project: of.project.clone(),
                priority: 0,
                home: true,
                models: Vec::new(),
                names: Vec::new(),
                limits: MemberLimits::NONE,
            }];
        }
        let mut members = self.upstreams.clone();
        members.sort_by_key(|member| !member.home);
        members
    }

    /// The upstreams as text for people: at most three, and the number of the others.
    pub fn shown_upstreams(&self) -> String {
        let members = self.members();
        let urls: Vec<String> = members.iter().take(3).map(|member| member.url.to_string()).collect();
        match members.len() - urls.len() {
            0 => urls.join(", "),
            more => format!("{} and {more} more", urls.join(", ")),
        }
    }

    /// Whether upstream requests use a configured key, whoever sent them.
    pub fn has_credential(&self) -> bool {
        self.upstream.credential.is_some() || self.upstreams.iter().any(|member| member.credential.is_some())
    }
}
