//! The ceilings, guarantees and budgets of callers, from the configuration.

use crate::admission::{Ceiling, Guarantee};
use crate::caller::{Caller, Callers};
use crate::config::Config;
use crate::config::callers::Caller as Configured;
use crate::metrics::BudgetPeriod;
use crate::spending::Budget;

/// The callers of the configuration, each with its number.
fn each<'a>(config: &'a Config, callers: &'a Callers) -> impl Iterator<Item = (&'a Caller, &'a Configured)> {
    callers.all().iter().map(AsRef::as_ref).zip(&config.callers)
}

pub(super) fn ceilings(config: &Config, callers: &Callers) -> Vec<Ceiling> {
    let most = config.admission.max_waiting_per_caller;
    let mut all = Vec::new();
    for (caller, of) in each(config, callers) {
        let families = of.families.iter().map(|family| (Some(family.name.as_str()), family.ceiling.as_ref()));
        for (family, ceiling) in families.chain([(None, of.ceiling.as_ref())]) {
            let Some(ceiling) = ceiling else { continue };
            all.push(Ceiling {
                caller: caller.id,
                family: family.map(Into::into),
                requests_per_minute: ceiling.requests_per_minute,
                tokens_per_minute: ceiling.tokens_per_minute,
                max_waiting: of.max_waiting.map_or(most, |own| own.min(most)),
            });
        }
    }
    all
}

pub(super) fn guarantees(config: &Config, callers: &Callers) -> Vec<Guarantee> {
    let mut all = Vec::new();
    for (caller, of) in each(config, callers) {
        let families = of.families.iter().map(|family| (Some(family.name.as_str()), family.guarantee));
        for (family, part) in families.chain([(None, of.guarantee)]) {
            if let Some(part) = part {
                all.push(Guarantee { caller: caller.id, family: family.map(Into::into), part });
            }
        }
    }
    all
}

pub(super) fn budgets(config: &Config, callers: &Callers) -> Vec<Budget> {
    let mut all = Vec::new();
    for (caller, of) in each(config, callers) {
        let families = of
            .families
            .iter()
            .map(|family| (Some(family.name.as_str()), family.tokens_per_day, family.tokens_per_month));
        for (family, day, month) in families.chain([(None, of.tokens_per_day, of.tokens_per_month)]) {
            for (period, tokens) in [(BudgetPeriod::Day, day), (BudgetPeriod::Month, month)] {
                let Some(tokens) = tokens else { continue };
                let (name, family) = (caller.name.clone(), family.map(Into::into));
                all.push(Budget { caller: caller.id, name, family, period, tokens });
            }
        }
    }
    all
}
