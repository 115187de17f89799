//! Ceilings of callers: how fast a caller may go, whatever the upstream allows.
//!
//! A request under a ceiling has its turn when what its caller sent before has drained, and only
//! then joins its scope's queue: it is paced, not refused. The arithmetic is governor's, in a
//! [`Bucket`] for each ceiling: the request that finds it empty passes, whatever its size, and
//! those after it wait for its debt.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::caller::CallerId;
use crate::clock::{self, Instant};

use super::limits::{Bucket, Cost};
use super::moment::Moment;

/// Ceilings of one process at most, over all its reloads.
const MOST: usize = 65_000;
/// What may go at once, in seconds of the ceiling: a minute that begins with it is less than a
/// hundredth over.
const BURST: f64 = 0.25;

/// One ceiling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ceiling {
    /// Whose it is.
    pub caller: CallerId,
    /// The family of models that it is for, where not all.
    pub family: Option<Box<str>>,
    /// Requests a minute.
    pub requests_per_minute: Option<u64>,
    /// Tokens a minute, as requests are priced.
    pub tokens_per_minute: Option<u64>,
    /// Requests that may wait for it.
    pub max_waiting: usize,
}

/// Every ceiling.
#[derive(Debug)]
pub struct Ceilings {
    /// Whether there is any: most have none, and then nothing is locked.
    active: AtomicBool,
    draining: AtomicBool,
    drained: Notify,
    epoch: Instant,
    pacers: Mutex<Vec<Pacer>>,
}

struct Pacer {
    ceiling: Ceiling,
    /// Whether the configuration has it now.
    configured: bool,
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
    waiting: usize,
}

impl std::fmt::Debug for Pacer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pacer")
            .field("ceiling", &self.ceiling)
            .field("waiting", &self.waiting)
            .finish_non_exhaustive()
    }
}

/// Why a request gets no turn under its ceiling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CeilingRefusal {
    /// Its turn would come after its deadline, in this time.
    TooLate(Ceiling, Duration),
    /// As many requests wait as may, and the last of them for this time.
    Full(Ceiling, Duration),
    /// Weir is shutting down.
    Draining,
}

/// How a ceiling stands.
#[derive(Clone, Debug, PartialEq)]
pub struct CeilingStatus {
    /// The ceiling.
    pub ceiling: Ceiling,
    /// Requests that wait for it.
    pub waiting: usize,
    /// How long one more would wait.
    pub wait: Duration,
}

impl Pacer {
    fn shape(&mut self, now: Moment) {
        let shape = |bucket: &mut Option<Bucket>, per_minute: Option<u64>| match (per_minute, bucket.as_mut())
        {
            (None, _) => *bucket = None,
            (Some(per_minute), known) => {
                let rate = per_minute as f64 / 60.0;
                let burst = (rate * BURST).max(1.0);
                match known {
                    Some(bucket) => bucket.reshape(rate, burst, now),
                    None => *bucket = Some(Bucket::new(rate, burst)),
                }
            }
        };
        shape(&mut self.requests, self.ceiling.requests_per_minute);
        shape(&mut self.tokens, self.ceiling.tokens_per_minute);
    }

    fn wait(&self, cost: Cost, now: Moment) -> Duration {
        let requests = self.requests.as_ref().map(|bucket| bucket.wait(u64::from(cost.requests), now));
        let tokens = self.tokens.as_ref().map(|bucket| bucket.wait(cost.tokens, now));
        requests.unwrap_or_default().max(tokens.unwrap_or_default())
    }

    /// Does something to each bucket, with what a cost is in its cells.
    fn each(&mut self, cost: Cost, act: impl Fn(&mut Bucket, u64)) {
        if let Some(requests) = &mut self.requests {
            act(requests, u64::from(cost.requests));
        }
        if let Some(tokens) = &mut self.tokens {
            act(tokens, cost.tokens);
        }
    }

    fn is(&self, other: &Ceiling) -> bool {
        self.ceiling.caller == other.caller && self.ceiling.family == other.family
    }

    fn is_for(&self, caller: CallerId, family: &str) -> bool {
        self.configured
            && self.ceiling.caller == caller
            && self.ceiling.family.as_deref().is_none_or(|own| own == family)
    }
}

impl Ceilings {
    /// No ceilings yet.
    pub fn new(now: Instant) -> Arc<Self> {
        Arc::new(Self {
            active: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            drained: Notify::new(),
            epoch: now,
            pacers: Mutex::default(),
        })
    }

    /// Has these ceilings from now on; what was sent under those that stay counts on.
    pub fn configure(&self, ceilings: Vec<Ceiling>, now: Instant) {
        let now = self.moment(now);
        let mut pacers = self.lock();
        for pacer in pacers.iter_mut() {
            pacer.configured = false;
        }
        for ceiling in ceilings {
            let known = pacers.iter().position(|pacer| pacer.is(&ceiling));
            let place = match known {
                Some(place) => place,
                None if pacers.len() < MOST => {
                    let ceiling = ceiling.clone();
                    pacers.push(Pacer {
                        ceiling,
                        configured: true,
                        requests: None,
                        tokens: None,
                        waiting: 0,
                    });
                    pacers.len() - 1
                }
                None => continue,
            };
            let pacer = &mut pacers[place];
            (pacer.ceiling, pacer.configured) = (ceiling, true);
            pacer.shape(now);
        }
        self.active.store(pacers.iter().any(|pacer| pacer.configured), Ordering::Relaxed);
    }

    /// Takes a request's turn under its caller's ceilings; nothing where it has none, or need not
    /// wait.
    ///
    /// # Errors
    /// Why it gets none.
    pub fn take(
        self: &Arc<Self>,
        caller: CallerId,
        family: &str,
        cost: Cost,
        deadline: Instant,
        now: Instant,
    ) -> Result<Option<CeilingTurn>, Box<CeilingRefusal>> {
        if !self.active.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let moment = self.moment(now);
        let mut pacers = self.lock();
        let own: Vec<usize> =
            (0..pacers.len()).filter(|place| pacers[*place].is_for(caller, family)).collect();
        let waits = |place: &usize| pacers[*place].wait(cost, moment);
        let Some(&longest) = own.iter().max_by_key(|place| waits(place)) else { return Ok(None) };
        let wait = waits(&longest);
        let ceiling = &pacers[longest].ceiling;
        if now + wait > deadline {
            return Err(Box::new(CeilingRefusal::TooLate(ceiling.clone(), wait)));
        }
        if !wait.is_zero() && pacers[longest].waiting >= ceiling.max_waiting {
            return Err(Box::new(CeilingRefusal::Full(ceiling.clone(), wait)));
        }
        for place in &own {
            let pacer = &mut pacers[*place];
            pacer.each(cost, |bucket, cells| bucket.take(cells, moment));
        }
        if wait.is_zero() {
            return Ok(None);
        }
        pacers[longest].waiting += 1;
        drop(pacers);
        let (ceilings, due) = (Arc::clone(self), now + wait);
        Ok(Some(CeilingTurn { ceilings, own, longest, cost, due, came: false }))
    }

    /// What waits is told so, and nothing further does.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
        self.drained.notify_waiters();
    }

    /// How every configured ceiling stands.
    pub fn status(&self, now: Instant) -> Vec<CeilingStatus> {
        let now = self.moment(now);
        let one = Cost { requests: 1, tokens: 1, ..Cost::default() };
        let pacers = self.lock();
        let configured = pacers.iter().filter(|pacer| pacer.configured);
        configured
            .map(|pacer| CeilingStatus {
                ceiling: pacer.ceiling.clone(),
                waiting: pacer.waiting,
                wait: pacer.wait(one, now),
            })
            .collect()
    }

    fn moment(&self, now: Instant) -> Moment {
        Moment::START.plus(now.saturating_duration_since(self.epoch))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Pacer>> {
        self.pacers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A turn that has not come yet. Dropping it gives back what was taken for it; those behind it keep
/// their times.
#[derive(Debug)]
#[must_use = "who does not wait gives the turn back"]
pub struct CeilingTurn {
    ceilings: Arc<Ceilings>,
    own: Vec<usize>,
    longest: usize,
    cost: Cost,
    due: Instant,
    came: bool,
}

impl CeilingTurn {
    /// Waits for it.
    ///
    /// # Errors
    /// That Weir shuts down meanwhile.
    ///
    /// # Cancel safety
    /// Dropping the future gives the turn back.
    pub async fn wait(mut self) -> Result<(), CeilingRefusal> {
        let ceilings = Arc::clone(&self.ceilings);
        let drained = ceilings.drained.notified();
        if ceilings.draining.load(Ordering::Acquire) || clock::timeout_at(self.due, drained).await.is_ok() {
            return Err(CeilingRefusal::Draining);
        }
        self.came = true;
        Ok(())
    }
}

impl Drop for CeilingTurn {
    fn drop(&mut self) {
        let now = self.ceilings.moment(clock::now());
        let mut pacers = self.ceilings.lock();
        pacers[self.longest].waiting -= 1;
        for place in self.own.iter().filter(|_| !self.came) {
            let pacer = &mut pacers[*place];
            pacer.each(self.cost, |bucket, cells| bucket.credit(cells as f64, now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    fn ceiling(requests: Option<u64>, tokens: Option<u64>) -> Ceiling {
        Ceiling {
            caller: CallerId(0),
            family: None,
            requests_per_minute: requests,
            tokens_per_minute: tokens,
            max_waiting: 1_000_000,
        }
    }

    fn cost(tokens: u64) -> Cost {
        Cost { requests: 1, tokens, ..Cost::default() }
    }

    /// Ten times the ceiling is asked for, for ten minutes: what goes in each minute is the
    /// ceiling, to a hundredth.
    #[tokio::test(start_paused = true)]
    async fn each_minute_has_its_ceiling_to_a_hundredth() {
        for (requests, tokens, of_request) in
            [(Some(600), None, 0), (None, Some(120_000), 200), (Some(6_000), Some(90_000), 50)]
        {
            let start = clock::now();
            let ceilings = Ceilings::new(start);
            ceilings.configure(vec![ceiling(requests, tokens)], start);
            let allowed = requests
                .unwrap_or(u64::MAX)
                .min(tokens.map_or(u64::MAX, |tokens| tokens / of_request.max(1)));
            let mut minutes = [0_u64; 10];
            // Arrivals at ten times the rate, each at its time.
            for arrival in 0..allowed * 100 {
                let now = start + MINUTE.mul_f64(arrival as f64 / (allowed * 10) as f64);
                let due = match ceilings.take(CallerId(0), "m", cost(of_request), now + MINUTE * 600, now) {
                    Ok(None) => now,
                    Ok(Some(mut turn)) => {
                        turn.came = true;
                        turn.due
                    }
                    Err(refused) => panic!("{refused:?}"),
                };
                let minute = (due - start).as_secs() / 60;
                if let Some(count) = minutes.get_mut(usize::try_from(minute).unwrap()) {
                    *count += 1;
                }
            }
            for count in minutes {
                let ratio = count as f64 / allowed as f64;
                assert!((ratio - 1.0).abs() < 0.01, "{requests:?} {tokens:?}: {minutes:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_is_waited_for_given_back_and_bounded() {
        let start = clock::now();
        let ceilings = Ceilings::new(start);
        assert!(ceilings.take(CallerId(0), "m", cost(1), start, start).unwrap().is_none());
        ceilings.configure(vec![Ceiling { max_waiting: 2, ..ceiling(Some(60), None) }], start);
        let take = |patience: u64| {
            let now = clock::now();
            ceilings.take(CallerId(0), "m", cost(1), now + Duration::from_secs(patience), now)
        };
        assert!(take(0).unwrap().is_none(), "the first need not wait");
        assert!(
            matches!(*take(0).unwrap_err(), CeilingRefusal::TooLate(_, wait) if wait == Duration::from_secs(1))
        );
        let (second, third) = (take(9).unwrap().unwrap(), take(9).unwrap().unwrap());
        assert!(matches!(*take(9).unwrap_err(), CeilingRefusal::Full(..)));
        assert_eq!(ceilings.status(clock::now())[0].waiting, 2);
        drop(third);
        second.wait().await.unwrap();
        assert_eq!(clock::now() - start, Duration::from_secs(1));
        let next = take(9).unwrap().unwrap();
        next.wait().await.unwrap();
        assert_eq!(clock::now() - start, Duration::from_secs(2), "what the third gave back");
        let last = take(9).unwrap().unwrap();
        let waiting = clock::spawn(last.wait());
        tokio::task::yield_now().await;
        ceilings.drain();
        assert_eq!(waiting.await.unwrap(), Err(CeilingRefusal::Draining));
        assert!(
            ceilings.take(CallerId(1), "m", cost(1), clock::now(), clock::now()).unwrap().is_none(),
            "another caller"
        );
    }
}
