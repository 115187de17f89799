//! `[rights]` and the rights of a caller: which endpoints and models it may use.

use super::Config;
use super::callers::Caller;
use super::key::{Kind, section};
use super::read::Reader;
use super::tree::Node;
use super::value::Value;
use crate::pattern::Pattern;
use crate::rights::{self, Grant, Models, Set};

section! {
    /// What callers without rights of their own may use.
    Rights {
        /// The endpoints, as for a caller. Without it everything, and with a configured credential
        /// what keeps nothing upstream and shows nothing of the account.
        allow: Option<Placed<Vec<Grant>>> = unset(["*"]),
        /// The models, as for a caller. Without it all.
        models: Option<Placed<Vec<Pattern>>> = unset(["gpt-5*"]),
    }
}

/// A value with its position, for messages about requests.
#[derive(Clone, Debug)]
pub struct Placed<T> {
    /// The value.
    pub value: T,
    /// Its key, with its line or variable.
    pub place: Box<str>,
}

/// The position does not count: moving a line changes nothing.
impl<T: PartialEq> PartialEq for Placed<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T: Value> Value for Placed<T> {
    const KIND: Kind = T::KIND;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let place = format!("{}{}", node.path, reader.places.origin(node).line());
        T::read(node, reader).map(|value| Self { value, place: place.into() })
    }

    fn show(&self) -> Option<toml::Value> {
        self.value.show()
    }
}

impl Config {
    /// The rights of a caller, or of unknown callers for `None`; `None` if everything is allowed.
    pub fn rights_of(&self, caller: Option<&Caller>) -> Option<rights::Rights> {
        let own = caller.and_then(|caller| caller.allow.as_ref());
        let allow = own.or(self.rights.allow.as_ref());
        let swapped =
            self.upstream.credential.is_some() || caller.is_some_and(|caller| caller.credential.is_some());
        let default = if swapped { Set::stateless() } else { Set::of(&[Grant::Everything]) };
        let models = caller.and_then(|caller| caller.models.as_ref()).or(self.rights.models.as_ref());
        let rights = rights::Rights {
            allow: allow.map_or(default, |allow| Set::of(&allow.value)),
            place: allow.map(|allow| allow.place.clone()),
            models: models
                .map(|models| Models { patterns: models.value.clone(), place: models.place.clone() }),
        };
        (!rights.are_everything()).then_some(rights)
    }
}
