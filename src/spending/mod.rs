//! Token budgets of callers per day or month: the amounts spent, and whether a caller may spend
//! more.
//!
//! A request reserves its estimate and then pays the usage that its response reports. The request
//! that exceeds the budget is the last one; those under way at that moment finish. Counts survive a
//! reload, and a restart if [`Spending::text`] is saved.

mod calendar;

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use crate::caller::CallerId;
use crate::metrics::{BudgetPeriod, Label as _};

/// The most budgets of one process, over all its reloads.
const MOST: usize = 65_000;
/// The first line of the saved text, with its version.
const HEADER: &str = "weir spending 1";
/// The used fraction of a budget from which there is a warning.
pub const WARN_AT: f64 = 0.8;

/// One budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Its caller.
    pub caller: CallerId,
    /// The caller's name, the key in the saved text.
    pub name: Arc<str>,
    /// The family of models that it applies to; `None` if it applies to all.
    pub family: Option<Box<str>>,
    /// Its period.
    pub period: BudgetPeriod,
    /// The budget in tokens, of input and output.
    pub tokens: u64,
}

/// The budgets that one request draws from: at most four, for all models and its family, per day
/// and month.
pub type Held = [Option<u16>; 4];

/// An exhausted budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spent {
    /// The budget.
    pub budget: Budget,
    /// The time until the next period begins.
    pub returns_in: Duration,
}

/// The state of a budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The budget.
    pub budget: Budget,
    /// Tokens spent.
    pub spent: u64,
    /// The time until the next period begins.
    pub returns_in: Duration,
}

impl Standing {
    /// The spent fraction.
    pub fn ratio(&self) -> f64 {
        self.spent as f64 / self.budget.tokens.max(1) as f64
    }
}

/// All budgets.
#[derive(Debug, Default)]
pub struct Spending {
    /// Whether there is any budget: usually there is none, and then nothing is locked.
    active: AtomicBool,
    meters: Mutex<Vec<Meter>>,
}

#[derive(Debug)]
struct Meter {
    budget: Budget,
    /// Whether the present configuration contains it.
    configured: bool,
    /// The number of the present period.
    number: u64,
    spent: u64,
    /// The sum of the estimates of requests under way.
    reserved: u64,
}

impl Meter {
    /// Starts a new period if its time has come.
    fn turn(&mut self, now: SystemTime) {
        let number = self.budget.period.number(now);
        // Setting the clock back must not restore a budget.
        if number > self.number {
            (self.number, self.spent) = (number, 0);
        }
    }

    fn is(&self, other: &Budget) -> bool {
        self.budget.name == other.name
            && self.budget.family == other.family
            && self.budget.period == other.period
    }

    fn is_for(&self, caller: CallerId, family: &str) -> bool {
        self.configured
            && self.budget.caller == caller
            && self.budget.family.as_deref().is_none_or(|own| own == family)
    }
}

impl Spending {
    /// Replaces the budgets; the spending of those that stay is kept.
    pub fn configure(&self, budgets: Vec<Budget>, now: SystemTime) {
        let mut meters = self.lock();
        for meter in meters.iter_mut() {
            meter.configured = false;
        }
        for budget in budgets {
            let known = meters.iter().position(|meter| meter.is(&budget));
            match known {
                Some(place) => (meters[place].budget, meters[place].configured) = (budget, true),
                None if meters.len() < MOST => {
                    let number = budget.period.number(now);
                    meters.push(Meter { budget, configured: true, number, spent: 0, reserved: 0 });
                }
                None => {}
            }
        }
        self.active.store(!meters.is_empty(), Ordering::Relaxed);
    }

    /// Reserves a request's estimate in every budget that it draws from.
    ///
    /// # Errors
    /// The exhausted budget; of several, the one whose next period begins last.
    pub fn reserve(
        &self,
        caller: CallerId,
        family: &str,
        estimate: u64,
        now: impl FnOnce() -> SystemTime,
    ) -> Result<Option<Held>, Box<Spent>> {
        if !self.active.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let now = now();
        let mut meters = self.lock();
        let (mut held, mut places) = (Held::default(), 0);
        let mut spent: Option<Spent> = None;
        for (index, meter) in meters.iter_mut().enumerate().filter(|(_, meter)| meter.is_for(caller, family))
        {
            meter.turn(now);
            if meter.spent.saturating_add(meter.reserved) >= meter.budget.tokens {
                let returns_in = meter.budget.period.left(now);
                if spent.as_ref().is_none_or(|spent| returns_in > spent.returns_in) {
                    spent = Some(Spent { budget: meter.budget.clone(), returns_in });
                }
            }
            if let (Some(place), Ok(index)) = (held.get_mut(places), u16::try_from(index)) {
                *place = Some(index);
                places += 1;
            }
        }
        if let Some(spent) = spent {
            return Err(Box::new(spent));
        }
        for index in held.iter().flatten() {
            meters[usize::from(*index)].reserved += estimate;
        }
        Ok((places > 0).then_some(held))
    }

    /// Ends a request: releases its estimate, and adds its usage.
    pub fn settle(&self, held: Held, estimate: u64, used: u64, now: SystemTime) {
        let mut meters = self.lock();
        for index in held.iter().flatten() {
            let Some(meter) = meters.get_mut(usize::from(*index)) else { continue };
            meter.turn(now);
            meter.reserved = meter.reserved.saturating_sub(estimate);
            meter.spent = meter.spent.saturating_add(used);
        }
    }

    /// The state of every configured budget.
    pub fn standings(&self, now: SystemTime) -> Vec<Standing> {
        let mut meters = self.lock();
        let configured = meters.iter_mut().filter(|meter| meter.configured);
        configured
            .map(|meter| {
                meter.turn(now);
                let returns_in = meter.budget.period.left(now);
                Standing { budget: meter.budget.clone(), spent: meter.spent, returns_in }
            })
            .collect()
    }

    /// The text to save over a restart: numbers and names of callers, no secret. `None` without
    /// budgets.
    pub fn text(&self) -> Option<String> {
        let meters = self.lock();
        if meters.is_empty() {
            return None;
        }
        let mut text = format!("{HEADER}\n");
        for Meter { budget, number, spent, .. } in meters.iter() {
            let (period, family) = (budget.period.as_str(), budget.family.as_deref().unwrap_or("*"));
            let _infallible = writeln!(text, "{period} {number} {spent} {} {family}", budget.name);
        }
        Some(text)
    }

    /// Restores the text of an earlier process. Lines about budgets that are not configured are
    /// skipped.
    ///
    /// # Errors
    /// The text is invalid, or of another version; nothing was restored then.
    pub fn restore(&self, text: &str, now: SystemTime) -> Result<(), Unknown> {
        let mut lines = text.lines();
        if lines.next() != Some(HEADER) {
            return Err(Unknown);
        }
        let read: Option<Vec<_>> = lines
            .map(|line| {
                let mut words = line.splitn(5, ' ');
                let period = words.next()?;
                let period = BudgetPeriod::named(period)?;
                let (number, spent) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
                Some((period, number, spent, words.next()?, words.next()?))
            })
            .collect();
        let read: Vec<(BudgetPeriod, u64, u64, &str, &str)> = read.ok_or(Unknown)?;
        let mut meters = self.lock();
        for (period, number, spent, name, family) in read {
            let known = meters.iter_mut().find(|Meter { budget, .. }| {
                budget.period == period
                    && *budget.name == *name
                    && budget.family.as_deref().unwrap_or("*") == family
            });
            if let Some(meter) = known {
                meter.turn(now);
                if number >= meter.number {
                    (meter.number, meter.spent) = (number, meter.spent.saturating_add(spent));
                }
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Meter>> {
        self.meters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A text with a format other than that of [`Spending::text`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no record of spent tokens that this version can read; move it away, or the budgets begin anew")]
pub struct Unknown;

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(caller: u16, family: Option<&str>, period: BudgetPeriod, tokens: u64) -> Budget {
        let name = format!("caller-{caller}").into();
        Budget { caller: CallerId(caller), name, family: family.map(Into::into), period, tokens }
    }

    fn noon() -> SystemTime {
        httpdate::parse_http_date("Mon, 30 Nov 2026 12:00:00 GMT").unwrap()
    }

    fn spend(spending: &Spending, caller: u16, family: &str, used: u64) -> Result<(), Duration> {
        match spending.reserve(CallerId(caller), family, used, noon) {
            Ok(Some(held)) => {
                spending.settle(held, used, used, noon());
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(spent) => Err(spent.returns_in),
        }
    }

    #[test]
    fn the_request_that_crosses_the_line_is_the_last_one() {
        let spending = Spending::default();
        assert_eq!(spend(&spending, 0, "m", 1_000_000), Ok(()), "no budget, no bound");
        spending.configure(
            vec![budget(0, None, BudgetPeriod::Day, 1_000), budget(0, Some("big"), BudgetPeriod::Month, 300)],
            noon(),
        );
        let half_a_day = Duration::from_hours(12);
        assert_eq!(spend(&spending, 0, "big", 299), Ok(()));
        assert_eq!(spend(&spending, 0, "big", 1), Ok(()));
        assert_eq!(spend(&spending, 0, "big", 1), Err(half_a_day), "the month ends with this day");
        assert_eq!(spend(&spending, 1, "big", 5_000), Ok(()), "another caller");
        assert_eq!(spend(&spending, 0, "small", 900), Ok(()));
        assert_eq!(spend(&spending, 0, "small", 1), Err(half_a_day));
        let standings = spending.standings(noon());
        assert_eq!(standings.iter().map(|standing| standing.spent).collect::<Vec<_>>(), [1_200, 300]);
        let tomorrow = noon() + half_a_day;
        assert!(spending.reserve(CallerId(0), "big", 1, || tomorrow).is_ok_and(|held| held.is_some()));
        assert!(spending.standings(tomorrow).iter().all(|standing| standing.spent == 0));
    }

    #[test]
    fn what_is_under_way_is_reserved_and_a_clock_set_back_gives_nothing() {
        let spending = Spending::default();
        spending.configure(vec![budget(0, None, BudgetPeriod::Day, 1_000)], noon());
        let held = spending.reserve(CallerId(0), "m", 1_000, noon).unwrap().unwrap();
        assert!(spending.reserve(CallerId(0), "m", 1, noon).is_err());
        spending.settle(held, 1_000, 10, noon());
        assert!(spending.reserve(CallerId(0), "m", 990, noon).is_ok());
        assert!(spending.reserve(CallerId(0), "m", 1, || noon() - Duration::from_hours(48)).is_err());
    }

    #[test]
    fn a_reload_and_a_restart_change_nothing() {
        let spending = Spending::default();
        let budgets =
            vec![budget(0, None, BudgetPeriod::Day, 1_000), budget(1, Some("m"), BudgetPeriod::Month, 50)];
        spending.configure(budgets.clone(), noon());
        assert_eq!(spend(&spending, 0, "m", 700), Ok(()));
        assert_eq!(spend(&spending, 1, "m", 40), Ok(()));
        spending.configure(budgets.iter().rev().cloned().collect(), noon());
        let after = Spending::default();
        after.configure(budgets, noon());
        let text = spending.text().unwrap();
        assert_eq!(after.restore(&text, noon()), Ok(()));
        assert_eq!(after.text().unwrap(), text);
        assert_eq!(after.standings(noon())[0].spent, 700);
        for wrong in ["", "weir spending 2\n", "weir spending 1\nday x 1 a *\n", "weir spending 1\nday 1\n"] {
            assert_eq!(after.restore(wrong, noon()), Err(Unknown), "{wrong}");
        }
        let next = Spending::default();
        next.configure(vec![budget(0, None, BudgetPeriod::Day, 1_000)], noon());
        next.restore(&text, noon() + Duration::from_hours(24)).unwrap();
        assert_eq!(next.standings(noon() + Duration::from_hours(24))[0].spent, 0, "yesterday's is over");
    }
}
