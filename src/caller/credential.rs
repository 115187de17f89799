//! What a request bears upstream: a key, an organization and a project.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};

use http::header::{AUTHORIZATION, InvalidHeaderValue};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::secret::{Secret, wipe};
use super::shared_name::shared_name;
use crate::label::names;

/// The header of Azure's keys, which other providers' SDKs use too.
pub(super) const API_KEY: HeaderName = HeaderName::from_static("api-key");
/// The same, as some gateways name it.
pub(super) const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const ORGANIZATION: HeaderName = HeaderName::from_static("openai-organization");
const PROJECT: HeaderName = HeaderName::from_static("openai-project");

const PART_COUNT: usize = 5;
/// All that a credential consists of.
static PARTS: [HeaderName; PART_COUNT] = [AUTHORIZATION, API_KEY, X_API_KEY, ORGANIZATION, PROJECT];

/// Whether a name is one of [`PARTS`]. Lengths tell nearly all other names apart.
fn is_part_of_credential(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "authorization" | "api-key" | "x-api-key" | "openai-organization" | "openai-project"
    )
}

/// Which credential a request bears, without saying it: a hash under a key that each process draws
/// anew.
///
/// It is a name within this process only; two processes never agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CredentialId(pub u64);

names! {
    /// The header that a credential is sent in.
    #[derive(Default)]
    AuthHeader {
        /// `Authorization: Bearer KEY`.
        #[default]
        Bearer = "bearer",
        /// `api-key: KEY`, as Azure wants it.
        ApiKey = "api-key",
    }
}

/// A configured credential, ready to be set on requests. It has no readable `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    header: HeaderName,
    value: HeaderValue,
    organization: Option<HeaderValue>,
    project: Option<HeaderValue>,
    /// The name that it has whatever its key is, for one that an exchange gives.
    lasting_name: Option<u64>,
}

impl Credential {
    /// Prepares the headers.
    ///
    /// # Errors
    /// Where a part has characters that no header may have.
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

    /// The same credential, which all processes know by this name, whatever key each has.
    #[must_use]
    pub fn known_as(mut self, name: u64) -> Self {
        self.lasting_name = Some(name);
        self
    }

    /// The name that it has whatever its key is, where it has one.
    pub fn lasting_name(&self) -> Option<u64> {
        self.lasting_name
    }

    /// Replaces whatever credential the headers bear by this one.
    pub fn apply(&self, headers: &mut HeaderMap) {
        // One pass over the names costs less than looking up those that are mostly absent.
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

    /// Removes whatever credential the headers bear.
    pub fn remove(headers: &mut HeaderMap) {
        for name in &PARTS {
            headers.remove(name);
        }
    }

    /// The credential as [`fingerprint`] names it in headers that bear it.
    pub(super) fn fingerprint(&self, key: &RandomState) -> CredentialId {
        let mut headers = HeaderMap::new();
        self.apply(&mut headers);
        fingerprint(&headers, key)
    }

    /// A fingerprint of the organization and project that it names.
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

/// The name of the credential that headers bear upstream, the same in all processes. It takes
/// longer than a [`CredentialId`].
pub fn credential_name(headers: &HeaderMap) -> u64 {
    shared_name(PARTS.iter().flat_map(|name| {
        let values = headers.get_all(name).iter();
        values.flat_map(|value| [name.as_str().as_bytes(), value.as_bytes()])
    }))
}

/// The name of the credential that headers bear upstream, in this process. It is the same whatever
/// order its parts came in.
pub(super) fn fingerprint(headers: &HeaderMap, key: &RandomState) -> CredentialId {
    let mut hasher = key.build_hasher();
    // As in `apply`: most parts are mostly absent, and then not looked up.
    let mut present = [false; PART_COUNT];
    for name in headers.keys().filter(|name| is_part_of_credential(name)) {
        for (part, present) in PARTS.iter().zip(&mut present) {
            *present |= name == part;
        }
    }
    for (part, name) in PARTS.iter().enumerate().filter(|(part, _)| present[*part]) {
        // A value is named by its part and its length, so that the same text elsewhere is another
        // credential.
        for value in headers.get_all(name) {
            hasher.write_usize(part);
            hasher.write_usize(value.len());
            hasher.write(value.as_bytes());
        }
    }
    CredentialId(hasher.finish())
}
