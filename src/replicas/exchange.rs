//! The exchange thread: one exchange per interval, its effect on the scopes, and the fallback
//! without Redis.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::admission::{Part, Scopes};
use crate::clock::{self, Instant};

use super::Trouble;
use super::client::{Connection, Redis};
use super::demand::Demands;
use super::message::{Answer, Note};
use super::notes::{MOST_NOTES, Notes};
use super::running::{Shared, fraction, key_of};

/// The backoff after the first failure. It doubles with each failure, up to [`MAX_BACKOFF`].
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
/// The maximum backoff, in intervals.
const MAX_BACKOFF: u32 = 2;
/// The number of demand measurements per interval, for urgent needs.
const MEASUREMENTS: u32 = 4;
/// The interval between reads of the URL's secret.
const URL_REREAD_INTERVAL: Duration = Duration::from_secs(10);

pub(super) struct Exchange {
    redis: Redis,
    id: String,
    interval: Duration,
    scopes: Scopes,
    shared: Arc<Shared>,
    demands: Demands,
    notes: Notes,
    /// Notes that are not sent yet, with the time of creation.
    pending_notes: Vec<(Note, Instant)>,
    connection: Option<Connection>,
    /// The start of the last two exchanges, newest first.
    began: [Option<Instant>; 2],
    reread: Instant,
    /// Consecutive failures.
    failures: u32,
    /// The failure that was logged last, until a success.
    logged: Option<Trouble>,
    rng: fastrand::Rng,
}

impl Exchange {
    pub(super) fn new(
        redis: Redis,
        id: String,
        interval: Duration,
        scopes: Scopes,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            redis,
            id,
            interval,
            scopes,
            shared,
            demands: Demands::default(),
            notes: Notes::default(),
            pending_notes: Vec::new(),
            connection: None,
            began: [None; 2],
            reread: clock::now() + URL_REREAD_INTERVAL,
            failures: 0,
            logged: None,
            rng: fastrand::Rng::new(),
        }
    }

    /// Runs exchanges until `stop`, then returns all parts to the ledger.
    pub(super) async fn run(mut self, mut stop: oneshot::Receiver<()>) {
        let mut next = clock::now();
        loop {
            self.measure(clock::now());
            let soon = (self.shared.leases().wants_exchange() || !self.pending_notes.is_empty())
                && self.failures == 0;
            let now = clock::now();
            if now >= next || soon && now >= self.earliest() {
                self.attempt().await;
                next = clock::now() + self.pause();
            }
            let lease = self.shared.leases().until();
            let wake = next.min(clock::now() + self.interval / MEASUREMENTS);
            tokio::select! {
                biased;
                _ = &mut stop => break,
                () = clock::sleep_until(lease.map_or(wake, |lease| lease.min(wake))) => {}
            }
            self.lapse();
        }
        let goodbye = self.shared.leases().goodbye(&self.id);
        if let Some(connection) = &mut self.connection
            && let Err(trouble) = self.redis.exchange(connection, &goodbye).await
        {
            tracing::debug!(trouble = trouble.as_str(), "replicas: the goodbye did not arrive");
        }
    }

    /// The earliest start of an additional exchange: at most two start per interval.
    fn earliest(&self) -> Instant {
        let now = clock::now();
        let apart = self.began[0].map_or(now, |last| last + self.interval / MEASUREMENTS);
        self.began[1].map_or(apart, |before| apart.max(before + self.interval))
    }

    fn lapse(&mut self) {
        let lapsed = {
            let mut leases = self.shared.leases();
            let before = leases.is_granted();
            leases.lapse(clock::now());
            !leases.is_granted() && (before || self.failures > 0)
        };
        if lapsed {
            self.apply();
        }
    }

    async fn attempt(&mut self) {
        let began = clock::now();
        self.began = [Some(began), self.began[0]];
        let lease = self.shared.leases().until();
        let exchanged = match lease {
            // The lease's end aborts an exchange, because the leased parts must be given up.
            Some(lease) => {
                clock::timeout_at(lease, self.exchange(began)).await.unwrap_or(Err(Trouble::Timeout))
            }
            None => self.exchange(began).await,
        };
        match exchanged {
            Ok(answer) => self.succeeded(&answer, began),
            Err(trouble) => self.failed(trouble),
        }
    }

    /// Measures the scopes' needs and collects new notes. Keeps no reference to a scope, because a
    /// referenced scope can't be evicted.
    fn measure(&mut self, now: Instant) {
        let scopes = self.scopes.all();
        let demands = scopes.iter().map(|scope| (key_of(scope), scope.demand()));
        let needs = self.demands.needs(demands, now);
        self.shared.leases().needs(&needs);
        let knowledge: Vec<_> = scopes.iter().map(|scope| (key_of(scope), scope.knowledge())).collect();
        for note in self.notes.new_notes(&knowledge, now) {
            self.pending_notes.retain(|(older, _)| older.field != note.field);
            self.pending_notes.push((note, now));
        }
    }

    /// The notes to send that are still valid.
    fn outgoing_notes(&mut self, now: Instant) -> Vec<Note> {
        self.pending_notes.retain(|(note, found)| *found + note.ttl > now);
        let left = |(note, found): &(Note, Instant)| Note {
            ttl: note.ttl.saturating_sub(now.saturating_duration_since(*found)),
            ..note.clone()
        };
        self.pending_notes.iter().take(MOST_NOTES).map(left).collect()
    }

    async fn exchange(&mut self, began: Instant) -> Result<Answer, Trouble> {
        if began >= self.reread {
            self.reread = began + URL_REREAD_INTERVAL;
            let url = self.redis.url.read();
            // An unreadable secret does not mean that the connection is outdated.
            self.connection.take_if(|connection| url.as_ref().is_ok_and(|url| !connection.is_of(url)));
        }
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.redis.connect().await?,
        };
        let notes = self.outgoing_notes(began);
        let call = self.shared.leases().outgoing(&self.id, notes, began);
        let answer = self.redis.exchange(&mut connection, &call).await?;
        self.connection = Some(connection);
        self.pending_notes.drain(..call.notes.len());
        // Measure again: the unused amount of a returned part must be current.
        self.measure(clock::now());
        self.shared.leases().exchanged(&call, &answer, began);
        self.apply();
        Ok(answer)
    }

    fn succeeded(&mut self, answer: &Answer, began: Instant) {
        let now = clock::now();
        for (key, update) in answer.notes.iter().filter_map(|note| self.notes.receive(note, now)) {
            for scope in self.scopes.all().iter().filter(|scope| key_of(scope) == key) {
                scope.apply_peer_update(&update);
            }
        }
        {
            let mut report = self.shared.report();
            (report.trouble, report.renewed) = (None, Some(now));
            report.learning = answer.learning;
            report.took = now.saturating_duration_since(began);
            report.exchanges += 1;
        }
        if self.logged.take().is_some() {
            let replicas = answer.members;
            tracing::info!(replicas, "replicas: Redis responds again; limits are shared by need");
        }
        self.failures = 0;
    }

    fn failed(&mut self, trouble: Trouble) {
        {
            let mut report = self.shared.report();
            report.trouble = Some(trouble);
            report.failures += 1;
        }
        self.connection = None;
        self.shared.leases().failed(clock::now());
        self.apply();
        self.failures = self.failures.saturating_add(1);
        if self.logged != Some(trouble) {
            self.logged = Some(trouble);
            tracing::warn!(
                trouble = trouble.as_str(),
                "replicas: {} Parts stay until their lease ends; then each replica takes an even part.",
                trouble.advice()
            );
        }
    }

    /// The time until the next exchange, with jitter: replicas must not stay in phase, nor
    /// reconnect together after an outage of Redis.
    fn pause(&mut self) -> Duration {
        if self.failures > 0 {
            let wait = FIRST_BACKOFF.saturating_mul(1 << (self.failures - 1).min(16));
            return wait.min(self.interval * MAX_BACKOFF).mul_f64(0.5 + self.rng.f64() / 2.0);
        }
        self.interval.mul_f64(0.9 + self.rng.f64() / 10.0)
    }

    /// Applies the parts to the scopes.
    fn apply(&self) {
        let (applied, until) = {
            let mut leases = self.shared.leases();
            (leases.applied(), leases.until())
        };
        let now = clock::now();
        let valid = until.map_or(Duration::MAX, |until| until.saturating_duration_since(now));
        for scope in self.scopes.all() {
            let part = match applied.get(&key_of(&scope)) {
                Some(of) => Part {
                    part: fraction(of.part),
                    prospect: fraction(of.prospect),
                    fresh: of.unused_gained,
                    valid,
                    others_requests: of.others[0],
                    others_tokens: of.others[1],
                    others_sent: of.others_sent.map(|sent| sent as f64),
                },
                None => self.shared.newcomer(),
            };
            scope.set_part(part);
        }
    }
}
