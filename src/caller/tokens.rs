//! Identification of callers by token (JWT), with a cache of verified tokens.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use serde::Deserialize;
use serde_json::Value as Json;

use super::credential::{API_KEY, X_API_KEY};
use super::directory::bearer;
use super::issuer::{InvalidToken, Issuer};
use super::secret::Secret;

/// Most cached tokens. At the limit the cache is cleared, and each token is verified again, which
/// takes about 50 µs.
const MAX_VERIFIED: usize = 4096;
/// Longest accepted token, in bytes.
const LONGEST: usize = 16 * 1024;

/// The claim that identifies a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenClaim {
    /// The issuer.
    pub issuer: Arc<Issuer>,
    /// The claim's name.
    pub claim: String,
    /// Its value, or one of its values.
    pub value: String,
}

impl PartialEq for Issuer {
    fn eq(&self, other: &Self) -> bool {
        self.of == other.of
    }
}

impl Eq for Issuer {}

/// The tokens that identify callers.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    /// The claims of callers, by issuer.
    issuers: Vec<Known>,
    hasher: foldhash::quality::RandomState,
    verified: Mutex<HashMap<u64, Verified>>,
}

/// An issuer, and the caller of each claim.
type Known = (Arc<Issuer>, Vec<(TokenClaim, usize)>);

/// A verified token, the version of the keys that verified it, and its caller.
#[derive(Debug)]
struct Verified {
    token: Secret,
    issuer: usize,
    version: u64,
    ends: f64,
    index: usize,
}

/// The claims of a token that is not verified yet.
#[derive(Deserialize)]
struct UnverifiedClaims {
    iss: Option<String>,
    aud: Option<Json>,
}

impl Tokens {
    pub(super) fn add(&mut self, of: TokenClaim, index: usize) {
        let known = self.issuers.iter().position(|(issuer, _)| Arc::ptr_eq(issuer, &of.issuer));
        let at = known.unwrap_or_else(|| {
            self.issuers.push((Arc::clone(&of.issuer), Vec::new()));
            self.issuers.len() - 1
        });
        self.issuers[at].1.push((of, index));
    }

    /// The issuers of callers' tokens.
    pub(super) fn issuers(&self) -> impl Iterator<Item = &Arc<Issuer>> {
        self.issuers.iter().map(|(issuer, _)| issuer)
    }

    /// The caller of the token in the headers; `None` if there is no token of a known issuer for
    /// Weir.
    ///
    /// # Errors
    /// The issuer's name, and the reason why its token is invalid.
    pub(super) fn holder(
        &self,
        headers: &HeaderMap,
        wall: fn() -> SystemTime,
    ) -> Result<Option<usize>, (Arc<Issuer>, InvalidToken)> {
        if self.issuers.is_empty() {
            return Ok(None);
        }
        let bearers = headers.get_all(AUTHORIZATION).iter().filter_map(|value| bearer(value.as_bytes()));
        let plain = [API_KEY, X_API_KEY].into_iter().flat_map(|name| headers.get_all(name));
        let shown = bearers.chain(plain.map(HeaderValue::as_bytes));
        for token in shown.filter(|shown| shown.len() <= LONGEST && shown.starts_with(b"eyJ")) {
            let Ok(token) = str::from_utf8(token) else { continue };
            if let Some(index) = self.of(token, wall())? {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    fn of(&self, token: &str, now: SystemTime) -> Result<Option<usize>, (Arc<Issuer>, InvalidToken)> {
        let hash = self.hasher.hash_one(token);
        if let Some(index) = self.remembered(hash, token, now) {
            return Ok(Some(index));
        }
        let Some(unverified_claims) = unverified_claims(token) else { return Ok(None) };
        let is_its = |(issuer, _): &Known| {
            Some(&issuer.of.issuer) == unverified_claims.iss.as_ref()
                && unverified_claims.aud.as_ref().is_some_and(|aud| has(aud, &issuer.of.audience))
        };
        let Some(at) = self.issuers.iter().position(is_its) else { return Ok(None) };
        let (issuer, callers) = &self.issuers[at];
        let untrue = |why| (Arc::clone(issuer), why);
        let version = issuer.version();
        let claims = issuer.verify(token, now).map_err(untrue)?;
        let is_whose = |(of, _): &&(TokenClaim, usize)| {
            claims.others.get(&of.claim).is_some_and(|claim| has(claim, &of.value))
        };
        let (_, index) = callers.iter().find(is_whose).ok_or_else(|| untrue(InvalidToken::NoCaller))?;
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if verified.len() >= MAX_VERIFIED {
            verified.clear();
            issuer.forgot();
        }
        let (token, ends) = (Secret::new(token.to_owned()), claims.ends());
        verified.insert(hash, Verified { token, issuer: at, version, ends, index: *index });
        Ok(Some(*index))
    }

    fn remembered(&self, hash: u64, token: &str, now: SystemTime) -> Option<usize> {
        let verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        let known = verified.get(&hash).filter(|known| known.token.is(token.as_bytes()))?;
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let fresh = now < known.ends && self.issuers[known.issuer].0.version() == known.version;
        fresh.then_some(known.index)
    }
}

/// The unverified claims of a token, which identify nobody.
fn unverified_claims(token: &str) -> Option<UnverifiedClaims> {
    let mut parts = token.split('.');
    let middle = parts.nth(1)?;
    parts.next()?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(middle).ok()?).ok()
}

/// Whether a claim is this text, or a list that contains it.
fn has(claim: &Json, text: &str) -> bool {
    let is_it = |one: &Json| one.as_str() == Some(text);
    is_it(claim) || claim.as_array().is_some_and(|several| several.iter().any(is_it))
}
