//! Every scope by credential and family: bounded, and merged where the upstream shows that limits are shared.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use foldhash::quality::RandomState;

use crate::clock::{self, Instant};

use super::family::{self, Families};
use super::front::Scope;
use super::machine::Machine;
use super::moment::Moment;
use super::quota::Part;
use super::settings::Settings;
use super::spent::QuotaBreaker;
use super::status::ScopeStatus;

pub use crate::caller::CredentialId;

/// All scopes.
#[derive(Clone, Debug)]
pub struct Scopes(Arc<Directory>);

#[derive(Debug)]
pub(super) struct Directory {
    /// Itself, for the scopes to report to.
    me: Weak<Directory>,
    epoch: Instant,
    seed: u64,
    /// Seeded, so that nobody who chooses the name of a model chooses where it is filed.
    hasher: RandomState,
    evicted: AtomicU64,
    merged: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    settings: Arc<Settings>,
    families: Arc<Families>,
    /// Counts look-ups, to tell which scope was idle the longest.
    tick: u64,
    /// By credential and the hash of the family.
    scopes: HashMap<(CredentialId, u64), Entry, RandomState>,
    /// By the hash of organization, project and family: where limits are known to be shared.
    shared: HashMap<u64, Arc<Scope>>,
    breakers: HashMap<CredentialId, Arc<QuotaBreaker>>,
    draining: bool,
    made: u64,
    /// What a new scope begins with, where replicas share the limits.
    newcomer: Option<Newcomer>,
}

/// Says which part of the limits a new scope begins with.
#[derive(Clone)]
pub struct Newcomer(Arc<dyn Fn(&str) -> Part + Send + Sync>);

impl Newcomer {
    /// By the family of the scope's models.
    pub fn new(part: impl Fn(&str) -> Part + Send + Sync + 'static) -> Self {
        Self(Arc::new(part))
    }

    fn part(&self, family: &str) -> Part {
        (self.0)(family)
    }
}

impl std::fmt::Debug for Newcomer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Newcomer")
    }
}

#[derive(Debug)]
struct Entry {
    scope: Arc<Scope>,
    used: u64,
    /// The upstream answered with an organization: a guessed credential never gets that far.
    proven: bool,
}

impl Scopes {
    /// No scopes yet.
    pub fn new(settings: Settings, seed: u64) -> Self {
        let families = Arc::new(Families::new(&settings.families));
        let hasher = RandomState::default();
        Self(Arc::new_cyclic(|me| Directory {
            me: Weak::clone(me),
            epoch: clock::now(),
            seed,
            hasher: hasher.clone(),
            evicted: AtomicU64::new(0),
            merged: AtomicU64::new(0),
            state: Mutex::new(State {
                settings: Arc::new(settings),
                families,
                tick: 0,
                scopes: HashMap::with_hasher(hasher),
                shared: HashMap::new(),
                breakers: HashMap::new(),
                draining: false,
                made: 0,
                newcomer: None,
            }),
        }))
    }

    /// The scope that a request with this credential and model belongs to.
    pub fn resolve(&self, credential: CredentialId, model: Option<&str>) -> Arc<Scope> {
        self.resolve_named(credential, model, || 0)
    }

    /// The same; `name` is how all replicas call the credential, and is asked only where they share limits and the scope is new.
    pub fn resolve_named(
        &self,
        credential: CredentialId,
        model: Option<&str>,
        name: impl FnOnce() -> u64,
    ) -> Arc<Scope> {
        let directory = &self.0;
        let mut state = directory.lock();
        let state = &mut *state;
        state.tick += 1;
        let tick = state.tick;
        let family = state.families.of(model);
        let key = (credential, directory.hasher.hash_one(&*family));
        if let Some(entry) = state.scopes.get_mut(&key) {
            entry.used = tick;
            return Arc::clone(&entry.scope);
        }
        let families = Arc::clone(&state.families);
        let family = families.of(model);
        let (family, key) = if families.is_named(&family) {
            (family.into_owned(), key)
        } else {
            let unnamed = state.scopes.keys().filter(|(of, _)| *of == credential).count();
            if unnamed < state.settings.max_unnamed_families.max(1) {
                (family.into_owned(), key)
            } else {
                (family::OTHER.to_owned(), (credential, directory.hasher.hash_one(family::OTHER)))
            }
        };
        if let Some(entry) = state.scopes.get_mut(&key) {
            entry.used = tick;
            return Arc::clone(&entry.scope);
        }
        directory.make(state, key, &family, name, tick)
    }

    /// From now on several replicas share the limits: `newcomer` says which part of them a new scope of a family begins with.
    pub fn share(&self, newcomer: Newcomer) {
        self.0.lock().newcomer = Some(newcomer);
    }

    /// Every scope.
    pub fn all(&self) -> Vec<Arc<Scope>> {
        self.0.every_scope()
    }

    /// How every scope stands.
    pub fn snapshot(&self) -> Vec<ScopeStatus> {
        self.0.every_scope().iter().map(|scope| scope.status()).collect()
    }

    /// Scopes known now, forgotten so far, merged so far.
    pub fn counts(&self) -> ScopesCounts {
        ScopesCounts {
            scopes: self.0.lock().scopes.len(),
            evicted: self.0.evicted.load(Relaxed),
            merged: self.0.merged.load(Relaxed),
        }
    }

    /// Applies other settings; what was learned stays.
    pub fn reload(&self, settings: Settings) {
        let settings = Arc::new(settings);
        {
            let mut state = self.0.lock();
            state.families = Arc::new(Families::new(&settings.families));
            state.settings = Arc::clone(&settings);
        }
        for scope in self.0.every_scope() {
            scope.configure(&settings);
        }
    }

    /// No further permits; what waits is refused. Permits in flight stay good.
    pub fn drain(&self) {
        self.0.lock().draining = true;
        for scope in self.0.every_scope() {
            scope.drain();
        }
    }
}

/// How many scopes there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScopesCounts {
    /// Known now.
    pub scopes: usize,
    /// Forgotten so far, to stay within the bound.
    pub evicted: u64,
    /// Merged so far into another's.
    pub merged: u64,
}

impl Directory {
    /// The upstream named the organization and project behind a scope: credentials with the same ones share their limits.
    pub(super) fn identified(&self, scope: &Arc<Scope>, organization: &str, project: &str) {
        let key = (CredentialId(scope.credential), self.hasher.hash_one(&*scope.family));
        let owner = self.hasher.hash_one((organization, project, &*scope.family));
        let mut state = self.lock();
        let State { scopes, shared, .. } = &mut *state;
        let Some(entry) = scopes.get_mut(&key) else { return };
        entry.proven = true;
        if !Arc::ptr_eq(&entry.scope, scope) {
            return;
        }
        let canonical = shared.entry(owner).or_insert_with(|| Arc::clone(scope));
        if !Arc::ptr_eq(canonical, scope) {
            entry.scope = Arc::clone(canonical);
            self.merged.fetch_add(1, Relaxed);
        }
    }

    fn make(
        &self,
        state: &mut State,
        key: (CredentialId, u64),
        family: &str,
        name: impl FnOnce() -> u64,
        tick: u64,
    ) -> Arc<Scope> {
        if state.scopes.len() >= state.settings.max_scopes.max(1) {
            self.evict(state);
        }
        let (credential, _) = key;
        state.made += 1;
        let breaker = Arc::clone(state.breakers.entry(credential).or_default());
        let now = Moment::START.plus(clock::now().saturating_duration_since(self.epoch));
        let seed = self.seed.wrapping_add(state.made);
        let mut machine =
            Machine::with_quota_breaker(Arc::clone(&state.settings), family, seed, breaker, now);
        if state.draining {
            machine.drain(&mut Vec::new());
        }
        let mut shared_name = 0;
        if let Some(newcomer) = &state.newcomer {
            shared_name = name();
            machine.set_part(newcomer.part(family), now);
        }
        let taken = |name: &str| state.scopes.values().any(|entry| &*entry.scope.name == name);
        let name = if taken(family) { format!("{family}#{}", state.made) } else { family.to_owned() };
        let scope = Scope::new(
            name.into(),
            family.into(),
            credential.0,
            self.epoch,
            self.me.clone(),
            self.hasher.clone(),
            machine,
        );
        let scope = Arc::new(scope.with_shared_name(shared_name));
        state.scopes.insert(key, Entry { scope: Arc::clone(&scope), used: tick, proven: false });
        scope
    }

    /// Forgets the idle scope that was not used for the longest time; those that the upstream never confirmed first. Where
    /// none is idle the bound is exceeded by as many as are in use, which the number of requests in flight bounds.
    fn evict(&self, state: &mut State) {
        let idle = state
            .scopes
            .iter()
            .filter(|(_, entry)| Arc::strong_count(&entry.scope) <= 2 && entry.scope.is_idle())
            .min_by_key(|(_, entry)| (entry.proven, entry.used))
            .map(|(key, _)| *key);
        let Some(key) = idle else { return };
        if let Some(entry) = state.scopes.remove(&key) {
            self.evicted.fetch_add(1, Relaxed);
            if !state.scopes.values().any(|other| Arc::ptr_eq(&other.scope, &entry.scope)) {
                state.shared.retain(|_, scope| !Arc::ptr_eq(scope, &entry.scope));
            }
        }
        if !state.scopes.keys().any(|(credential, _)| *credential == key.0) {
            state.breakers.remove(&key.0);
        }
    }

    /// Whether several replicas share the limits.
    pub(super) fn is_shared(&self) -> bool {
        self.lock().newcomer.is_some()
    }

    fn every_scope(&self) -> Vec<Arc<Scope>> {
        let state = self.lock();
        let mut scopes: Vec<Arc<Scope>> =
            state.scopes.values().map(|entry| Arc::clone(&entry.scope)).collect();
        scopes.sort_by_key(Arc::as_ptr);
        scopes.dedup_by(|one, other| Arc::ptr_eq(one, other));
        scopes.sort_by(|one, other| one.name.cmp(&other.name));
        scopes
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
