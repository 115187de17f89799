//! The verdict: whether a problem is caused by us, our limits, our quota or the upstream. A pure
//! function of a status, in a few sentences.

mod callers;
mod demand;
mod group;
mod own;
mod subject;
#[cfg(test)]
mod tests;
mod upstream;

use serde::{Deserialize, Serialize};

use super::status::Status;
use super::words::plural;
use group::Group;
use subject::Subject;

/// The urgency of a finding, in ascending order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Nothing to do.
    Ok,
    /// For information; few or no requests fail.
    Notice,
    /// Some requests fail, or will soon.
    Warning,
    /// Requests fail until a person acts or the upstream recovers.
    Critical,
}

/// The place of the cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Blame {
    /// No problem.
    Nobody,
    /// Callers' requests or keys, or our configuration.
    Us,
    /// The organization's rate limits: waiting helps.
    Limits,
    /// The organization's quota: waiting does not help.
    Quota,
    /// The network to the upstream: names, addresses, certificates, proxies.
    Network,
    /// The upstream itself.
    Upstream,
    /// This proxy.
    Weir,
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How urgent it is.
    pub level: Level,
    /// The place of its cause.
    pub blame: Blame,
    /// The problem, in one sentence.
    pub sentence: String,
    /// What to do.
    pub advice: String,
    /// The related error class: the runbook has a section for each.
    #[serde(default)]
    pub class: Option<String>,
    /// The affected callers, the most affected first.
    #[serde(default)]
    pub callers: Vec<String>,
    /// Requests affected in the last five minutes.
    #[serde(default)]
    pub requests: u64,
}

impl Finding {
    fn of(group: &Group<'_>, level: Level, subject: Subject, sentence: String) -> Self {
        let mut found = finding(level, subject.blame(), sentence, group.solution);
        found.about(group);
        found
    }

    /// Takes the class, the callers and the count from a group.
    fn about(&mut self, group: &Group<'_>) {
        self.class = Some(group.class.to_owned());
        self.callers = group.callers.iter().map(|(name, _)| (*name).to_owned()).collect();
        self.requests = group.requests;
    }
}

/// Minutes in which an error counts as present.
const RECENT: u64 = crate::account::RECENT_MINUTES;

/// All findings, by urgency and then by affected requests; a single `Ok` if there is no problem.
pub(super) fn findings(status: &Status) -> Vec<Finding> {
    let mut all: Vec<Finding> = [
        own::draining(status),
        own::own_errors(status),
        upstream::quota_spent(status),
        callers::keys_refused(status),
        upstream::failing(status),
        upstream::one_out(status),
        callers::unknown_keys(status),
        callers::rights_refused(status),
        upstream::network(status),
        upstream::errors(status),
        upstream::slow(status),
        upstream::back(status),
        demand::above_limits(status),
        demand::limits_seen(status),
        demand::refused_again(status),
        callers::budget_used(status),
        callers::caller_limit(status),
        callers::ceiling_reached(status),
        callers::invalid(status),
        callers::collisions(status),
        demand::foreign_use(status),
        demand::other_than_configured(status),
        own::unknown_paths(status),
        own::reload_failed(status),
        own::restart_needed(status),
        own::no_newer_token(status),
        own::no_issuer_keys(status),
        own::replicas_apart(status),
        own::slow(status),
        own::not_enforcing(status),
    ]
    .into_iter()
    .flatten()
    .collect();
    // A stable sort: equals keep the order above.
    all.sort_by_key(|finding| std::cmp::Reverse((finding.level, finding.requests)));
    if all.first().is_none_or(|first| first.level == Level::Ok) {
        all.insert(0, healthy(status));
    }
    all
}

fn finding(level: Level, blame: Blame, sentence: String, advice: impl Into<String>) -> Finding {
    Finding { level, blame, sentence, advice: advice.into(), class: None, callers: Vec::new(), requests: 0 }
}

/// A finding about a problem that is over.
fn over(group: &Group<'_>, sentence: String) -> Finding {
    let mut found = finding(Level::Ok, Blame::Nobody, sentence, "");
    found.about(group);
    found
}

fn healthy(status: &Status) -> Finding {
    let sentence = match (status.in_flight(), status.overhead.count) {
        (0, 0) => "Healthy: no request has come yet.".to_owned(),
        (0, _) => "Healthy: nothing waits and nothing fails. No request is under way.".to_owned(),
        (count, _) => {
            format!("Healthy: nothing waits and nothing fails. {} under way.", plural(count, "request"))
        }
    };
    finding(Level::Ok, Blame::Nobody, sentence, "")
}

/// `03:04:05 UTC` from an RFC 3339 time; the whole text if it is not one.
pub(super) fn clock_time(time: &str) -> String {
    match (time.get(11..19), time.ends_with('Z')) {
        (Some(clock), true) => format!("{clock} UTC"),
        _ => time.to_owned(),
    }
}
