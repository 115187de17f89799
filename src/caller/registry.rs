//! The registry of the numbers of callers and credentials, for the life of the process.
//!
//! A reload may add, move or remove callers while requests of the previous configuration still run.
//! So each name gets its number once, in the order in which names first appear, and numbers are
//! never reused.

use std::collections::HashMap;
use std::hash::RandomState;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use super::issuer::{Issuer, IssuerSettings};
use super::{CallerId, CredentialId};

/// Most caller numbers of one process, over all reloads; callers beyond share one number and are
/// shown as `other`.
const MOST: u16 = 65_000;

/// The numbers of all callers and credentials of this process, shared by all its configurations.
#[derive(Debug)]
pub struct Registry {
    callers: RwLock<Numbered>,
    credentials: Mutex<Vec<Known>>,
    /// The issuers of callers' tokens; each keeps its keys over reloads.
    issuers: Mutex<Vec<Weak<Issuer>>>,
    /// The random key of credential fingerprints.
    pub(super) hash_key: RandomState,
}

#[derive(Debug, Default)]
struct Numbered {
    by_name: HashMap<Arc<str>, CallerId>,
    names: Vec<Arc<str>>,
}

/// A configured credential in the form that is compared between configurations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Configured {
    /// Its place in the configuration: a caller's name, or empty for `upstream.credential`.
    pub(super) place: Arc<str>,
    /// The fingerprint of all its fields.
    pub(super) content: CredentialId,
    /// The fingerprint of its organization and project.
    pub(super) account: u64,
}

#[derive(Debug)]
struct Known {
    configured: Configured,
    id: CredentialId,
}

impl Registry {
    /// An empty registry.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            callers: RwLock::default(),
            credentials: Mutex::default(),
            issuers: Mutex::default(),
            hash_key: RandomState::new(),
        })
    }

    /// A registry whose first callers have these names.
    #[cfg(any(test, feature = "internals"))]
    pub fn with(names: &[Arc<str>]) -> Arc<Self> {
        let registry = Self::new();
        for name in names {
            registry.id(name);
        }
        registry
    }

    /// The number of the caller with this name; a new name gets a new number.
    pub fn id(&self, name: &Arc<str>) -> CallerId {
        let mut callers = self.callers.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = callers.by_name.get(name) {
            return *id;
        }
        let id = match u16::try_from(callers.names.len()) {
            Ok(next) if next < MOST => CallerId(next),
            Ok(_) | Err(_) => return CallerId(MOST),
        };
        callers.names.push(Arc::clone(name));
        callers.by_name.insert(Arc::clone(name), id);
        id
    }

    /// The name of the caller with this number.
    pub fn name(&self, id: CallerId) -> Arc<str> {
        let callers = self.callers.read().unwrap_or_else(PoisonError::into_inner);
        callers.names.get(usize::from(id.0)).cloned().unwrap_or_else(|| Arc::from("other"))
    }

    /// The names of all callers, indexed by number.
    pub fn names(&self) -> Vec<Arc<str>> {
        self.callers.read().unwrap_or_else(PoisonError::into_inner).names.clone()
    }

    /// The issuer with this configuration, with its current keys.
    pub fn issuer(&self, of: &IssuerSettings) -> Arc<Issuer> {
        let mut issuers = self.issuers.lock().unwrap_or_else(PoisonError::into_inner);
        issuers.retain(|issuer| issuer.strong_count() > 0);
        let known = issuers.iter().filter_map(Weak::upgrade).find(|issuer| issuer.of == *of);
        known.unwrap_or_else(|| {
            let issuer = Arc::new(Issuer::new(of.clone()));
            issuers.push(Arc::downgrade(&issuer));
            issuer
        })
    }

    /// The ids of a configuration's credentials, in the same order.
    ///
    /// A credential with known content keeps its id, wherever it is configured. A new key in a
    /// known place, for the same organization and project, is a rotation: it inherits the id, and
    /// with it the scope, its limits and its queue.
    pub(super) fn credential_ids(&self, configured: &[Configured]) -> Vec<CredentialId> {
        let mut before = self.credentials.lock().unwrap_or_else(PoisonError::into_inner);
        let unchanged = |known: &Known| configured.iter().any(|of| of.content == known.configured.content);
        let rotated: Vec<&Known> = before.iter().filter(|known| !unchanged(known)).collect();
        let mut now: Vec<Known> = Vec::with_capacity(configured.len());
        for of in configured {
            let same = |known: &&Known| known.configured.content == of.content;
            let known = before.iter().find(same).or_else(|| now.iter().find(same)).map(|known| known.id);
            let id = known.or_else(|| {
                let predecessor = rotated.iter().find(|known| {
                    known.configured.place == of.place && known.configured.account == of.account
                })?;
                // Only one of two successors inherits the id.
                now.iter().all(|other| other.id != predecessor.id).then_some(predecessor.id)
            });
            now.push(Known { configured: of.clone(), id: id.unwrap_or(of.content) });
        }
        let ids = now.iter().map(|known| known.id).collect();
        *before = now;
        ids
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_number_for_ever() {
        let registry = Registry::new();
        let id = |name: &str| registry.id(&name.into());
        assert_eq!([id("a"), id("b"), id("a"), id("c")].map(|id| id.0), [0, 1, 0, 2]);
        assert_eq!(&*registry.name(CallerId(1)), "b");
        assert_eq!(&*registry.name(CallerId(3)), "other");
        assert_eq!(registry.names().len(), 3);
    }

    #[test]
    fn numbers_are_bounded() {
        let registry = Registry::new();
        for number in 0..MOST {
            registry.id(&number.to_string().into());
        }
        assert_eq!(registry.id(&"more".into()), CallerId(MOST));
        assert_eq!(&*registry.name(CallerId(MOST)), "other");
        assert_eq!(registry.id(&"7".into()), CallerId(7));
    }

    #[test]
    fn a_rotated_key_takes_over_the_id_of_the_one_before() {
        let registry = Registry::new();
        let ids = |list: &[(&str, u64, u64)]| {
            let of = |(place, content, account): &(&str, u64, u64)| Configured {
                place: (*place).into(),
                content: CredentialId(*content),
                account: *account,
            };
            let ids = registry.credential_ids(&list.iter().map(of).collect::<Vec<_>>());
            ids.into_iter().map(|CredentialId(id)| id).collect::<Vec<_>>()
        };
        assert_eq!(ids(&[("", 1, 0), ("a", 2, 0), ("b", 2, 0)]), [1, 2, 2]);
        assert_eq!(ids(&[("b", 2, 0), ("", 1, 0), ("a", 2, 0)]), [2, 1, 2], "order is nothing");
        assert_eq!(ids(&[("", 11, 0), ("a", 2, 0)]), [1, 2], "rotated");
        assert_eq!(ids(&[("", 12, 0), ("a", 2, 0)]), [1, 2], "and again");
        assert_eq!(ids(&[("", 13, 9), ("a", 2, 0)]), [13, 2], "another organization");
        assert_eq!(
            ids(&[("", 13, 9), ("a", 3, 0), ("b", 3, 0)]),
            [13, 2, 2],
            "a new place with the same key"
        );
        assert_eq!(ids(&[("", 13, 9), ("a", 4, 0), ("b", 5, 0)]), [13, 2, 5], "one key becomes two");
        assert_eq!(ids(&[("", 4, 9)]), [2], "known content keeps its id in another place");
    }
}
