//! The retry budget: successes pay for retries, so that a failing upstream is never asked much more
//! than callers ask.

use crate::retry::MilliTokens;

use super::settings::BudgetSettings;

/// A retry's worth in the budget's integer unit: milli-tokens never drift.
const TOKEN: u64 = 1000;

/// The budget of one scope.
#[derive(Debug)]
pub(crate) struct Budget {
    balance: u64,
    /// The settings in milli-tokens: a float is not rounded with every request.
    amounts: Amounts,
    concurrent: u32,
    exhausted: u64,
}

#[derive(Clone, Copy, Debug)]
struct Amounts {
    per_request: u64,
    per_success: u64,
    capacity: u64,
}

impl Amounts {
    fn of(settings: &BudgetSettings) -> Self {
        Self {
            per_request: tokens(settings.per_request),
            per_success: tokens(settings.per_success),
            capacity: tokens(settings.capacity),
        }
    }
}

/// How a retry was paid for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryPayment {
    /// From the budget: it counts as concurrent from the payment to its end, its backoff and its
    /// wait included, so that no number of payments in one instant passes the bound.
    Counted,
    /// During an outage: it waits for the end of the outage, and is not counted.
    Free,
}

/// The budget allows no retry now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetExhausted;

impl Budget {
    pub(crate) fn new(settings: &BudgetSettings) -> Self {
        let amounts = Amounts::of(settings);
        Self { balance: amounts.capacity, amounts, concurrent: 0, exhausted: 0 }
    }

    /// Applies other settings; the balance stays, as far as the new capacity holds it.
    pub(crate) fn configure(&mut self, settings: &BudgetSettings) {
        self.amounts = Amounts::of(settings);
        self.earn(0);
    }

    /// A request was received.
    pub(crate) fn received(&mut self) {
        self.earn(self.amounts.per_request);
    }

    /// An attempt succeeded.
    pub(crate) fn succeeded(&mut self) {
        self.earn(self.amounts.per_success);
    }

    /// Pays `cost` for a retry, which counts as concurrent until [`Budget::returned`].
    pub(crate) fn withdraw(
        &mut self,
        cost: MilliTokens,
        in_flight: u32,
        settings: &BudgetSettings,
    ) -> Result<(), BudgetExhausted> {
        let price = u64::from(cost);
        let most = settings.concurrent_least.max(part(in_flight, settings.concurrent));
        if self.balance < price || self.concurrent >= most {
            return Err(self.deny());
        }
        self.balance -= price;
        self.concurrent += 1;
        Ok(())
    }

    /// A retry is refused.
    pub(crate) fn deny(&mut self) -> BudgetExhausted {
        self.exhausted += 1;
        BudgetExhausted
    }

    /// A retry ended.
    pub(crate) fn returned(&mut self) {
        self.concurrent = self.concurrent.saturating_sub(1);
    }

    /// What is left, in retries.
    pub(crate) fn level(&self) -> f64 {
        self.balance as f64 / TOKEN as f64
    }

    /// How often a retry was denied.
    pub(crate) fn exhausted(&self) -> u64 {
        self.exhausted
    }

    fn earn(&mut self, amount: u64) {
        self.balance = self.balance.saturating_add(amount).min(self.amounts.capacity);
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float's cast saturates")]
fn tokens(retries: f64) -> u64 {
    (retries * TOKEN as f64).round() as u64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float's cast saturates")]
fn part(of: u32, ratio: f64) -> u32 {
    (f64::from(of) * ratio) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::ErrorClass;
    use crate::retry::cost;

    #[test]
    fn total_failure_amplifies_by_less_than_a_tenth() {
        for class in [ErrorClass::Overloaded, ErrorClass::InternalServerError, ErrorClass::ConnectionRefused]
        {
            let settings = BudgetSettings::default();
            let mut budget = Budget::new(&settings);
            let mut attempts = 0_u32;
            for _ in 0..1000 {
                budget.received();
                attempts += 1;
                for _ in 0..5 {
                    if budget.withdraw(cost(class), 1, &settings).is_err() {
                        break;
                    }
                    attempts += 1;
                    budget.returned();
                }
            }
            assert!(attempts <= 1100, "{attempts} attempts for 1000 requests after {}", class.as_str());
        }
    }

    #[test]
    fn a_flaky_upstream_is_ridden_out() {
        let settings = BudgetSettings::default();
        for seed in 0..20 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut budget = Budget::new(&settings);
            let (mut attempts, mut succeeded) = (0_u32, 0_u32);
            for _ in 0..10_000 {
                budget.received();
                for _ in 0..6 {
                    attempts += 1;
                    if rng.f64() >= 0.25 {
                        succeeded += 1;
                        budget.succeeded();
                        break;
                    }
                    if budget.withdraw(cost(ErrorClass::InternalServerError), 40, &settings).is_err() {
                        break;
                    }
                    budget.returned();
                }
            }
            assert!(succeeded >= 9_990, "{succeeded} of 10,000 succeeded");
            assert!(attempts <= 13_600, "{attempts} attempts for 10,000 calls");
        }
    }

    /// B21: the bound was looked at when a retry was paid for, and counted when it began.
    #[test]
    fn concurrent_retries_are_capped_and_returned() {
        let settings = BudgetSettings { capacity: 1000.0, concurrent_least: 20, ..BudgetSettings::default() };
        let mut budget = Budget::new(&settings);
        for _ in 0..20 {
            assert!(budget.withdraw(cost(ErrorClass::Overloaded), 10, &settings).is_ok());
        }
        assert_eq!(budget.withdraw(cost(ErrorClass::Overloaded), 10, &settings), Err(BudgetExhausted));
        assert!(budget.withdraw(cost(ErrorClass::Overloaded), 100, &settings).is_ok());
        budget.returned();
        assert_eq!(budget.concurrent, 20);
    }
}
