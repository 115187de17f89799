//! What a key's value can be read into and shown as.

use std::net::SocketAddr;
use std::path::PathBuf;

use http::HeaderName;

use super::key::Kind;
use super::read::Reader;
use super::tree::{Datum, Node};
use crate::label::Label;
use crate::pattern::Pattern;
use crate::rights::Grant;

/// A type that a key can have.
pub(crate) trait Value: Sized {
    /// What a person writes.
    const KIND: Kind;

    /// Reads it by itself. Where that fails, what is wrong with it; nothing where the kind says it.
    fn parse(_datum: &Datum) -> Result<Self, Option<String>> {
        Err(None)
    }

    /// Reads it; where that fails the reader has been told why.
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let wrong = match Self::parse(&node.datum) {
            Ok(value) => return Some(value),
            Err(wrong) => wrong,
        };
        match wrong {
            Some(message) => reader.problem(node, message),
            None => reader.mismatch(node, Self::KIND),
        }
        None
    }

    /// The value as it would be written; nothing where it would not be. A secret is shown as its
    /// reference.
    fn show(&self) -> Option<toml::Value>;

    /// What stands for "not written", where something does.
    fn unset() -> Option<Self> {
        None
    }
}

impl Value for bool {
    const KIND: Kind = Kind::Boolean;

    fn parse(datum: &Datum) -> Result<Self, Option<String>> {
        if let Datum::Boolean(value) = datum { Ok(*value) } else { Err(None) }
    }

    fn show(&self) -> Option<toml::Value> {
        Some((*self).into())
    }
}

macro_rules! integers {
    ($($type:ty),*) => { $(
        impl Value for $type {
            const KIND: Kind = Kind::Integer;

            fn parse(datum: &Datum) -> Result<Self, Option<String>> {
                let Datum::Integer(number) = datum else { return Err(None) };
                Self::try_from(*number).map_err(|_| None)
            }

            fn show(&self) -> Option<toml::Value> {
                i64::try_from(*self).ok().map(toml::Value::Integer)
            }
        }
    )* };
}
integers!(u64, usize, u32);

/// One of the words of a closed list.
impl<T: Label> Value for T {
    const KIND: Kind = Kind::Choice(|| T::ALL.iter().map(|value| value.name()).collect());

    fn parse(datum: &Datum) -> Result<Self, Option<String>> {
        datum.as_text().and_then(T::named).ok_or(None)
    }

    fn show(&self) -> Option<toml::Value> {
        Some(self.name().into())
    }
}

/// Declares a value that is read from one text and shown as one.
macro_rules! textual {
    ($type:ty, $kind:expr, $parse:expr, $show:expr) => {
        impl $crate::config::value::Value for $type {
            const KIND: $crate::config::key::Kind = $kind;

            fn parse(datum: &$crate::config::tree::Datum) -> Result<Self, Option<String>> {
                datum.as_text().ok_or(None).and_then($parse)
            }

            fn show(&self) -> Option<toml::Value> {
                Some($show(self).into())
            }
        }
    };
}
pub(crate) use textual;

textual!(String, Kind::Text, free_text, String::as_str);
textual!(SocketAddr, Kind::Address, |text| text.parse().map_err(|_| None), SocketAddr::to_string);
textual!(HeaderName, Kind::HeaderName, |text| text.parse().map_err(|_| None), HeaderName::as_str);
textual!(Pattern, Kind::Pattern, |text| Pattern::parse(text).ok_or(None), Pattern::as_str);
textual!(Grant, Kind::Choice(Grant::words), |text| Grant::named(text).ok_or(None), |of: &Grant| of.as_str());
textual!(PathBuf, Kind::Path, path, |path: &PathBuf| path.to_string_lossy().into_owned());

/// Free text is never empty: to write nothing, the key is left out.
fn free_text(text: &str) -> Result<String, Option<String>> {
    if text.trim().is_empty() {
        return Err(Some("is empty; leave it out".to_owned()));
    }
    if text.chars().any(char::is_control) { Err(None) } else { Ok(text.to_owned()) }
}

fn path(text: &str) -> Result<PathBuf, Option<String>> {
    if text.is_empty() || text.contains('\0') { Err(None) } else { Ok(text.into()) }
}

/// Declares a value that is a word, or what another type holds.
macro_rules! or_word {
    ($type:ty, $word:literal = $variant:ident, $other:ident($inner:ty)) => {
        impl $crate::config::value::Value for $type {
            const KIND: $crate::config::key::Kind =
                $crate::config::key::Kind::OrWord($word, &<$inner as $crate::config::value::Value>::KIND);

            fn read(
                node: &$crate::config::tree::Node,
                reader: &mut $crate::config::read::Reader<'_>,
            ) -> Option<Self> {
                if node.datum.as_text() == Some($word) {
                    return Some(Self::$variant);
                }
                <$inner as $crate::config::value::Value>::read(node, reader).map(Self::$other)
            }

            fn show(&self) -> Option<toml::Value> {
                match self {
                    Self::$variant => Some($word.into()),
                    Self::$other(inner) => $crate::config::value::Value::show(inner),
                }
            }
        }
    };
}
pub(crate) use or_word;

/// `"off"`, or not written where the key has no default.
impl<T: Value> Value for Option<T> {
    const KIND: Kind = Kind::OrWord("off", &T::KIND);

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        if node.datum.as_text() == Some("off") { Some(None) } else { T::read(node, reader).map(Some) }
    }

    fn show(&self) -> Option<toml::Value> {
        self.as_ref().and_then(Value::show)
    }

    fn unset() -> Option<Self> {
        Some(None)
    }
}

/// The most elements that a list may have: callers are the longest, and each has its own series.
const LONGEST_LIST: usize = 10_000;

impl<T: Value> Value for Vec<T> {
    const KIND: Kind = Kind::List(&T::KIND);

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let Datum::List(nodes) = &node.datum else {
            reader.mismatch(node, Self::KIND);
            return None;
        };
        if nodes.len() > LONGEST_LIST {
            reader.problem(node, format!("has {} elements; write at most {LONGEST_LIST}", nodes.len()));
            return None;
        }
        // Each element is read, so that the problems of all are told.
        let mut values = Vec::with_capacity(nodes.len());
        for node in nodes {
            match T::read(node, reader) {
                Some(value) => values.push(value),
                None => reader.dropped.push(node.path.clone()),
            }
        }
        Some(values)
    }

    fn show(&self) -> Option<toml::Value> {
        Some(self.iter().filter_map(Value::show).collect::<Vec<_>>().into())
    }
}
