//! What keeps the directory within its bounds: the entries that were not used for long are
//! forgotten.

use std::collections::{VecDeque, hash_map};
use std::sync::atomic::Ordering::Relaxed;

use super::{Directory, EntryKey, LOOKS, Rank, State};

impl State {
    /// Keeps the candidates for eviction to about one for each entry: those forgotten otherwise
    /// leave theirs behind.
    pub(super) fn bound_idle(&mut self) {
        if self.idle.iter().map(VecDeque::len).sum::<usize>() > 64 + 2 * self.entries.len() {
            self.list_idle();
        }
    }

    /// Lists all entries as candidates, the one that was used longest ago first. The rank of each
    /// is found when it is looked at.
    fn list_idle(&mut self) {
        let mut all: Vec<(EntryKey, u64)> =
            self.entries.iter().map(|(key, entry)| (*key, entry.used)).collect();
        all.sort_by_key(|(_, used)| *used);
        self.idle = [all.into(), VecDeque::new(), VecDeque::new()];
    }
}

impl Directory {
    /// Files the entries anew: another configuration may serve their models by other upstreams.
    pub(super) fn rename(&self, state: &mut State) {
        for (key, entry) in std::mem::take(&mut state.entries) {
            let name = self.name_of(&state.families, &entry.scope.family, entry.scope.model.as_deref());
            let (credential, unnamed) = (key.0, entry.unnamed);
            if let hash_map::Entry::Vacant(place) = state.entries.entry((credential, name)) {
                place.insert(entry);
                continue;
            }
            state.registry.left(&entry.scope);
            if let Some(credential) = state.credentials.get_mut(&credential) {
                credential.entries -= 1;
                credential.unnamed -= usize::from(unnamed);
            }
        }
        state.list_idle();
    }

    /// Forgets an idle entry that was not used for long, by rank.
    pub(super) fn evict(&self, state: &mut State) {
        let mut looks = LOOKS;
        for rank in [Rank::Unproven, Rank::Merged, Rank::Sole] {
            for _ in 0..state.idle[rank as usize].len() {
                if looks == 0 {
                    return;
                }
                let Some((key, used)) = state.idle[rank as usize].pop_front() else { break };
                // Forgotten already, or for a bound of its own; not to be met twice.
                let Some(entry) = state.entries.get(&key) else { continue };
                looks -= 1;
                let merged = state.registry.entries_of(&entry.scope) > 1;
                let present = match (entry.proven, merged) {
                    (false, _) => Rank::Unproven,
                    (true, true) => Rank::Merged,
                    (true, false) => Rank::Sole,
                };
                let stays = present as usize != rank as usize || entry.used != used;
                if stays || !(merged || state.registry.is_idle(&entry.scope)) {
                    let used = entry.used;
                    state.idle[present as usize].push_back((key, used));
                    continue;
                }
                self.forget(state, key);
                if state.entries.len() < state.settings.max_scopes.max(1) {
                    return;
                }
            }
        }
    }

    pub(super) fn forget(&self, state: &mut State, key: EntryKey) {
        let Some(entry) = state.entries.remove(&key) else { return };
        self.evicted.fetch_add(1, Relaxed);
        state.registry.left(&entry.scope);
        if let Some(credential) = state.credentials.get_mut(&key.0) {
            credential.entries -= 1;
            credential.unnamed -= usize::from(entry.unnamed);
            if credential.entries == 0 {
                state.credentials.remove(&key.0);
            }
        }
    }
}
