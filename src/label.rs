//! Closed lists of values with names: labels of metrics, words of the configuration and of logs.

/// A value of a closed list; as a label of metrics each value has one series.
pub trait Label: Copy + 'static {
    /// Every value, in the order of its index.
    const ALL: &'static [Self];

    /// The value as it is exposed.
    fn name(self) -> &'static str;

    /// The value's place in [`Label::ALL`].
    fn place(self) -> usize;

    /// The value of this name.
    fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|value| value.name() == name)
    }
}

/// Declares an enum whose values have names, and what all such enums have.
macro_rules! names {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// Every value, in the order of its index.
            pub const ALL: [Self; [$($text),+].len()] = [$(Self::$variant,)+];

            /// The value's name.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl $crate::label::Label for $name {
            const ALL: &'static [Self] = &Self::ALL;

            fn name(self) -> &'static str {
                self.as_str()
            }

            fn place(self) -> usize {
                self as usize
            }
        }
    };
}
pub(crate) use names;
