//! The table of keys: name, kind, range, default and description of each setting.
//!
//! The `section!` macro declares a section once. The typed struct, the detection of unknown keys,
//! the names in the environment, `config/reference.toml`, the JSON Schema and the redacted
//! rendering follow from that declaration.

use std::time::Duration;

use toml::de::DeValue;

use super::quantity::Size;
use super::value::Value as _;

/// The kind of value that a key accepts.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// `true` or `false`.
    Boolean,
    /// A whole number.
    Integer,
    /// A number, or a percentage such as `"50%"`.
    Ratio,
    /// A number and a unit of time: `"250ms"`, `"1.5s"`, `"5m"`.
    Duration,
    /// A number of bytes: `"64KiB"`, `"8 MiB"`.
    Size,
    /// Text, with a description of it, and a regular expression where the schema can state one.
    Text {
        /// The description, with an example.
        write: &'static str,
        /// The regular expression for the schema.
        pattern: Option<&'static str>,
    },
    /// `env:NAME`, `file:PATH` or `exchange:NAME`, never the secret itself.
    Secret,
    /// One of a fixed list of words.
    Choice(fn() -> Vec<&'static str>),
    /// A value of the kind, or this word.
    OrWord(&'static str, &'static Kind),
    /// A list.
    List(&'static Kind),
    /// A table with its own keys.
    Table(&'static Table),
}

/// A section: its doc comment, and its keys in the order of the reference.
#[derive(Debug)]
pub struct Table {
    /// The lines of its doc.
    pub doc: &'static [&'static str],
    /// Its keys.
    pub keys: &'static [Key],
}

/// One key of a section.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name, without the section.
    pub name: &'static str,
    /// The kind of its value.
    pub kind: Kind,
    /// Whether it may be left out, and its value then.
    pub presence: Presence,
    /// The minimum and the maximum, as TOML.
    pub range: Option<(&'static str, &'static str)>,
    /// Whether the key, or the section, is read only at the start: a reload does not change it.
    pub restart: bool,
    /// The lines of its doc.
    pub doc: &'static [&'static str],
}

/// Whether a key may be left out, and its value then. The texts are TOML values.
#[derive(Clone, Copy, Debug)]
pub enum Presence {
    /// Optional, with this default.
    Default(&'static str),
    /// Optional, without a value; this is an example.
    Unset(&'static str),
    /// Required; this is an example.
    Required(&'static str),
}

impl Presence {
    /// A value to show: the default or the example.
    pub const fn sample(self) -> &'static str {
        match self {
            Self::Default(text) | Self::Unset(text) | Self::Required(text) => text,
        }
    }
}

impl Kind {
    /// Text for which the schema states no pattern.
    pub(crate) const fn text(write: &'static str) -> Self {
        Self::Text { write, pattern: None }
    }

    /// The table of this kind, or of the elements of this list.
    pub fn table(self) -> Option<&'static Table> {
        if let Self::OrWord(_, inner) | Self::List(inner) = self {
            return inner.table();
        }
        if let Self::Table(table) = self { Some(table) } else { None }
    }

    /// The value as a number, to compare with the key's range; `None` for kinds without a range.
    pub(crate) fn measure(self, value: &DeValue<'_>) -> Option<f64> {
        match self {
            Self::Integer => u64::parse(value).ok().map(|number| number as f64),
            Self::Ratio => f64::parse(value).ok(),
            Self::Duration => Duration::parse(value).ok().map(|time| time.as_secs_f64()),
            Self::Size => Size::parse(value).ok().map(|size| size.0 as f64),
            Self::OrWord(_, inner) => inner.measure(value),
            Self::Boolean
            | Self::Text { .. }
            | Self::Secret
            | Self::Choice(_)
            | Self::List(_)
            | Self::Table(_) => None,
        }
    }

    /// A description of the accepted values, for error messages and the reference.
    pub fn describe(self) -> String {
        let words = match self {
            Self::Boolean => "true or false",
            Self::Integer => "a whole number",
            Self::Ratio => "a number such as 0.5, or a percentage such as \"50%\"",
            Self::Duration => "a number and a unit, such as \"250ms\", \"1.5s\" or \"5m\"",
            Self::Size => "a number of bytes, such as \"64KiB\" or \"8MiB\"",
            Self::Text { write, .. } => write,
            Self::Secret => "\"env:NAME\", \"file:PATH\", or for a credential \"exchange:NAME\"",
            Self::Choice(words) => return one_of(&words()),
            Self::OrWord(word, inner) => return format!("{}, or \"{word}\"", inner.describe()),
            Self::List(inner) if inner.table().is_some() => "a list of tables",
            Self::List(inner) => return format!("a list in brackets, each {}", inner.describe()),
            Self::Table(_) => "a table",
        };
        words.to_owned()
    }
}

fn one_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}

/// Declares a section. Each key is `name: Type = default(0) in 0..=8`, `= unset("example")` or `=
/// required("example")`; `; restart` marks keys that a reload does not change.
macro_rules! section {
    (
        $(#[doc = $about:literal])*
        $section:ident {
            $(
                $(#[doc = $doc:literal])*
                $field:ident : $type:ty = $presence:ident($sample:tt) $(in $least:literal ..= $greatest:literal)?
                $(; $restart:ident)?
            ),* $(,)?
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $section {
            $( $(#[doc = $doc])* pub $field: $type, )*
        }

        impl $section {
            /// The section's keys.
            pub const TABLE: $crate::config::key::Table = $crate::config::key::Table {
                doc: &[$($about),*],
                keys: &[$(
                    $crate::config::key::Key {
                        name: stringify!($field),
                        kind: <$type as $crate::config::value::Value>::KIND,
                        presence: section!(@presence $presence $sample),
                        range: section!(@range $($least, $greatest)?),
                        restart: section!(@restart $($restart)?),
                        doc: &[$($doc),*],
                    }
                ),*],
            };
        }

        impl $crate::config::value::Value for $section {
            const KIND: $crate::config::key::Kind = $crate::config::key::Kind::Table(&Self::TABLE);

            fn read(
                node: &$crate::config::tree::Node<'_>,
                reader: &mut $crate::config::read::Reader<'_>,
            ) -> Option<Self> {
                if !reader.table(node, &Self::TABLE) {
                    return None;
                }
                let mut keys = Self::TABLE.keys.iter();
                $( let $field = reader.field::<$type>(node, keys.next()?); )*
                Some(Self { $( $field: $field? ),* })
            }

            fn show(&self) -> Option<toml::Value> {
                let shown =
                    [$( (stringify!($field), $crate::config::value::Value::show(&self.$field)) ),*];
                let entries = shown.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
                Some(toml::Value::Table(entries.collect()))
            }
        }
    };
    (@presence default $sample:tt) => { $crate::config::key::Presence::Default(stringify!($sample)) };
    (@presence unset $sample:tt) => { $crate::config::key::Presence::Unset(stringify!($sample)) };
    (@presence required $sample:tt) => { $crate::config::key::Presence::Required(stringify!($sample)) };
    (@restart) => { false };
    (@restart restart) => { true };
    (@range) => { None };
    (@range $least:literal, $greatest:literal) => { Some((stringify!($least), stringify!($greatest))) };
}
pub(crate) use section;
