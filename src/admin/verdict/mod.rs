//! Is it us, our limits, our quota, or them? A pure reading of a status, in a few sentences.

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

/// How urgent a finding is; the order of the enum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Nothing to do.
    Ok,
    /// Worth knowing; few or no requests fail.
    Notice,
    /// Some requests fail, or soon will.
    Warning,
    /// Requests fail until somebody acts or the upstream is back.
    Critical,
}

/// Where the cause lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Blame {
    /// Nowhere.
    Nobody,
    /// What callers send, their keys, or our configuration.
    Us,
    /// The organization's rate limits: waiting cures it.
    Limits,
    /// The organization's money: waiting does not cure it.
    Quota,
    /// The way to the upstream: names, addresses, certificates, proxies.
    Network,
    /// The upstream itself.
    Upstream,
    /// This proxy.
    Weir,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How urgent it is.
    pub level: Level,
    /// Where its cause lies.
    pub blame: Blame,
    /// What is wrong, in one sentence.
    pub sentence: String,
    /// What to do about it.
    pub advice: String,
    /// The error class that it is about: the runbook has a section for each.
    #[serde(default)]
    pub class: Option<String>,
    /// The callers whose requests it hurts, the most hurt first.
    #[serde(default)]
    pub callers: Vec<String>,
    /// Requests that it hurt in the last five minutes.
    #[serde(default)]
    pub requests: u64,
}

impl Finding {
    fn of(group: &Group<'_>, level: Level, subject: Subject, sentence: String) -> Self {
        let mut found = finding(level, subject.blame(), sentence, group.solution);
        found.about(group);
        found
    }

    /// Takes the class, the callers and the count of a group.
    fn about(&mut self, group: &Group<'_>) {
        self.class = Some(group.class.to_owned());
        self.callers = group.callers.iter().map(|(name, _)| (*name).to_owned()).collect();
        self.requests = group.requests;
    }
}

/// Minutes in which an error counts as happening now.
const RECENT: u64 = crate::account::RECENT_MINUTES;

/// Everything that is wrong, the most urgent first and of equals what hurts most requests; a single
/// `Ok` if nothing is.
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
    // Stable: of equals, the order above.
    all.sort_by_key(|finding| std::cmp::Reverse((finding.level, finding.requests)));
    if all.first().is_none_or(|first| first.level == Level::Ok) {
        all.insert(0, healthy(status));
    }
    all
}

fn finding(level: Level, blame: Blame, sentence: String, advice: impl Into<String>) -> Finding {
    Finding { level, blame, sentence, advice: advice.into(), class: None, callers: Vec::new(), requests: 0 }
}

/// A matter that is over.
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

/// `03:04:05 UTC` of an RFC 3339 time; the whole text if it is none.
pub(super) fn clock_time(time: &str) -> String {
    match (time.get(11..19), time.ends_with('Z')) {
        (Some(clock), true) => format!("{clock} UTC"),
        _ => time.to_owned(),
    }
}
