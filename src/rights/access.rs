//! The kind of access that a request makes to an endpoint, and the words that allow it in the
//! configuration.

use std::sync::LazyLock;

use http::Method;

use crate::openai::Endpoint;
use crate::openai::endpoint::{is_operation, operation};

/// A kind of access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Computes a response from the request alone, or lists the models.
    Use,
    /// Reads objects of the account: files, batches, stored responses.
    Read,
    /// Creates, changes or deletes objects of the account, or issues a key.
    Write,
}

/// One access to one endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Right {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// The kind of access.
    pub access: Access,
}

/// One element of `allow`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// `*`: every right.
    Everything,
    /// One right.
    One(Right),
}

/// A set of rights, with one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Set(u128);

const _: () = assert!(Endpoint::ALL.len() * Access::ALL.len() <= 128);

/// The words of each endpoint's kinds of access, in the order of [`Endpoint::ALL`] and
/// [`Access::ALL`].
static WORDS: LazyLock<Vec<[String; 3]>> = LazyLock::new(|| {
    let of = |endpoint: Endpoint| ["", ":read", ":write"].map(|access| endpoint.as_str().to_owned() + access);
    Endpoint::ALL.map(of).to_vec()
});

impl Access {
    /// Every access.
    pub const ALL: [Self; 3] = [Self::Use, Self::Read, Self::Write];

    /// The access of a request to this path; `upgrade` means that it requests WebSocket.
    fn of(method: &Method, path: &str, endpoint: Endpoint, upgrade: bool) -> Self {
        let posts = *method == Method::POST;
        if posts && is_operation(path) {
            return Self::Use;
        }
        let itself = || operation(path).nth(1).is_none();
        let uses = match endpoint {
            Endpoint::Responses | Endpoint::Realtime => upgrade && itself(),
            Endpoint::Models => *method == Method::GET || *method == Method::HEAD,
            Endpoint::ChatCompletions
            | Endpoint::Completions
            | Endpoint::Embeddings
            | Endpoint::Moderations
            | Endpoint::Audio
            | Endpoint::Images
            | Endpoint::Videos
            | Endpoint::Files
            | Endpoint::Uploads
            | Endpoint::Batches
            | Endpoint::FineTuning
            | Endpoint::VectorStores
            | Endpoint::Assistants
            | Endpoint::Threads
            | Endpoint::Conversations
            | Endpoint::Containers
            | Endpoint::Evals
            | Endpoint::Organization
            | Endpoint::Other => false,
        };
        let searches = endpoint == Endpoint::VectorStores && posts && path.ends_with("/search");
        let reads = [Method::GET, Method::HEAD, Method::OPTIONS].contains(method) && !upgrade;
        match (uses, reads || searches) {
            (true, _) => Self::Use,
            (false, true) => Self::Read,
            (false, false) => Self::Write,
        }
    }
}

impl Right {
    /// The right that a request needs.
    pub fn of(method: &Method, path: &str, endpoint: Endpoint, upgrade: bool) -> Self {
        Self { endpoint, access: Access::of(method, path, endpoint, upgrade) }
    }

    /// Its word in the configuration: `files:read`; for [`Access::Use`] the endpoint's name.
    pub fn as_str(self) -> &'static str {
        &WORDS[self.endpoint.index()][self.access as usize]
    }

    /// Whether any request needs it.
    pub fn exists(self) -> bool {
        self.access != Access::Use
            || self.endpoint.has_operations()
            || matches!(self.endpoint, Endpoint::Realtime | Endpoint::Models)
    }

    /// Every right that exists.
    pub fn all() -> impl Iterator<Item = Self> {
        let of = |endpoint| Access::ALL.map(|access| Self { endpoint, access });
        Endpoint::ALL.into_iter().flat_map(of).filter(|right| right.exists())
    }

    const fn bit(self) -> u128 {
        1 << (self.endpoint.index() * Access::ALL.len() + self.access as usize)
    }
}

impl Grant {
    /// Every word.
    pub fn words() -> Vec<&'static str> {
        std::iter::once("*").chain(Right::all().map(Right::as_str)).collect()
    }

    /// The grant of this word.
    pub fn named(word: &str) -> Option<Self> {
        if word == "*" {
            return Some(Self::Everything);
        }
        Right::all().find(|right| right.as_str() == word).map(Self::One)
    }

    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Everything => "*",
            Self::One(right) => right.as_str(),
        }
    }
}

impl Set {
    /// The rights that store nothing upstream and show nothing of the account: the default with a
    /// configured credential.
    pub fn stateless() -> Self {
        Right::all().filter(|right| right.access == Access::Use).collect()
    }

    /// The rights that these words allow.
    pub fn of(grants: &[Grant]) -> Self {
        let bits = grants.iter().map(|grant| match grant {
            Grant::Everything => u128::MAX,
            Grant::One(right) => right.bit(),
        });
        Self(bits.fold(0, |all, bit| all | bit))
    }

    /// Whether the set contains this right.
    pub const fn has(self, right: Right) -> bool {
        self.0 & right.bit() != 0
    }

    /// Whether the set contains every right.
    pub const fn is_everything(self) -> bool {
        self.0 == u128::MAX
    }
}

impl FromIterator<Right> for Set {
    fn from_iter<I: IntoIterator<Item = Right>>(rights: I) -> Self {
        Self(rights.into_iter().fold(0, |all, right| all | right.bit()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openai::endpoint::Named;

    #[test]
    fn words_and_rights_are_each_others_names() {
        for right in Right::all() {
            assert_eq!(Grant::named(right.as_str()), Some(Grant::One(right)));
            assert!(Set::of(&[Grant::One(right)]).has(right));
            assert_eq!(Set::of(&[Grant::One(right)]).0.count_ones(), 1);
        }
        assert_eq!(Grant::named("files"), None, "files are read or written");
        assert_eq!(Grant::named("videos:use"), None);
        assert!(Set::of(&[Grant::Everything]).is_everything());
    }

    #[test]
    fn each_operation_needs_the_right_that_its_effect_asks_for() {
        for (method, path, word) in [
            ("POST", "/v1/chat/completions", "chat_completions"),
            ("GET", "/v1/chat/completions", "chat_completions:read"),
            ("GET", "/v1/chat/completions/c/messages", "chat_completions:read"),
            ("POST", "/v1/chat/completions/c", "chat_completions:write"),
            ("DELETE", "/v1/chat/completions/c", "chat_completions:write"),
            ("POST", "/v1/responses", "responses"),
            ("POST", "/v1/responses/compact", "responses"),
            ("POST", "/v1/responses/input_tokens", "responses"),
            ("GET", "/v1/responses/resp_1", "responses:read"),
            ("POST", "/v1/responses/resp_1/cancel", "responses:write"),
            ("DELETE", "/v1/responses/resp_1", "responses:write"),
            ("POST", "/openai/deployments/d/embeddings", "embeddings"),
            ("POST", "/v1/audio/speech", "audio"),
            ("POST", "/v1/audio/voices", "audio:write"),
            ("POST", "/v1/images/edits", "images"),
            ("POST", "/v1/videos", "videos:write"),
            ("GET", "/v1/files/f/content", "files:read"),
            ("POST", "/v1/files", "files:write"),
            ("PUT", "/v1/files", "files:write"),
            ("POST", "/v1/vector_stores/v/search", "vector_stores:read"),
            ("POST", "/v1/vector_stores/v", "vector_stores:write"),
            ("POST", "/v1/realtime/client_secrets", "realtime:write"),
            ("GET", "/v1/models", "models"),
            ("DELETE", "/v1/models/ft:gpt", "models:write"),
            ("GET", "/v1/organization/admin_api_keys", "organization:read"),
            ("POST", "/v1/something/new", "other:write"),
            ("BREW", "/v1/embeddings", "embeddings:write"),
        ] {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let right = Right::of(&method, path, Named::by(path).endpoint, false);
            assert_eq!(right.as_str(), word, "{method} {path}");
        }
        let socket = |path| Right::of(&Method::GET, path, Named::by(path).endpoint, true).as_str();
        assert_eq!(socket("/v1/responses"), "responses");
        assert_eq!(socket("/v1/realtime"), "realtime");
        assert_eq!(socket("/v1/files"), "files:write");
    }
}
