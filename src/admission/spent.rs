//! The billing blocks of a credential: once an upstream says that money is spent, it is asked
//! rarely whether that still holds.
//!
//! One refusal blocks the model family that met it: some providers say `insufficient_quota` of a
//! limit by the minute. A refusal of a second family, with no success in between, confirms it and
//! blocks the whole credential.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::moment::Moment;
use super::refusal::UpstreamWords;

/// The first probe of a block. A limit by the minute that calls itself a spent quota is back within
/// seconds.
const FIRST_PROBE: Duration = Duration::from_secs(2);

/// Families of one credential that are blocked at once, at most; past it the one refused longest
/// ago is forgotten.
const MAX_FAMILIES: usize = 256;

/// The billing blocks of one credential, shared by its scopes.
#[derive(Debug, Default)]
pub(crate) struct QuotaBreaker {
    /// Whether there is any block. Read before the lock: a credential without blocks costs one
    /// load.
    open: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    families: Vec<(u64, Block)>,
    credential: Option<Block>,
    /// When the latest attempt was granted that was charged, while there was a block.
    charged: Option<Moment>,
}

#[derive(Clone, Debug)]
struct Block {
    since: Moment,
    /// When the upstream refused last.
    refused: Moment,
    next_probe: Moment,
    answer: Arc<UpstreamWords>,
}

/// Whether a request may go as far as money is concerned.
#[derive(Debug)]
pub(crate) enum Funds {
    /// It may.
    Pass,
    /// It may, as the one that asks whether the quota is back.
    Probe,
    /// It may not: the upstream's own words.
    Spent(Arc<UpstreamWords>),
}

/// One model family's part in its credential's billing blocks.
#[derive(Debug)]
pub(crate) struct Funding {
    shared: Arc<QuotaBreaker>,
    family: u64,
}

impl Block {
    fn new(answer: Arc<UpstreamWords>, interval: Duration, now: Moment) -> Self {
        Self { since: now, refused: now, next_probe: now.plus(FIRST_PROBE.min(interval)), answer }
    }

    /// A probe goes: each comes after twice the time of the one before, up to the interval.
    fn probed(&mut self, interval: Duration, now: Moment) {
        let pause = now.since(self.since).max(FIRST_PROBE).min(interval);
        self.next_probe = now.plus(pause);
    }

    fn refused_again(&mut self, answer: &Arc<UpstreamWords>, now: Moment) {
        self.refused = now;
        self.answer = Arc::clone(answer);
    }
}

impl State {
    /// The block that holds a family back.
    fn block(&mut self, family: u64) -> Option<&mut Block> {
        let of_family = self.families.iter_mut().filter(|(blocked, _)| *blocked == family);
        self.credential.as_mut().or(of_family.map(|(_, block)| block).next())
    }
}

impl Funding {
    pub(crate) fn new(shared: Arc<QuotaBreaker>, family: u64) -> Self {
        Self { shared, family }
    }

    pub(crate) fn check(&self, interval: Duration, now: Moment) -> Funds {
        if !self.shared.open.load(Relaxed) {
            return Funds::Pass;
        }
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        match state.block(self.family) {
            None => Funds::Pass,
            Some(block) if now >= block.next_probe => {
                // Taken whether the probe gets an answer or not.
                block.probed(interval, now);
                Funds::Probe
            }
            Some(block) => Funds::Spent(Arc::clone(&block.answer)),
        }
    }

    /// Whether it holds requests back.
    pub(crate) fn is_open(&self) -> bool {
        self.shared.open.load(Relaxed) && self.look(|_| ()).is_some()
    }

    /// The upstream's own words, where no request may go now. It takes no probe.
    pub(crate) fn blocks(&self, now: Moment) -> Option<Arc<UpstreamWords>> {
        if !self.shared.open.load(Relaxed) {
            return None;
        }
        self.look(|block| (now < block.next_probe).then(|| Arc::clone(&block.answer))).flatten()
    }

    /// The upstream said that the account's quota is spent.
    pub(crate) fn trip(&self, answer: UpstreamWords, interval: Duration, now: Moment) {
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { families, credential, charged } = &mut *state;
        let answer = Arc::new(answer);
        let confirmed =
            families.iter().any(|(family, block)| *family != self.family && Some(block.refused) > *charged);
        if let Some((_, block)) = families.iter_mut().find(|(family, _)| *family == self.family) {
            block.refused_again(&answer, now);
        } else {
            if families.len() >= MAX_FAMILIES
                && let Some(oldest) = (0..families.len()).min_by_key(|index| families[*index].1.refused)
            {
                families.swap_remove(oldest);
            }
            families.push((self.family, Block::new(Arc::clone(&answer), interval, now)));
        }
        match credential {
            Some(block) => block.refused_again(&answer, now),
            None if confirmed => *credential = Some(Block::new(answer, interval, now)),
            None => {}
        }
        self.shared.open.store(true, Relaxed);
    }

    /// An attempt that began at `began` was charged: the quota is back, unless it was spent since.
    pub(crate) fn charged(&self, began: Moment) {
        if !self.shared.open.load(Relaxed) {
            return;
        }
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { families, credential, charged } = &mut *state;
        *charged = Some(began).max(*charged);
        families.retain(|(family, block)| *family != self.family || began <= block.since);
        if credential.as_ref().is_some_and(|block| began > block.since) {
            // It was one account's money: what is true for one family is true for the others.
            *credential = None;
            families.clear();
        }
        if families.is_empty() && credential.is_none() {
            *charged = None;
            self.shared.open.store(false, Relaxed);
        }
    }

    /// Since when the family is blocked.
    pub(crate) fn since(&self) -> Option<Moment> {
        self.look(|block| block.since)
    }

    /// While the family is blocked: the upstream's code, or its type, and when the next probe may
    /// go.
    pub(crate) fn told(&self) -> Option<(Box<str>, Moment)> {
        self.look(|block| {
            let word = block.answer.code.as_deref().or(block.answer.kind.as_deref());
            (word.unwrap_or("insufficient_quota").into(), block.next_probe)
        })
    }

    /// While the family is blocked: the upstream's words.
    pub(crate) fn words(&self) -> Option<Arc<UpstreamWords>> {
        if !self.shared.open.load(Relaxed) {
            return None;
        }
        self.look(|block| Arc::clone(&block.answer))
    }

    fn look<T>(&self, at: impl FnOnce(&Block) -> T) -> Option<T> {
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.block(self.family).map(|block| at(block))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_mins(1);

    fn at(seconds: f64) -> Moment {
        Moment::START.plus_seconds(seconds)
    }

    fn words() -> UpstreamWords {
        UpstreamWords { code: Some("insufficient_quota".into()), ..UpstreamWords::of_status(429) }
    }

    /// Two families of one credential.
    fn families() -> [Funding; 2] {
        let shared = Arc::<QuotaBreaker>::default();
        [Funding::new(Arc::clone(&shared), 1), Funding::new(shared, 2)]
    }

    #[test]
    fn probes_come_after_2_seconds_and_then_each_after_twice_the_time_up_to_the_interval() {
        let [family, _] = families();
        family.trip(words(), INTERVAL, at(0.0));
        let mut probes = Vec::new();
        for tenth in 0..3000 {
            let now = f64::from(tenth) * 0.1;
            match family.check(INTERVAL, at(now)) {
                Funds::Probe => {
                    probes.push((tenth + 5) / 10);
                    family.trip(words(), INTERVAL, at(now + 0.05));
                }
                Funds::Spent(told) => assert_eq!(*told, words()),
                Funds::Pass => panic!("it is blocked"),
            }
        }
        assert_eq!(probes, [2, 4, 8, 16, 32, 64, 124, 184, 244]);
        family.charged(at(0.0));
        assert!(family.since().is_some(), "what began before it opened proves nothing");
        family.charged(at(301.0));
        assert!(matches!(family.check(INTERVAL, at(302.0)), Funds::Pass));
    }

    #[test]
    fn a_second_familys_refusal_spreads_it_to_the_credential() {
        let [one, other] = families();
        one.trip(words(), INTERVAL, at(0.0));
        assert!(matches!(other.check(INTERVAL, at(1.0)), Funds::Pass), "one refusal is one family's");
        assert!(other.since().is_none());
        other.trip(words(), INTERVAL, at(1.5));
        let third = Funding::new(Arc::clone(&one.shared), 3);
        assert!(matches!(third.check(INTERVAL, at(1.6)), Funds::Spent(_)));
        assert!(matches!(third.check(INTERVAL, at(3.6)), Funds::Probe), "one probe serves all");
        assert!(matches!(one.check(INTERVAL, at(3.7)), Funds::Spent(_)));
        third.charged(at(3.6));
        assert!(third.since().is_none());
        assert!(matches!(one.check(INTERVAL, at(3.8)), Funds::Pass), "one success serves all");
        assert!(matches!(other.check(INTERVAL, at(3.8)), Funds::Pass));
    }

    #[test]
    fn a_success_in_between_denies_it() {
        let [one, other] = families();
        let third = Funding::new(Arc::clone(&one.shared), 3);
        one.trip(words(), INTERVAL, at(0.0));
        third.charged(at(0.5));
        other.trip(words(), INTERVAL, at(1.0));
        assert!(matches!(third.check(INTERVAL, at(1.1)), Funds::Pass), "two limits by the minute");
        assert!(matches!(one.check(INTERVAL, at(1.1)), Funds::Spent(_)));
        assert!(matches!(other.check(INTERVAL, at(1.1)), Funds::Spent(_)));
    }

    #[test]
    fn the_families_that_are_kept_are_bounded() {
        let shared = Arc::<QuotaBreaker>::default();
        for family in 0..1000 {
            Funding::new(Arc::clone(&shared), family).trip(words(), INTERVAL, at(1.0));
        }
        assert_eq!(shared.state.lock().unwrap().families.len(), MAX_FAMILIES);
    }
}
