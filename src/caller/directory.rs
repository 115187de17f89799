//! The directory of callers: from what a request shows to who sent it.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use http::header::{self, AUTHORIZATION};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::credential::{API_KEY, Credential, CredentialId, X_API_KEY, fingerprint};
use super::secret::Secret;
use super::{Caller, CallerId};

/// How one caller is known, and what its requests bear upstream.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The caller. Its id is given by the directory.
    pub caller: Caller,
    /// The Weir key that it sends as its API key.
    pub key: Option<Secret>,
    /// A header and the whole value that it sends.
    pub header: Option<(HeaderName, String)>,
    /// A subject alternative name of its client certificate.
    pub san: Option<String>,
    /// Its own credential, instead of everybody's.
    pub credential: Option<Credential>,
}

/// What the directory is built from.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The callers, in the order of the configuration; at most 65,000.
    pub entries: Vec<Entry>,
    /// What requests bear upstream. Without, what they came with.
    pub credential: Option<Credential>,
    /// Whether callers that nobody knows are served, as [`Callers::DEFAULT`].
    pub serve_unknown: bool,
}

/// Callers by the whole value of one header.
type ByValue = HashMap<Box<[u8]>, usize>;

/// A configured credential and its name, which need not be computed for each request then.
#[derive(Clone, Debug)]
struct Named {
    credential: Credential,
    id: CredentialId,
}

/// Everybody who may use this Weir.
#[derive(Debug)]
pub struct Callers {
    all: Vec<Arc<Caller>>,
    credentials: Vec<Option<Named>>,
    serve_unknown: bool,
    /// By the hash of the Weir key; the key itself decides. A tree, because a map would hash the hash.
    by_key: BTreeMap<u64, Vec<(Secret, usize)>>,
    /// What the keys are filed by: seeded, and never shown. It need not be strong, as the hash that names credentials must: no
    /// request adds a key, and the key itself decides.
    file_by: foldhash::quality::RandomState,
    by_header: Vec<(HeaderName, ByValue)>,
    by_san: HashMap<Box<str>, usize>,
    hash_key: RandomState,
}

/// What a caller was known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KnownBy {
    /// A Weir key.
    Key,
    /// A name in its client certificate.
    Certificate,
    /// A header.
    Header,
    /// Nothing: it is served as the default caller.
    Nothing,
}

/// Who sent a request.
#[derive(Clone, Debug)]
pub struct Identified<'a> {
    /// The caller.
    pub caller: &'a Arc<Caller>,
    /// What it was known by.
    pub known_by: KnownBy,
    credential: Option<&'a Named>,
    hash_key: &'a RandomState,
}

/// Nobody knows this caller, and such are not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nobody knows this caller")]
pub struct Unknown;

impl Callers {
    /// The name of the caller of whom nothing is known.
    pub const DEFAULT: &'static str = "default";

    /// Builds the directory. Of two entries with the same key, header or name the first counts; the configuration allows none.
    pub fn new(settings: Settings) -> Self {
        let hash_key = RandomState::new();
        let mut directory = Self {
            all: Vec::with_capacity(settings.entries.len() + 1),
            credentials: Vec::with_capacity(settings.entries.len() + 1),
            serve_unknown: settings.serve_unknown,
            by_key: BTreeMap::new(),
            file_by: foldhash::quality::RandomState::default(),
            by_header: Vec::new(),
            by_san: HashMap::new(),
            hash_key,
        };
        for (index, entry) in settings.entries.into_iter().take(usize::from(u16::MAX) - 1).enumerate() {
            directory.add(index, entry, settings.credential.as_ref());
        }
        let id = CallerId(u16::try_from(directory.all.len()).unwrap_or(u16::MAX));
        directory.all.push(Arc::new(Caller::unknown(id)));
        let everybody = directory.named(settings.credential);
        directory.credentials.push(everybody);
        directory
    }

    /// Everybody, in the order of their ids. The last is the default caller, also when unknown callers aren't served.
    pub fn all(&self) -> &[Arc<Caller>] {
        &self.all
    }

    /// The caller with this id.
    pub fn get(&self, id: CallerId) -> Option<&Arc<Caller>> {
        self.all.get(usize::from(id.0))
    }

    /// Says who sent a request, from its headers and the names in its verified client certificate.
    ///
    /// The harder to forge counts over the easier: a key, then a certificate, then a header. A key is looked up by a
    /// seeded hash and compared in constant time, so that the time taken tells nothing of the keys.
    ///
    /// # Errors
    /// [`Unknown`] when nothing tells who it is and unknown callers aren't served.
    pub fn identify<S: AsRef<str>>(
        &self,
        headers: &HeaderMap,
        names: &[S],
    ) -> Result<Identified<'_>, Unknown> {
        let by_name = || names.iter().find_map(|name| self.by_san.get(name.as_ref()).copied());
        let found = self
            .by_key(headers)
            .map(|index| (index, KnownBy::Key))
            .or_else(|| by_name().map(|index| (index, KnownBy::Certificate)))
            .or_else(|| self.by_header(headers).map(|index| (index, KnownBy::Header)));
        let (index, known_by) = match found {
            Some(found) => found,
            None if self.serve_unknown => (self.all.len() - 1, KnownBy::Nothing),
            None => return Err(Unknown),
        };
        Ok(Identified {
            caller: &self.all[index],
            known_by,
            credential: self.credentials[index].as_ref(),
            hash_key: &self.hash_key,
        })
    }

    /// Continues the fingerprints of another directory, so that a reload keeps every scope.
    #[must_use]
    pub fn with_fingerprints_of(mut self, before: &Self) -> Self {
        self.hash_key = before.hash_key.clone();
        for named in self.credentials.iter_mut().flatten() {
            named.id = named.credential.fingerprint(&self.hash_key);
        }
        self
    }

    fn named(&self, credential: Option<Credential>) -> Option<Named> {
        credential.map(|credential| Named { id: credential.fingerprint(&self.hash_key), credential })
    }

    fn add(&mut self, index: usize, entry: Entry, everybody: Option<&Credential>) {
        if let Some(key) = entry.key {
            let filed = self.file_by.hash_one(key.expose().as_bytes());
            self.by_key.entry(filed).or_default().push((key, index));
        }
        if let Some((name, value)) = entry.header {
            let at = self.by_header.iter().position(|(known, _)| *known == name).unwrap_or_else(|| {
                self.by_header.push((name, HashMap::new()));
                self.by_header.len() - 1
            });
            self.by_header[at].1.entry(value.into_bytes().into()).or_insert(index);
        }
        if let Some(san) = entry.san {
            self.by_san.entry(san.into()).or_insert(index);
        }
        let mut caller = entry.caller;
        caller.id = CallerId(u16::try_from(index).unwrap_or(u16::MAX));
        self.all.push(Arc::new(caller));
        let credential = self.named(entry.credential.or_else(|| everybody.cloned()));
        self.credentials.push(credential);
    }

    fn by_key(&self, headers: &HeaderMap) -> Option<usize> {
        if self.by_key.is_empty() {
            return None;
        }
        let holder = |shown: &[u8]| {
            let keys = self.by_key.get(&self.file_by.hash_one(shown))?;
            keys.iter().find(|(key, _)| key.is(shown)).map(|(_, index)| *index)
        };
        let bearers = headers.get_all(AUTHORIZATION).iter().filter_map(|value| bearer(value.as_bytes()));
        for shown in bearers {
            if let Some(index) = holder(shown) {
                return Some(index);
            }
        }
        let plain = [API_KEY, X_API_KEY].into_iter().flat_map(|name| headers.get_all(name));
        plain.map(HeaderValue::as_bytes).find_map(holder)
    }

    fn by_header(&self, headers: &HeaderMap) -> Option<usize> {
        self.by_header.iter().find_map(|(name, values)| {
            headers.get_all(name).iter().find_map(|value| values.get(value.as_bytes()).copied())
        })
    }
}

impl Identified<'_> {
    /// Makes the headers what the upstream shall see: with a configured credential, no key that the request came with
    /// is left, be it a Weir key or another. Without one the caller's own credential stays as it is. Returns the name of
    /// the credential that they bear then.
    pub fn rewrite(&self, headers: &mut HeaderMap) -> CredentialId {
        if let Some(Named { credential, id }) = self.credential {
            credential.apply(headers);
            return *id;
        }
        mark_sensitive(headers);
        fingerprint(headers, self.hash_key)
    }

    /// Whether the request bears a configured credential upstream, rather than the caller's own.
    pub fn is_swapped(&self) -> bool {
        self.credential.is_some()
    }
}

/// Marks the caller's own credential, so that `Debug` does not show it and HTTP/2 never indexes it (RFC 7541, 7.1.3).
fn mark_sensitive(headers: &mut HeaderMap) {
    for name in [AUTHORIZATION, API_KEY, X_API_KEY] {
        // Looked up first: asking for the entry of a name that is missing makes room for it.
        if headers.contains_key(&name)
            && let header::Entry::Occupied(mut values) = headers.entry(name)
        {
            values.iter_mut().for_each(|value| value.set_sensitive(true));
        }
    }
}

/// The key in `Bearer KEY`; the scheme's letters may be of either case (RFC 9110 11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, key) = value.split_at_checked(7)?;
    // Nearly all write it so.
    let is_bearer = scheme == b"Bearer " || scheme.eq_ignore_ascii_case(b"bearer ");
    is_bearer.then(|| key.trim_ascii())
}
