//! What came of the attempts of the last seconds.

use crate::admission::moment::Moment;

/// Bins of a second each.
pub(super) const BINS: usize = 10;

/// Counts of the last [`BINS`] seconds.
#[derive(Clone, Debug, Default)]
#[repr(C)]
pub(super) struct Window {
    /// The second after the last one that had a failure; 0 while there was none.
    failed: u64,
    bins: [Bin; BINS],
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bin {
    second: u64,
    pub(super) begun: u32,
    pub(super) alive: u32,
    pub(super) failing: u32,
}

impl Window {
    pub(super) fn counts(&self, now: Moment) -> (u32, u32) {
        self.counts_of(BINS as u64, now)
    }

    /// (alive, failing) over the last `seconds` seconds.
    pub(super) fn counts_of(&self, seconds: u64, now: Moment) -> (u32, u32) {
        let oldest = second(now).saturating_sub(seconds - 1);
        let bins = self.recent(now).filter(|bin| bin.second >= oldest);
        bins.fold((0, 0), |(alive, failing), bin| (alive + bin.alive, failing + bin.failing))
    }

    pub(super) fn failed(&mut self, now: Moment) {
        self.bin(now).failing += 1;
        self.failed = second(now) + 1;
    }

    /// Whether anything failed: mostly nothing did, and nothing needs to be counted then.
    pub(super) fn has_failures(&self, now: Moment) -> bool {
        self.failed > 0 && self.failed + BINS as u64 > second(now) + 1
    }

    /// Attempts that began a second, over the window.
    pub(super) fn begun_a_second(&self, now: Moment) -> f64 {
        let begun: u32 = self.recent(now).map(|bin| bin.begun).sum();
        let first = self.recent(now).map(|bin| bin.second).min().unwrap_or_else(|| second(now));
        f64::from(begun) / (second(now) - first + 1).max(1) as f64
    }

    fn recent(&self, now: Moment) -> impl Iterator<Item = &Bin> {
        let oldest = second(now).saturating_sub(BINS as u64 - 1);
        self.bins
            .iter()
            .filter(move |bin| bin.second >= oldest && (bin.begun > 0 || bin.alive > 0 || bin.failing > 0))
    }

    pub(super) fn bin(&mut self, now: Moment) -> &mut Bin {
        let second = second(now);
        let index = usize::try_from(second % BINS as u64).unwrap_or(0);
        let bin = &mut self.bins[index];
        if bin.second != second {
            *bin = Bin { second, ..Bin::default() };
        }
        bin
    }
}

fn second(now: Moment) -> u64 {
    now.as_nanos() / 1_000_000_000
}
