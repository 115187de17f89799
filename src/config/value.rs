//! What a key's value can be read into and shown as.

use std::net::SocketAddr;
use std::path::PathBuf;

use http::HeaderName;

use super::key::Kind;
use super::read::Reader;
use super::tree::{Datum, Node};
use crate::caller::{Lane, Mode};
use crate::openai::Endpoint;
use crate::pattern::Pattern;
use crate::rights::Grant;

/// A type that a key can have.
pub(crate) trait Value: Sized {
    /// What a person writes.
    const KIND: Kind;

    /// Reads it; where that fails the reader has been told why.
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self>;

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

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        if let Datum::Boolean(value) = node.datum {
            return Some(value);
        }
        reader.mismatch(node, Self::KIND);
        None
    }

    fn show(&self) -> Shown {
        Shown::Literal(self.to_string())
    }
}

macro_rules! integers {
    ($($type:ty),*) => { $(
        impl Value for $type {
            const KIND: Kind = Kind::Integer;

            fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
                if let Datum::Integer(number) = node.datum
                    && let Ok(number) = Self::try_from(number)
                {
                    return Some(number);
                }
                reader.mismatch(node, Self::KIND);
                None
            }

            fn show(&self) -> Shown {
                Shown::Literal(self.to_string())
            }

            fn measure(&self) -> Option<f64> {
                Some(*self as f64)
            }
        }
    )* };
}
integers!(u64, usize);

impl Value for u32 {
    const KIND: Kind = Kind::Integer;

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        if let Datum::Integer(number) = node.datum
            && let Ok(number) = Self::try_from(number)
        {
            return Some(number);
        }
        reader.mismatch(node, Self::KIND);
        None
    }

    fn show(&self) -> Shown {
        Shown::Literal(self.to_string())
    }

    fn measure(&self) -> Option<f64> {
        Some(f64::from(*self))
    }
}

/// Free text is never empty: to write nothing, the key is left out.
impl Value for String {
    const KIND: Kind = Kind::Text;

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match &node.datum {
            Datum::String(text) if !text.trim().is_empty() && !text.chars().any(char::is_control) => {
                return Some(text.clone());
            }
            Datum::String(text) if text.trim().is_empty() => reader.problem(node, "is empty; leave it out"),
            Datum::String(_)
            | Datum::Integer(_)
            | Datum::Float(_)
            | Datum::Boolean(_)
            | Datum::Strange(_)
            | Datum::List(_)
            | Datum::Table(_) => reader.mismatch(node, Self::KIND),
        }
        None
    }

    fn show(&self) -> Shown {
        Shown::text(self)
    }
}

/// Declares a value that is read from one text by a function.
macro_rules! textual {
    ($type:ty, $kind:expr, $parse:expr, $show:expr) => {
        impl $crate::config::value::Value for $type {
            const KIND: $crate::config::key::Kind = $kind;

            fn read(
                node: &$crate::config::tree::Node,
                reader: &mut $crate::config::read::Reader<'_>,
            ) -> Option<Self> {
                let value = node.datum.as_text().and_then($parse);
                if value.is_none() {
                    reader.mismatch(node, Self::KIND);
                }
                value
            }

            fn show(&self) -> $crate::config::value::Shown {
                $crate::config::value::Shown::text(&$show(self))
            }
        }
    };
}
pub(crate) use textual;

textual!(SocketAddr, Kind::Address, |text: &str| text.parse().ok(), SocketAddr::to_string);
textual!(HeaderName, Kind::HeaderName, |text: &str| text.parse().ok(), |name: &HeaderName| name.to_string());
textual!(
    PathBuf,
    Kind::Path,
    |text: &str| (!text.is_empty() && !text.contains('\0')).then(|| Self::from(text)),
    |path: &PathBuf| path.to_string_lossy().into_owned()
);
textual!(
    Endpoint,
    Kind::Choice(|| Endpoint::ALL.map(Endpoint::as_str).to_vec()),
    |text: &str| Endpoint::ALL.into_iter().find(|endpoint| endpoint.as_str() == text),
    |endpoint: &Endpoint| endpoint.as_str().to_owned()
);
textual!(Pattern, Kind::Pattern, Pattern::parse, |pattern: &Pattern| pattern.as_str().to_owned());
textual!(Grant, Kind::Choice(Grant::words), Grant::named, |grant: &Grant| grant.as_str().to_owned());
textual!(
    Lane,
    Kind::Choice(|| Lane::ALL.map(Lane::as_str).to_vec()),
    |text: &str| Lane::ALL.into_iter().find(|lane| lane.as_str() == text),
    |lane: &Lane| lane.as_str().to_owned()
);
textual!(
    Mode,
    Kind::Choice(|| Mode::ALL.map(Mode::as_str).to_vec()),
    |text: &str| Mode::ALL.into_iter().find(|mode| mode.as_str() == text),
    |mode: &Mode| mode.as_str().to_owned()
);

/// Declares an enum whose variants are the words that a key takes.
macro_rules! choice {
    (
        $(#[$meta:meta])*
        $name:ident { $( $(#[doc = $doc:literal])* $variant:ident = $word:literal ),* $(,)? }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $( $(#[doc = $doc])* $variant ),* }

        impl $name {
            /// The word in the configuration.
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $word ),* }
            }
        }

        $crate::config::value::textual!(
            $name,
            $crate::config::key::Kind::Choice(|| vec![$($word),*]),
            |text: &str| match text { $( $word => Some(Self::$variant), )* _ => None },
            |value: &$name| value.as_str().to_owned()
        );
    };
}
pub(crate) use choice;

/// `"off"`, or not written where the key has no default.
impl<T: Value> Value for Option<T> {
    const KIND: Kind = Kind::OrWord("off", &T::KIND);

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match &node.datum {
            Datum::String(text) if text == "off" => Some(None),
            Datum::String(_)
            | Datum::Integer(_)
            | Datum::Float(_)
            | Datum::Boolean(_)
            | Datum::Strange(_)
            | Datum::List(_)
            | Datum::Table(_) => T::read(node, reader).map(Some),
        }
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
