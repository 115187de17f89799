//! The scopes that exist: how many entries of the directory lead to each, who owns which, and the
//! names in use.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::front::Scope;

/// Every scope of a directory, until nothing leads to it and nothing is left in it.
#[derive(Debug, Default)]
pub(super) struct Registry {
    /// By the scope's address, which is its own for as long as it is here.
    scopes: HashMap<usize, Known>,
    /// The canonical scope by the hash of organization, project and family: where limits are known
    /// to be shared.
    owners: HashMap<u64, usize>,
    names: HashSet<Box<str>>,
    /// Scopes that no entry leads to any more: they have waiting requests or permits, or had a
    /// moment ago.
    left: Vec<usize>,
}

#[derive(Debug)]
struct Known {
    scope: Arc<Scope>,
    /// Entries of the directory that lead to it.
    entries: usize,
    /// Its keys in `owners`.
    owners: Vec<u64>,
}

fn address(scope: &Arc<Scope>) -> usize {
    Arc::as_ptr(scope) as usize
}

impl Registry {
    /// A name for a new scope: its family's, with a number where that is taken.
    pub(super) fn name(&mut self, family: &str, number: u64) -> Box<str> {
        self.purge();
        let name: Box<str> =
            if self.names.contains(family) { format!("{family}#{number}").into() } else { family.into() };
        self.names.insert(name.clone());
        name
    }

    /// One more entry leads to a scope.
    pub(super) fn entered(&mut self, scope: &Arc<Scope>) {
        let known = self.scopes.entry(address(scope)).or_insert_with(|| Known {
            scope: Arc::clone(scope),
            entries: 0,
            owners: Vec::new(),
        });
        known.entries += 1;
    }

    /// One entry fewer leads to a scope. Returns whether it was the last: the scope stays known
    /// until it is empty, and is nobody's canonical one any more.
    pub(super) fn left(&mut self, scope: &Arc<Scope>) -> bool {
        let address = address(scope);
        let Some(known) = self.scopes.get_mut(&address) else { return false };
        known.entries -= 1;
        if known.entries > 0 {
            return false;
        }
        for owner in std::mem::take(&mut known.owners) {
            self.owners.remove(&owner);
        }
        self.left.push(address);
        true
    }

    /// The canonical scope of an owner: this one, where there is none yet.
    pub(super) fn owned_by(&mut self, owner: u64, scope: &Arc<Scope>) -> Arc<Scope> {
        if let Some(known) = self.owners.get(&owner).and_then(|address| self.scopes.get(address)) {
            return Arc::clone(&known.scope);
        }
        if let Some(known) = self.scopes.get_mut(&address(scope)) {
            known.owners.push(owner);
            self.owners.insert(owner, address(scope));
        }
        Arc::clone(scope)
    }

    /// How many entries lead to a scope.
    pub(super) fn entries_of(&self, scope: &Arc<Scope>) -> usize {
        self.scopes.get(&address(scope)).map_or(0, |known| known.entries)
    }

    /// Whether nobody but the directory holds a scope, and nothing waits or flies in it.
    pub(super) fn is_idle(&self, scope: &Arc<Scope>) -> bool {
        // One of each entry, and the registry's own.
        Arc::strong_count(scope) <= self.entries_of(scope) + 1 && scope.is_idle()
    }

    /// Every scope.
    pub(super) fn all(&mut self) -> Vec<Arc<Scope>> {
        self.purge();
        self.scopes.values().map(|known| Arc::clone(&known.scope)).collect()
    }

    /// Forgets the scopes that nothing leads to and that are empty.
    fn purge(&mut self) {
        let (scopes, names) = (&mut self.scopes, &mut self.names);
        self.left.retain(|address| {
            let Some(known) = scopes.get(address) else { return false };
            if Arc::strong_count(&known.scope) > 1 || !known.scope.is_idle() {
                return true;
            }
            names.remove(&known.scope.name);
            scopes.remove(address);
            false
        });
    }
}
