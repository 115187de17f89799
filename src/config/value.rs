//! The types of values: how each is parsed and shown.

use std::net::SocketAddr;
use std::path::PathBuf;

use http::HeaderName;
use toml::de::DeValue;

use super::key::Kind;
use super::read::Reader;
use super::tree::{Node, integer};
use crate::label::Label;
use crate::pattern::Pattern;
use crate::rights::Grant;

/// A type that a key's value can have.
pub(crate) trait Value: Sized {
    /// The kind of value, for messages and the schema.
    const KIND: Kind;

    /// Parses the value. The error is the problem; `None` stands for a value of the wrong kind.
    fn parse(_value: &DeValue<'_>) -> Result<Self, Option<String>> {
        Err(None)
    }

    /// Reads the value; if that fails, it reports the problem to the reader.
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let wrong = match Self::parse(node.value) {
            Ok(value) => return Some(value),
            Err(wrong) => wrong,
        };
        match wrong {
            Some(message) => reader.problem(node, message),
            None => reader.mismatch(node, Self::KIND),
        }
        None
    }

    /// The value as it would be written; `None` if it would be left out. A secret is shown as its
    /// reference.
    fn show(&self) -> Option<toml::Value>;

    /// The value of a key that is not written, if the type has one.
    fn unset() -> Option<Self> {
        None
    }
}

impl Value for bool {
    const KIND: Kind = Kind::Boolean;

    fn parse(value: &DeValue<'_>) -> Result<Self, Option<String>> {
        value.as_bool().ok_or(None)
    }

    fn show(&self) -> Option<toml::Value> {
        Some((*self).into())
    }
}

macro_rules! integers {
    ($($type:ty),*) => { $(
        impl Value for $type {
            const KIND: Kind = Kind::Integer;

            fn parse(value: &DeValue<'_>) -> Result<Self, Option<String>> {
                integer(value).and_then(|number| Self::try_from(number).ok()).ok_or(None)
            }

            fn show(&self) -> Option<toml::Value> {
                i64::try_from(*self).ok().map(toml::Value::Integer)
            }
        }
    )* };
}
integers!(u64, usize, u32);

/// One word of a closed list.
impl<T: Label> Value for T {
    const KIND: Kind = Kind::Choice(|| T::ALL.iter().map(|value| value.name()).collect());

    fn parse(value: &DeValue<'_>) -> Result<Self, Option<String>> {
        value.as_str().and_then(T::named).ok_or(None)
    }

    fn show(&self) -> Option<toml::Value> {
        Some(self.name().into())
    }
}

/// Declares a value that is parsed from a text and shown as one.
macro_rules! textual {
    ($type:ty, $kind:expr, $parse:expr, $show:expr) => {
        impl $crate::config::value::Value for $type {
            const KIND: $crate::config::key::Kind = $kind;

            fn parse(value: &toml::de::DeValue<'_>) -> Result<Self, Option<String>> {
                value.as_str().ok_or(None).and_then($parse)
            }

            fn show(&self) -> Option<toml::Value> {
                Some($show(self).into())
            }
        }
    };
}
pub(crate) use textual;

textual!(String, Kind::text("text in quotes"), free_text, String::as_str);
textual!(PathBuf, Kind::text("a file's path in quotes"), path, |path: &PathBuf| {
    path.to_string_lossy().into_owned()
});
textual!(
    SocketAddr,
    Kind::text("an IP address and a port, such as \"127.0.0.1:8080\""),
    |text| text.parse().map_err(|_| None),
    SocketAddr::to_string
);
textual!(
    HeaderName,
    Kind::text("the name of a header, such as \"x-team\""),
    |text| text.parse().map_err(|_| None),
    HeaderName::as_str
);
textual!(
    Pattern,
    Kind::text("a name in which * stands for anything"),
    |text| Pattern::parse(text).ok_or(None),
    Pattern::as_str
);
textual!(Grant, Kind::Choice(Grant::words), |text| Grant::named(text).ok_or(None), |of: &Grant| of.as_str());

/// Free text is never empty: to set nothing, the key is left out.
fn free_text(text: &str) -> Result<String, Option<String>> {
    if text.trim().is_empty() {
        return Err(Some("is empty; leave it out".to_owned()));
    }
    if text.chars().any(char::is_control) { Err(None) } else { Ok(text.to_owned()) }
}

fn path(text: &str) -> Result<PathBuf, Option<String>> {
    if text.is_empty() || text.contains('\0') { Err(None) } else { Ok(text.into()) }
}

/// Declares a value that is either a word or a value of another type.
macro_rules! or_word {
    ($type:ty, $word:literal = $variant:ident, $other:ident($inner:ty)) => {
        impl $crate::config::value::Value for $type {
            const KIND: $crate::config::key::Kind =
                $crate::config::key::Kind::OrWord($word, &<$inner as $crate::config::value::Value>::KIND);

            fn read(
                node: &$crate::config::tree::Node<'_>,
                reader: &mut $crate::config::read::Reader<'_>,
            ) -> Option<Self> {
                if node.value.as_str() == Some($word) {
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

/// `"off"`, or no value if the key has no default.
impl<T: Value> Value for Option<T> {
    const KIND: Kind = Kind::OrWord("off", &T::KIND);

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        if node.value.as_str() == Some("off") { Some(None) } else { T::read(node, reader).map(Some) }
    }

    fn show(&self) -> Option<toml::Value> {
        self.as_ref().and_then(Value::show)
    }

    fn unset() -> Option<Self> {
        Some(None)
    }
}

/// The most elements of a list. Callers are the longest list, and each has its own metric series.
const LONGEST_LIST: usize = 10_000;

impl<T: Value> Value for Vec<T> {
    const KIND: Kind = Kind::List(&T::KIND);

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let Some(count) = node.value.as_array().map(|values| values.len()) else {
            reader.mismatch(node, Self::KIND);
            return None;
        };
        if count > LONGEST_LIST {
            reader.problem(node, format!("has {count} elements; write at most {LONGEST_LIST}"));
            return None;
        }
        // Each element is read, so that the problems of all are reported.
        let mut values = Vec::with_capacity(count);
        for node in (0..count).filter_map(|index| node.element(index)) {
            match T::read(&node, reader) {
                Some(value) => values.push(value),
                None => reader.dropped.push(node.path),
            }
        }
        Some(values)
    }

    fn show(&self) -> Option<toml::Value> {
        Some(self.iter().filter_map(Value::show).collect::<Vec<_>>().into())
    }
}
