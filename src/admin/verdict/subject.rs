//! The subject of an error class, which determines the place of the cause.

use super::Blame;
use crate::classify::ErrorClass;
pub(super) use crate::classify::Subject;

impl Subject {
    /// The subject of the class with this name; `None` for an unknown class.
    pub(super) fn named(class: &str) -> Option<Self> {
        ErrorClass::named(class).map(|class| class.meaning().subject)
    }

    /// The place of the cause.
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
