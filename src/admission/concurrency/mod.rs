//! The bound on attempts in flight of an upstream, found by the times to first events or by
//! refusals.
//!
//! **By refusals**, wherever one says that too much is in flight: the bound is what the upstream
//! kept of a burst, at least half of what was in flight. After a while one more is tried.
//!
//! **By first events**, where the configuration asks for it: the upstream queues instead of
//! refusing. A model server with k slots takes whatever comes. What is beyond its slots waits
//! inside it, and nothing says so but the time to the first event. The bound follows that time
//! against its quiet value for a prompt of that size. By Little's law the part of its time that an
//! answer is served is the part of the attempts that are served: one late round tells k.
//!
//! First events that come from the server's cache are much shorter than the others, and queueing is
//! not what the others lack. So a bound that was lowered three times to no avail shows that such
//! times are the usual ones.

mod usual;

#[cfg(test)]
mod tests;

use super::moment::Moment;
use usual::{Usual, forgotten};

/// First events are late from this multiple of their quiet time on,
const LATE: f64 = 2.0;
/// and at least this many seconds after it: less is the network's.
const LEAST_LATE: f64 = 0.05;
/// The bound at the start, and the highest. It doubles with each round until the first that shows a
/// queue.
const FIRST: f64 = 16.0;
const MOST: f64 = 1e6;
/// Answers that a mean is of.
const TYPICAL: f64 = 32.0;
/// Answers that must have ended before their mean says anything: the first that end are the short
/// ones.
const ENOUGH: f64 = 8.0;
/// First events in a round: this part of the bound, within these.
const ROUND: (f64, f64, f64) = (0.25, 4.0, 16.0);
/// Only what was sent with at least this part of the bound in flight speaks for it.
const FULL: f64 = 0.9;
/// After a bound that was too high the next try waits for this number of answers, within these
/// seconds: a try may cost the first events of a few.
const HOLD: (f64, f64, f64) = (25.0, 4.0, 30.0);
/// Where refusals alone lead, each try that is refused doubles that time, up to this many times.
const DOUBLINGS: u32 = 5;
/// One burst of refusals lowers the bound to this part of what was in flight at least: that all of
/// it is refused tells of an overload, and of no bound.
const LEAST_KEPT: f64 = 0.5;
/// A try is this part of the bound higher.
const STEP: f64 = 0.06;
/// An estimate of at least this part of a bound is no proof that the bound is too high.
const NEAR: f64 = 0.75;
/// A bound that was lowered this often without proof, and not raised in between, is not what makes
/// first events late.
const UNHELPFUL: u32 = 3;
/// Streams that ended more than this number of seconds ago lead nothing: any answer counts as one
/// that is on time then.
const UNLED: f64 = 60.0;
/// The shortest time to a first event, in seconds: ratios stay finite.
const SHORTEST: f64 = 1e-3;
/// Classes of prompt sizes; two double it. The first ends at a power of two.
const SIZES: usize = 24;
const SMALLEST: u32 = 5;

/// What an attempt remembers of its sending.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flight {
    round: u32,
    in_flight: u32,
    size: usize,
}

/// The first events of what was sent since the bound was changed or judged: their number, and sums
/// over them.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    count: f64,
    /// Seconds to them.
    seconds: f64,
    /// The shortest seconds that are known of prompts of their sizes.
    shortest: f64,
    /// Attempts in flight when they were sent.
    in_flight: f64,
}

/// The controller of one upstream and model family.
#[derive(Debug)]
pub(super) struct Concurrency {
    bound: f64,
    /// Late first events lower the bound too, and not refusals alone.
    by_first_events: bool,
    /// The least bound that the present burst of refusals may lead to; absent since an attempt of
    /// the present round was answered.
    least_kept: Option<f64>,
    /// Tries in a row that were refused.
    refused_tries: u32,
    /// The highest bound that was not too high, as far as known.
    good: f64,
    /// Nothing showed a queue so far.
    starting: bool,
    /// The number of the present round.
    number: u32,
    round: Round,
    /// Something waited for the bound in this round.
    held: bool,
    held_until: Moment,
    /// Mean seconds that an answer is served, and the number of answers in it.
    service: f64,
    served: f64,
    /// The shortest seconds to a first event by size of prompt, and when they were seen.
    least: [Option<(f64, Moment)>; SIZES],
    usual: Usual,
    /// How often the bound was lowered without proof, less the tries that succeeded.
    unhelped: u32,
    /// The last first event.
    led: Option<Moment>,
}

impl Concurrency {
    /// The controller that first events lead.
    pub(super) fn of_first_events() -> Self {
        Self {
            bound: FIRST,
            by_first_events: true,
            least_kept: None,
            refused_tries: 0,
            good: 0.0,
            starting: true,
            number: 0,
            round: Round::default(),
            held: false,
            held_until: Moment::START,
            service: 0.0,
            served: 0.0,
            least: [None; SIZES],
            usual: Usual { count: 0.0, mean: 1.0, least: (1.0, Moment::START) },
            unhelped: 0,
            led: None,
        }
    }

    /// The controller that refusals alone lead; `in_flight` attempts were, when the first came.
    pub(super) fn of_refusals(in_flight: u32) -> Self {
        Self { bound: f64::from(in_flight), by_first_events: false, ..Self::of_first_events() }
    }

    /// Whether late first events lower the bound too.
    pub(super) fn is_of_first_events(&self) -> bool {
        self.by_first_events
    }

    /// Attempts in flight at most.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it lies between 1 and a million"
    )]
    pub(super) fn bound(&self) -> u32 {
        self.bound.round() as u32
    }

    /// Whether one more attempt may go beside `in_flight` others.
    pub(super) fn takes(&mut self, in_flight: u32) -> bool {
        self.held |= in_flight >= self.bound();
        in_flight < self.bound()
    }

    /// An attempt goes upstream, with which `in_flight` are.
    pub(super) fn sent(&self, tokens: u64, in_flight: u32) -> Flight {
        Flight { round: self.number, in_flight, size: size(tokens) }
    }

    /// The first event of an attempt came after `seconds`.
    pub(super) fn began(&mut self, flight: Flight, seconds: f64, now: Moment) {
        if !self.by_first_events {
            return;
        }
        self.led = Some(now);
        let size = flight.size;
        let seconds = seconds.max(SHORTEST);
        let shortest = match self.shortest(size, now) {
            Some(shortest) if shortest <= seconds => shortest,
            Some(_) | None => {
                self.least[size] = Some((seconds, now));
                seconds
            }
        };
        let in_flight = f64::from(flight.in_flight);
        if flight.round == self.number && in_flight >= (self.bound * FULL).floor() {
            let Round { count, .. } = self.round;
            self.round = Round {
                count: count + 1.0,
                seconds: self.round.seconds + seconds,
                shortest: self.round.shortest + shortest,
                in_flight: self.round.in_flight + in_flight,
            };
            self.judge(now);
        }
    }

    /// An attempt was answered whole after `seconds`; its first event, where it was a stream, after
    /// `first`.
    pub(super) fn ended(&mut self, flight: Flight, first: Option<f64>, seconds: f64, now: Moment) {
        if flight.round == self.number {
            self.least_kept = None;
        }
        if let Some(first) = first {
            let shortest = self.shortest(flight.size, now);
            let quiet = shortest.map_or(first, |shortest| first.min(shortest * self.usual.value(now)));
            self.serve(seconds - (first - quiet));
        } else if !self.by_first_events {
            self.serve(seconds);
        }
        if first.is_some() && self.by_first_events {
            return;
        }
        // Where refusals lead, only what went beyond the bound that is known to be good speaks for
        // a higher one.
        let speaks =
            self.by_first_events || self.bound <= self.good || f64::from(flight.in_flight) > self.good;
        let unled = self.led.is_none_or(|led| now.seconds_since(led) > UNLED);
        if flight.round == self.number && speaks && unled {
            self.round.count += 1.0;
            self.judge(now);
        }
    }

    /// An answer was served for `seconds`.
    fn serve(&mut self, seconds: f64) {
        self.served = (self.served + 1.0).min(TYPICAL);
        self.service += (seconds - self.service) / self.served;
    }

    /// An attempt was refused for what is in flight, while `others` still are. That is no rate, and
    /// concerns nothing else. Of an attempt that was sent before the search began the flight is not
    /// known.
    pub(super) fn refused(&mut self, flight: Option<Flight>, others: u32, now: Moment) {
        let others = f64::from(others);
        if let Some(flight) = flight.filter(|flight| flight.round == self.number) {
            // Others may be refused after it: what the upstream keeps is known after the last.
            let beside = f64::from(flight.in_flight.saturating_sub(1));
            let least = self.bound.min(f64::from(flight.in_flight)) * LEAST_KEPT;
            self.refused_tries = if beside >= self.good { self.refused_tries + 1 } else { 0 };
            self.lower(beside.min(others).max(least).min(self.bound), now);
            self.least_kept = Some(least);
        } else if flight.is_none() && self.number == 0 {
            let least = self.bound * LEAST_KEPT;
            self.lower(others.max(least), now);
            self.least_kept = Some(least);
        } else if let Some(least) = self.least_kept {
            self.bound = self.bound.min(others.max(least).max(1.0));
            self.good = self.bound;
        }
    }

    /// An attempt was refused beside which nothing was in flight: that was an overload, and no
    /// bound. The search begins anew from one at a time.
    pub(super) fn refused_alone(&mut self) {
        if !self.by_first_events {
            (self.starting, self.good, self.refused_tries) = (true, 0.0, 0);
            self.held_until = Moment::START;
            self.set(1.0);
        }
    }

    /// Draws the conclusions from a round as soon as enough of its first events have come.
    fn judge(&mut self, now: Moment) {
        let Round { count, seconds, shortest, in_flight } = self.round;
        let least = match (self.by_first_events, self.starting) {
            (_, true) => 1.0,
            (true, false) => ROUND.1,
            (false, false) => TYPICAL,
        };
        if count < (self.bound * ROUND.0).clamp(least, ROUND.2.max(least)).floor() {
            return;
        }
        let quiet = shortest * self.usual.value(now);
        let late = (seconds - quiet) / count;
        if late <= LEAST_LATE || seconds <= quiet * LATE {
            return self.on_time(now);
        }
        if self.served < ENOUGH {
            return;
        }
        let slots = in_flight / count * self.service / (self.service + late);
        let is_proof = slots < self.bound * NEAR;
        if self.starting && !is_proof {
            self.raise();
        } else if !self.starting && self.bound > self.good && slots >= self.good * NEAR {
            self.lower(self.good, now);
        } else if is_proof {
            self.lower(slots, now);
        } else if now < self.held_until {
            self.round = Round::default();
        } else if self.unhelped + 1 < UNHELPFUL {
            self.unhelped += 1;
            self.lower(slots, now);
        } else {
            self.usual = Usual { count: TYPICAL, mean: seconds / shortest, least: (seconds / shortest, now) };
            self.unhelped = 0;
            self.set(self.bound);
        }
    }

    fn on_time(&mut self, now: Moment) {
        let Round { count, seconds, shortest, .. } = self.round;
        if shortest > 0.0 {
            self.usual.add(seconds / shortest, count, now);
        }
        self.unhelped -= u32::from(self.bound > self.good && self.unhelped > 0);
        if self.bound > self.good {
            (self.good, self.refused_tries) = (self.bound, 0);
        }
        if self.held && now >= self.held_until {
            self.raise();
        } else {
            self.round = Round::default();
        }
    }

    fn raise(&mut self) {
        self.set(self.bound + if self.starting { self.bound } else { (self.bound * STEP).max(1.0) });
    }

    fn lower(&mut self, bound: f64, now: Moment) {
        self.starting = false;
        self.set(bound);
        self.good = self.bound;
        let answers = self.service / self.bound;
        let doublings = if self.by_first_events { 0 } else { self.refused_tries.min(DOUBLINGS) };
        let hold = (answers * HOLD.0).clamp(HOLD.1, HOLD.2) * f64::from(1 << doublings);
        self.held_until = now.plus_seconds(hold);
    }

    fn set(&mut self, bound: f64) {
        self.bound = bound.clamp(1.0, MOST);
        (self.round, self.held) = (Round::default(), false);
        self.number = self.number.wrapping_add(1);
        self.least_kept = None;
    }

    /// The shortest seconds to a first event for a prompt of a size: a larger one takes no less.
    fn shortest(&self, size: usize, now: Moment) -> Option<f64> {
        self.least[size..].iter().flatten().map(|least| forgotten(*least, now)).reduce(f64::min)
    }
}

/// The class of a prompt's size.
fn size(tokens: u64) -> usize {
    let doublings = tokens.max(1 << SMALLEST).ilog2();
    let is_upper = tokens >> (doublings - 1) == 3;
    let halves = ((doublings - SMALLEST) * 2) as usize + usize::from(is_upper);
    halves.min(SIZES - 1)
}
