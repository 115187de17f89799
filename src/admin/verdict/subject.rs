//! What an error class is about, and so where its cause lies.

use super::Blame;
use crate::classify::ErrorClass;
pub(super) use crate::classify::Subject;

impl Subject {
    /// What is about a class by its name; nothing where this Weir has no such class.
    pub(super) fn named(class: &str) -> Option<Self> {
        ErrorClass::named(class).map(|class| class.meaning().subject)
    }

    /// Where the cause lies.
    pub(super) const fn blame(self) -> Blame {
        match self {
            Self::Keys
            | Self::UnknownKeys
            | Self::Rights
            | Self::Invalid
            | Self::Collisions
            | Self::CallerLimit => Blame::Us,
            Self::Limits | Self::Queue => Blame::Limits,
            Self::Quota => Blame::Quota,
            Self::Network => Blame::Network,
            Self::Upstream => Blame::Upstream,
            Self::Weir => Blame::Weir,
            Self::Told => Blame::Nobody,
        }
    }
}
