//! Weir's responses to requests beyond their caller's own ceiling or budget.

use std::time::Duration;

use super::OwnAnswer;
use super::refusal::{draining, seconds};
use crate::admission::{Ceiling, CeilingRefusal};
use crate::classify::ErrorClass;
use crate::spending::{Budget, Spent};

/// The response if the caller's budget is spent until the next day or month.
pub fn budget_spent(spent: &Spent) -> OwnAnswer {
    let Spent { budget: Budget { family, period, tokens, .. }, returns_in } = spent;
    let period = period.as_str();
    let of = family.as_deref().map_or_else(String::new, |family| format!(" for {family}"));
    let message = format!(
        "This caller's budget of {tokens} tokens a {period}{of} (callers.tokens_per_{period}) is spent; the next {period} begins in {}.",
        hours(*returns_in)
    );
    OwnAnswer { retry_after: Some(*returns_in), ..OwnAnswer::new(ErrorClass::WeirCallerLimit, message) }
        .final_answer()
}

/// The response to a request that its caller's ceiling refuses.
pub fn ceiling(refusal: &CeilingRefusal, rng: &mut fastrand::Rng) -> OwnAnswer {
    let (message, wait) = match refusal {
        CeilingRefusal::TooLate(ceiling, wait) => (
            format!(
                "This request must wait {} for this caller's ceiling of {} (callers.ceiling), longer than its deadline.",
                seconds(*wait),
                words(ceiling)
            ),
            *wait,
        ),
        CeilingRefusal::Full(ceiling, wait) => (
            format!(
                "{} requests of this caller already wait for its ceiling of {} (callers.ceiling), the maximum of callers.max_waiting.",
                ceiling.max_waiting,
                words(ceiling)
            ),
            *wait,
        ),
        CeilingRefusal::Draining => return draining(rng),
    };
    OwnAnswer::new(ErrorClass::WeirCallerLimit, message).retry_after(wait, rng)
}

/// `600 requests and 90000 tokens a minute for gpt-5`.
fn words(ceiling: &Ceiling) -> String {
    let of = |per_minute: Option<u64>, unit: &str| per_minute.map(|count| format!("{count} {unit}"));
    let parts = [of(ceiling.requests_per_minute, "requests"), of(ceiling.tokens_per_minute, "tokens")];
    let family = ceiling.family.as_deref().map_or_else(String::new, |family| format!(" for {family}"));
    format!("{} a minute{family}", parts.into_iter().flatten().collect::<Vec<_>>().join(" and "))
}

/// `2 days 3 h`, `3 h 20 min`, `5 min`.
fn hours(wait: Duration) -> String {
    let minutes = wait.as_secs().div_ceil(60);
    match (minutes / 1440, minutes / 60 % 24, minutes % 60) {
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} days {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caller::CallerId;
    use crate::metrics::BudgetPeriod;

    #[test]
    fn a_spent_budget_tells_the_true_time_and_stops_the_sdks() {
        let returns_in = Duration::from_mins(200);
        let budget = Budget {
            caller: CallerId(0),
            name: "a".into(),
            family: None,
            period: BudgetPeriod::Day,
            tokens: 5_000,
        };
        let answer = budget_spent(&Spent { budget, returns_in });
        assert_eq!((answer.status.as_u16(), &*answer.code), (429, "caller_limit"));
        assert_eq!((answer.retry_after, answer.should_retry), (Some(returns_in), Some(false)));
        assert!(
            answer.message.contains("5000 tokens a day") && answer.message.contains("in 3 h 20 min"),
            "{}",
            answer.message
        );
    }
}
