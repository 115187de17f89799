//! Waiting and retries that don't contradict each other.

use super::Rules;
use crate::config::Config;

pub(super) fn check(config: &Config, rules: &mut Rules<'_, '_>) {
    retry(config, rules);
    waiting(config, rules);
}

fn retry(config: &Config, rules: &mut Rules<'_, '_>) {
    let retry = &config.retry;
    if retry.base > retry.cap {
        rules.refuse(
            &["retry.base", "retry.cap"],
            "the first backoff is above the greatest; write base below cap",
        );
    }
    if retry.floor > retry.base {
        rules.refuse(
            &["retry.floor", "retry.base"],
            "the least backoff is above the first; write floor below base",
        );
    }
    for (repeatable, place) in retry.repeatable.iter().zip(rules.kept("retry.repeatable")) {
        let endpoint = repeatable.endpoint();
        if retry.never.contains(&endpoint) {
            rules.refuse(
                &[&place, "retry.never"],
                format!("\"{}\" is also in retry.never; leave it out of one of them", endpoint.as_str()),
            );
        }
    }
    if retry.timeouts && config.upstream.response_timeout.is_none() {
        rules.refuse(
            &["retry.timeouts"],
            "nothing times out before the deadline, and then it is too late; write upstream.response_timeout too",
        );
    }
    if retry.max_attempts == 1 && !retry.repeatable.is_empty() {
        rules.refuse(
            &["retry.max_attempts"],
            "allows no retry, yet retry.repeatable asks for some; leave one out",
        );
    }
    let budget = &retry.budget;
    if retry.max_attempts > 1
        && (budget.capacity.0 < 1.0
            || (budget.earn.0 <= 0.0 && budget.reserve.0 <= 0.0)
            || (budget.concurrent.0 <= 0.0 && budget.concurrent_least == 0))
    {
        rules.refuse(
            &["retry.budget.capacity", "retry.budget.earn", "retry.budget.reserve"],
            "the budget never pays for a retry; write retry.max_attempts = 1 if none is wanted",
        );
    }
    if config.breaker.probe_base > config.breaker.probe_cap {
        rules.refuse(
            &["breaker.probe_base", "breaker.probe_cap"],
            "the first wait for a probe is above the greatest; write probe_base below probe_cap",
        );
    }
}

fn waiting(config: &Config, rules: &mut Rules<'_, '_>) {
    let admission = &config.admission;
    rules.within(
        "admission.max_waiting_per_caller",
        "admission.max_waiting",
        admission.max_waiting_per_caller > admission.max_waiting,
    );
    rules.within(
        "admission.max_waiting_bytes_per_caller",
        "admission.max_waiting_bytes",
        admission.max_waiting_bytes_per_caller > admission.max_waiting_bytes,
    );
    if config.replay.max_body > config.replay.max_total {
        rules.refuse(
            &["replay.max_body", "replay.max_total"],
            "one body may be larger than all together; write max_body of at most max_total",
        );
    }
}
