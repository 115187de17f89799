//! Callers by token (JWT): which issuer's it is, whose its claims are, and what was verified of
//! late.

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
use super::issuer::{Issuer, Untrue};
use super::secret::Secret;

/// Tokens that are remembered as verified. At the bound all are forgotten, and each is verified
/// once more: that costs its signature's check, some 50 µs.
const MOST_VERIFIED: usize = 4096;
/// A longer token is none.
const LONGEST: usize = 16 * 1024;

/// What a caller's tokens say.
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

/// All that is known of callers by token.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    /// Whose each claim is, by issuer.
    issuers: Vec<Known>,
    hasher: foldhash::quality::RandomState,
    verified: Mutex<HashMap<u64, Verified>>,
}

/// An issuer, and whose each claim is.
type Known = (Arc<Issuer>, Vec<(TokenClaim, usize)>);

/// A token that was verified by keys of a version, and whose it is.
#[derive(Debug)]
struct Verified {
    token: Secret,
    issuer: usize,
    version: u64,
    ends: f64,
    index: usize,
}

/// What a token says before it is verified.
#[derive(Deserialize)]
struct Said {
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

    /// The issuers that callers are known by.
    pub(super) fn issuers(&self) -> impl Iterator<Item = &Arc<Issuer>> {
        self.issuers.iter().map(|(issuer, _)| issuer)
    }

    /// Whose token the headers bear; nothing where they bear none of a known issuer for Weir.
    ///
    /// # Errors
    /// The issuer's name, and why its token is not believed.
    pub(super) fn holder(
        &self,
        headers: &HeaderMap,
        wall: fn() -> SystemTime,
    ) -> Result<Option<usize>, (Arc<Issuer>, Untrue)> {
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

    fn of(&self, token: &str, now: SystemTime) -> Result<Option<usize>, (Arc<Issuer>, Untrue)> {
        let hash = self.hasher.hash_one(token);
        if let Some(index) = self.remembered(hash, token, now) {
            return Ok(Some(index));
        }
        let Some(said) = said(token) else { return Ok(None) };
        let is_its = |(issuer, _): &Known| {
            Some(&issuer.of.issuer) == said.iss.as_ref()
                && said.aud.as_ref().is_some_and(|aud| has(aud, &issuer.of.audience))
        };
        let Some(at) = self.issuers.iter().position(is_its) else { return Ok(None) };
        let (issuer, callers) = &self.issuers[at];
        let untrue = |why| (Arc::clone(issuer), why);
        let version = issuer.version();
        let claims = issuer.verify(token, now).map_err(untrue)?;
        let is_whose = |(of, _): &&(TokenClaim, usize)| {
            claims.others.get(&of.claim).is_some_and(|claim| has(claim, &of.value))
        };
        let (_, index) = callers.iter().find(is_whose).ok_or_else(|| untrue(Untrue::NoCaller))?;
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if verified.len() >= MOST_VERIFIED {
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

/// What a token says in its middle part, by which nobody is known.
fn said(token: &str) -> Option<Said> {
    let mut parts = token.split('.');
    let middle = parts.nth(1)?;
    parts.next()?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(middle).ok()?).ok()
}

/// Whether a claim is a text, or has it among others.
fn has(claim: &Json, text: &str) -> bool {
    let is_it = |one: &Json| one.as_str() == Some(text);
    is_it(claim) || claim.as_array().is_some_and(|several| several.iter().any(is_it))
}
