//! Where the limits that an upstream tells of are filed: by what they describe, never by which
//! place is empty.

use std::time::Duration;

use crate::admission::moment::{Moment, duration};

use super::limit::Limit;
use super::{
    Charge, Cost, Entry, HOLD, LimitReport, LimitReports, Limits, MOST_LIMITS, Marks, Origin, RAISE,
    RefusalNumbers, Slot, Source, StatedLimit, Times, USUAL_WINDOW, Unit, is_near, is_of_a_minute,
};

impl Limits {
    /// Learns from the headers of an answer to an attempt. Returns how many reports found no place.
    pub(crate) fn told(
        &mut self,
        reports: &LimitReports,
        cost: Cost,
        charge: Charge,
        marks: Marks,
        times: &Times,
        now: Moment,
    ) -> u32 {
        let Some(part) = self.part_of_owner(reports.owner) else {
            return u32::try_from(reports.each().count()).unwrap_or(u32::MAX);
        };
        let mut unfiled = 0;
        for (unit, window, report) in reports.each() {
            let report = if part < 1.0 { report.of_part(part) } else { report };
            let Some(index) = self.place_of_report((unit, window, reports), &report, now) else {
                unfiled += u32::from(!reports.of_error);
                continue;
            };
            let entry = &mut self.entries[index];
            let own = self.own.of(unit, self.ratio.value());
            entry.limit.told(&report, charge.of(entry.slot), &own, marks, times, now);
            let slot = entry.slot.of_window(entry.limit.window);
            if slot != entry.slot {
                entry.slot = slot;
                self.divide(1.0, now);
            }
        }
        for stated in &reports.stated {
            unfiled += u32::from(!self.state(stated, reports, now));
        }
        if part >= 1.0 {
            self.calibrate(reports, cost, marks, times);
        }
        unfiled
    }

    /// Files a limit of which only the window is told; tells whether it found a place.
    fn state(&mut self, stated: &StatedLimit, reports: &LimitReports, now: Moment) -> bool {
        let report = LimitReport { limit: stated.limit, remaining: stated.limit, reset: None };
        let place = self.place_of_report((stated.unit, Some(stated.window), reports), &report, now);
        if let Some(index) = place {
            self.entries[index].limit.set_limit(stated.limit as f64, now);
        }
        place.is_some() || reports.of_error
    }

    /// The part of all requests that the limits of this owner count; nothing where it has no place.
    pub(super) fn part_of_owner(&mut self, owner: Option<u64>) -> Option<f64> {
        let Some(owner) = owner else { return Some(1.0) };
        let owners = self.owners.get_or_insert_default();
        let part = owners.answered(owner);
        if let Some(gone) = owners.gone() {
            self.entries.retain(|entry| entry.owner != Some(gone));
        }
        part
    }

    /// The entry that a header's report is filed in: the one of the headers, else a configured or
    /// refused one of nearly the same limit, else a new one.
    pub(super) fn place_of_report(
        &mut self,
        (unit, window, reports): (Unit, Option<Duration>, &LimitReports),
        report: &LimitReport,
        now: Moment,
    ) -> Option<usize> {
        let owner = reports.owner;
        let limit = report.limit as f64;
        let minute = Slot::by_minute(unit);
        let slot = window.map_or(minute, |window| minute.of_window(window.as_secs_f64()));
        // A window that is told describes the limit; one that is not is found by the resets.
        let is_of = |entry: &Entry| {
            entry.slot.unit() == unit
                && match window {
                    Some(window) => duration(entry.limit.window) == window,
                    None => !entry.limit.window_is_told(),
                }
        };
        let of_headers =
            |entry: &Entry| is_of(entry) && entry.origin == Origin::Headers && entry.owner == owner;
        if let Some(index) = self.entries.iter().position(of_headers) {
            return Some(index);
        }
        let is_its_own = window.is_some() || is_of_a_minute(report);
        let other = |entry: &Entry| entry.origin == Origin::Configured && is_its_own && entry.slot == slot;
        let near = |entry: &Entry| {
            is_of(entry)
                && entry.origin != Origin::Headers
                && (is_near(entry.limit.stated, limit) || other(entry))
        };
        let index = match self.entries.iter().position(near) {
            Some(index) => index,
            None if reports.of_error => return None,
            None => self.open(slot, Origin::Headers, limit, Source::Learned, now)?,
        };
        self.found(unit);
        let entry = &mut self.entries[index];
        (entry.origin, entry.owner) = (Origin::Headers, owner);
        if let Some(window) = window {
            entry.limit.tell_window(window, now);
        }
        Some(index)
    }

    /// The entry that a refusal's numbers are filed in: one of the same window that is known, or of
    /// nearly the same limit; else a new one.
    pub(super) fn place_of_refusal(&mut self, numbers: &RefusalNumbers, now: Moment) -> Option<usize> {
        let (slot, limit) = (numbers.slot, numbers.limit as f64);
        let is_of = |limit: &Limit| match numbers.window {
            Some(window) => duration(limit.window) == window,
            None => !limit.window_is_told() || duration(limit.window) == slot.window(),
        };
        let same = |entry: &Entry| {
            entry.slot == slot
                && (is_near(entry.limit.stated, limit)
                    || matches!(entry.origin, Origin::Refusals { .. })
                    || entry.origin == Origin::Headers && entry.limit.window_is_proven())
                && is_of(&entry.limit)
        };
        self.entries.iter().position(same).or_else(|| {
            let origin = Origin::Refusals { raise_at: now.plus(HOLD.0), hold: HOLD.0 };
            let index = self.open(slot, origin, limit, Source::Learned, now)?;
            if let Some(window) = numbers.window {
                self.entries[index].limit.tell_window(window, now);
            }
            Some(index)
        })
    }

    /// Opens a place for another limit, if there is one left.
    pub(super) fn open(
        &mut self,
        slot: Slot,
        origin: Origin,
        limit: f64,
        source: Source,
        now: Moment,
    ) -> Option<usize> {
        if self.entries.len() >= MOST_LIMITS {
            return None;
        }
        let part = self.part_of(slot);
        let mut limit = Box::new(Limit::new(limit, slot.window().as_secs_f64(), source, part, now));
        limit.divide_rest(self.part.part, now);
        self.entries.push(Entry { slot, origin, owner: None, limit });
        Some(self.entries.len() - 1)
    }

    /// Raises limits that only refusals told of where no refusal came for long, up to what headers
    /// tell: they may be no more. Where none tells, only a limit that holds somebody back is
    /// raised.
    pub(super) fn raise_refused(&mut self, paced: bool, now: Moment) {
        let told = |unit: Unit| {
            let told = self.entries.iter().filter(|entry| entry.origin == Origin::Headers);
            told.filter(|entry| entry.slot.unit() == unit).map(|entry| entry.limit.stated).reduce(f64::max)
        };
        let told = [Unit::Requests, Unit::Tokens].map(told);
        self.entries.retain_mut(|Entry { slot, origin, limit, .. }| {
            let told = told[slot.unit().index()].unwrap_or(if paced { f64::INFINITY } else { 0.0 });
            if let Origin::Refusals { raise_at, .. } = origin
                && now >= *raise_at
                && told > limit.stated
            {
                *raise_at = now.plus(USUAL_WINDOW);
                limit.set_limit(limit.stated * RAISE, now);
                return limit.stated < told;
            }
            true
        });
    }
}
