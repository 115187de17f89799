//! An issuer of callers' tokens (JWT): the required claims, and its keys.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, PublicKeyUse};
use jsonwebtoken::{DecodingKey, Validation};
use serde::Deserialize;
use serde_json::Value as Json;
use tokio::sync::Notify;

/// Most keys of one issuer; a document with more is rejected.
const MAX_KEYS: usize = 64;
/// Largest accepted clock difference, in seconds.
const LEEWAY: f64 = 30.0;

/// The configuration of an issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerSettings {
    /// Its name in the configuration.
    pub name: String,
    /// The `iss` of its tokens.
    pub issuer: String,
    /// The required `aud` of its tokens.
    pub audience: String,
    /// The source of its keys.
    pub keys: KeySource,
}

/// The location of a JWKS document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// In a file.
    File(PathBuf),
    /// At a URL.
    Url(String),
}

/// An issuer with its current keys.
#[derive(Debug)]
pub struct Issuer {
    /// Its configuration.
    pub of: IssuerSettings,
    state: Mutex<State>,
    tried: Condvar,
    /// Notified when a token names an unknown key.
    wanted: Notify,
}

#[derive(Debug, Default)]
struct State {
    keys: Arc<[Key]>,
    standing: Standing,
}

/// The state of an issuer's keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Standing {
    /// Known keys.
    pub keys: usize,
    /// When they were last read.
    pub read: Option<SystemTime>,
    /// Attempts to read them.
    pub tries: u64,
    /// Failed attempts.
    pub failures: u64,
    /// The reason of the last failure.
    pub problem: Option<String>,
    /// How often its tokens filled the cache of verified tokens, which was then cleared.
    pub forgotten: u64,
    /// The version of the set of keys; a token verified with another version must be verified
    /// again.
    pub version: u64,
}

struct Key {
    jwk: Jwk,
    decoding: DecodingKey,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Key").field(&self.jwk.common.key_id).finish()
    }
}

/// The reason why a token is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    /// It is not a JWT, or has no `exp`.
    #[error("it is not a valid JWT, or has no exp")]
    Malformed,
    /// The issuer's keys were never read.
    #[error("the issuer's keys could not be read yet")]
    NoKeys,
    /// Its key is not one of the issuer's.
    #[error("its key is not one of the issuer's")]
    UnknownKey,
    /// The algorithm is `none`, a shared secret, or not the key's.
    #[error("its algorithm is not the key's")]
    Algorithm,
    /// Its signature does not match.
    #[error("its signature is wrong")]
    Signature,
    /// It has expired, or is not valid yet.
    #[error("it is expired, or not valid yet")]
    Time,
    /// No caller has its claims.
    #[error("no [[callers]] entry has its claims")]
    NoCaller,
}

/// The claims of a verified token.
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    exp: f64,
    #[serde(default)]
    nbf: f64,
    #[serde(flatten)]
    pub(super) others: serde_json::Map<String, Json>,
}

impl Claims {
    /// When it expires, in seconds since 1970.
    pub(super) fn ends(&self) -> f64 {
        self.exp + LEEWAY
    }
}

impl Issuer {
    /// An issuer whose keys are not read yet.
    pub fn new(of: IssuerSettings) -> Self {
        Self { of, state: Mutex::default(), tried: Condvar::new(), wanted: Notify::new() }
    }

    /// The state of its keys.
    pub fn standing(&self) -> Standing {
        self.state().standing.clone()
    }

    /// The version of its set of keys.
    pub(super) fn version(&self) -> u64 {
        self.state().standing.version
    }

    /// Counts that its tokens filled the cache of verified tokens.
    pub(super) fn forgot(&self) {
        self.state().standing.forgotten += 1;
    }

    /// Blocks until the keys were read or failed to be, for at most `longest`.
    pub fn wait_for_keys(&self, longest: Duration) {
        let untried = |state: &mut State| state.standing.tries == 0;
        drop(self.tried.wait_timeout_while(self.state(), longest, untried));
    }

    /// Waits until a token names an unknown key.
    pub async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// Replaces the keys by those just read. On failure the old ones stay.
    ///
    /// # Errors
    /// The reason of the failure.
    pub fn take(&self, read: Result<Vec<u8>, String>, at: SystemTime) -> Result<(), String> {
        let keys = read.and_then(|text| keys_of(&text));
        let mut state = self.state();
        let State { keys: known, standing } = &mut *state;
        standing.tries += 1;
        standing.problem = keys.as_ref().err().cloned();
        let result = match keys {
            Ok(keys) => {
                if !keys.iter().map(|key| &key.jwk).eq(known.iter().map(|key| &key.jwk)) {
                    standing.version += 1;
                    *known = keys.into();
                }
                (standing.keys, standing.read) = (known.len(), Some(at));
                Ok(())
            }
            Err(problem) => {
                standing.failures += 1;
                Err(problem)
            }
        };
        self.tried.notify_all();
        result
    }

    /// Verifies a token of this issuer. Returns its claims.
    pub(super) fn verify(&self, token: &str, now: SystemTime) -> Result<Claims, InvalidToken> {
        let keys = Arc::clone(&self.state().keys);
        let header = jsonwebtoken::decode_header(token).map_err(|_| InvalidToken::Malformed)?;
        if keys.is_empty() {
            self.wanted.notify_one();
            return Err(InvalidToken::NoKeys);
        }
        let named = |key: &&Key| match &header.kid {
            Some(kid) => key.jwk.common.key_id.as_ref() == Some(kid),
            None => keys.len() == 1,
        };
        let Some(key) = keys.iter().find(named) else {
            self.wanted.notify_one();
            return Err(InvalidToken::UnknownKey);
        };
        let stated = key.jwk.common.key_algorithm.map(|algorithm| algorithm.to_string());
        if stated.is_some_and(|stated| stated != format!("{:?}", header.alg)) {
            return Err(InvalidToken::Algorithm);
        }
        let mut rules = Validation::new(header.alg);
        rules.set_issuer(&[&self.of.issuer]);
        rules.set_audience(&[&self.of.audience]);
        rules.set_required_spec_claims(&["exp", "iss", "aud"]);
        // Checked below, against `now`.
        (rules.validate_exp, rules.validate_nbf) = (false, false);
        let verified = jsonwebtoken::decode::<Claims>(token, &key.decoding, &rules);
        let claims = verified.map_err(|error| {
            let is = |kind: &ErrorKind| error.kind() == kind;
            if is(&ErrorKind::InvalidSignature) {
                InvalidToken::Signature
            } else if is(&ErrorKind::InvalidAlgorithm) {
                InvalidToken::Algorithm
            } else {
                InvalidToken::Malformed
            }
        })?;
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        if now < claims.claims.ends() && claims.claims.nbf <= now + LEEWAY {
            Ok(claims.claims)
        } else {
            Err(InvalidToken::Time)
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The signature keys in a JWKS document. Keys for other purposes, unknown kinds and shared secrets
/// are skipped.
fn keys_of(text: &[u8]) -> Result<Vec<Key>, String> {
    #[derive(Deserialize)]
    struct Document {
        keys: Vec<Json>,
    }
    let document: Document = serde_json::from_slice(text).map_err(|_| "it is no JWKS document".to_owned())?;
    let key = |value: Json| {
        let jwk: Jwk = serde_json::from_value(value).ok()?;
        let signs = jwk.common.public_key_use.as_ref().is_none_or(|of| *of == PublicKeyUse::Signature);
        let public = !matches!(jwk.algorithm, AlgorithmParameters::OctetKey(_));
        let decoding = DecodingKey::from_jwk(&jwk).ok().filter(|_| signs && public)?;
        Some(Key { jwk, decoding })
    };
    let keys: Vec<Key> = document.keys.into_iter().filter_map(key).take(MAX_KEYS + 1).collect();
    match keys.len() {
        0 => Err("it has no key that verifies signatures".to_owned()),
        1..=MAX_KEYS => Ok(keys),
        _ => Err(format!("it has more than {MAX_KEYS} keys that verify signatures")),
    }
}
