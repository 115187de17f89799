//! The thread's work: an exchange in each interval, what follows from it for the scopes, and what to do without Redis.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::admission::Scopes;
use crate::clock::{self, Instant};

use super::beat::{Beat, ScopeKey};
use super::connection::{Connection, Failure, Redis};
use super::demand::Demands;
use super::{Shared, family_name, key_of, part};

/// The first wait after a failure; each further one is twice as long, up to [`LONGEST_WAIT`] intervals.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// Short enough that all are back within the exchanges in which nobody's part grows.
const LONGEST_WAIT: u32 = 4;

pub(super) struct Exchange {
    redis: Redis,
    id: String,
    interval: Duration,
    scopes: Scopes,
    shared: Arc<Shared>,
    demands: Demands,
    connection: Option<Connection>,
    /// Failures in a row.
    failures: u32,
    /// Whether the last thing said was that Redis is out of reach.
    told_down: bool,
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
            connection: None,
            failures: 0,
            told_down: false,
            rng: fastrand::Rng::new(),
        }
    }

    /// Exchanges until it is told to stop; then says goodbye.
    pub(super) async fn run(mut self, mut stop: oneshot::Receiver<()>) {
        let mut next = clock::now();
        loop {
            if clock::now() >= next {
                self.once().await;
                next = clock::now() + self.pause();
            }
            // A lease ends in time, however long the wait for Redis is.
            let wake = next.min(clock::now() + self.interval);
            tokio::select! {
                biased;
                _ = &mut stop => break,
                () = clock::sleep_until(wake) => {}
            }
            self.shared.leases().lapse(clock::now());
            self.apply();
        }
        if let Some(connection) = &mut self.connection
            && let Err(failure) = self.redis.leave(connection, &self.id, &Beat::Bye.text()).await
        {
            tracing::debug!(%failure, "replicas: the goodbye did not arrive");
        }
    }

    async fn once(&mut self) {
        let began = clock::now();
        self.look(began);
        match self.exchange(began).await {
            Ok(()) => self.went_well(began),
            Err(failure) => self.failed(&failure),
        }
    }

    /// What the scopes need now. They are not held for longer: one that is held is never forgotten.
    fn look(&mut self, now: Instant) {
        let scopes = self.scopes.all();
        let demands = scopes.iter().map(|scope| (key_of(scope), scope.demand()));
        let needs = self.demands.needs(demands, now);
        self.shared.leases().needs(&needs);
    }

    async fn exchange(&mut self, began: Instant) -> Result<(), Failure> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.redis.connect().await?,
        };
        let outgoing = self.shared.leases().outgoing();
        // What is given up is given up before the others hear of it.
        self.apply();
        let found = self.redis.exchange(&mut connection, &self.id, &outgoing.beat, &outgoing.remove).await?;
        self.connection = Some(connection);
        self.shared.leases().exchanged(found.new, &found.beats, began, clock::now());
        self.apply();
        Ok(())
    }

    fn went_well(&mut self, began: Instant) {
        let now = clock::now();
        {
            let mut report = self.shared.report();
            (report.up, report.renewed, report.took) =
                (true, Some(now), now.saturating_duration_since(began));
        }
        if self.told_down {
            let replicas = self.shared.leases().replicas();
            tracing::info!(replicas, "replicas: Redis answers again; limits are shared by need");
        }
        (self.failures, self.told_down) = (0, false);
    }

    fn failed(&mut self, failure: &Failure) {
        {
            let mut report = self.shared.report();
            report.up = false;
            report.failures += 1;
        }
        self.shared.leases().failed(clock::now());
        self.apply();
        self.failures = self.failures.saturating_add(1);
        if !self.told_down {
            self.told_down = true;
            tracing::warn!(
                %failure,
                "replicas: Redis (replicas.redis) can't be used; parts stay until their lease ends, then each replica \
                 takes an even part"
            );
        }
    }

    /// Until the next exchange: no two replicas keep in step, and all that lost Redis don't come back at once.
    fn pause(&mut self) -> Duration {
        if self.failures > 0 {
            let wait = FIRST_WAIT.saturating_mul(1 << (self.failures - 1).min(16));
            return wait.min(self.interval * LONGEST_WAIT).mul_f64(0.5 + self.rng.f64() / 2.0);
        }
        let hungry = self.shared.leases().is_hungry();
        let interval = if hungry { self.interval / 4 } else { self.interval };
        interval.mul_f64(0.9 + self.rng.f64() / 10.0)
    }

    /// Gives each scope its part.
    fn apply(&self) {
        let parts: HashMap<ScopeKey, (u32, [u64; 2])> =
            self.shared.leases().parts().map(|(key, part, others)| (key, (part, others))).collect();
        for scope in self.scopes.all() {
            let (millionths, others) = parts
                .get(&key_of(&scope))
                .copied()
                .unwrap_or_else(|| (self.shared.leases().newcomer(family_name(scope.family())), [0, 0]));
            scope.set_part(part(millionths, others));
        }
    }
}
