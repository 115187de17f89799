//! Every scope by credential and family: bounded, and merged where the upstream shows that limits
//! are shared.

mod eviction;

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use foldhash::quality::RandomState;

use crate::clock::{self, Instant};
use crate::pool::UpstreamId;

use crate::admission::ceilings::Ceilings;
use crate::admission::credential::Credential;
use crate::admission::family::{self, Families};
use crate::admission::front::Scope;
use crate::admission::machine::Machine;
use crate::admission::memory::{Memory, Unknown as UnknownMemory};
use crate::admission::moment::Moment;
use crate::admission::newcomer::Newcomer;
use crate::admission::registry::Registry;
use crate::admission::settings::Settings;
use crate::admission::spent::QuotaBreaker;
use crate::admission::status::{ScopeStatus, ScopesCounts};

pub use crate::caller::CredentialId;

/// All scopes.
#[derive(Clone, Debug)]
pub struct Scopes(Arc<Directory>);

#[derive(Debug)]
pub(in crate::admission) struct Directory {
    /// Itself, for the scopes to report to.
    me: Weak<Directory>,
    epoch: Instant,
    ceilings: Arc<Ceilings>,
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
    /// Counts look-ups, to tell which entry was used last.
    tick: u64,
    /// By credential and the hash of the family.
    entries: HashMap<EntryKey, Entry, RandomState>,
    /// Candidates for eviction, by [`Rank`], roughly the longest unused first.
    idle: [VecDeque<(EntryKey, u64)>; 3],
    credentials: HashMap<CredentialId, Credential>,
    registry: Registry,
    draining: bool,
    made: u64,
    /// What a new scope begins with, where replicas share the limits.
    newcomer: Option<Newcomer>,
    /// What an earlier process learned, where it is kept.
    memory: Option<Memory>,
}

type EntryKey = (CredentialId, u64);

#[derive(Debug)]
struct Entry {
    scope: Arc<Scope>,
    used: u64,
    /// The upstream answered with an organization: a guessed credential never gets that far.
    proven: bool,
    /// No configured pattern names its family: it counts towards the credential's bound.
    unnamed: bool,
    /// How all replicas call the credential; 0 where nobody asks.
    name: u64,
}

/// In which order entries are forgotten: the upstream never confirmed it; another entry leads to
/// the same scope, so that nothing learned is lost; all others.
#[derive(Clone, Copy)]
enum Rank {
    Unproven,
    Merged,
    Sole,
}

/// An unnamed family that was not used for this time makes place for another one. Ten minutes:
/// longer than pauses in use, and names that nobody sends any more are gone within a coffee.
const UNUSED: Duration = Duration::from_mins(10);

/// Entries looked at for one eviction. Nearly always the first can be forgotten; where all are in
/// use the bound is exceeded by as many as are in use, and later evictions catch up.
const LOOKS: usize = 32;

impl Scopes {
    /// No scopes yet.
    pub fn new(settings: Settings, seed: u64) -> Self {
        let families = Arc::new(Families::new(&settings));
        let hasher = RandomState::default();
        let ceilings = Ceilings::new(clock::now());
        ceilings.configure(settings.ceilings.clone(), clock::now());
        Self(Arc::new_cyclic(|me| Directory {
            ceilings,
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
                entries: HashMap::with_hasher(hasher),
                idle: Default::default(),
                credentials: HashMap::new(),
                registry: Registry::default(),
                draining: false,
                made: 0,
                newcomer: None,
                memory: None,
            }),
        }))
    }

    /// The scope that a request with this credential and model belongs to.
    pub fn resolve(&self, credential: CredentialId, model: Option<&str>) -> Arc<Scope> {
        self.resolve_named(credential, model, || 0)
    }

    /// The same; `name` is how all replicas call the credential, and is asked only where they share
    /// limits, or what is learned is kept, and the scope is new.
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
        let key = (credential, directory.name_of(&state.families, &family, model));
        if let Some(entry) = state.entries.get_mut(&key) {
            entry.used = tick;
            return Arc::clone(&entry.scope);
        }
        let families = Arc::clone(&state.families);
        let family = families.of(model);
        let unnamed = !families.is_named(&family);
        let (family, key) = if unnamed && !directory.has_place(state, credential) {
            let name = directory.name_of(&families, family::OTHER, model);
            (family::OTHER.to_owned(), (credential, name))
        } else {
            (family.into_owned(), key)
        };
        if let Some(entry) = state.entries.get_mut(&key) {
            entry.used = tick;
            return Arc::clone(&entry.scope);
        }
        let unnamed = unnamed && family != family::OTHER;
        directory.make(state, key, (&family, model), unnamed, name)
    }

    /// From now on several replicas share the limits: `newcomer` says which part of them a new
    /// scope of a family begins with.
    pub fn share(&self, newcomer: Newcomer) {
        self.0.lock().newcomer = Some(newcomer);
    }

    /// Takes up what an earlier process learned of limits, and remembers it for [`Self::memory`].
    ///
    /// # Errors
    /// That the text can't be read; nothing is known then.
    pub fn remember(&self, text: Option<&str>, now: SystemTime) -> Result<(), UnknownMemory> {
        let read = text.map_or_else(|| Ok(Memory::default()), |text| Memory::read(text, now));
        let (memory, problem) =
            read.map_or_else(|unknown| (Memory::default(), Err(unknown)), |it| (it, Ok(())));
        self.0.lock().memory = Some(memory);
        problem
    }

    /// What is to be kept over a restart: how credentials are called by all replicas, families and
    /// numbers, no secret.
    pub fn memory(&self, now: SystemTime) -> Option<String> {
        let scopes: Vec<(u64, Arc<Scope>)> =
            self.0.lock().entries.values().map(|entry| (entry.name, Arc::clone(&entry.scope))).collect();
        let learned: Vec<_> = scopes.iter().map(|(name, scope)| (*name, scope, scope.learned())).collect();
        let memory = &mut self.0.lock().memory;
        let memory = memory.as_mut()?;
        for (name, scope, (learned, unused)) in learned {
            memory.keep((name, scope.family().into()), learned, now - unused);
        }
        Some(memory.text(now))
    }

    /// How fast callers may go.
    pub fn ceilings(&self) -> &Arc<Ceilings> {
        &self.0.ceilings
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
            scopes: self.0.lock().entries.len(),
            evicted: self.0.evicted.load(Relaxed),
            merged: self.0.merged.load(Relaxed),
        }
    }

    /// Applies other settings; what was learned stays.
    pub fn reload(&self, settings: Settings) {
        self.0.ceilings.configure(settings.ceilings.clone(), clock::now());
        let settings = Arc::new(settings);
        {
            let mut state = self.0.lock();
            state.families = Arc::new(Families::new(&settings));
            state.settings = Arc::clone(&settings);
            self.0.rename(&mut state);
        }
        for scope in self.0.every_scope() {
            let members = self.0.members_of(&scope);
            scope.configure(&settings, members);
        }
    }

    /// No further permits; what waits is refused. Permits in flight stay good.
    pub fn drain(&self) {
        self.0.lock().draining = true;
        self.0.ceilings.drain();
        for scope in self.0.every_scope() {
            scope.drain();
        }
    }
}

impl Directory {
    /// The upstream named the organization and project behind a scope: credentials with the same
    /// ones share their limits. Returns the scope that this one is merged into, where nothing leads
    /// to it any more.
    pub(in crate::admission) fn identified(
        &self,
        scope: &Arc<Scope>,
        organization: &str,
        project: &str,
    ) -> Option<Arc<Scope>> {
        let owner = self.hasher.hash_one((organization, project, &*scope.family));
        let mut state = self.lock();
        let State { entries, registry, families, .. } = &mut *state;
        let name = self.name_of(families, &scope.family, scope.model.as_deref());
        let key = (CredentialId(scope.credential), name);
        let entry = entries.get_mut(&key)?;
        entry.proven = true;
        if !Arc::ptr_eq(&entry.scope, scope) || scope.is_pool() {
            return None;
        }
        let canonical = registry.owned_by(owner, scope);
        if Arc::ptr_eq(&canonical, scope) {
            return None;
        }
        entry.scope = Arc::clone(&canonical);
        registry.entered(&canonical);
        self.merged.fetch_add(1, Relaxed);
        registry.left(scope).then_some(canonical)
    }

    /// Whether a further family that no pattern names gets a scope of its own. At the bound, one
    /// that never had a good answer or was not used for [`UNUSED`] makes place.
    fn has_place(&self, state: &mut State, credential: CredentialId) -> bool {
        let most = state.settings.max_unnamed_families.max(1);
        let unnamed = state.credentials.get(&credential).map_or(0, |credential| credential.unnamed);
        if unnamed < most {
            return true;
        }
        let now = self.now();
        let gone = (state.entries.iter())
            .filter(|((of, _), entry)| *of == credential && entry.unnamed)
            .filter(|(_, entry)| !entry.scope.has_succeeded() || entry.scope.unused_since(now) >= UNUSED)
            .filter(|(_, entry)| state.registry.is_idle(&entry.scope))
            .min_by_key(|(_, entry)| (entry.scope.has_succeeded(), entry.used))
            .map(|(key, _)| *key);
        let Some(key) = gone else { return false };
        self.forget(state, key);
        true
    }

    fn make(
        &self,
        state: &mut State,
        key: EntryKey,
        (family, model): (&str, Option<&str>),
        unnamed: bool,
        name: impl FnOnce() -> u64,
    ) -> Arc<Scope> {
        if state.entries.len() >= state.settings.max_scopes.max(1) {
            self.evict(state);
        }
        state.made += 1;
        let credential = state.credentials.entry(key.0).or_default();
        credential.entries += 1;
        credential.unnamed += usize::from(unnamed);
        let members = credential.members(&state.settings, model);
        let now = self.now();
        let seed = self.seed.wrapping_add(state.made);
        let mut machine = Machine::with_members(Arc::clone(&state.settings), family, seed, members, now);
        if state.draining {
            machine.drain(&mut Vec::new());
        }
        let asked = state.newcomer.is_some() || state.memory.is_some();
        let shared_name = if asked { name() } else { 0 };
        if let Some(newcomer) = &state.newcomer {
            machine.set_part(newcomer.part(family), now);
        }
        if let Some(memory) = &state.memory
            && let Some((learned, weight)) = memory.of(&(shared_name, family.into()), clock::wall())
        {
            machine.recall(learned, weight, now);
        }
        let scope = Scope::new(
            state.registry.name(family, state.made),
            family.into(),
            key.0.0,
            self.epoch,
            self.me.clone(),
            self.hasher.clone(),
            machine,
        );
        let scope = scope.of_model(model);
        let scope = Arc::new(scope.with_shared_name(shared_name));
        state.registry.entered(&scope);
        let entry =
            Entry { scope: Arc::clone(&scope), used: state.tick, proven: false, unnamed, name: shared_name };
        state.entries.insert(key, entry);
        state.idle[Rank::Unproven as usize].push_back((key, state.tick));
        state.bound_idle();
        scope
    }

    /// How a family's entry is called: by the family, and by which upstreams serve the model where
    /// not all do.
    fn name_of(&self, families: &Families, family: &str, model: Option<&str>) -> u64 {
        match families.served_by(model) {
            None => self.hasher.hash_one(family),
            Some(upstreams) => self.hasher.hash_one((family, upstreams)),
        }
    }

    /// The upstreams of a scope.
    fn members_of(&self, scope: &Scope) -> Vec<(UpstreamId, Arc<QuotaBreaker>)> {
        let mut state = self.lock();
        let settings = Arc::clone(&state.settings);
        let model = scope.model.as_deref();
        match state.credentials.get_mut(&CredentialId(scope.credential)) {
            Some(credential) => credential.members(&settings, model),
            None => Credential::default().members(&settings, model),
        }
    }

    fn now(&self) -> Moment {
        Moment::START.plus(clock::now().saturating_duration_since(self.epoch))
    }

    /// Whether several replicas share the limits.
    pub(in crate::admission) fn is_shared(&self) -> bool {
        self.lock().newcomer.is_some()
    }

    /// Every scope by name, those included that were merged into others and are not empty yet.
    fn every_scope(&self) -> Vec<Arc<Scope>> {
        let mut scopes = self.lock().registry.all();
        scopes.sort_by(|one, other| one.name.cmp(&other.name));
        scopes
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
