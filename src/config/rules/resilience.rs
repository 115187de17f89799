//! Waiting and retries that don't contradict each other.

use super::{Rules, refuse};
use crate::config::Config;

pub(super) fn check(config: &Config, rules: &mut Rules<'_, '_>) {
    let Config { admission, retry, breaker, .. } = config;
    let budget = &retry.budget;
    let never_pays = budget.capacity < 1.0
        || (budget.earn <= 0.0 && budget.reserve <= 0.0)
        || (budget.concurrent <= 0.0 && budget.concurrent_least == 0);
    refuse! { rules;
        retry.base > retry.cap => "retry.base", "retry.cap":
            "the first backoff is above the greatest; write base below cap";
        retry.floor > retry.base => "retry.floor", "retry.base":
            "the least backoff is above the first; write floor below base";
        retry.timeouts && config.upstream.response_timeout.is_none() => "retry.timeouts":
            "nothing times out before the deadline, and then it is too late; write upstream.response_timeout too";
        retry.max_attempts == 1 && !retry.repeatable.is_empty() => "retry.max_attempts":
            "allows no retry, yet retry.repeatable asks for some; leave one out";
        retry.max_attempts > 1 && never_pays
            => "retry.budget.capacity", "retry.budget.earn", "retry.budget.reserve":
            "the budget never pays for a retry; write retry.max_attempts = 1 if none is wanted";
        breaker.probe_base > breaker.probe_cap => "breaker.probe_base", "breaker.probe_cap":
            "the first wait for a probe is above the greatest; write probe_base below probe_cap";
        admission.max_waiting_per_caller > admission.max_waiting
            => "admission.max_waiting_per_caller", "admission.max_waiting":
            "is more than admission.max_waiting allows in all; write at most that";
        admission.max_waiting_bytes_per_caller > admission.max_waiting_bytes
            => "admission.max_waiting_bytes_per_caller", "admission.max_waiting_bytes":
            "is more than admission.max_waiting_bytes allows in all; write at most that";
        config.replay.max_body > config.replay.max_total => "replay.max_body", "replay.max_total":
            "one body may be larger than all together; write max_body of at most max_total";
    }
    for (repeatable, place) in retry.repeatable.iter().zip(rules.kept("retry.repeatable")) {
        let endpoint = repeatable.endpoint();
        let name = endpoint.as_str();
        refuse! { rules;
            retry.never.contains(&endpoint) => "{place}", "retry.never":
                "\"{name}\" is also in retry.never; leave it out of one of them";
        }
    }
}
