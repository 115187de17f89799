//! What a key's value can be read into and shown as.

use std::net::SocketAddr;
use std::path::PathBuf;

use http::HeaderName;

use super::key::Kind;
use super::read::Reader;
use super::tree::{Datum, Node};
use crate::caller::{AuthHeader, Lane, Mode};
use crate::estimate::Pricing;
use crate::openai::Endpoint;
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

    /// The value as it would be written. A secret is shown as its reference.
    fn show(&self) -> Shown;

    /// The value as a number, to compare with the key's range.
    fn measure(&self) -> Option<f64> {
        None
    }

    /// What stands for "not written", where something does.
    fn unset() -> Option<Self> {
        None
    }
}

/// A value on its way back to text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// Not written.
    Unset,
    /// A TOML value.
    Literal(String),
    /// A list of plain values or of tables.
    List(Vec<Shown>),
    /// A section.
    Table(Vec<(&'static str, Shown)>),
}

impl Shown {
    /// Text in TOML's quotes.
    pub(crate) fn text(text: &str) -> Self {
        Self::Literal(toml::Value::String(text.to_owned()).to_string())
    }
}

impl Value for bool {
    const KIND: Kind = Kind::Boolean;

    fn parse(datum: &Datum) -> Result<Self, Option<String>> {
        if let Datum::Boolean(value) = datum { Ok(*value) } else { Err(None) }
    }

    fn show(&self) -> Shown {
        Shown::Literal(self.to_string())
    }
}

macro_rules! integers {
    ($($type:ty: $float:expr),*) => { $(
        impl Value for $type {
            const KIND: Kind = Kind::Integer;

            fn parse(datum: &Datum) -> Result<Self, Option<String>> {
                let Datum::Integer(number) = datum else { return Err(None) };
                Self::try_from(*number).map_err(|_| None)
            }

            fn show(&self) -> Shown {
                Shown::Literal(self.to_string())
            }

            fn measure(&self) -> Option<f64> {
                Some($float(*self))
            }
        }
    )* };
}
integers!(u64: |number| number as f64, usize: |number| number as f64, u32: f64::from);

/// Free text is never empty: to write nothing, the key is left out.
impl Value for String {
    const KIND: Kind = Kind::Text;

    fn parse(datum: &Datum) -> Result<Self, Option<String>> {
        let text = datum.as_text().ok_or(None)?;
        if text.trim().is_empty() {
            return Err(Some("is empty; leave it out".to_owned()));
        }
        if text.chars().any(char::is_control) { Err(None) } else { Ok(text.to_owned()) }
    }

    fn show(&self) -> Shown {
        Shown::text(self)
    }
}

/// Declares a value that is read from one text by a function; with `explained` that says what is
/// wrong.
macro_rules! textual {
    ($type:ty, $kind:expr, explained $parse:expr) => {
        impl $crate::config::value::Value for $type {
            const KIND: $crate::config::key::Kind = $kind;

            fn parse(datum: &$crate::config::tree::Datum) -> Result<Self, Option<String>> {
                $parse(datum.as_text().ok_or(None)?).map_err(Some)
            }

            fn show(&self) -> $crate::config::value::Shown {
                $crate::config::value::Shown::text(&self.to_string())
            }
        }
    };
    ($type:ty, $kind:expr, $parse:expr, $show:expr) => {
        impl $crate::config::value::Value for $type {
            const KIND: $crate::config::key::Kind = $kind;

            fn parse(datum: &$crate::config::tree::Datum) -> Result<Self, Option<String>> {
                datum.as_text().and_then($parse).ok_or(None)
            }

            fn show(&self) -> $crate::config::value::Shown {
                $crate::config::value::Shown::text(&$show(self))
            }
        }
    };
}
pub(crate) use textual;

/// Declares a value that is a word, or what another type holds.
macro_rules! or_word {
    ($type:ty, $word:literal = $variant:ident, $other:ident($inner:ty), $kind:expr) => {
        impl $crate::config::value::Value for $type {
            const KIND: $crate::config::key::Kind = $crate::config::key::Kind::OrWord($word, &$kind);

            fn read(
                node: &$crate::config::tree::Node,
                reader: &mut $crate::config::read::Reader<'_>,
            ) -> Option<Self> {
                if node.datum.as_text() == Some($word) {
                    return Some(Self::$variant);
                }
                <$inner as $crate::config::value::Value>::read(node, reader).map(Self::$other)
            }

            fn show(&self) -> $crate::config::value::Shown {
                match self {
                    Self::$variant => $crate::config::value::Shown::text($word),
                    Self::$other(inner) => $crate::config::value::Value::show(inner),
                }
            }

            fn measure(&self) -> Option<f64> {
                match self {
                    Self::$variant => None,
                    Self::$other(inner) => $crate::config::value::Value::measure(inner),
                }
            }
        }
    };
}
pub(crate) use or_word;

textual!(SocketAddr, Kind::Address, |text: &str| text.parse().ok(), SocketAddr::to_string);
textual!(HeaderName, Kind::HeaderName, |text: &str| text.parse().ok(), |name: &HeaderName| name.to_string());
textual!(
    PathBuf,
    Kind::Path,
    |text: &str| (!text.is_empty() && !text.contains('\0')).then(|| Self::from(text)),
    |path: &PathBuf| path.to_string_lossy().into_owned()
);
textual!(Pattern, Kind::Pattern, Pattern::parse, |pattern: &Pattern| pattern.as_str().to_owned());
textual!(Grant, Kind::Choice(Grant::words), Grant::named, |grant: &Grant| grant.as_str().to_owned());

/// Declares a value of an enum that other modules own: one of its words.
macro_rules! words {
    ($($type:ty),*) => { $($crate::config::value::textual!(
        $type,
        $crate::config::key::Kind::Choice(|| <$type>::ALL.map(<$type>::as_str).to_vec()),
        $crate::label::Label::named,
        |value: &$type| value.as_str().to_owned()
    );)* };
}
pub(crate) use words;

words!(AuthHeader, Endpoint, Lane, Mode, Pricing);

/// Declares an enum whose variants are the words that a key takes.
macro_rules! choice {
    (
        $(#[$meta:meta])*
        $name:ident { $( $(#[doc = $doc:literal])* $variant:ident = $word:literal ),* $(,)? }
    ) => {
        $crate::label::names! {
            $(#[$meta])*
            $name { $( $(#[doc = $doc])* $variant = $word, )* }
        }

        $crate::config::value::words!($name);
    };
}
pub(crate) use choice;

/// `"off"`, or not written where the key has no default.
impl<T: Value> Value for Option<T> {
    const KIND: Kind = Kind::OrWord("off", &T::KIND);

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        if node.datum.as_text() == Some("off") { Some(None) } else { T::read(node, reader).map(Some) }
    }

    fn show(&self) -> Shown {
        self.as_ref().map_or(Shown::Unset, Value::show)
    }

    fn measure(&self) -> Option<f64> {
        self.as_ref().and_then(Value::measure)
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

    fn show(&self) -> Shown {
        Shown::List(self.iter().map(Value::show).collect())
    }
}
