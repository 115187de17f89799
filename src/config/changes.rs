//! The keys that changed since an earlier version. `weir check --against VERSION` lists them, and a
//! file with a former name still works for one version.

use std::fmt;

use toml::de::DeValue;

use super::problem::Problem;
use super::read::Reader;
use super::tree::{self, Node};

/// One key that changed.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// The first version with the change.
    pub since: Version,
    /// The key's present name, with its section.
    pub key: &'static str,
    /// The kind of change.
    pub how: How,
}

/// The kind of change to a key.
#[derive(Clone, Copy, Debug)]
pub enum How {
    /// The key was renamed; this is the former name.
    Renamed(&'static str),
    /// Its meaning or its values changed, described in a sentence.
    Other(&'static str),
}

/// A released version: major, minor, patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

/// All changes, the latest version's last.
pub const CHANGES: &[Change] = &[
    Change { since: Version(0, 1, 0), key: "estimate.pricing", how: How::Renamed("admission.estimate") },
    Change {
        since: Version(0, 1, 0),
        key: "upstream.idle_timeout",
        how: How::Other("the default is 600 s, as patient as the SDKs"),
    },
    Change {
        since: Version(0, 1, 0),
        key: "rights.allow",
        how: How::Other(
            "with a configured credential, left out allows computing answers only; [\"*\"] allows all, as before",
        ),
    },
    Change {
        since: Version(0, 1, 0),
        key: "limits.families",
        how: How::Other("a family inherits each limit that it does not state from [limits]"),
    },
];

impl Version {
    /// The version of this binary.
    pub fn current() -> Option<Self> {
        Self::parse(env!("CARGO_PKG_VERSION"))
    }

    /// Parses `0.2` or `v0.2.1`; missing parts are 0.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix('v').unwrap_or(text).split('.').map(|part| part.parse().ok());
        let version =
            Self(parts.next()??, parts.next().unwrap_or(Some(0))?, parts.next().unwrap_or(Some(0))?);
        parts.next().is_none().then_some(version)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.how {
            How::Renamed(from) => write!(f, "{}: was {from} before {}", self.key, self.since),
            How::Other(what) => write!(f, "{}: since {} {what}", self.key, self.since),
        }
    }
}

/// The rename whose former name is `path`, if there is one.
pub(super) fn renamed(changes: &[Change], path: &str) -> Option<Change> {
    let is_former = |change: &&Change| matches!(change.how, How::Renamed(from) if from == path);
    changes.iter().find(is_former).copied()
}

/// Renames keys that have a former name, with a warning for each. One version later a former name
/// is a problem.
pub(super) fn rename(root: &mut DeValue<'_>, reader: &mut Reader<'_>) {
    for Change { since, key, how } in reader.changes {
        let How::Renamed(from) = how else { continue };
        let Some(value) = tree::take(root, from) else { continue };
        let node = Node::new((*from).to_owned(), value.span(), value.get_ref());
        let works = Version::current().is_some_and(|now| (now.0, now.1) == (since.0, since.1));
        if Node::of(String::new(), root).find(key).is_some() {
            reader.problem(&node, format!("is the former name of {key}, which is set too; leave this out"));
        } else if works {
            let message =
                format!("is called {key} since {since}; rename it: the next version does not read it");
            let origin = reader.places.origin(&node);
            reader.warnings.push(Problem { origin: origin.clone(), key: node.path, message });
            reader.put(root, key, value, origin);
        } else {
            reader.problem(&node, format!("is called {key} since {since}; rename it"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::sources::Nothing;
    use crate::config::{Config, lay, parse};

    /// Parses a text after one key was renamed in `since`. Returns the warnings, the problems, and
    /// whether the value is found under the present name.
    fn renamed_since(since: Version, text: &str) -> (Vec<String>, Vec<String>, bool) {
        let mut reader = Reader::new(text, &Nothing);
        let change = Change { since, key: "retry.base", how: How::Renamed("attempts.first_wait") };
        reader.changes = vec![change].leak();
        let root = lay(&[], &[], &mut reader);
        let moved = Node::of(String::new(), &root).find("retry.base").is_some();
        let said =
            |list: &[Problem]| list.iter().map(|one| format!("{}: {}", one.key, one.message)).collect();
        (said(&reader.warnings), said(&reader.problems), moved)
    }

    #[test]
    fn a_former_name_works_for_one_version_with_a_warning() {
        let text = "[attempts]\nfirst_wait = \"1s\"\n";
        let now = Version::current().expect("a version");
        let warning = format!(
            "attempts.first_wait: is called retry.base since {now}; rename it: the next version does not read it"
        );
        assert_eq!(renamed_since(now, text), (vec![warning], vec![], true));
        // Renamed before the previous version: the former name is an error, which gives the present
        // one.
        let earlier = Version(now.0, now.1 - 1, 9);
        let problem = format!("attempts.first_wait: is called retry.base since {earlier}; rename it");
        assert_eq!(renamed_since(earlier, text), (vec![], vec![problem], false));
        // With both names it is unclear which one counts.
        let (warnings, problems, _) = renamed_since(now, &format!("{text}[retry]\nbase = \"2s\"\n"));
        assert_eq!((warnings.len(), problems.len()), (0, 1), "{problems:?}");
        assert_eq!(renamed_since(now, "[retry]\nbase = \"2s\"\n"), (vec![], vec![], true));
    }

    #[test]
    fn changes_are_of_keys_that_there_are_and_of_versions_up_to_this_one() {
        let text = include_str!("../../config/reference.toml");
        for change in CHANGES {
            let name = change.key.rsplit('.').next().expect("a name");
            assert!(text.contains(name), "{}", change.key);
            assert!(Some(change.since) <= Version::current(), "{change}");
            if let How::Renamed(from) = change.how {
                assert_eq!(Config::TABLE.keys.iter().find(|key| key.name == from).map(|key| key.name), None);
            }
        }
        assert!(CHANGES.is_sorted_by_key(|change| change.since));
        let config =
            parse("", "[admission]\nestimate = \"max\"\n", &[], &Nothing).expect("works in this version");
        assert_eq!(
            config.estimate,
            parse("", "[estimate]\npricing = \"max\"\n", &[], &Nothing).expect("valid").estimate
        );
    }

    #[test]
    fn versions_are_read_and_ordered() {
        assert_eq!(Version::parse("v0.2"), Some(Version(0, 2, 0)));
        assert!(Version::parse("0.10.0") > Version::parse("0.9.9"));
        for wrong in ["", "x", "1.", "1.2.3.4", "1.2.x"] {
            assert_eq!(Version::parse(wrong), None, "{wrong}");
        }
    }
}
