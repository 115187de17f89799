//! The directory of callers: identifies the caller of a request.

use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::SystemTime;

use http::header::{self, AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::credential::{API_KEY, Credential, CredentialId, X_API_KEY, fingerprint};
use super::issuer::{InvalidToken, Issuer};
use super::origin::{Foreign, Origins};
use super::registry::{Configured, Registry};
use super::secret::Secret;
use super::tokens::{TokenClaim, Tokens};
use super::{Caller, CallerId};

/// How one caller is identified, and the credential of its upstream requests.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The caller. Its id is assigned by the registry.
    pub caller: Caller,
    /// Its Weir keys, one of which it sends as its API key.
    pub keys: Vec<Secret>,
    /// A header, and the complete value that the caller sends.
    pub header: Option<(HeaderName, String)>,
    /// A subject alternative name of its client certificate.
    pub san: Option<String>,
    /// The claim in its tokens.
    pub token: Option<TokenClaim>,
    /// Its own upstream credential, instead of the shared one.
    pub credential: Option<Credential>,
}

/// The input of the directory.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The callers in the order of the configuration; at most 65,000.
    pub entries: Vec<Entry>,
    /// The shared upstream credential. Without one, the caller's own is kept.
    pub credential: Option<Credential>,
    /// Whether unknown callers are served, as [`Callers::DEFAULT`].
    pub serve_unknown: bool,
    /// The names of the listener.
    pub origins: Origins,
}

/// Callers by the complete value of one header.
type ByValue = HashMap<Box<[u8]>, usize>;

/// A configured credential, with its ids.
#[derive(Clone, Debug)]
struct Named {
    credential: Credential,
    /// Its id, which stays the same after a rotation of its key.
    id: CredentialId,
    /// The fingerprint of all its fields.
    content: CredentialId,
}

/// All callers.
#[derive(Debug)]
pub struct Callers {
    all: Vec<Arc<Caller>>,
    credentials: Vec<Option<Named>>,
    serve_unknown: bool,
    origins: Origins,
    /// By hash of the Weir key; the key itself is compared afterwards. A tree, because a map would
    /// hash the hash again.
    by_key: BTreeMap<u64, Vec<(Secret, usize)>>,
    /// The seeded hasher of keys. It need not be cryptographic like that of credentials: requests
    /// add no keys, and the key itself is compared.
    file_by: foldhash::quality::RandomState,
    by_header: Vec<(HeaderName, ByValue)>,
    by_san: HashMap<Box<str>, usize>,
    by_token: Tokens,
    /// Indexes in `all`, by id.
    by_id: HashMap<CallerId, usize>,
    registry: Arc<Registry>,
}

/// How a caller was identified.
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
    /// Not at all: it is served as the default caller.
    Nothing,
}

/// The caller of a request.
#[derive(Clone, Debug)]
pub struct Identified<'a> {
    /// The caller.
    pub caller: &'a Arc<Caller>,
    /// How it was identified.
    pub known_by: KnownBy,
    credential: Option<&'a Named>,
    registry: &'a Registry,
    origins: &'a Origins,
}

/// The current version of a configured credential.
#[derive(Clone, Copy, Debug)]
pub struct Current<'a> {
    /// The credential.
    pub credential: &'a Credential,
    /// Its fingerprint, which changes with a rotation.
    pub content: CredentialId,
}

/// The caller is unknown, and unknown callers are not served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// Its key matches no configured caller.
    #[error("the key matches no [[callers]] entry")]
    Key,
    /// Its token is meant for Weir, but invalid.
    #[error("the token of the issuer {0} was rejected: {1}")]
    Token(String, InvalidToken),
}

impl Callers {
    /// The name of the default caller.
    pub const DEFAULT: &'static str = "default";

    /// The headers that identify callers. They are meant for Weir, and must not be forwarded.
    pub fn identity_headers(&self) -> impl Iterator<Item = &HeaderName> {
        self.by_header.iter().map(|(name, _)| name)
    }

    /// Whether unknown callers are served, as [`Callers::DEFAULT`].
    pub fn serves_unknown(&self) -> bool {
        self.serve_unknown
    }

    /// Builds the directory with the registry's numbers. Of two entries with the same key, header
    /// or name the first wins; the configuration allows none.
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

    /// All callers in the order of the configuration, then the default caller, even if unknown
    /// callers are not served.
    pub fn all(&self) -> &[Arc<Caller>] {
        &self.all
    }

    /// The default caller.
    pub fn nobody(&self) -> &Arc<Caller> {
        &self.all[self.all.len() - 1]
    }

    /// The current configured credential of a caller, if there is one.
    pub fn current(&self, id: CallerId) -> Option<Current<'_>> {
        let named = self.credentials[*self.by_id.get(&id)?].as_ref()?;
        Some(Current { credential: &named.credential, content: named.content })
    }

    /// The name in all processes of a caller's credential, if it has one.
    pub fn lasting_name(&self, id: CallerId) -> Option<u64> {
        self.current(id)?.credential.lasting_name()
    }

    /// The issuers of callers' tokens.
    pub fn issuers(&self) -> impl Iterator<Item = &Arc<Issuer>> {
        self.by_token.issuers()
    }

    /// The numbers of all callers and credentials.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Identifies the caller of a request from its headers and the names in its verified client
    /// certificate.
    ///
    /// What is harder to forge takes precedence: a key, then a token, then a certificate, then a
    /// header. An invalid token for Weir is refused in any case, because it must not go upstream. A
    /// key is looked up by a seeded hash and compared in constant time, so that timing reveals
    /// nothing about the keys.
    ///
    /// # Errors
    /// [`Unknown`] if the caller is unknown and unknown callers are not served, or a token is
    /// invalid.
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

    /// The credential of each caller: its own, or the shared one.
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
    /// Rewrites the headers for the upstream. With a configured credential, all keys that the
    /// request came with are removed, Weir's or others. Without one, the caller's own credential is
    /// kept. Returns the id of the resulting credential.
    pub fn rewrite(&self, headers: &mut HeaderMap) -> CredentialId {
        if let Some(Named { credential, id, .. }) = self.credential {
            credential.apply(headers);
            return *id;
        }
        mark_sensitive(headers);
        fingerprint(headers, &self.registry.hash_key)
    }

    /// Refuses a request that a web page of another site may have sent, if it would use a
    /// configured credential. A browser sends neither Weir's keys nor a caller's header by itself,
    /// but it can reach the listener, and shows a client certificate.
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

    /// The fingerprint of the configured credential; `None` if the caller's own is used.
    pub fn content(&self) -> Option<CredentialId> {
        self.credential.map(|named| named.content)
    }

    /// Whether the request uses a configured credential upstream, not the caller's own.
    pub fn is_swapped(&self) -> bool {
        self.credential.is_some()
    }
}

/// Marks the caller's own credential as sensitive, so that `Debug` does not show it and HTTP/2
/// never indexes it (RFC 7541, 7.1.3).
fn mark_sensitive(headers: &mut HeaderMap) {
    for name in [AUTHORIZATION, API_KEY, X_API_KEY] {
        // Checked first: `entry` reserves memory even if the name is absent.
        if headers.contains_key(&name)
            && let header::Entry::Occupied(mut values) = headers.entry(name)
        {
            values.iter_mut().for_each(|value| value.set_sensitive(true));
        }
    }
}

/// The prefix of the WebSocket subprotocol that carries an API key.
const KEY_PROTOCOL: &[u8] = b"openai-insecure-api-key.";

/// The key in `Bearer KEY`; the scheme is case-insensitive (RFC 9110, section 11.1).
pub(super) fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, key) = value.split_at_checked(7)?;
    // The most common spelling first.
    let is_bearer = scheme == b"Bearer " || scheme.eq_ignore_ascii_case(b"bearer ");
    is_bearer.then(|| key.trim_ascii())
}
