//! The credential of upstream requests: a key, an organization and a project.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};

use http::header::{AUTHORIZATION, InvalidHeaderValue};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::secret::{Secret, wipe};
use super::shared_name::shared_name;
use crate::label::names;

/// The header of Azure's keys, also used by other providers' SDKs.
pub(super) const API_KEY: HeaderName = HeaderName::from_static("api-key");
/// Another common name of that header, used by some gateways.
pub(super) const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const ORGANIZATION: HeaderName = HeaderName::from_static("openai-organization");
const PROJECT: HeaderName = HeaderName::from_static("openai-project");

const PART_COUNT: usize = 5;
/// The header fields of a credential.
static PARTS: [HeaderName; PART_COUNT] = [AUTHORIZATION, API_KEY, X_API_KEY, ORGANIZATION, PROJECT];

/// Whether a name is one of [`PARTS`]. Comparing lengths first rules out nearly all other names.
fn is_part_of_credential(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "authorization" | "api-key" | "x-api-key" | "openai-organization" | "openai-project"
    )
}

/// An opaque id of a request's credential: a hash under a random key of this process.
///
/// It is valid only within this process; other processes have other ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CredentialId(pub u64);

names! {
    /// The header that a credential is sent in.
    #[derive(Default)]
    AuthHeader {
        /// `Authorization: Bearer KEY`.
        #[default]
        Bearer = "bearer",
        /// `api-key: KEY`, for Azure.
        ApiKey = "api-key",
    }
}

/// A configured credential as header values. It has no readable `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    header: HeaderName,
    value: HeaderValue,
    organization: Option<HeaderValue>,
    project: Option<HeaderValue>,
    /// A name that does not depend on the key, for credentials obtained by an exchange.
    lasting_name: Option<u64>,
}

impl Credential {
    /// Prepares the headers.
    ///
    /// # Errors
    /// A part contains characters that are invalid in a header.
    pub fn new(
        key: &Secret,
        style: AuthHeader,
        organization: Option<&str>,
        project: Option<&str>,
    ) -> Result<Self, InvalidHeaderValue> {
        let (header, text) = match style {
            AuthHeader::Bearer => (AUTHORIZATION, ["Bearer ", key.expose()].concat()),
            AuthHeader::ApiKey => (API_KEY, key.expose().to_owned()),
        };
        let value = HeaderValue::from_bytes(text.as_bytes());
        wipe(text.into_bytes());
        let mut value = value?;
        value.set_sensitive(true);
        Ok(Self {
            header,
            value,
            organization: organization.map(HeaderValue::from_str).transpose()?,
            project: project.map(HeaderValue::from_str).transpose()?,
            lasting_name: None,
        })
    }

    /// Gives the credential a name that all processes share, whatever key each has.
    #[must_use]
    pub fn known_as(mut self, name: u64) -> Self {
        self.lasting_name = Some(name);
        self
    }

    /// The name that does not depend on the key, if there is one.
    pub fn lasting_name(&self) -> Option<u64> {
        self.lasting_name
    }

    /// Replaces any credential in the headers by this one.
    pub fn apply(&self, headers: &mut HeaderMap) {
        // One pass over the names is cheaper than lookups of names that are mostly absent.
        if headers.keys().any(|name| name != self.header && is_part_of_credential(name)) {
            Self::remove(headers);
        }
        headers.insert(self.header.clone(), self.value.clone());
        for (name, value) in [(ORGANIZATION, &self.organization), (PROJECT, &self.project)] {
            if let Some(value) = value {
                headers.insert(name, value.clone());
            }
        }
    }

    /// Removes any credential from the headers.
    pub fn remove(headers: &mut HeaderMap) {
        for name in &PARTS {
            headers.remove(name);
        }
    }

    /// The [`fingerprint`] of headers with this credential.
    pub(super) fn fingerprint(&self, key: &RandomState) -> CredentialId {
        let mut headers = HeaderMap::new();
        self.apply(&mut headers);
        fingerprint(&headers, key)
    }

    /// A fingerprint of its organization and project.
    pub(super) fn account(&self, key: &RandomState) -> u64 {
        let name = |value: &Option<HeaderValue>| value.as_ref().map(|value| value.as_bytes().to_vec());
        key.hash_one((name(&self.organization), name(&self.project)))
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("header", &self.header).finish_non_exhaustive()
    }
}

/// The name of the credential in upstream headers, the same in all processes. Slower than a
/// [`CredentialId`].
pub fn credential_name(headers: &HeaderMap) -> u64 {
    shared_name(PARTS.iter().flat_map(|name| {
        let values = headers.get_all(name).iter();
        values.flat_map(|value| [name.as_str().as_bytes(), value.as_bytes()])
    }))
}

/// The fingerprint of the credential in upstream headers, in this process. It does not depend on
/// the order of the fields.
pub(super) fn fingerprint(headers: &HeaderMap, key: &RandomState) -> CredentialId {
    let mut hasher = key.build_hasher();
    // As in `apply`: most fields are mostly absent, and need no lookup.
    let mut present = [false; PART_COUNT];
    for name in headers.keys().filter(|name| is_part_of_credential(name)) {
        for (part, present) in PARTS.iter().zip(&mut present) {
            *present |= name == part;
        }
    }
    for (part, name) in PARTS.iter().enumerate().filter(|(part, _)| present[*part]) {
        // Each value is hashed with its field and its length, so that equal text in another field
        // differs.
        for value in headers.get_all(name) {
            hasher.write_usize(part);
            hasher.write_usize(value.len());
            hasher.write(value.as_bytes());
        }
    }
    CredentialId(hasher.finish())
}
