//! Upstreams that report some limits and refuse because of others.

use std::time::Duration;

use weir::internals::admission::{LimitReport, LimitReports};
use weir::internals::classify::ErrorClass;
use weir::internals::simulate::limiter::Price;

use crate::at_once::Concurrent;
use crate::strange_rules::{Case, check};
use crate::strangers::{BARE, Deep, Make, PLAIN, Tells, Windows, scenario, used};
use crate::world::{Scenario, Strange, Stranger, run};

/// A token bucket: tokens per second, and the depth in seconds.
#[derive(Debug)]
struct Tokens {
    rate: f64,
    seconds: f64,
    level: f64,
    at: f64,
    hints: bool,
}

impl Stranger for Tokens {
    fn take(&mut self, price: Price, at: f64) -> Strange {
        self.level = (self.level - (at - self.at) * self.rate).max(0.0);
        self.at = at;
        let over = self.level + price.tokens as f64 - self.rate * self.seconds;
        if over <= 0.0 {
            self.level += price.tokens as f64;
            return PLAIN;
        }
        let hint = Duration::from_secs_f64((over / self.rate).ceil());
        let class = if self.hints { ErrorClass::RateLimitTokens } else { ErrorClass::RateLimitOther };
        Strange::Refused { class, numbers: None, hint: self.hints.then_some(hint) }
    }
}

/// It reports limits far above the enforced ones: an organization's instead of a project's or a
/// key's.
#[derive(Debug)]
struct Generous<S> {
    keeps: S,
    /// Whether it reports tokens too.
    both: bool,
}

impl<S: Stranger> Stranger for Generous<S> {
    fn take(&mut self, price: Price, at: f64) -> Strange {
        let (later, body) = match self.keeps.take(price, at) {
            Strange::Taken { later, body, .. } => (later, body),
            other @ (Strange::Refused { .. } | Strange::Failed(_)) => return other,
        };
        let tell = |limit, reset| LimitReport {
            limit,
            remaining: limit - limit / 1000,
            reset: Some(Duration::from_millis(reset)),
        };
        let tokens = self.both.then(|| tell(2_000_000, 60));
        Strange::Taken {
            limits: LimitReports { requests: Some(tell(60_000, 60)), tokens, ..LimitReports::default() },
            later,
            body,
        }
    }

    fn ended(&mut self) {
        self.keeps.ended();
    }
}

fn alone(seconds: f64) -> Box<dyn Stranger> {
    Box::new(Tokens { rate: 2000.0, seconds, level: 0.0, at: 0.0, hints: true })
}

/// Until then the rate was in requests a second. As a rate of tokens it would be close to zero for
/// minutes.
#[test]
fn the_first_refusal_that_names_tokens_costs_no_throughput() {
    for make in [(|| alone(60.0)) as Make, || alone(10.0)] {
        let report = run(Scenario { measured_from: 120.0, seconds: 300.0, ..scenario(make, 20.0) });
        let used = used(&report, 20.0);
        println!("{:.1} % used from the third minute to the fifth", used * 100.0);
        assert!(used >= 0.8, "{used}");
    }
}

/// An unreported limit is found in addition to the reported ones.
#[test]
fn an_unreported_limit_is_found_beside_reported_ones() {
    fn tokens(seconds: f64, hints: bool, both: bool) -> Box<dyn Stranger> {
        Box::new(Generous { keeps: Tokens { rate: 2000.0, seconds, level: 0.0, at: 0.0, hints }, both })
    }
    fn bucket(tells: Tells, both: bool) -> Box<dyn Stranger> {
        Box::new(Generous { keeps: Deep::new(20.0, 60.0, tells), both })
    }
    fn windows(tells: Tells, both: bool) -> Box<dyn Stranger> {
        Box::new(Generous { keeps: Windows::new(1200.0, 60.0, false, tells), both })
    }
    fn at_once(both: bool) -> Box<dyn Stranger> {
        Box::new(Generous { keeps: Concurrent::new(20, BARE), both })
    }
    let case = |name, rate, make: Make, used| Case { name, rate, make, refused: None, used };
    // 100 tokens each: the limit is 20 a second in all cases but the last two.
    let cases = [
        case("tokens, bare", 20.0, || tokens(60.0, false, true), 0.9),
        case("tokens, a time to wait", 20.0, || tokens(60.0, true, true), 0.9),
        case("tokens, shallow, bare", 20.0, || tokens(10.0, false, true), 0.9),
        case("tokens, shallow, a time to wait", 20.0, || tokens(10.0, true, true), 0.9),
        case("tokens beside requests, bare", 20.0, || tokens(60.0, false, false), 0.9),
        case("tokens beside requests, a time to wait", 20.0, || tokens(10.0, true, false), 0.9),
        case("tokens alone, a time to wait", 20.0, || alone(60.0), 0.9),
        case("tokens alone, shallow, a time to wait", 20.0, || alone(10.0), 0.9),
        case("requests, bare", 20.0, || bucket(Tells::Nothing, true), 0.9),
        case("requests, a time to wait", 20.0, || bucket(Tells::Hint, true), 0.9),
        case("requests beside themselves, bare", 20.0, || bucket(Tells::Nothing, false), 0.9),
        case("minutes of the clock, bare", 20.0, || windows(Tells::Nothing, true), 0.9),
        case("minutes of the clock, a time to wait", 20.0, || windows(Tells::Hint, true), 0.9),
        case("20 at once", 80.0, || at_once(true), 0.95),
        case("20 at once beside requests", 80.0, || at_once(false), 0.95),
    ];
    check(&cases, if crate::full() { 2 } else { 1 });
}
