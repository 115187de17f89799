//! The directory of callers: from what a request shows to who sent it.

use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::SystemTime;

use http::header::{self, AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::credential::{API_KEY, Credential, CredentialId, X_API_KEY, fingerprint};
use super::issuer::{Issuer, Untrue};
use super::origin::{Foreign, Origins};
use super::registry::{Configured, Registry};
use super::secret::Secret;
use super::tokens::{TokenClaim, Tokens};
use super::{Caller, CallerId};

/// How one caller is known, and what its requests bear upstream.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The caller. Its id is given by the registry.
    pub caller: Caller,
    /// The Weir keys, of which it sends one as its API key.
    pub keys: Vec<Secret>,
    /// A header and the whole value that it sends.
    pub header: Option<(HeaderName, String)>,
    /// A subject alternative name of its client certificate.
    pub san: Option<String>,
    /// What its tokens say.
    pub token: Option<TokenClaim>,
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
    /// What the listener is called by.
    pub origins: Origins,
}

/// Callers by the whole value of one header.
type ByValue = HashMap<Box<[u8]>, usize>;

/// A configured credential, with what is computed of it once.
#[derive(Clone, Debug)]
struct Named {
    credential: Credential,
    /// Which credential it is, also after its key was rotated.
    id: CredentialId,
    /// The fingerprint of all that it sends.
    content: CredentialId,
}

/// Everybody who may use this Weir.
#[derive(Debug)]
pub struct Callers {
    all: Vec<Arc<Caller>>,
    credentials: Vec<Option<Named>>,
    serve_unknown: bool,
    origins: Origins,
    /// By the hash of the Weir key; the key itself decides. A tree, because a map would hash the
    /// hash.
    by_key: BTreeMap<u64, Vec<(Secret, usize)>>,
    /// What the keys are filed by: seeded, and never shown. It need not be strong, as the hash that
    /// names credentials must: no request adds a key, and the key itself decides.
    file_by: foldhash::quality::RandomState,
    by_header: Vec<(HeaderName, ByValue)>,
    by_san: HashMap<Box<str>, usize>,
    by_token: Tokens,
    /// The places in `all`, by id.
    by_id: HashMap<CallerId, usize>,
    registry: Arc<Registry>,
}

/// What a caller was known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KnownBy {
    /// A Weir key.
    Key,
    /// A token of an issuer.
    Token,
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
    registry: &'a Registry,
    origins: &'a Origins,
}

/// A configured credential as it is now.
#[derive(Clone, Copy, Debug)]
pub struct Current<'a> {
    /// What is sent.
    pub credential: &'a Credential,
    /// Its fingerprint: another one after a rotation.
    pub content: CredentialId,
}

/// Nobody knows who it is, and such are not served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// What it shows matches no configured caller.
    #[error("the key matches no [[callers]] entry")]
    Key,
    /// It shows a token that is meant for Weir, and is not believed.
    #[error("the token of the issuer {0} is not believed: {1}")]
    Token(String, Untrue),
}

impl Callers {
    /// The name of the caller of whom nothing is known.
    pub const DEFAULT: &'static str = "default";

    /// The headers that callers are known by. They prove who sent a request to Weir, and are nobody
    /// else's to see.
    pub fn identity_headers(&self) -> impl Iterator<Item = &HeaderName> {
        self.by_header.iter().map(|(name, _)| name)
    }

    /// Whether callers that match no entry are served, as [`Callers::DEFAULT`].
    pub fn serves_unknown(&self) -> bool {
        self.serve_unknown
    }

    /// Builds the directory, with the numbers that `registry` gives. Of two entries with the same
    /// key, header or name the first counts; the configuration allows none.
    pub fn new(settings: Settings, registry: &Arc<Registry>) -> Self {
        let mut directory = Self {
            all: Vec::with_capacity(settings.entries.len() + 1),
            credentials: Vec::with_capacity(settings.entries.len() + 1),
            serve_unknown: settings.serve_unknown,
            origins: settings.origins,
            by_key: BTreeMap::new(),
            file_by: foldhash::quality::RandomState::default(),
            by_header: Vec::new(),
            by_san: HashMap::new(),
            by_token: Tokens::default(),
            by_id: HashMap::new(),
            registry: Arc::clone(registry),
        };
        let mut credentials = Vec::with_capacity(settings.entries.len() + 1);
        for (index, entry) in settings.entries.into_iter().take(usize::from(u16::MAX) - 1).enumerate() {
            credentials.push(entry.credential.clone().map(|own| (Arc::clone(&entry.caller.name), own)));
            directory.add(index, entry);
        }
        let nobody = registry.id(&Self::DEFAULT.into());
        directory.all.push(Arc::new(Caller::unknown(nobody)));
        credentials.push(None);
        directory.credentials = directory.named(&credentials, settings.credential);
        directory.by_id =
            directory.all.iter().enumerate().map(|(index, caller)| (caller.id, index)).collect();
        directory
    }

    /// Everybody, in the order of the configuration. The last is the default caller, also when
    /// unknown callers aren't served.
    pub fn all(&self) -> &[Arc<Caller>] {
        &self.all
    }

    /// The caller of whom nothing is known.
    pub fn nobody(&self) -> &Arc<Caller> {
        &self.all[self.all.len() - 1]
    }

    /// What a caller's requests bear upstream, where that is configured.
    pub fn current(&self, id: CallerId) -> Option<Current<'_>> {
        let named = self.credentials[*self.by_id.get(&id)?].as_ref()?;
        Some(Current { credential: &named.credential, content: named.content })
    }

    /// What all processes call the credential that a caller's requests bear, where it has a name of
    /// its own.
    pub fn lasting_name(&self, id: CallerId) -> Option<u64> {
        self.current(id)?.credential.lasting_name()
    }

    /// The issuers whose tokens callers are known by.
    pub fn issuers(&self) -> impl Iterator<Item = &Arc<Issuer>> {
        self.by_token.issuers()
    }

    /// The numbers of all callers and credentials.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Says who sent a request, from its headers and the names in its verified client certificate.
    ///
    /// The harder to forge counts over the easier: a key, then a token, then a certificate, then a
    /// header. A token for Weir that is not believed is refused, whatever stands beside it: it must
    /// not go upstream. A key is looked up by a seeded hash and compared in constant time, so that
    /// the time taken tells nothing of the keys.
    ///
    /// # Errors
    /// [`Unknown`] when nothing tells who it is and unknown callers aren't served, or a token is
    /// not believed.
    pub fn identify<S: AsRef<str>>(
        &self,
        headers: &HeaderMap,
        names: &[S],
        wall: fn() -> SystemTime,
    ) -> Result<Identified<'_>, Unknown> {
        let by_token = || {
            let holder = self.by_token.holder(headers, wall);
            holder.map_err(|(issuer, why)| Unknown::Token(issuer.of.name.clone(), why))
        };
        let by_name = || names.iter().find_map(|name| self.by_san.get(name.as_ref()).copied());
        let by_secret = match self.by_key(headers) {
            Some(index) => Some((index, KnownBy::Key)),
            None => by_token()?.map(|index| (index, KnownBy::Token)),
        };
        let found = by_secret
            .or_else(|| by_name().map(|index| (index, KnownBy::Certificate)))
            .or_else(|| self.by_header(headers).map(|index| (index, KnownBy::Header)));
        let (index, known_by) = match found {
            Some(found) => found,
            None if self.serve_unknown => (self.all.len() - 1, KnownBy::Nothing),
            None => return Err(Unknown::Key),
        };
        Ok(Identified {
            caller: &self.all[index],
            known_by,
            credential: self.credentials[index].as_ref(),
            registry: &self.registry,
            origins: &self.origins,
        })
    }

    /// What each caller's requests bear: its own credential, or everybody's.
    fn named(
        &self,
        own: &[Option<(Arc<str>, Credential)>],
        everybody: Option<Credential>,
    ) -> Vec<Option<Named>> {
        let key = &self.registry.hash_key;
        let all: Vec<(Arc<str>, Credential)> = own
            .iter()
            .flatten()
            .cloned()
            .chain(everybody.map(|credential| ("".into(), credential)))
            .collect();
        let configured = |(place, credential): &(Arc<str>, Credential)| Configured {
            place: Arc::clone(place),
            content: credential.fingerprint(key),
            account: credential.account(key),
        };
        let configured: Vec<Configured> = all.iter().map(configured).collect();
        let contents: Vec<CredentialId> = configured.iter().map(|of| of.content).collect();
        let ids = self.registry.credential_ids(&configured);
        let mut named = all
            .into_iter()
            .zip(ids.into_iter().zip(contents))
            .map(|((_, credential), (id, content))| Named { credential, id, content });
        let mut of_callers: Vec<Option<Named>> =
            own.iter().map(|own| own.as_ref().and_then(|_| named.next())).collect();
        let everybody = named.next();
        for of in of_callers.iter_mut().filter(|of| of.is_none()) {
            of.clone_from(&everybody);
        }
        of_callers
    }

    fn add(&mut self, index: usize, entry: Entry) {
        for key in entry.keys {
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
        if let Some(token) = entry.token {
            self.by_token.add(token, index);
        }
        if let Some(san) = entry.san {
            self.by_san.entry(san.into()).or_insert(index);
        }
        let mut caller = entry.caller;
        caller.id = self.registry.id(&caller.name);
        self.all.push(Arc::new(caller));
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
        if let Some(index) = plain.map(HeaderValue::as_bytes).find_map(holder) {
            return Some(index);
        }
        // Browsers can set no other header on a WebSocket.
        let protocols = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
        let protocols = protocols.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
        protocols.filter_map(|protocol| protocol.trim_ascii().strip_prefix(KEY_PROTOCOL)).find_map(holder)
    }

    fn by_header(&self, headers: &HeaderMap) -> Option<usize> {
        self.by_header.iter().find_map(|(name, values)| {
            headers.get_all(name).iter().find_map(|value| values.get(value.as_bytes()).copied())
        })
    }
}

impl Identified<'_> {
    /// Makes the headers what the upstream shall see: with a configured credential, no key that the
    /// request came with is left, be it a Weir key or another. Without one the caller's own
    /// credential stays as it is. Returns the name of the credential that they bear then.
    pub fn rewrite(&self, headers: &mut HeaderMap) -> CredentialId {
        if let Some(Named { credential, id, .. }) = self.credential {
            credential.apply(headers);
            return *id;
        }
        mark_sensitive(headers);
        fingerprint(headers, &self.registry.hash_key)
    }

    /// Refuses what a web page of another site may have sent, where it would spend a configured
    /// credential: a browser sends no key of Weir's and no header of a caller's, but it reaches the
    /// listener, and shows a client certificate by itself.
    pub fn check_origin(&self, headers: &HeaderMap, authority: Option<&str>) -> Result<(), Foreign> {
        let by_position = match self.known_by {
            KnownBy::Nothing | KnownBy::Certificate => true,
            KnownBy::Key | KnownBy::Token | KnownBy::Header => false,
        };
        if self.credential.is_none() || !by_position {
            return Ok(());
        }
        self.origins.check_host(headers, authority)?;
        self.origins.check_site(headers, authority)
    }

    /// The fingerprint of the configured credential that the request bears upstream; nothing where
    /// it bears the caller's own.
    pub fn content(&self) -> Option<CredentialId> {
        self.credential.map(|named| named.content)
    }

    /// Whether the request bears a configured credential upstream, rather than the caller's own.
    pub fn is_swapped(&self) -> bool {
        self.credential.is_some()
    }
}

/// Marks the caller's own credential, so that `Debug` does not show it and HTTP/2 never indexes it
/// (RFC 7541, 7.1.3).
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

/// How the API takes a key as a WebSocket's subprotocol.
const KEY_PROTOCOL: &[u8] = b"openai-insecure-api-key.";

/// The key in `Bearer KEY`; the scheme's letters may be of either case (RFC 9110 11.1).
pub(super) fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, key) = value.split_at_checked(7)?;
    // Nearly all write it so.
    let is_bearer = scheme == b"Bearer " || scheme.eq_ignore_ascii_case(b"bearer ");
    is_bearer.then(|| key.trim_ascii())
}
